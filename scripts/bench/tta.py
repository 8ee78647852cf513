"""Whether another way of looking at people puts the keypoints nearer to where they are, by truths that no look made.

    python -m scripts.bench.tta views DEMO [--every 3] [--landmarks FILE] [--ways movenet movenet+tta]
    python -m scripts.bench.tta rendered CLIPS --backgrounds FOLDER [-n 80] [--draw FOLDER] [--ways ...]
    python -m scripts.bench.tta scenes FOLDER [-n 80] [--ways movenet movenet:accurate]

Two ways are compared: names of detectors, "+tta" for more looks. Views: the footage of multiview.py, four calibrated
cameras. Each joint is triangulated from three cameras, seen the first way, and projected into the fourth; there both
ways of looking are measured by it. All four in turn. Joints on which the three do not agree within --sure-px are left
out.

Rendered: the open body in poses of motion clips, in clothes of random colours and patterns, before photographs in which
nobody is. Scenes: a folder of `bodyfit scene --keypoints mediapipe33`; joints that nothing hides count. The truth of
both is exact, the people are not: rendered ones are another domain than photographs.

Errors are in per cent of the longer side of the person's box in the picture. The interval of a difference holds 95 of
100 samples drawn anew, by whole pictures (views: by runs of ten frames). Confidences are right where of the joints with
0.7, say, about so many are within a tenth of the box.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.detect import load_detector
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import Frame, find_images, read_image
from bodyfit.keypoints import Keypoints2D
from bodyfit.render import overlay
from bodyfit.skeleton import layout_edges, layout_names
from bodyfit.tracker import height_px
from scripts.bench.inputs.synthetic_people import Detector, people, split
from scripts.bench.multiview import LIMBS, delays, frames_of, read_views, remembered_landmarks, straight, triangulated
from scripts.bench.records import harness

NAMES = tuple(layout_names("mediapipe33")[row] for row in LIMBS)
SHARES = (2.0, 5.0, 10.0)
"""Per cent of the height within which a joint counts as found."""
SURENESS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Bounds of confidences that are counted together."""


