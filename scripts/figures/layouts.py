"""Draws every keypoint layout on the open body, with its indices, for docs/keypoints.md.

python -m scripts.figures.layouts -o docs/images/layouts.jpg
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import roma
import torch
from PIL import Image, ImageDraw, ImageFont

import bodyfit
from bodyfit import render
from bodyfit.geometry.camera import Camera
from bodyfit.skeleton import LAYOUTS, layout_edges

CELL = (440, 600)
FINER = 2
"""Cells are drawn so many times larger and shrunk, for smooth lines."""
COLUMNS = 4
BODY_ROWS = {"wholebody133": 23, "halpe136": 26, "openpose137": 25}
"""Of layouts with hands and a face, where the body ends; the rest has pictures of its own."""
INK = {"left": (15, 95, 185), "right": (205, 75, 0), "middle": (50, 50, 50)}
"""As in overlays the person's left is blue and the right orange, darker for the white ground."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/images/layouts.jpg"))
    args = parser.parse_args()
    model = bodyfit.load_model("open-x", flat_hand_mean=True)
    cells = [whole(model, name) for name in LAYOUTS]
    cells += [face(model), hand(model, "right"), hand(model, "left")]
    width, height = COLUMNS * CELL[0], -(-(len(cells) + 1) // COLUMNS) * CELL[1]
    sheet = Image.new("RGB", (width, height), "white")
    x = y = 0
    for cell in cells:
        sheet.paste(cell, (x, y))
        x, y = (x + cell.width) % width, y + (x + cell.width) // width * CELL[1]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, quality=80, optimize=True)
    print(f"{args.out}: {len(cells)} pictures, {args.out.stat().st_size / 1000:.0f} kB")


class View:
    """The open body before a camera that shows `height_m` about a point of it."""

    def __init__(
        self, model: bodyfit.BodyModel, about: str | None, height_m: float, *, hand: str | None = None, wide: int = 1
    ) -> None:
        """From the front, arms and legs somewhat apart; with `hand` that hand's back, fingers up."""
        self.model = model
        pose = torch.zeros(1, 21, 3)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            pose[0, model.skeleton.index(f"{side}_shoulder") - 1, 2] = -0.75 * sign * (hand is None)
            pose[0, model.skeleton.index(f"{side}_hip") - 1, 2] = 0.1 * sign
        turn = torch.tensor([[math.pi, 0.0, 0.0]])
        if hand is not None:  # rows: where the camera's right, down and forward are on the body
            out = 1.0 if hand == "left" else -1.0
            turn = roma.rotmat_to_rotvec(torch.tensor([[[0, 0, out], [-out, 0, 0], [0, -1.0, 0]]]))
        self.body = model(body_pose=pose, global_orient=turn)
        low, high = self.body.vertices.amin(1)[0], self.body.vertices.amax(1)[0]
        centre = (low + high) / 2 if about is None else model.point(self.body, about)[0]
        z = 8.0
        self.moved = torch.tensor([0.0, 0.0, z]) - centre
        self.size = wide * CELL[0] * FINER, CELL[1] * FINER
        self.camera = Camera.make(1, self.size, focal_px=self.size[1] / height_m * z)

    def picture(self) -> Image.Image:
        """The body, pale."""
        white = np.full((self.size[1], self.size[0], 3), 255, np.uint8)
        vertices = self.body.vertices[0] + self.moved
        return Image.fromarray(
            render.overlay(white, [(vertices, (0.93, 0.93, 0.95))], self.model.faces, self.camera, opacity=0.6)
        )

    def pixels(self, points: torch.Tensor) -> np.ndarray:
        """(K, 2) of points (K, 3) on the body."""
        return self.camera.project((points + self.moved)[None])[0].numpy()


def whole(model: bodyfit.BodyModel, layout: str) -> Image.Image:
    """A layout's points of the body."""
    view, rows = View(model, None, 1.95), BODY_ROWS.get(layout, len(LAYOUTS[layout]))
    xy = view.pixels(model.keypoints(view.body, layout)[0])[:rows]
    names = LAYOUTS[layout][:rows]
    edges = [(a, b) for a, b in layout_edges(layout) if max(a, b) < rows]
    title = layout if rows == len(LAYOUTS[layout]) else f"{layout}: 0 to {rows - 1}"
    return drawn(view.picture(), xy, list(range(rows)), list(names), edges, title)


def hand(model: bodyfit.BodyModel, side: str) -> Image.Image:
    """The 21 points of a hand, by the joints and the finger tips of the body."""
    view = View(model, f"{side}_middle1", 0.26, hand=side)
    of = {"1": "1", "2": "2", "3": "3", "tip": "_tip"}
    names = [name.removeprefix(f"{side}_") for name in LAYOUTS["wholebody133"] if name.startswith(f"{side}_")]
    names = names[names.index("wrist_root") :]
    points = [
        f"{side}_wrist" if name == "wrist_root" else f"{side}_{name.split('_')[0]}{of[name.split('_')[1]]}"
        for name in names
    ]
    xy = view.pixels(torch.stack([model.point(view.body, point)[0] for point in points]))
    chains = [[0, *range(start, start + 4)] for start in (1, 5, 9, 13, 17)]
    edges = [edge for chain in chains for edge in pairwise(chain)]
    title = f"{side} hand: 0 is {side}_wrist_root"
    return drawn(view.picture(), xy, list(range(21)), [f"{side}_{name}" for name in names], edges, title)


def face(model: bodyfit.BodyModel) -> Image.Image:
    """The 70 points of a face, schematically: between the eyes' corners and the chin, which the body has."""
    view = View(model, "nose", 0.27, wide=2)
    unit = schematic_face()
    layout = "openpose137"
    start = LAYOUTS[layout].index("face_0")
    at = view.pixels(model.keypoints(view.body, layout)[0][start:])
    eyes, chin = at[[36, 45]], at[8]
    x = (eyes[1, 0] - eyes[0, 0]) / (unit[45, 0] - unit[36, 0])
    y = (chin[1] - eyes[:, 1].mean()) / (unit[8, 1] - unit[36, 1])
    xy = unit * (x, y) + (eyes[:, 0].mean(), eyes[:, 1].mean())
    edges = [(a - start, b - start) for a, b in layout_edges(layout) if min(a, b) >= start]
    sides = ["right" if p[0] < -1e-6 else "left" if p[0] > 1e-6 else "middle" for p in unit]
    return drawn(view.picture(), xy, list(range(70)), sides, edges, "face: i is face_i")


def schematic_face() -> np.ndarray:
    """(70, 2): the 300-W markup from the front, the eyes at height 0, the person's right on the left."""
    turn = np.linspace(0, np.pi, 17)
    jaw = np.stack([-np.cos(turn), 1.5 * np.sin(turn)], 1)
    t = np.linspace(0, 1, 5)
    brow = np.stack([-0.9 + 0.7 * t, -0.3 - 0.13 * np.sin(np.pi * t)], 1)
    bridge = np.stack([np.zeros(4), np.linspace(0, 0.48, 4)], 1)
    nostrils = np.stack([np.linspace(-0.24, 0.24, 5), [0.60, 0.64, 0.66, 0.64, 0.60]], 1)
    eye = np.array([(-0.70, 0), (-0.57, -0.09), (-0.39, -0.09), (-0.26, 0), (-0.39, 0.09), (-0.57, 0.09)])
    other = eye[[3, 2, 1, 0, 5, 4]] * (-1, 1)
    lips = [(-0.42, 0.98), (-0.28, 0.89), (-0.13, 0.85), (0, 0.87), (0.13, 0.85), (0.28, 0.89), (0.42, 0.98)]
    lips += [(0.28, 1.11), (0.13, 1.17), (0, 1.18), (-0.13, 1.17), (-0.28, 1.11)]
    inner = [
        (-0.31, 0.98),
        (-0.13, 0.95),
        (0, 0.96),
        (0.13, 0.95),
        (0.31, 0.98),
        (0.13, 1.04),
        (0, 1.06),
        (-0.13, 1.04),
    ]
    pupils = [(-0.48, 0.0), (0.48, 0.0)]
    return np.concatenate([jaw, brow, brow[::-1] * (-1, 1), bridge, nostrils, eye, other, lips, inner, pupils])


def drawn(
    picture: Image.Image,
    xy: np.ndarray,
    indices: list[int],
    names: list[str],
    edges: list[tuple[int, int]],
    title: str,
) -> Image.Image:
    """The points, their lines and their indices over a picture, shrunk to a cell."""
    draw = ImageDraw.Draw(picture)
    inks = [INK[side_of(name)] for name in names]
    for a, b in edges:
        if np.isfinite(xy[[a, b]]).all():
            draw.line([tuple(xy[a]), tuple(xy[b])], fill=inks[a] if inks[a] == inks[b] else INK["middle"], width=FINER)
    known = [i for i in indices if np.isfinite(xy[i]).all()]
    radius = 2.5 * FINER
    for i in known:
        x, y = xy[i]
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=inks[i])
    font = ImageFont.load_default(size=12 * FINER)
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in xy[known]]
    for a, b in edges:  # labels keep off the lines
        steps = np.linspace(xy[a], xy[b], 1 + int(np.nan_to_num(np.linalg.norm(xy[a] - xy[b])) // (4 * FINER)))
        taken += [(x - FINER, y - FINER, x + FINER, y + FINER) for x, y in steps if np.isfinite(x)]
    for i in known:
        box = free_place(draw, xy[i], str(i), font, taken, picture.size)
        taken.append(box)
        draw.text(box[:2], str(i), fill=inks[i], font=font, anchor="lt", stroke_width=FINER, stroke_fill="white")
    draw.text((16, 12), title, fill="black", font=ImageFont.load_default(size=17 * FINER))
    return picture.resize((picture.width // FINER, picture.height // FINER), Image.Resampling.LANCZOS)


def free_place(draw, at: np.ndarray, text: str, font, taken: list, size: tuple[int, int]) -> tuple[float, ...]:
    """x0, y0, x1, y1 near a point where a label covers least of what is there; nearer ones first."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="lt")
    w, h = right - left, bottom - top
    best, least = None, math.inf
    for reach in (5 * FINER, 9 * FINER, 14 * FINER):
        for turn in np.linspace(0, 2 * np.pi, 16, endpoint=False):
            x = at[0] + math.cos(turn) * (reach + w / 2) - w / 2
            y = at[1] + math.sin(turn) * (reach + h / 2) - h / 2
            if not (0 <= x <= size[0] - w and 0 <= y <= size[1] - h):
                continue
            covered = sum(
                max(0.0, min(x + w, c) - max(x, a)) * max(0.0, min(y + h, d) - max(y, b)) for a, b, c, d in taken
            )
            cost = covered + 1.5 * reach + 2.0 * abs(math.sin(turn))
            if cost < least:
                best, least = (x, y, x + w, y + h), cost
    assert best is not None
    return best


def side_of(name: str) -> str:
    """Whose side a keypoint's name says."""
    return next((side for side in ("left", "right") if name.startswith(side) or name.endswith(side)), "middle")


if __name__ == "__main__":
    main()
