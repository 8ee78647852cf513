"""How many people a detector finds, how many ghosts, and how long it takes.

    python -m scripts.bench.detect composites --people CLIP [--people FOLDER ...] --backgrounds FOLDER [-n 80]
    python -m scripts.bench.detect pictures FOLDER --truth TRUTH.json

Composites: people are cut from a clip or photographs (where the detector finds a whole one, by its mask) and pasted,
at 60 to 600 px, some over others, on pictures in which nobody is: who stands where is known. Pictures: TRUTH.json maps
a file's name to people [x0, y0, x1, y1, "full", "half" or "part"], in pixels, counted by eye; "half" is the upper body.

Counted are people of at least 60 px who are fully visible: nine tenths of their pixels, or "full"; and apart from them
the "half". The others count neither as missed nor, when found, as ghosts. Found is who shares half of the union of the
boxes (a third where they were drawn by eye) with a detection. --draw FOLDER keeps the pictures with what was found.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from bodyfit.detect import load_detector
from bodyfit.images.frame import Frame, find_images, read_image
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_edges, layout_names
from scripts.bench.records import harness

BANDS = (60, 90, 140, 250, 10_000)
LIMBS = tuple(f"{s}_{p}" for s in ("left", "right") for p in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))


@dataclass(frozen=True)
class Person:
    """Someone who is in a picture."""

    box: tuple[float, float, float, float]
    kind: str
    """"full", "half" (an upper body) or "part"."""
    xyc: np.ndarray | None = None
    """Keypoints as found in the picture that the person was cut from, (33, 3)."""


@dataclass(frozen=True)
class Cutout:
    """A whole person: RGBA, and keypoints in its pixels."""

    rgba: Image.Image
    xyc: np.ndarray


# ------------------------------------------------------------------------------------------------ composites


def frames_of(path: Path, every: int) -> Iterator[np.ndarray]:
    """Every n-th picture of a clip, or the pictures of a folder."""
    if path.is_dir():
        yield from (read_image(p).image for p in find_images([path]))
        return
    import cv2

    video, i = cv2.VideoCapture(str(path)), 0
    while (picture := video.read()[1]) is not None:
        if i % every == 0:
            yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        i += 1


def cutouts(paths: list[Path], every: int = 12) -> list[Cutout]:
    """The whole people of at least 200 px whose mask holds together."""
    detector, names, found = load_detector("movenet", masks=True), layout_names("mediapipe33"), []
    ends = [names.index(f"{s}_{p}") for s in ("left", "right") for p in ("ankle", "hip", "shoulder", "big_toe")]
    for image in (image for path in paths for image in frames_of(path, every)):
        people = detector.detect([Frame(image)])[0]
        for person in people:
            if person.mask is None or person.xyc[ends, 2].min() < 0.4:
                continue
            alpha = person.mask.full((image.shape[1], image.shape[0]))
            ys, xs = np.nonzero(alpha > 128)
            if len(ys) == 0 or np.ptp(ys) < 200:
                continue
            x0, y0, x1, y1 = xs.min() - 2, ys.min() - 2, xs.max() + 3, ys.max() + 3
            if min(x0, y0) < 0 or x1 > image.shape[1] or y1 > image.shape[0] or _covered(person, people):
                continue
            alpha = np.clip(5.0 * alpha - 400, 0, 255).astype(np.uint8)  # else the scene shines through
            rgba = np.dstack([image, alpha])[y0:y1, x0:x1]
            found.append(Cutout(Image.fromarray(rgba), person.xyc - np.array([x0, y0, 0])))
    return found


def _covered(person: Keypoints2D, people: list[Keypoints2D]) -> bool:
    return any(other is not person and overlap(person.box_px(), other.box_px()) > 0.02 for other in people)


def composite(
    rng: np.random.Generator, people: list[Cutout], backgrounds: list[Image.Image]
) -> tuple[Image.Image, list[Person]]:
    """One to eight people of one picture's range of sizes, the larger in front, each mirrored at random."""
    scene = backgrounds[rng.integers(len(backgrounds))].copy()
    scene = scene.resize([round(n * max(1.0, 700 / min(scene.size))) for n in scene.size])
    if rng.random() < 0.5:
        scene = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))
    n, top = int(rng.integers(1, 9)), min(600.0, 0.9 * scene.height)
    middle = np.exp(rng.uniform(np.log(60), np.log(top)))
    heights = np.sort(np.clip(middle * np.exp(rng.uniform(-0.4, 0.4, n)), 60, top))
    placed, owner = [], np.full((scene.height, scene.width), -1)
    for i, height in enumerate(heights):
        cut = people[rng.integers(len(people))]
        scale = height / cut.rgba.height
        size = max(1, round(cut.rgba.width * scale)), round(height)
        rgba, xyc = cut.rgba.resize(size, Image.Resampling.LANCZOS), cut.xyc * (scale, scale, 1)
        x, y = (int(rng.integers(0, max(1, room - n))) for room, n in zip(scene.size, size, strict=True))
        alpha = np.asarray(rgba)[..., 3]
        scene.paste(rgba, (x, y), rgba)
        patch = owner[y : y + size[1], x : x + size[0]]
        patch[alpha[: patch.shape[0], : patch.shape[1]] > 128] = i
        placed.append((x, y, size, xyc + np.array([x, y, 0]), int((alpha > 128).sum())))
    truth = []
    for i, (x, y, (w, h), xyc, pixels) in enumerate(placed):
        seen = (owner == i).sum() / max(1, pixels)
        inside = x + w <= scene.width and y + h <= scene.height
        if seen > 0.05:
            truth.append(Person((x, y, x + w, y + h), "full" if seen > 0.9 and inside else "part", xyc))
    return scene, truth


