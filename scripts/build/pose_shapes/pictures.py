"""Plain skinning beside skinning with the pose shapes, one bent joint a pair of pictures.

python -m scripts.build.pose_shapes.pictures [--body assets/body] [--out docs/images/pose-shapes.jpg]
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial.transform import Rotation

from bodyfit.geometry.camera import Camera, flip_yz
from bodyfit.render import contact_sheet, person_color
from bodyfit.render.shade import render_bodies
from scripts.build.pose_shapes.build import load_body
from scripts.build.pose_shapes.measure import pose_body
from scripts.build.pose_shapes.solve import Body

SIZE_PX = (250, 200)
DISTANCE_M = 3.0


@dataclass(frozen=True)
class View:
    """One posed joint and where it is seen from."""

    label: str
    turns: dict[str, tuple[float, float, float]]
    """Rotation vectors in degrees by joint."""
    joint: str
    """What is in the middle, with an offset in metres."""
    offset: tuple[float, float, float]
    yaw: float
    """Degrees the camera goes to the body's left, from its front,"""
    pitch: float
    """and up."""
    width_m: float
    """What the picture spans at the joint."""


VIEWS = [
    View("elbow bent 120", {"left_elbow": (0, -120, 0)}, "left_elbow", (-0.08, 0, 0.06), 0, 75, 0.50),
    View("elbow twisted 90", {"left_elbow": (90, 0, 0)}, "left_elbow", (0.05, 0, 0), 0, 20, 0.60),
    View("knee bent 120", {"left_knee": (120, 0, 0)}, "left_knee", (0, 0.05, -0.05), 80, 5, 0.70),
    View("hip bent 120", {"left_hip": (-120, 0, 0)}, "left_hip", (0, 0.02, 0.06), 70, 5, 0.85),
    View("hip twisted 45", {"left_hip": (0, 45, 0)}, "left_hip", (0, -0.05, 0), 30, 5, 0.75),
    View("arm down 75", {"left_shoulder": (0, 0, -75)}, "left_shoulder", (-0.05, -0.04, 0), 15, 15, 0.60),
    View("arm up 75", {"left_shoulder": (0, 0, 75)}, "left_shoulder", (-0.05, 0, 0), 15, 5, 0.60),
    View("arm forward 90", {"left_shoulder": (0, -90, 0)}, "left_shoulder", (-0.04, 0, 0.05), 60, 25, 0.60),
    View("shoulder twisted 90", {"left_shoulder": (90, 0, 0)}, "left_shoulder", (0.02, 0, 0), 10, 15, 0.60),
    View("wrist bent 80", {"left_wrist": (0, 0, -80)}, "left_wrist", (0, -0.03, 0), -10, 15, 0.34),
    View("wrist twisted 90", {"left_wrist": (90, 0, 0)}, "left_wrist", (0, 0, 0), 0, 25, 0.34),
    View(
        "knuckles bent 80",
        {f"left_{finger}1": (0, 0, -80) for finger in ("index", "middle", "ring", "pinky")},
        "left_index1", (-0.02, -0.02, -0.02), 30, 25, 0.22,
    ),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[3]
    parser.add_argument("--body", type=Path, default=root / "assets" / "body")
    parser.add_argument("--out", type=Path, default=root / "docs" / "images" / "pose-shapes.jpg")
    parser.add_argument("--zoom", type=float, default=1.0, help="pixels, as a multiple of the picture in the docs")
    args = parser.parse_args()
    body = load_body(args.body)
    with np.load(args.body / "open.npz") as file:
        shapes = {name: file[name] for name in ("posedirs_joint", "posedirs_vertex", "posedirs_block")}
    pairs = []
    for view in VIEWS:
        turns = {name: np.deg2rad(turn) for name, turn in view.turns.items()}
        halves = [picture(body, pose_body(body, turns, chosen), view, args.zoom) for chosen in (None, shapes)]
        pairs.append(labelled(np.concatenate(halves, 1), view.label))
    sheet = contact_sheet(pairs, columns=3)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(args.out, quality=88, optimize=True)
    print(f"{args.out.name}: {args.out.stat().st_size / 1e3:.0f} kB")


def picture(body: Body, vertices: np.ndarray, view: View, zoom: float) -> np.ndarray:
    """(h, w, 3) bytes: the joint from near enough, with so long a lens that nothing is foreshortened."""
    middle = body.joints[body.names.index(view.joint)] + view.offset
    turn = Rotation.from_euler("xy", (view.pitch, -view.yaw), degrees=True).as_matrix()
    seen = flip_yz(torch.as_tensor((vertices - middle) @ turn.T))
    seen[:, 2] += DISTANCE_M
    width, height = (round(zoom * side) for side in SIZE_PX)
    camera = Camera.make(1, (width, height), focal_px=DISTANCE_M / view.width_m * width)
    wall = np.ones((height, width, 3), np.float32)
    layer = render_bodies([(seen, person_color(0))], torch.as_tensor(body.faces), camera)
    assert layer is not None
    layer.over(wall)
    return np.round(wall * 255).clip(0, 255).astype(np.uint8)


def labelled(image: np.ndarray, text: str) -> np.ndarray:
    """With its name above."""
    picture = Image.fromarray(np.concatenate([np.full((24, *image.shape[1:]), 255, np.uint8), image]))
    ImageDraw.Draw(picture).text((6, 4), text, fill=(70, 70, 70), font=ImageFont.load_default(size=14))
    return np.asarray(picture)


if __name__ == "__main__":
    main()
