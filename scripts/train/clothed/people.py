"""Draw the dressed people that clothed surfaces are learned from and judged by, with what they wear and how they stand.

    python -m scripts.train.clothed.people CLIPS [CLIPS ...] -o FOLDER [--people 2000] [--seed 0]

FOLDER gets shards of 50 people to learn from, train-*.npz, and one of people and clothes that are held out, held.npz;
shards that are there are not drawn again. 2,000 people take ten minutes of one core.

A person is a body in a pose of motion clips, dressed, in a room about the origin (y down, as cameras have it), seen by
cameras of their own. Some garments, shoes, hats and hair are held out whole, and so are clips (`is_held_out`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.appearance import DressedPerson, Outfit, dress, random_outfits
from bodyfit.appearance.catalogue import catalogue, pieces
from bodyfit.body.params import BodyParams
from bodyfit.geometry.camera import Camera
from bodyfit.render import render_dressed
from bodyfit.runtime.atomic import write_atomically
from scripts.build.pose_prior import write_npz
from scripts.train.clothed.truth import outer_points, solid_mesh
from scripts.train.conditional.motion import Motion, read_motion

__all__ = [
    *("HELD_OUT", "PICTURE_PX", "Drawn", "Posed", "View"),
    *("draw", "draw_one", "outfits", "people", "views", "worn_pieces", "write_shard"),
]

HELD_OUT = (
    *("striped_shirt", "tee_women", "crop_top", "suit_trousers", "sports_trousers"),
    *("shoes03", "shoes06", "fedora_cocked", "bob02", "short02"),
)
"""Pieces that no picture to learn from shows."""
PICTURE_PX = 176
_CAMERAS, _SHARD = 2, 50
"""Pictures a person, and people in a file."""
_TARGETS = 3000
"""Points of a surface that are stored."""
_CELL_M = 0.02
_KINDS = ("upper", "lower", "whole", "shoes", "hat", "hair")


@dataclass(frozen=True, eq=False)
class Posed:
    """A dressed person, who stands about the origin of a room with y down."""

    params: BodyParams
    outfit: Outfit
    dressed: DressedPerson


@dataclass(frozen=True, eq=False)
class View:
    """A camera before a person."""

    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, "3"]
    """From the room's axes to the camera's, metres."""
    lens: Float[np.ndarray, "3"]
    """Focal length and principal point, pixels of the picture."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A person's surface and pictures."""

    points: Float[np.ndarray, "N 3"]
    """Of the surface that can be seen from outside, in the room."""
    normals: Float[np.ndarray, "N 3"]
    pictures: UInt8[np.ndarray, "K S S 4"]
    """sRGB and opacity, the colours times the opacity."""


def outfits(count: int, seed: int, *, held_out: bool) -> list[Outfit]:
    """Draw outfits without pieces of `HELD_OUT`, or of them alone where a kind has some."""
    rng = np.random.default_rng([seed, 61, int(held_out)])
    return [_replaced(one, rng, held_out=held_out) for one in random_outfits(count, seed)]


def _replaced(outfit: Outfit, rng: np.random.Generator, *, held_out: bool) -> Outfit:
    wearer = "women" if outfit.skin.removesuffix("_2").endswith("female") else "men"
    changes: dict[str, str] = {}
    if held_out and outfit.whole is not None:  # the one suit that there is was learned from
        outfit = replace(outfit, whole=None, dyes={k: v for k, v in outfit.dyes.items() if k != "whole"})
        changes = {"upper": "striped_shirt", "lower": "suit_trousers"}
    for kind in _KINDS:
        name = changes.get(kind, getattr(outfit, kind))
        if name is None or (name in HELD_OUT) == held_out:
            continue
        fitting = [p for p in pieces(kind, wearer) if (p in HELD_OUT) == held_out]
        worn = [p for p in fitting if kind != "hair" or p[:5] in ("short",) or wearer == "women"]
        choice = [p for p in (worn or fitting) if p not in ("work_tee", "dungarees")]
        if choice:
            changes[kind] = str(rng.choice(choice))
    return replace(outfit, **changes)


def people(
    count: int, motion: Motion, seed: int, *, held_out: bool, model: bodyfit.BodyModel | None = None
) -> list[Posed]:
    """Draw dressed people: random adults in poses of the clips, one in twelve with the root turned at random."""
    model = bodyfit.load_model() if model is None else model
    rng = np.random.default_rng([seed, 67, int(held_out)])
    pose = motion.poses(count, torch.Generator().manual_seed(1000 * seed + 7 + int(held_out)))
    turn = Rotation.from_rotvec(np.pi * rng.uniform(0, 1, count)[:, None] * _unit(rng.standard_normal((count, 3))))
    upright = Rotation.from_euler("xz", rng.normal(0, 0.05, (count, 2)))
    lying = rng.random(count) < 1 / 12
    root = Rotation.from_quat(np.where(lying[:, None], turn.as_quat(), upright.as_quat()))
    root = Rotation.from_rotvec([np.pi, 0, 0]) * root  # y down
    params = model.params(
        betas=torch.from_numpy(rng.standard_normal((count, model.num_betas)).clip(-2.5, 2.5)).float(),
        body_pose=pose.flatten(1)[:, : 3 * (model.body_joints - 1)],
        global_orient=torch.from_numpy(root.as_rotvec()).float(),
    )
    worn = outfits(count, seed, held_out=held_out)
    with torch.no_grad():
        middle = model(**params).joints[:, 0]
    params = model.params(**dict(params) | {"transl": params.transl - middle})
    dressed = dress(params, model=model, outfit=worn)
    return [Posed(params.select([i]), worn[i], dressed[i]) for i in range(count)]


