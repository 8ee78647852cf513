"""Make the pictures of docs/pictures.md, and those of fits and of random bodies in the README.

    python -m scripts.figures.pictures [--out docs/images] [--only NAME ...]

The bodies of the overlay are fitted to a sample photograph, all others are random ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bodyfit
from bodyfit import render
from bodyfit.geometry.camera import flip_yz
from bodyfit.images.frame import read_image
from scripts.bench.pictures import Sight, by_pytorch3d

ROOT = Path(__file__).resolve().parents[2]
GAP = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", nargs="*", default=[], help="names without .jpg; all if left out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = bodyfit.load_model("open")
    figures = {
        "pictures-studio": lambda: studio(model),
        "pictures-maps": lambda: maps(model),
        "pictures-turn": lambda: turn(model),
        "pictures-overlay": lambda: overlay(model),
        "pictures-edges": lambda: edges(model),
        "fit": lambda: fit(model),
        "random": lambda: random(model),
    }
    for name, draw in figures.items():
        if args.only and name not in args.only:
            continue
        path = args.out / f"{name}.jpg"
        Image.fromarray(draw()).save(path, quality=88, optimize=True, subsampling=0)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


def fit(model: bodyfit.BodyModel) -> np.ndarray:
    """A walking woman with her body and keypoints, the body from the side, and two people in a street."""
    drawn, side = [], np.zeros(0)
    for name in ("walking", "street_two_people"):
        image = read_image(ROOT / "assets" / "samples" / f"{name}.jpg").image
        people = bodyfit.fit_image(image, model=model)
        with torch.no_grad():
            vertices = [model(**person.params).vertices[0] for person in people]
        bodies = [(v, render.person_color(i)) for i, v in enumerate(vertices)]
        seen = [person.keypoints[0] for person in people]
        camera = people[0].camera
        drawn.append(render.overlay(image, bodies, model.faces, camera, keypoints=seen, layout=people[0].layout))
        if name == "walking":
            side = render.side_view(vertices[0], model.faces, size=(630, 840))
    return row([resized(drawn[0], height=420), resized(side, height=420), resized(drawn[1][:, 380:1280], height=420)])


def random(model: bodyfit.BodyModel) -> np.ndarray:
    """Sixteen random bodies, as `bodyfit random -n 16` draws them, from nearer."""
    bodies = bodyfit.random_bodies(16, model=model, seed=0)
    with torch.no_grad():
        vertices = model(**bodies).vertices
    pictures = [
        render.turn_view(v, model.faces, 20.0, (420, 560), color=render.person_color(i)) for i, v in enumerate(vertices)
    ]
    return resized(render.contact_sheet(pictures, columns=8, gap_px=6), height=520)


def overlay(model: bodyfit.BodyModel) -> np.ndarray:
    """Two people of a photograph, their joints beside, and where they stand, from the side and from above."""
    image = read_image(ROOT / "assets" / "samples" / "street_two_people.jpg").image
    people = bodyfit.fit_image(image, model=model)
    outs = [model(**person.params) for person in people]
    bodies = [(out.vertices[0].detach(), render.person_color(i)) for i, out in enumerate(outs)]
    drawn = [
        render.overlay(image, bodies, model.faces, people[0].camera, joints=joints, opacity=opacity)
        for joints, opacity in ((None, 0.95), ([out.joints[0].detach() for out in outs], 0.6))
    ]
    wide = [resized(picture[:, 380:1140], height=620) for picture in drawn]
    views = [render.studio(bodies, model.faces, view=view, size=(360, 306), grid_m=0.5) for view in ("side", "top")]
    return row([*wide, column(views)])


def edges(model: bodyfit.BodyModel) -> np.ndarray:
    """A head and a hand, one sample a pixel and eight, their pixels enlarged."""
    people = standing(model, [4], seed=11)
    seen = sight(model, people, (700, 700), pitch_deg=4.0)
    soft = render.overlay(seen.image, seen.bodies, seen.faces, seen.camera, opacity=1.0)
    inked = (soft != seen.image).any(2)
    (head_y, head_x), (hand_x, hand_y) = np.argwhere(inked)[0], np.argwhere(inked.T)[0]
    cells = []
    for y, x in ((head_y + 20, head_x + 6), (hand_y + 8, hand_x + 26)):
        for picture in (by_pytorch3d(seen), soft):
            crop = picture[y - 32 : y + 32, x - 32 : x + 32]
            cells.append(np.kron(crop, np.ones((6, 6, 1), np.uint8)))
    return row(cells)


def maps(model: bodyfit.BodyModel) -> np.ndarray:
    """Three people, one before the other, and the four maps of them."""
    people = standing(model, [0, 3, 5], seed=11)
    places = ((-0.55, 0.0, 0.4), (0.0, 0.0, -0.3), (0.6, 0.0, 0.3))
    people = [person + torch.tensor(place) for person, place in zip(people, places, strict=True)]
    seen = sight(model, people, (420, 460), pitch_deg=6.0)
    drawn = render.draw_maps(seen.bodies, seen.faces, seen.camera, part_weights=model.weights)
    depth = drawn.depth_m
    there = depth > 0
    near, far = np.quantile(depth[there], (0.002, 0.998))
    grey = np.where(there, 255 - 190 * np.clip((depth - near) / (far - near), 0, 1), 0).astype(np.uint8)
    colors = np.array([(0, 0, 0), *(render.person_color(k) for k in range(3))])
    hues = np.concatenate([np.zeros((1, 3)), render.part_colors(24)])
    pictures = [
        render.overlay(seen.image, seen.bodies, seen.faces, seen.camera, opacity=1.0),
        np.repeat(grey[..., None], 3, 2),
        render.normal_colors(drawn.normal),
        (255 * colors[drawn.person]).astype(np.uint8),
        (255 * hues[drawn.part]).astype(np.uint8),
    ]
    return row([resized(picture, height=340) for picture in pictures])


def studio(model: bodyfit.BodyModel) -> np.ndarray:
    """People of many shapes in a row; one wears a texture."""
    people = standing(model, range(6), seed=11)
    y, x = np.mgrid[:1024, :1024] // 32
    cloth = np.where(((x + y) % 2)[..., None], (238, 228, 212), (176, 98, 84)).astype(np.uint8)
    paints = [render.person_color(i) for i in range(6)]
    paints[2] = render.Texture(cloth, model.uv, model.uv_faces)
    across = np.linspace(-2.5, 2.5, 6)
    places = [torch.tensor([float(a), 0.0, 0.35 * (i % 2)]) for i, a in enumerate(across)]
    bodies = [(person + place, paint) for person, place, paint in zip(people, places, paints, strict=True)]
    stage = render.Stage.around([v for v, _ in bodies], view=(8.0, 9.0), size=(2400, 960))
    return resized(stage.draw(bodies, model.faces, rays=160), height=480)


def turn(model: bodyfit.BodyModel) -> np.ndarray:
    """Six of the pictures of a turntable."""
    (person,) = standing(model, [3], seed=11)
    frames = render.turntable([(person, render.person_color(4))], model.faces, frames=6, size=(400, 560))
    return row([resized(frame, height=300) for frame in frames])


def standing(model: bodyfit.BodyModel, rows: list[int] | range, *, seed: int) -> list[torch.Tensor]:
    """Some of the random bodies of a seed, facing the camera, about the origin, their lowest points at one height."""
    bodies = bodyfit.random_bodies(max(rows) + 1, model=model, seed=seed)
    with torch.no_grad():
        vertices = flip_yz(model(**bodies).vertices)
    low, high = vertices.amin(1), vertices.amax(1)
    middle = torch.stack([(low + high)[:, 0] / 2, high[:, 1], (low + high)[:, 2] / 2], 1)
    return [(vertices - middle[:, None])[k] for k in rows]


def sight(model: bodyfit.BodyModel, people: list[torch.Tensor], size: tuple[int, int], pitch_deg: float) -> Sight:
    """People before a plain picture, filling it."""
    stage = render.Stage.around(people, view=(0.0, pitch_deg), size=size)
    bodies = [(stage.to_camera(person), render.person_color(i)) for i, person in enumerate(people)]
    plain = np.full((size[1], size[0], 3), (236, 238, 241), np.uint8)
    return Sight(plain, bodies, model.faces, stage.camera)


def resized(picture: np.ndarray, *, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def row(pictures: list[np.ndarray]) -> np.ndarray:
    """Side by side, with white between."""
    white = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, white)][:-1], 1)


def column(pictures: list[np.ndarray]) -> np.ndarray:
    """One above the other."""
    return row([picture.swapaxes(0, 1) for picture in pictures]).swapaxes(0, 1)


if __name__ == "__main__":
    main()