@dataclass
class Pairs:
    """The same joints, seen both ways."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    """Errors, per cent of the height."""
    confidence: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    """Of the joints, by way."""
    joint: list[int] = field(default_factory=list)
    """Rows of `NAMES`."""
    group: list[int] = field(default_factory=list)
    """Joints that are drawn anew together."""
    missed: list[int] = field(default_factory=lambda: [0, 0])
    """People whom either way does not find."""
    cpu_s: list[float] = field(default_factory=lambda: [0.0, 0.0])
    pictures: int = 0

    def look(self, both: tuple, image: np.ndarray) -> list[list[Keypoints2D]]:
        """Everyone in a picture, by either detector."""
        seen = []
        for way, detector in enumerate(both):
            start = time.process_time()
            seen.append(detector.detect([Frame(image)])[0])
            self.cpu_s[way] += time.process_time() - start
        self.pictures += 1
        return seen

    def add(self, truth_px: np.ndarray, sure: np.ndarray, pair: list[np.ndarray], height: float, group: int) -> None:
        """Limbs (12, 2) of one person, and where each way sees them, with confidences (12, 3)."""
        first, second = (100 * np.linalg.norm(xyc[:, :2] - truth_px, axis=1)[sure] / height for xyc in pair)
        self.first += first.tolist()
        self.second += second.tolist()
        for known, xyc in zip(self.confidence, pair, strict=True):
            known += xyc[sure, 2].tolist()
        self.joint += np.flatnonzero(sure).tolist()
        self.group += [group] * int(sure.sum())


# ------------------------------------------------------------------------------------------------ four cameras


def of_views(args: argparse.Namespace) -> Pairs:
    views = read_views(next(args.folder.glob("calibration/*.qca.txt")))
    seen = remembered_landmarks(args.folder, views, args.landmarks)
    dense = straight(np.nan_to_num(seen["xyc"]), views)
    shift = delays(dense, views)
    times = np.arange(8, dense.shape[1] - 8, args.every)
    both = ways(args)
    pairs = Pairs()
    found = np.zeros((2, len(views), len(times), 33, 3))
    heights = np.ones((len(views), len(times)))
    for c, view in enumerate(views):
        pictures = frames_of(args.folder / "videos" / f"{view.name}.mp4")
        for i, t in enumerate(times):
            seen_here = pairs.look(both, pictures[t + shift[c]])
            for way, persons in enumerate(seen_here):
                if persons:  # the largest: others stand in the background
                    found[way, c, i] = persons[0].xyc
            heights[c, i] = height_px(seen_here[0][0]) if seen_here[0] else np.nan
    found = np.stack([straight(one, views) for one in found])[:, :, :, LIMBS]
    for c, view in enumerate(views):
        others = [k for k in range(len(views)) if k != c]
        truth, spread = triangulated(found[int(args.truth_by_second)][others], [views[k] for k in others])
        camera = (truth - view.C_m) @ view.R.T @ view.K.T
        for i in range(len(times)):
            seen_by = [found[way, c, i] for way in (0, 1)]
            missing = [way for way in (0, 1) if not seen_by[way][:, 2].any()]
            for way in missing:
                pairs.missed[way] += 1
            if not missing:
                run = c * 100 + int(times[i]) // 10
                pairs.add(camera[i, :, :2] / camera[i, :, 2:], spread[i] < args.sure_px, seen_by, heights[c, i], run)
    return pairs


# ------------------------------------------------------------------------------------------------ rendered people


def of_rendered(args: argparse.Namespace) -> Pairs:
    model, rng = bodyfit.load_model(), np.random.default_rng(args.seed)
    backgrounds = [read_image(path).image for path in find_images([args.backgrounds])]
    both = ways(args)
    pairs = Pairs()
    known = people(split(args.folder)[1], args.n, model, ("mediapipe33",), detector=Detector(), seed=args.seed)
    for i in range(args.n):
        height = rng.uniform(150, 700)
        image, truth = scene(model, known.vertices[i], known.points["mediapipe33"][i], backgrounds, height, rng)
        extent = float(max(np.ptp(truth[:, 0]), np.ptp(truth[:, 1])))
        seen = pairs.look(both, image)
        best = [nearest(persons, truth[LIMBS], extent) for persons in seen]
        for way in (0, 1):
            pairs.missed[way] += best[way] is None
        if args.draw:
            args.draw.mkdir(parents=True, exist_ok=True)
            drawn(image, best).save(args.draw / f"{i:03d}.jpg", quality=88)
        if best[0] is not None and best[1] is not None:
            inside = ((truth[LIMBS] > 0) & (truth[LIMBS] < image.shape[1::-1])).all(1)
            pairs.add(truth[LIMBS], inside, [one.xyc[LIMBS] for one in best], extent, i)
    return pairs


def of_scenes(args: argparse.Namespace) -> Pairs:
    both, pairs = ways(args), Pairs()
    for i, path in enumerate(find_images([args.folder / "images"])[: args.n]):
        image = read_image(path).image
        seen = pairs.look(both, image)
        for truth in np.load(args.folder / "keypoints" / f"{path.stem}.npz")["mediapipe33"]:
            limbs, counted = truth[LIMBS], truth[LIMBS, 2] == 2
            if counted.sum() < 4:
                continue
            extent = float(max(np.ptp(truth[truth[:, 2] > 0, :2], axis=0)))
            best = [nearest(persons, limbs[:, :2], extent, counted) for persons in seen]
            for way in (0, 1):
                pairs.missed[way] += best[way] is None
            if best[0] is not None and best[1] is not None:
                pairs.add(limbs[:, :2], counted, [one.xyc[LIMBS] for one in best], extent, i)
    return pairs


def ways(args: argparse.Namespace) -> tuple[object, object]:
    """The two detectors that are compared."""
    first, second = (load_detector(name.removesuffix("+tta"), tta=name.endswith("+tta")) for name in args.ways)
    return first, second


def scene(
    model: bodyfit.BodyModel,
    vertices: torch.Tensor,
    points: torch.Tensor,
    backgrounds: list[np.ndarray],
    height: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A picture with one dressed body of about so many pixels, and its keypoints (33, 2)."""
    back = Image.fromarray(backgrounds[rng.integers(len(backgrounds))])
    w, h = 1280, 960
    zoom = max(w / back.width, h / back.height)
    back = back.resize((round(zoom * back.width) + 1, round(zoom * back.height) + 1), Image.Resampling.LANCZOS)
    x, y = rng.integers(back.width - w + 1), rng.integers(back.height - h + 1)
    background = np.asarray(back.crop((x, y, x + w, y + h)))
    size_m = float((vertices.amax(0) - vertices.amin(0))[:2].max())
    depth = float(vertices[:, 2].mean())
    focal = height * depth / size_m
    middle = focal * (vertices[:, :2].amax(0) + vertices[:, :2].amin(0)) / 2 / depth
    room = np.maximum([w - height, h - height], 0) / 2
    centre = np.array([w / 2, h / 2]) + rng.uniform(-room, room)
    principal = torch.tensor(centre, dtype=points.dtype) - middle
    camera = Camera(torch.tensor([focal], dtype=points.dtype), principal[None], (w, h))
    picture = overlay(background, [(vertices, clothes(model, rng))], model.faces, camera, opacity=1.0)
    picture = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0)))
    noisy = np.asarray(picture, np.float64) + rng.normal(0, rng.uniform(1, 5), (h, w, 1))
    return noisy.clip(0, 255).astype(np.uint8), camera.project(points[None])[0].numpy()


