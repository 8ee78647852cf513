"""Draw the pictures that compositional fields are trained and measured on: dressed people before simple backgrounds.

    python -m scripts.train.field_pictures -o FOLDER --people 200 --each 18

Every picture is a scene of `bodyfit.scenes` (pose, hands, place and camera of its own) whose people wear the outfits of
a fixed cast, so that a person recurs in other poses, shapes and cameras. Splits: `train` (one person, in a fifth of the
pictures two or three), `held` (one picture more of everyone), `two`, `five` (people of the cast together), `new`
(others, a few pictures each). FOLDER gets one npz for each shard of a split; shards that are there are not drawn again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from bodyfit.appearance import Outfit, dress, random_outfits
from bodyfit.body.params import BodyParams
from bodyfit.fields.compositional.scene import FieldCamera
from bodyfit.geometry.camera import Camera
from bodyfit.io.results.params import write_arrays
from bodyfit.render import render_dressed
from bodyfit.render.color import to_srgb
from bodyfit.scenes import Scene, SceneConfig, sample_scene
from bodyfit.scenes.draw import scene_model

MODEL = "open-x"
BACKGROUNDS = 40
SHARD = 100
"""Pictures in a file."""
GENDERS = ("male", "female")


@dataclass(frozen=True)
class Split:
    """One part of the pictures."""

    name: str
    pictures: int
    stream: int
    """Seed of its scenes."""
    crowds: tuple[int, ...]
    """Numbers of people, which scenes take in turn."""
    first_person: int
    people: int
    """The part of the cast that it shows."""


def splits(people: int, each: int, new: int = 24) -> list[Split]:
    """The splits of a cast of `people`, followed by `new` others."""
    crowds = (1,) * 8 + (2, 3)
    return [
        Split("train", people * each * len(crowds) // sum(crowds), 101, crowds, 0, people),
        Split("held", people, 102, (1,), 0, people),
        Split("two", 40, 103, (2,), 0, people),
        Split("five", 40, 104, (5,), 0, people),
        Split("new", 5 * new, 105, (1,), people, new),
    ]


def cast_of(people: int, seed: int = 0) -> list[Outfit]:
    """Outfits of a cast, men and women in turn; person i does not depend on how many there are."""
    by_gender = [random_outfits((people + 1) // 2, 7 + seed, gender=gender) for gender in GENDERS]
    return [by_gender[i % 2][i // 2] for i in range(people)]


def background(number: int, directions: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 3"]:
    """Paint a floor and a wall or a sky with soft patches, by unit directions in the world (y up); linear light."""
    rng = np.random.default_rng([number, 31])
    unit = directions
    gray = rng.uniform(0.08, 0.75, 3)
    floor, low, high = (np.clip(g * (1 + rng.normal(0, 0.2, 3)), 0.02, 0.95) for g in gray)
    edge, sharp = rng.uniform(-0.3, 0.02), rng.uniform(8, 30)
    up = np.clip((unit[..., 1:2] - edge) / 0.8, 0, 1)
    share = 1 / (1 + np.exp(-np.clip(sharp * (unit[..., 1:2] - edge), -50, 50)))
    out = share * (low + (high - low) * up) + (1 - share) * floor
    for _ in range(int(rng.integers(0, 5))):
        centre = rng.normal(0, 1, 3) * (1, 0.4, 1)
        centre /= np.linalg.norm(centre)
        near = np.exp((unit @ centre - 1) * rng.uniform(3, 25))[..., None]
        out = out + 0.7 * near * (rng.uniform(0.03, 0.9, 3) - out)
    return np.clip(out, 0, 1)


def draw(
    bodies: Sequence[tuple[BodyParams, str]], outfits: Sequence[Outfit], camera: FieldCamera, behind: int
) -> tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S"]]:
    """Draw bodies (world axes, with the gender of each) in outfits before a background; RGB and the people's alpha."""
    R, t = (torch.as_tensor(np.asarray(x, np.float32)) for x in (camera.R_cam_world, camera.t_cam_world_m))
    people = [
        dress(params, model=scene_model(MODEL, gender), outfit=outfit)[0].turned(R, t)
        for (params, gender), outfit in zip(bodies, outfits, strict=True)
    ]
    size = (camera.size, camera.size)
    picture = to_srgb(background(behind, camera.directions(camera.size).astype(np.float64)))
    alpha = np.zeros(size)
    layer = render_dressed(people, Camera.make(1, size, focal_px=camera.focal_px))
    if layer is not None:
        x, y = layer.corner_px
        h, w = layer.rgba.shape[:2]
        alpha[y : y + h, x : x + w] = layer.rgba[..., 3]
        picture[y : y + h, x : x + w] *= 1 - layer.rgba[..., 3:]
        picture[y : y + h, x : x + w] += layer.rgba[..., :3]
    rgb, opacity = ((255 * np.clip(x, 0, 1) + 0.5).astype(np.uint8) for x in (picture, alpha))
    return rgb, opacity


