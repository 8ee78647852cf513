"""What a batch costs: CPU time a picture by stage, pictures a second, and memory over many items.

    python -m scripts.bench.batch speed PICTURE --pictures 300 --workers 2
    python -m scripts.bench.batch memory --pictures 20000 --workers 2

`speed` makes pictures of 640x480 of one in which somebody stands, moved and mirrored. `memory` replaces the detector by
one that costs nothing, so that the run, the fit and the writing are left.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bodyfit.app.batch.items import Item, read_item
from bodyfit.app.batch.pool import WorkerPool
from bodyfit.app.batch.run import run_batch
from bodyfit.app.batch.stages import DetectedPeople, Fitting, Looking, fitted
from bodyfit.detect import load_detector
from bodyfit.keypoints import Keypoints2D
from scripts.bench.records import harness

STANDING = np.array(
    [
        *[(0, -72), (3, -75), (-3, -75), (7, -73), (-7, -73), (19, -54), (-19, -54), (26, -28), (-26, -28)],
        *[(29, -4), (-29, -4), (11, 0), (-11, 0), (13, 42), (-13, 42), (14, 82), (-14, 82)],
    ],
    float,
)
"""Somebody who stands: COCO's points about the hips, pixels."""


@dataclass(frozen=True)
class Cheap:
    """Stands for `Looking`: reads the picture and finds the same person in it, or in three of four nobody."""

    def __call__(self) -> Callable[[Item], DetectedPeople]:
        def look(item: Item) -> DetectedPeople:
            frame = read_item(item.source)
            number = int(Path(item.source).stem)
            if number % 4:
                return DetectedPeople(frame.size, None, ())
            xy = STANDING * (1 + number % 7 / 20) + 160
            return DetectedPeople(
                frame.size,
                None,
                (Keypoints2D("coco17", np.c_[xy, np.full(17, 0.9)].astype(np.float32)),),
            )

        return look


def pictures_of(source: Path, folder: Path, count: int) -> None:
    """Pictures of 640x480 in which the source's person is 300 to 400 pixels tall, each one a little different."""
    whole = Image.open(source).convert("RGB")
    for i in range(count):
        side = 430 + 10 * (i % 5)
        person = whole.resize((side, side), Image.Resampling.BICUBIC)
        if i % 2:
            person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        canvas = whole.resize((1, 1)).resize((640, 480))
        canvas.paste(person, (20 + 7 * i % (600 - side), (480 - side) // 2))
        canvas.save(folder / f"{i:06}.jpg", quality=90)


def cpu_s() -> float:
    """CPU seconds of this process and of all children that have ended."""
    own, gone = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + gone.ru_utime + gone.ru_stime


def stages(source: Path, folder: Path, name: str) -> None:
    """CPU time of the parts of one picture, in this process."""
    from bodyfit.app.batch.run import save
    from bodyfit.app.pipeline import Lens
    from bodyfit.body.model import load_model

    pictures_of(source, folder, 16)
    paths = sorted(str(p) for p in folder.iterdir())
    detector = load_detector(name)
    frames = [read_item(p) for p in paths]
    detector.detect(frames[:2])

    def timed(name: str, what: Callable[[], Any], count: int) -> Any:
        begin = time.process_time()
        value = what()
        print(f"  {name:34} {1e3 * (time.process_time() - begin) / count:7.1f} ms")
        return value

    timed("read and decode", lambda: [read_item(p) for p in paths], len(paths))
    found = timed("detect, all of it", lambda: detector.detect(frames), len(paths))
    fit = Fitting(load_model(), Lens())()
    seen = [DetectedPeople(f.size, None, tuple(p)) for f, p in zip(frames, found, strict=True)] * 4
    fit(seen[:4])
    people = sum(len(s.people) for s in seen)
    results = timed(f"fit, {people} people together", lambda: fit(seen), people)
    timed("fit, 1 alone", lambda: fit(seen[:1]), max(1, len(seen[0].people)))
    timed("write npz", lambda: [save(r, folder / "x.npz") for r in results], len(results))


def speed(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("CPU time of a picture by stage:")
        stages(args.picture, Path(folder), args.detector)
    used, seconds = {}, {}
    for count in (args.pictures // 4, args.pictures):  # what starting costs is the same in both
        with tempfile.TemporaryDirectory() as folder:
            inside = Path(folder, "in")
            inside.mkdir()
            pictures_of(args.picture, inside, count)
            before = cpu_s()
            summary = run_batch([inside], Path(folder, "out"), workers=args.workers, detector=args.detector)
            used[count], seconds[count] = cpu_s() - before, summary.seconds
            print(f"{count} pictures, {summary.done} with a body: {seconds[count]:.1f} s, {used[count]:.1f} s of CPU")
    (few, many), more = used, args.pictures - args.pictures // 4
    ms, rate = 1e3 * (used[many] - used[few]) / more, more / (seconds[many] - seconds[few])
    print(f"one more picture: {ms:.0f} ms of CPU, all processes together; {rate:.1f} a second, {args.workers} workers")
    harness.write_json(args, {"cpu_ms_a_picture": ms, "pictures_a_second": rate, "workers": args.workers})
    print(f"starting: {used[few] - few * ms / 1e3:.1f} s of CPU; a thousand: {ms / 3600:.4f} core hours")


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def memory(args: argparse.Namespace) -> None:
    pools: list[WorkerPool] = []
    curve: list[list[float]] = []

    def engine(items: Sequence[Item], _: Looking, fitting: Fitting) -> Iterator[Any]:
        with WorkerPool(Cheap() if args.detector == "cheap" else Looking(args.detector), args.workers) as pool:
            pools.append(pool)
            yield from fitted(pool.answers(iter(items)), fitting())

    def tell(finished: int, total: int, entry: dict[str, Any] | None) -> None:
        if entry and finished % (total // 10) == 0:
            curve.append([finished, rss_mb(os.getpid())])
            workers = [rss_mb(worker.process.pid) for worker in pools[0]._workers]
            print(
                f"  {finished:7} items  {rss_mb(os.getpid()):7.0f} MB  workers {[round(w) for w in workers]} MB",
                flush=True,
            )

    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder, "in")
        inside.mkdir()
        if args.picture:
            pictures_of(args.picture, inside, min(100, args.pictures))
        else:
            Image.new("RGB", (320, 320), (90, 120, 150)).save(inside / "000000.jpg")
        there = len(list(inside.iterdir()))
        for i in range(there, args.pictures):
            os.link(inside / f"{i % there:06}.jpg", inside / f"{i:06}.jpg")
        before = cpu_s()
        summary = run_batch([inside], Path(folder, "out"), engine=engine, progress=tell)
    found = {"items": summary.items, "s": summary.seconds, "memory_mb": curve}
    harness.write_json(args, found | {"cpu_ms_an_item": 1e3 * (cpu_s() - before) / summary.items})
    print(
        f"{summary.items} items, {summary.done} with a body: {summary.seconds:.0f} s, "
        f"{1e3 * (cpu_s() - before) / summary.items:.1f} ms of CPU an item"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--detector", help='default: of speed "movenet", of memory "cheap"; a real one needs PICTURE')
    harness.add_json_option(parser)
    given = parser.parse_args()
    given.detector = given.detector or {"speed": "movenet", "memory": "cheap"}[given.what]
    speed(given) if given.what == "speed" else memory(given)