def clothes(model: bodyfit.BodyModel, rng: np.random.Generator) -> np.ndarray:
    """Colours (V, 3): skin, hair, shirt, trousers and shoes, the cloth with patterns as on real ones, soft and hard."""
    part = np.asarray(model.weights.argmax(1))
    names = np.array(model.skeleton.names)[part]
    at = model.v_template.numpy()
    skin = np.array((0.93, 0.74, 0.62)) * rng.uniform(0.35, 1.0)
    color = np.tile(skin, (len(part), 1))
    top, legs, shoes = (rng.uniform(0.05, 0.95, 3) for _ in range(3))
    sleeves = ("shoulder", "elbow")[: rng.integers(1, 3)]
    of_top = np.array([n.startswith("spine") or "collar" in n or n.endswith(sleeves) for n in names])
    of_legs = np.array([n == "pelvis" or n.endswith(("hip", "knee")[: rng.integers(1, 3)]) for n in names])
    of_feet = np.array([n.endswith(("ankle", "foot")) for n in names])
    for rows, cloth in ((of_top, top), (of_legs, legs), (of_feet, shoes)):
        waves = np.sin(at[rows] @ rng.normal(0, rng.uniform(10, 60), (3, 2)) + rng.uniform(0, 6, 2)).mean(1)
        pattern = rng.uniform(0, 0.35) * (np.sign(waves) if rng.random() < 0.3 else waves)
        color[rows] = cloth + pattern[:, None]
    head = names == "head"
    top_m, front_m = at[head, 1].max(), at[head, 2].max()
    hair = head & (at[:, 1] > top_m - 0.10) & (at[:, 2] < front_m - 0.06)
    color[hair] = np.array((0.35, 0.25, 0.18)) * rng.uniform(0.1, 2.0)
    return color.clip(0.02, 1).astype(np.float32)


def nearest(
    persons: list[Keypoints2D], limbs: np.ndarray, extent: float, counted: np.ndarray | slice = slice(None)
) -> Keypoints2D | None:
    """Who is where the person with these limbs (12, 2) is, by those that count."""
    off = [float(np.median(np.linalg.norm(one.xyc[LIMBS, :2] - limbs, axis=1)[counted])) for one in persons]
    best = int(np.argmin(off)) if off else -1
    return persons[best] if off and off[best] < 0.3 * extent else None