# ------------------------------------------------------------------------------------------------ counting


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union."""
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((q[2] - q[0]) * (q[3] - q[1]) for q in (a, b))
    return common / max(1e-9, areas - common)


@dataclass
class Tally:
    """What was counted over all pictures."""

    found: np.ndarray
    there: np.ndarray
    ghosts: int = 0
    detections: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    pictures: int = 0

    def add(self, truth: list[Person], people: list[Keypoints2D], enough: float) -> tuple[list[int], list[int]]:
        """Count a picture; returns who was missed and which detections are ghosts."""
        boxes = [person.box or person.box_px() for person in people]
        shared = np.array([[overlap(t.box, box) for box in boxes] for t in truth]).reshape(len(truth), len(boxes))
        rows, columns = linear_sum_assignment(-shared)
        pairs = {r: c for r, c in zip(rows, columns, strict=True) if shared[r, c] >= enough}
        missed = []
        for i, person in enumerate(truth):
            height = person.box[3] - person.box[1]
            if person.kind == "part" or round(height) < BANDS[0]:
                continue
            band = -1 if person.kind == "half" else sum(round(height) >= edge for edge in BANDS) - 1
            self.there[band] += 1
            self.found[band] += i in pairs
            missed += [i] * (i not in pairs)
        # A detection on someone who does not count, or too rough for a pair, is no ghost: the person is there.
        ghosts = [c for c in range(len(boxes)) if c not in pairs.values() and shared[:, c].max(initial=0.0) < 0.2]
        twice = [
            c
            for c in range(len(boxes))
            if c not in pairs.values() and c not in ghosts and any(shared[r, c] >= 0.5 for r in pairs)
        ]
        self.ghosts += len(ghosts) + len(twice)
        self.detections += len(boxes)
        return missed, [*ghosts, *twice]


def drawn(image: np.ndarray, truth: list[Person], people: list[Keypoints2D], bad: list[int]) -> Image.Image:
    """The picture with who is there (white, thin), who was found (green), ghosts (red)."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for person in truth:
        pen.rectangle(person.box, outline="white" if person.kind != "part" else "grey")
    for i, person in enumerate(people):
        color = "red" if i in bad else ("lime", "yellow", "cyan", "magenta", "orange")[i % 5]
        for a, b in layout_edges(person.layout):
            if min(person.xyc[a, 2], person.xyc[b, 2]) > 0.3:
                pen.line([*person.xyc[a, :2], *person.xyc[b, :2]], fill=color, width=max(1, picture.width // 700))
        box = person.box or person.box_px()
        pen.rectangle(box, outline=color)
        pen.text((box[0] + 2, box[1] - 11), f"{person.score:.2f}" + ("" if person.lift_m is not None else " 2D"), color)
    return picture


def run(args: argparse.Namespace) -> None:
    detector = load_detector(args.detector, tta=args.tta)
    tally = Tally(np.zeros(len(BANDS), int), np.zeros(len(BANDS), int))
    off: list[float] = []
    for name, image, truth in scenes(args):
        start, cpu = time.perf_counter(), time.process_time()
        people = detector.detect([Frame(image)])[0]
        tally.seconds += time.perf_counter() - start
        tally.cpu += time.process_time() - cpu
        tally.pictures += 1
        missed, ghosts = tally.add(truth, people, 0.5 if args.mode == "composites" else 0.33)
        off += distances(truth, people)
        if missed or ghosts:
            print(f"{name}: missed {[tuple(map(round, truth[i].box)) for i in missed]}, {len(ghosts)} ghosts")
        if args.draw and (missed or ghosts or args.all):
            args.draw.mkdir(parents=True, exist_ok=True)
            drawn(image, truth, people, ghosts).save(args.draw / f"{Path(name).stem}.jpg", quality=88)
    report(args, tally, off)


def scenes(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, list[Person]]]:
    if args.mode == "pictures":
        for name, people in json.loads(args.truth.read_text()).items():
            yield name, read_image(args.folder / name).image, [Person(tuple(p[:4]), p[4]) for p in people]
        return
    people, rng = cutouts(args.people), np.random.default_rng(args.seed)
    backgrounds = [Image.fromarray(read_image(p).image) for p in find_images([args.backgrounds])]
    print(f"{len(people)} people to paste, {len(backgrounds)} backgrounds")
    for i in range(args.n):
        scene, truth = composite(rng, people, backgrounds)
        yield f"composite_{i:03d}", np.asarray(scene), truth


def distances(truth: list[Person], people: list[Keypoints2D]) -> list[float]:
    """Of fully visible people how far their limbs are from where they were pasted, in parts of the height."""
    rows = [layout_names("mediapipe33").index(name) for name in LIMBS]
    off = []
    for one in truth:
        best = max(people, key=lambda p: overlap(one.box, p.box or p.box_px()), default=None)
        if one.xyc is None or one.kind != "full" or best is None or overlap(one.box, best.box or best.box_px()) < 0.5:
            continue
        apart = np.linalg.norm(one.xyc[rows, :2] - best.xyc[rows, :2], axis=1)
        off += (apart[one.xyc[rows, 2] > 0.5] / (one.box[3] - one.box[1])).tolist()
    return off


def report(args: argparse.Namespace, tally: Tally, off: list[float]) -> None:
    table = Table(title=f"{args.detector}: {tally.pictures} pictures, {int(tally.there[:-1].sum())} people")
    for column in ("height, px", "found", "there", "%"):
        table.add_column(column, justify="right")
    names = [*(f"{lo} to {hi - 1}" for lo, hi in pairwise(BANDS[:-1])), f"{BANDS[-2]} and more"]
    rows = [
        *zip(names, tally.found, tally.there, strict=False),
        ("all", tally.found[:-1].sum(), tally.there[:-1].sum()),
    ]
    for name, found, there in [*rows, ("upper bodies", tally.found[-1], tally.there[-1])]:
        table.add_row(name, str(found), str(there), _percent(found, there))
    console = Console()
    console.print(table)
    console.print(
        f"ghosts: {tally.ghosts} of {tally.detections} detections ({_percent(tally.ghosts, tally.detections)} %)"
    )
    console.print(f"{tally.seconds / tally.pictures:.3f} s a picture, {tally.cpu / tally.pictures:.3f} s of CPU")
    counts = {"found": tally.found[:-1].sum(), "there": tally.there[:-1].sum(), "ghosts": tally.ghosts}
    counts |= {"half_found": tally.found[-1], "half_there": tally.there[-1], "detections": tally.detections}
    cost = {"s_a_picture": tally.seconds / tally.pictures, "cpu_s_a_picture": tally.cpu / tally.pictures}
    limbs = {"limbs_off_median": np.median(off)} if off else {}
    harness.write_json(args, {"pictures": tally.pictures, **counts, **cost, **limbs})
    if off:
        console.print(f"limbs off by {100 * np.median(off):.1f} % of the height at the median, "
                      f"{100 * np.percentile(off, 90):.1f} % at the 90th percentile; "
                      f"{100 * np.mean(np.array(off) > 0.1):.1f} % of them by more than a tenth")  # fmt: skip


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mode", choices=("composites", "pictures"))
    parser.add_argument("folder", type=Path, nargs="?", help="of the pictures")
    parser.add_argument("--truth", type=Path, help="who is in the pictures, JSON")
    parser.add_argument("--people", type=Path, action="append", default=[], help="a clip or folder to cut people from")
    parser.add_argument("--backgrounds", type=Path, help="a folder of pictures without people")
    parser.add_argument("-n", type=int, default=80, help="how many composites")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--tta", action="store_true")
    parser.add_argument("--draw", type=Path, help="keep pictures here, those with mistakes or, with --all, all")
    parser.add_argument("--all", action="store_true")
    harness.add_json_option(parser)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