def _unit(x: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def views(person: Posed, count: int, rng: np.random.Generator, *, size: int = PICTURE_PX) -> list[View]:
    """Cameras 2 to 8 m away that look at a person from all sides, mostly from their height."""
    points = np.concatenate([one.vertices.double().numpy() for one in person.dressed.surfaces()])
    made = []
    for _ in range(count):
        yaw, pitch, roll = rng.uniform(-np.pi, np.pi), rng.normal(0, 0.2), rng.normal(0, 0.05)
        R = Rotation.from_euler("yxz", [yaw, pitch, roll]).as_matrix()
        distance = np.exp(rng.uniform(np.log(2.0), np.log(8.0)))
        t = distance * np.array([*rng.normal(0, [0.15, 0.1]), 1.0])
        at = points @ R.T + t
        xy = at[:, :2] / np.maximum(at[:, 2:], 0.2)
        low, high = xy.min(0), xy.max(0)
        focal = rng.uniform(0.85, 0.95) * size / (high - low).max()
        made.append(View(R, t, np.r_[focal, size / 2 - focal * (low + high) / 2]))
    return made


def draw(person: Posed, cameras: Sequence[View], rng: np.random.Generator, *, size: int = PICTURE_PX) -> Drawn:
    """Draw a person before cameras, in light from a random side, and sample the surface."""
    points, normals = outer_points(*solid_mesh(person.dressed), _CELL_M)
    some = rng.permutation(len(points))[:_TARGETS]
    pictures = np.zeros((len(cameras), size, size, 4), np.uint8)
    for picture, view in zip(pictures, cameras, strict=True):
        picture[:] = draw_one(person.dressed, view, size, Rotation.random(rng=rng).as_matrix())
    return Drawn(points[some], normals[some], pictures)


def draw_one(
    dressed: DressedPerson, view: View, size: int, R_light: Float[np.ndarray, "3 3"] | None = None
) -> UInt8[np.ndarray, "S S 4"]:
    """Draw a person on nothing: colours times opacity, and opacity."""
    R, t = (torch.from_numpy(x).float() for x in (view.R, view.t))
    camera = Camera.make(
        1, (size, size), focal_px=float(view.lens[0]), principal_point_px=(float(view.lens[1]), float(view.lens[2]))
    )
    layer = render_dressed([dressed.turned(R, t)], camera, R_light=R_light)
    picture = np.zeros((size, size, 4), np.uint8)
    if layer is not None:
        (x, y), (h, w) = layer.corner_px, layer.rgba.shape[:2]
        picture[y : y + h, x : x + w] = (255 * layer.rgba.clip(0, 1) + 0.5).astype(np.uint8)
    return picture


def write_shard(path: Path, motion: Motion, count: int, seed: int, *, held_out: bool) -> None:
    """Draw people into a file."""
    rng = np.random.default_rng([seed, 71])
    rows = []
    for person in people(count, motion, seed, held_out=held_out):
        some = views(person, _CAMERAS, rng)
        rows.append((person, some, draw(person, some, rng)))
    with write_atomically(path) as temporary:
        write_npz(temporary, _arrays(rows))


def _arrays(rows: Sequence[tuple[Posed, list[View], Drawn]]) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    whole = min(len(drawn.points) for _, _, drawn in rows)
    return {
        **{name: np.concatenate([p.params[name].numpy() for p, _, _ in rows]) for name in rows[0][0].params},
        "R": np.stack([[v.R for v in vs] for _, vs, _ in rows]).astype(np.float32),
        "t": np.stack([[v.t for v in vs] for _, vs, _ in rows]).astype(np.float32),
        "lens": np.stack([[v.lens for v in vs] for _, vs, _ in rows]).astype(np.float32),
        "points": np.stack([d.points[:whole] for _, _, d in rows]).astype(np.float16),
        "normals": np.stack([np.round(127 * d.normals[:whole]) for _, _, d in rows]).astype(np.int8),
        "pictures": np.stack([d.pictures for _, _, d in rows]),
    }


def main() -> None:
    """Draw the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    training, held_out = read_motion(args.clips, 5.0)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (path := args.out / "held.npz").exists():
        write_shard(path, held_out, _SHARD, args.seed, held_out=True)
    for shard in range(-(-args.people // _SHARD)):
        if not (path := args.out / f"train-{shard:03d}.npz").exists():
            count = min(_SHARD, args.people - shard * _SHARD)
            write_shard(path, training, count, 1 + args.seed + shard, held_out=False)


def worn_pieces(outfit: Outfit) -> list[str]:
    """Names of the garments, shoes, hats and hair that are worn."""
    return [name for _, name in outfit.pieces() if catalogue()["pieces"][name]["kind"] in _KINDS]


if __name__ == "__main__":
    main()
