"""How long a clip takes, stage by stage, and how much memory, also when it is looped to any length.

python scripts/bench_video.py CLIP [--loops 10] [--replay] [--no-film]

A looped clip is made by copying packets, so that nothing is encoded anew. Memory is the process's resident set, read
ten times in each stage: it must not grow with the length by more than what the results themselves take. `--replay`
looks for people in the first round only and gives out the same keypoints in the others, which are decoded all the same.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import av

import bodyfit
from bodyfit.detect import load_detector
from bodyfit.detect.clip import watch
from bodyfit.film import FILM_SIDE_PX, write_film
from bodyfit.io import VideoReader, save_track
from bodyfit.video import DETECT_SIDE_PX, fit_watched, watch_clip


def loop(clip: Path, times: int, path: Path) -> None:
    """The clip several times in a row, without its sound."""
    with av.open(str(path), "w") as target:
        out, shift = None, 0
        for _ in range(times):
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                out = out or target.add_stream_from_template(stream)
                end = 0
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, out
                    target.mux(packet)
                shift += end


class Replay:
    """A detector that has seen the clip before."""

    def __init__(self, clip: Path) -> None:
        self.sightings = list(watch(load_detector(), VideoReader(clip, max_side_px=DETECT_SIDE_PX), every=30))

    def detect(self, frames):
        """The people of the same frame in the first round."""
        return [list(self.sightings[frame.index % len(self.sightings)].people) for frame in frames]


def memory_mb() -> float:
    """Resident memory now, where the system says it, else the most so far."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


class Meter:
    """Wall and processor seconds of each stage, and memory on the way."""

    def __init__(self) -> None:
        self.curve: list[tuple[str, int, float]] = []
        self._next = 0

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if done >= self._next or done == total:
            self.curve.append((step, done, memory_mb()))
            self._next = done + max(1, (total or 1000) // 10)

    def stage(self, name: str, work):
        """Run a stage and print what it took."""
        self._next = 0
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{name:8} {wall:8.1f} s {cpu:8.1f} s cpu {memory_mb():8.0f} MB", flush=True)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--no-film", action="store_true")
    arguments = parser.parse_args()
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        clip = arguments.clip
        if arguments.loops > 1:
            clip = Path(folder) / f"looped{arguments.clip.suffix}"
            loop(arguments.clip, arguments.loops, clip)
        load = (lambda: Replay(arguments.clip)) if arguments.replay else load_detector
        model, detector = meter.stage("load", lambda: (bodyfit.load_model(), load()))
        reader = VideoReader(clip, max_side_px=DETECT_SIDE_PX)
        watched = meter.stage("watch", lambda: watch_clip(reader, detector, progress=meter))
        tracks = meter.stage("fit", lambda: fit_watched(watched, model=model, progress=meter))
        for track in tracks:
            save_track(track, Path(folder) / f"person{track.id}.npz")
        if not arguments.no_film:
            shown = VideoReader(clip, max_side_px=FILM_SIDE_PX)
            film = Path(folder) / "overlay.mp4"
            meter.stage("film", lambda: write_film(film, shown, tracks, model, progress=meter))
    rows = sum(len(track) for track in tracks)
    print(f"{len(watched.frames)} frames, {len(tracks)} people, {rows} bodies, peak {peak_mb():.0f} MB")
    for step, done, megabytes in meter.curve:
        print(f"  {step:9} {done:7} {megabytes:7.0f} MB")


def peak_mb() -> float:
    """The most memory so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