def people_of(split: Split, scenes: list[Scene]) -> Iterator[list[int]]:
    """Who of the cast each scene shows: everyone of the scene's gender in turn."""
    pools = [[i for i in range(split.first_person, split.first_person + split.people) if i % 2 == g] for g in (0, 1)]
    turns = [0, 0]
    for scene in scenes:
        own = []
        for person in scene.people:
            g = GENDERS.index(person.gender)
            own.append(pools[g][turns[g] % len(pools[g])])
            turns[g] += 1
        yield own


def arrays_of(scenes: list[Scene], people: list[list[int]], cast: list[Outfit], first: int) -> dict[str, np.ndarray]:
    """Draw scenes; the arrays of a shard. Bodies of all pictures follow one another, `body_picture` says whose."""
    rng = np.random.default_rng([first, 47])
    behind = rng.integers(BACKGROUNDS, size=len(scenes))
    cameras = [FieldCamera(s.focal_px, s.R_cam_world.numpy(), s.t_cam_world_m.numpy(), s.size) for s in scenes]
    drawn = [
        draw([(p.params, p.gender) for p in s.people], [cast[i] for i in own], camera, int(b))
        for s, own, camera, b in zip(scenes, people, cameras, behind, strict=True)
    ]
    rows = [(k, person, i) for k, s in enumerate(scenes) for person, i in zip(s.people, people[k], strict=True)]
    params = {name: np.concatenate([p.params[name].numpy() for _, p, _ in rows]) for name in rows[0][1].params}
    return {
        "picture": np.stack([p for p, _ in drawn]),
        "alpha": np.stack([a for _, a in drawn]),
        "background": behind,
        "focal_px": np.array([c.focal_px for c in cameras]),
        "R_cam_world": np.stack([c.R_cam_world for c in cameras]),
        "t_cam_world_m": np.stack([c.t_cam_world_m for c in cameras]),
        "body_picture": np.array([k for k, _, _ in rows]),
        "body_person": np.array([i for _, _, i in rows]),
        "body_gender": np.array([GENDERS.index(p.gender) for _, p, _ in rows]),
        **{f"param_{name}": value for name, value in params.items()},
    }


def shard_path(folder: Path, split: Split, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"{split.name}_{shard:03d}.npz"


def write_split(folder: Path, split: Split, cast: list[Outfit], size: int, seed: int) -> None:
    """Draw what is missing of a split."""
    configs = {n: SceneConfig(people=(n, n), size=size, model=MODEL, things=0.0) for n in set(split.crowds)}
    counts = [split.crowds[i % len(split.crowds)] for i in range(split.pictures)]
    shards = range(-(-split.pictures // SHARD))
    if all(shard_path(folder, split, k).is_file() for k in shards):
        return
    # Who is in a scene depends on the genders in those before it: all are sampled, which costs little.
    scenes = [sample_scene(configs[n], split.stream + 1000 * seed, i) for i, n in enumerate(counts)]
    people = list(people_of(split, scenes))
    for k in shards:
        path, part = shard_path(folder, split, k), slice(k * SHARD, (k + 1) * SHARD)
        if path.is_file():
            continue
        write_arrays(path, arrays_of(scenes[part], people[part], cast, split.stream * 1000 + k))
        print(f"{path.name}: {len(scenes[part])} pictures", file=sys.stderr)


def main() -> None:
    """Draw all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--each", type=int, default=18, help="pictures of a person")
    parser.add_argument("--new", type=int, default=24, help="other people, five pictures each")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cast = cast_of(args.people + args.new, args.seed)
    for split in splits(args.people, args.each, args.new):
        write_split(args.out, split, cast, args.size, args.seed)


if __name__ == "__main__":
    main()