def drawn(image: np.ndarray, ways: list[Keypoints2D | None]) -> Image.Image:
    """The picture with what is seen the first way (red) and the second (green)."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for person, color in zip(ways, ("red", "lime"), strict=True):
        for a, b in layout_edges("mediapipe33") if person is not None else ():
            pen.line([*person.xyc[a, :2], *person.xyc[b, :2]], fill=color, width=2)
    return picture


# ------------------------------------------------------------------------------------------------ the report


def numbers(pairs: Pairs, seed: int = 0) -> dict:
    """What is measured, with intervals."""
    first, second, group = np.array(pairs.first), np.array(pairs.second), np.array(pairs.group)
    groups, rng = np.unique(group), np.random.default_rng(seed)
    rows = [np.flatnonzero(group == g) for g in groups]
    drawn = [np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))]) for _ in range(1000)]

    def both(measure) -> dict:
        gains = [measure(second[r]) - measure(first[r]) for r in drawn]
        low, high = np.percentile(gains, (2.5, 97.5))
        return {"first": float(measure(first)), "second": float(measure(second)), "gain": (float(low), float(high))}

    joints = np.array(pairs.joint)
    worst = {
        name: (float(first[joints % 12 == k].mean()), float(second[joints % 12 == k].mean()))
        for k, name in enumerate(NAMES)
        if (joints == k).any()
    }
    return {
        "joints": len(first),
        "pictures": pairs.pictures,
        "missed": pairs.missed,
        "cpu_s_a_picture": [s / pairs.pictures for s in pairs.cpu_s],
        "median": both(np.median),
        "mean": both(np.mean),
        "90th percentile": both(lambda e: np.percentile(e, 90)),
        **{f"within {s:g} %": both(lambda e, s=s: 100 * np.mean(e <= s)) for s in SHARES},
        "means by joint": worst,
        "within a tenth by confidence": [
            within_a_tenth(np.array(sure), error) for sure, error in zip(pairs.confidence, (first, second), strict=True)
        ],
    }


def within_a_tenth(confidence: np.ndarray, error: np.ndarray) -> dict[str, tuple[int, float, float]]:
    """For each range of confidences how many joints have such, their mean confidence, and the share within a tenth."""
    found = {}
    for low, high in pairwise(SURENESS):
        rows = (confidence >= low) & ((confidence < high) | (high == 1))
        if rows.any():
            share = float(np.mean(error[rows] <= 10))
            found[f"{low:g} to {high:g}"] = (int(rows.sum()), float(confidence[rows].mean()), share)
    return found


def report(found: dict, names: list[str]) -> None:
    table = Table("error, % of the height", *names, "difference, 95 %")
    for name, row in found.items():
        if isinstance(row, dict) and "gain" in row:
            low, high = row["gain"]
            table.add_row(name, f"{row['first']:.2f}", f"{row['second']:.2f}", f"{low:+.2f} to {high:+.2f}")
    console = Console()
    console.print(table)
    for name, (first, second) in found["means by joint"].items():
        console.print(f"{name:>15}: {first:.2f} -> {second:.2f}")
    for way, shares in zip(names, found["within a tenth by confidence"], strict=True):
        table = Table(f"confidence, {way}", "joints", "mean", "within a tenth")
        for bounds, (count, mean, share) in shares.items():
            table.add_row(bounds, str(count), f"{mean:.2f}", f"{share:.2f}")
        console.print(table)
    console.print(f"{found['joints']} joints in {found['pictures']} pictures; not found: {found['missed']}")
    console.print("CPU seconds a picture: {:.2f} and {:.2f}".format(*found["cpu_s_a_picture"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("views", "rendered", "scenes"))
    parser.add_argument("folder", type=Path, help="the demonstration, motion clips, or scenes")
    parser.add_argument("--ways", nargs=2, default=["movenet", "movenet+tta"], help="detectors to compare")
    parser.add_argument("--every", type=int, default=3, help="views: frames from one to the next that is used")
    parser.add_argument("--sure-px", type=float, default=15.0, help="views: where the three cameras agree so far")
    parser.add_argument("--landmarks", type=Path, help="views: what multiview.py kept, for the cameras' delays")
    parser.add_argument(
        "--truth-by-second", action="store_true", help="views: look the second way in the other three cameras"
    )
    parser.add_argument("--backgrounds", type=Path, help="rendered: a folder of pictures without people")
    parser.add_argument("-n", type=int, default=80, help="rendered, scenes: how many pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", type=Path, help="rendered: keep the pictures here")
    harness.add_json_option(parser)
    args = parser.parse_args()
    found = numbers({"views": of_views, "rendered": of_rendered, "scenes": of_scenes}[args.mode](args))
    report(found, args.ways)
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
