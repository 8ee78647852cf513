"""How long a clip takes, stage by stage, and how much memory, also when it is looped to any length.

python -m scripts.bench.video CLIP [--loops 10] [--replay] [--no-film]

It also says how far feet slide that stand, beside how far their keypoints go: a foot stands while heel and toes are
within 4 % of the person's height of where they were four frames before and will be four frames on.

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
import warnings
from pathlib import Path

import av
import numpy as np

import bodyfit
from bodyfit.app.film import FILM_SIDE_PX, write_film
from bodyfit.app.video import DETECT_SIDE_PX, fit_watched, watch_clip
from bodyfit.detect import load_detector
from bodyfit.detect.tracking.clip import watch
from bodyfit.fit.sequence.track import Track
from bodyfit.io import VideoReader, save_track
from bodyfit.skeleton import SMPL, layout_names
from scripts.bench.records import harness


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
    return peak_mb()


def peak_mb() -> float:
    """The most memory so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


class Meter:
    """Wall and processor seconds of each stage, and memory on the way."""

    def __init__(self) -> None:
        self.curve: list[tuple[str, int, float]] = []
        self.stages: dict[str, dict[str, float]] = {}
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
        self.stages[name] = {"s": wall, "cpu_s": cpu, "mb": memory_mb()}
        print(f"{name:8} {wall:8.1f} s {cpu:8.1f} s cpu {memory_mb():8.0f} MB", flush=True)
        return result


def standing_feet(track: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far standing feet go from frame to frame, mm: their keypoints at the body's distance, the bodies' feet across
    the line of sight, and in space."""
    result, names = track.result, layout_names(track.result.layout)
    xyc = result.keypoints.double().numpy()
    shown = np.where(xyc[..., 2:] >= 0.5, xyc[..., :2], np.nan)
    with warnings.catch_warnings():  # of frames in which nothing is seen
        warnings.simplefilter("ignore", RuntimeWarning)
        height = np.nanmedian(np.nanmax(shown[..., 1], 1) - np.nanmin(shown[..., 1], 1))
    at, way, reach = [], [], 4
    for side in ("left", "right"):
        parts = [i for i, name in enumerate(names) if name.startswith(side) and ("heel" in name or "toe" in name)]
        seen = shown[:, parts].mean(1)
        foot = result.joints[:, SMPL.index(f"{side}_foot")].double().numpy()
        far = np.linalg.norm(seen[reach:] - seen[:-reach], axis=1) < 0.04 * height
        stands = np.zeros(len(seen) - 1, bool)
        stands[reach : len(far)] = far[: len(far) - reach] & far[reach:]
        stands &= np.isfinite(seen[1:] + seen[:-1]).all(1)
        mm_a_px = 1e3 * foot[1:, 2] / float(result.camera.focal_px[0])
        moved = np.diff(foot, axis=0)
        at.append((mm_a_px * np.linalg.norm(np.diff(seen, axis=0), axis=1))[stands])
        way.append(1e3 * moved[stands])
    moved = np.concatenate(way)
    return np.concatenate(at), np.linalg.norm(moved[:, :2], axis=1), np.linalg.norm(moved, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--no-film", action="store_true")
    harness.add_json_option(parser)
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
    for track in tracks:
        seen, across, space = (f"{np.mean(v):.1f}" if len(v) else "-" for v in standing_feet(track))
        print(f"person {track.id}: standing feet move {seen} mm a frame as seen, {across} fitted ({space} with depth)")
    for step, done, megabytes in meter.curve:
        print(f"  {step:9} {done:7} {megabytes:7.0f} MB")
    counts = {"frames": len(watched.frames), "people": len(tracks), "bodies": rows, "peak_mb": peak_mb()}
    harness.write_json(arguments, {**counts, "stages": meter.stages})


if __name__ == "__main__":
    main()
