"""How much memory and time a clip of an hour takes, stage by stage: what `bodyfit video` does, over a looped clip.

python -m scripts.bench.hour CLIP [--frames 108000] [--people 1] [--visits] [--real] [--quick] [--no-film] [--side 640]

The clip is made smaller, played forwards and backwards in turn, and looped by copying packets. The person who is
longest in its first round is found by the real detector and given out again in all the others (`--real`: the detector
looks itself, which takes hours an hour). `--people N`: so many of them, from the first frame to the last. `--visits`:
instead, somebody comes for two seconds every two seconds and is somebody else each time. `--quick` ends each
optimisation after a step: for memory alone, which does not depend on it. Memory is the process's resident set, read
fifty times a second.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np

import bodyfit
from bodyfit.app.pipeline import Lens
from bodyfit.app.video import watch_clip
from bodyfit.cli.support.video_one import ClipWorker
from bodyfit.detect import load_detector
from bodyfit.fit.config import SequenceConfig
from bodyfit.fit.sequence import fitter as sequence
from bodyfit.io import VideoReader, VideoWriter
from bodyfit.keypoints import Keypoints2D
from bodyfit.solve import LMConfig
from bodyfit.tracker import TrackerConfig, shifted
from scripts.bench.records import harness
from scripts.bench.video import memory_mb, peak_mb

_VISIT, _EVERY = 60, 125
"""Frames that a visitor stays, and between visitors of the same place: longer than who is unseen is looked for."""


def to_and_fro(clip: Path, side_px: int, path: Path) -> int:
    """The clip forwards and then backwards, made smaller; returns how many frames."""
    reader = VideoReader(clip, max_side_px=side_px)
    pictures = [frame.image for frame in reader]
    pictures += pictures[-2:0:-1]
    with VideoWriter(path, reader.size, 30, crf=26) as film:
        for picture in pictures:
            film.write(picture)
    return len(pictures)


def looped(clip: Path, frames: int, path: Path) -> None:
    """The first so many frames of a clip that is played again and again, its packets copied."""
    with av.open(str(path), "w") as target:
        out, shift, given = None, 0, 0
        while given < frames:
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                out = out or target.add_stream_from_template(stream)
                end = 0
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None or given == frames:
                        continue
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, out
                    target.mux(packet)
                    given += 1
                shift += end


class Remembered:
    """A detector that knows the first round and gives its people out again."""

    def __init__(self, clip: Path, people: int, visits: bool) -> None:
        watched = watch_clip(VideoReader(clip), load_detector())
        trail = max(watched.trails, key=lambda trail: len(trail.people))
        self.round = [*trail.people, *trail.people[-2:0:-1]]  # to and fro, so that it is one motion
        self.people, self.visits, self.width = people, visits, watched.size[0]

    def detect(self, frames):
        """The people of the same frame in the first round."""
        return [list(self._at(frame.index)) for frame in frames]

    def _at(self, frame: int) -> Iterator[Keypoints2D]:
        person = self.round[frame % len(self.round)]
        for place in range(2 if self.visits else self.people):
            if not self.visits or (frame + place * _EVERY // 2) % _EVERY < _VISIT:
                yield shifted(person, np.array([place * self.width / 2, 0.0]))


class Meter:
    """Time and the most memory of each stage, and memory on the way."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.curve: list[tuple[str, int, float]] = []
        self._stage, self._next, self._ended = "loading", 0, False
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if step != self._stage:
            self._stage, self._next = step, 0
        if done >= self._next:
            self.curve.append((step, done, memory_mb()))
            self._next = done + max(1, (total or 1000) // 10)

    def _watch(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        while not self._ended:
            now, used = time.perf_counter(), time.process_time()
            spent = self.stages.setdefault(self._stage, [0.0, 0.0, 0.0])
            spent[0], spent[1], spent[2] = spent[0] + now - wall, spent[1] + used - cpu, max(spent[2], memory_mb())
            wall, cpu = now, used
            time.sleep(0.02)

    def print(self, frames: int, curve: bool) -> None:
        """A line a stage, and memory on the way."""
        self._ended = True
        for name, (wall, cpu, most) in self.stages.items():
            each = f"{1e3 * cpu / frames:7.2f} ms a frame" if name != "loading" else ""
            print(f"{name:9} {wall:8.1f} s {cpu:8.1f} s cpu  at most {most:6.0f} MB {each}", flush=True)
        for step, done, megabytes in self.curve if curve else ():
            print(f"  {step:9} {done:7} {megabytes:7.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=108_000)
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--visits", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--no-film", action="store_true")
    parser.add_argument("--curve", action="store_true")
    harness.add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        step = LMConfig(max_iterations=1)
        sequence.SequenceConfig = partial(SequenceConfig, keyframe_s=1.0, keyframe_lm=step, lm=step)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        to_and_fro(arguments.clip, arguments.side, folder / "round.mp4")
        looped(folder / "round.mp4", arguments.frames, folder / "long.mp4")
        meter = Meter()
        detector = (
            load_detector() if arguments.real else Remembered(folder / "round.mp4", arguments.people, arguments.visits)
        )
        worker = ClipWorker(
            out=folder,
            model=bodyfit.load_model(),
            found_by=detector,
            detector_name="remembered",
            lens=Lens(),
            part={},
            tracker=TrackerConfig(),
            film=not arguments.no_film,
            progress=meter,
        )
        entry = worker.run(folder / "long.mp4", "long")
        meter.print(arguments.frames, arguments.curve)
        bodies = sum(person["frames"] for person in entry["people"])
        size = sum(file.stat().st_size for file in (folder / "long").iterdir()) / 2**20
        print(f"{entry['status']}: {entry['frames']} frames, {len(entry['people'])} people, {bodies} bodies, ", end="")
        print(f"{size:.0f} MB of files, peak {peak_mb():.0f} MB")
        counts = {"frames": entry["frames"], "people": len(entry["people"]), "bodies": bodies}
        stages = {name: dict(zip(("s", "cpu_s", "most_mb"), row, strict=True)) for name, row in meter.stages.items()}
        harness.write_json(arguments, {**counts, "files_mb": size, "peak_mb": peak_mb(), "stages": stages})


if __name__ == "__main__":
    main()
