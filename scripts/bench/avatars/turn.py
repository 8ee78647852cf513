"""How like the truth the person of one picture is when seen from elsewhere: drawn people in clothes never trained on.

Each person wears clothes, shoes and hair that neither the networks of new views nor that of clothed surfaces were
trained on, as far as there are any of a kind, in poses of held-out motion clips (of the prior without clips), and is
drawn at 256x256 from one camera, then from others round to both sides. PSNR and SSIM are in the box of the mask, on
white; perceptual distances are those of `bodyfit eval views`.
`splat`: the pixels alone, lifted to the body's depth; `body`: over the body's colours, mirrored where the picture does
not show them; `surface`: the same with the clothed surface; `refined`: completed by the network.

With --fits the bodies and masks are bodyfit's own, of the picture at 512x512 before grey; scored at 256.

    python -m scripts.bench.avatars.turn [-n 16] [--clips FOLDER FOLDER] [--clothes any] [--fits] [--pictures out.png]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.app.new_views import gather_turn
from bodyfit.app.results.find import find_results
from bodyfit.avatars import AvatarView
from bodyfit.detect import load_detector
from bodyfit.detect.networks.perceptual import Perceptual
from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.io.picture import save_picture
from bodyfit.io.results.summary import write_json
from bodyfit.novel_views.assemble import completed
from bodyfit.novel_views.views import NewViews
from scripts.bench.avatars.people import Studio, studio
from scripts.bench.inputs.synthetic_people import split
from scripts.bench.records import harness
from scripts.train.clothed.people import HELD_OUT, outfits

TURNS = (15, 30, 60)
_SIZE_PX, _FIT_PX = 256, 512
_BACKDROP = 205
_KINDS = ("splat", "body", "surface", "refined")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=16, help="people")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--clips", type=Path, nargs="+", help="folders of motion clips, of which held-out ones are used"
    )
    parser.add_argument("--clothes", choices=("new", "any"), default="new", help="any: those trained on, other people")
    parser.add_argument("--fits", action="store_true", help="bodies and masks of bodyfit, not exact ones")
    parser.add_argument("--pictures", type=Path, help="write views beside the truth")
    harness.add_json_option(parser)
    args = parser.parse_args()
    clips = [clip for folder in args.clips or () for clip in split(folder)[1]]
    poses = np.concatenate([clip.pose.reshape(len(clip.pose), -1) for clip in clips]) if clips else None
    scores: dict[str, dict[str, list[tuple[float, float, float]]]] = {k: defaultdict(list) for k in _KINDS}
    measure, rows, seconds, poor = Perceptual(), [], [], 0
    for seed in range(args.first, args.first + args.n):
        room = person(seed, poses, args.clothes, _FIT_PX if args.fits else _SIZE_PX)
        for some in fitted(room) if args.fits else [exact(room)]:
            start = time.process_time()
            row, reason = score(room, some, scores, measure, fits=args.fits)
            seconds.append(time.process_time() - start)
            poor += reason is not None
            rows.append(row)
    results = report(scores, len(rows), poor)
    results["seconds_a_person"] = float(np.median(seconds))
    if args.pictures is not None:
        save_picture(args.pictures, np.concatenate(rows[:8]))
    harness.write_json(args, results)


def person(seed: int, poses: Float[np.ndarray, "N 69"] | None, clothes: str, size_px: int) -> Studio:
    """Make a person: one pose of the clips, or of the prior, and an outfit."""
    room, rng = studio(seed, 1, size_px=size_px), np.random.default_rng([seed, 37])
    (outfit,) = outfits(1, 100_000 + seed, held_out=clothes == "new")
    params = room.poses
    if poses is not None:
        angles = torch.from_numpy(poses[int(rng.integers(len(poses)))][: params.body_pose.shape[1]]).float()[None]
        params = room.model.params(**dict(params) | {"body_pose": angles})
        with torch.no_grad():
            vertices = room.model(**params).vertices
        middle = (vertices.amin(1) + vertices.amax(1)) / 2
        params = room.model.params(**dict(params) | {"transl": params.transl - middle})
    return replace(room, outfit=outfit, poses=params)


def exact(room: Studio) -> list[NewViews]:
    """Lift the picture to the body's depth, and to the clothed surface's."""
    view = room.view(0, 0)
    return [NewViews(view, room.model, surface=surface) for surface in (False, True)]


def fitted(room: Studio) -> list[list[NewViews]]:
    """Fit the picture by the shipped detector, and lift it; an empty list where nobody is found."""
    view = room.view(0, 0)
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "picture.png", Path(folder) / "picture"
        out.mkdir()
        save_picture(path, np.where(view.mask[..., None], view.image, np.uint8(_BACKDROP)))
        people = bodyfit.fit_image(path, focal_px=room.focal_px, silhouette=True)
        if not people or not people[0].status[0].ok:
            return []
        bodyfit.save(people[0], out / "person0.npz")
        write_json(out / "summary.json", {"inputs": []})
        found = find_results([out / "person0.npz"], path)
        material = gather_turn(found, detector=load_detector(masks=True))
        views = [NewViews(material.view, material.model, surface=surface) for surface in (False, True)]
    return [views]


def score(
    room: Studio,
    views: Sequence[NewViews],
    scores: dict[str, dict[str, list[tuple[float, float, float]]]],
    measure: Perceptual,
    *,
    fits: bool,
) -> tuple[np.ndarray, str | None]:
    """Compare views to both sides with the truth; returns a row of pictures, and why the fit is poor."""
    plain, surface = views
    pictures = [small(room.view(0, 0).image)]
    for turn in TURNS:
        for sign in (-1, 1):
            truth = room.view(0, -sign * turn)
            drawn = {
                "splat": white(plain.layers(sign * turn, fine=True).splat[..., :4], plain, truth),
                "body": white(completed(plain.layers(sign * turn, fine=True), None), plain, truth),
                "surface": white(completed(surface.layers(sign * turn, fine=True), None), surface, truth),
                "refined": surface.over(np.full_like(truth.image, 255), sign * turn),
            }
            mask = truth.mask if not fits else cv2.resize(truth.mask.astype(np.uint8), (_SIZE_PX,) * 2) > 0
            box, goal = box_of(mask), small(truth.image)
            for kind, picture in drawn.items():
                one = np.ascontiguousarray(small(picture)[box]), np.ascontiguousarray(goal[box])
                scores[kind][str(turn)].append((psnr_db(*one), ssim(*one), measure.distance(*one)))
            if sign > 0:
                pictures += [small(drawn["surface"]), small(drawn["refined"]), goal]
    return np.concatenate(pictures, 1), surface.reason


def white(rgba: np.ndarray, views: NewViews, truth: AvatarView) -> np.ndarray:
    """Lay a square of a view on white, in the picture's pixels."""
    return views.laid(rgba, np.full_like(truth.image, 255))


def small(picture: np.ndarray) -> np.ndarray:
    """Reduce a picture to the size at which it is scored."""
    if len(picture) == _SIZE_PX:
        return picture
    return np.asarray(cv2.resize(picture, (_SIZE_PX, _SIZE_PX), interpolation=cv2.INTER_AREA))


def report(scores: dict[str, dict[str, list[tuple[float, float, float]]]], people: int, poor: int) -> dict[str, Any]:
    """Print a table, and return means over people and sides."""
    table = Table("", *(f"{turn} degrees" for turn in TURNS), title=f"{people} people")
    means: dict[str, Any] = {"people": people, "poor": poor, "new_clothes": list(HELD_OUT)}
    for kind, by_turn in scores.items():
        rows = {turn: np.mean(values, axis=0) for turn, values in by_turn.items()}
        means[kind] = {
            t: {"psnr_db": float(p), "ssim": float(s), "perceptual": float(d)} for t, (p, s, d) in rows.items()
        }
        table.add_row(kind, *(f"{p:.2f} dB / {s:.3f} / {d:.3f}" for p, s, d in rows.values()))
    Console().print(table)
    return means


if __name__ == "__main__":
    main()
