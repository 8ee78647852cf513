"""Draws ARKit's shapes on the open face, and a body's hands and face from near, for docs/hands-face.md.

python -m scripts.figures.faces -o docs/images
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import bodyfit
from bodyfit import render
from bodyfit.body.files.archive import asset_path
from bodyfit.body.model import BodyModel
from bodyfit.geometry.camera import Camera, flip_yz
from bodyfit.io.export.arkit import ARKIT_NAMES, arkit_shapes

CELL = (300, 340)
FINER = 2
SHOWN = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeWideRight", "browInnerUp", "browDownRight", "noseSneerLeft", "cheekPuff",
    "jawOpen", "jawLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFunnel", "mouthPucker", "mouthUpperUpRight",
)  # fmt: skip
SKIN = (0.85, 0.72, 0.64)
FACE_M = 0.37
"""Height of the face's middle in the model."""
POINTING = {"index": 0.0, "middle": 1.4, "pinky": 1.4, "ring": 1.4, "thumb": 0.5}
"""Radians by which the joints of each finger are bent, in the order of the joints."""
ARMS = {"left_shoulder": (0, 0, -1.1), "right_shoulder": (0, 0, 0.9), "right_elbow": (0, 1.6, 0)}
"""Axis-angle."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    model = bodyfit.load_model("open-x")
    cells = [face(model, name) for name in SHOWN]
    sheet = Image.fromarray(render.contact_sheet(cells, columns=7, gap_px=4))
    sheet = sheet.resize((sheet.width // FINER, sheet.height // FINER), Image.Resampling.LANCZOS)
    sheet.save(args.out / "arkit.jpg", quality=85)
    Image.fromarray(insets(model)).save(args.out / "insets.jpg", quality=85)


def face(model: BodyModel, name: str) -> np.ndarray:
    """A shape at weight 1, seen from a quarter to the left, with its name."""
    shape = torch.from_numpy(arkit_shapes().offsets[ARKIT_NAMES.index(name)]).float()
    yaw = math.radians(25)
    turn = torch.tensor([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    vertices = flip_yz((model.v_template + shape - torch.tensor([0, FACE_M, 0])) @ turn.T)
    picture = np.full((CELL[1], CELL[0], 3), 240, np.uint8)
    camera = Camera.make(1, CELL, focal_px=4.6 * CELL[1])
    drawn = render.overlay(picture, [(vertices + torch.tensor([0, 0, 1.2]), SKIN)], model.faces, camera, opacity=1.0)
    image = Image.fromarray(drawn)
    ImageDraw.Draw(image).text((10, 6), name, fill=(40, 40, 40), font=ImageFont.load_default(26))
    return np.array(image)


def insets(model: BodyModel) -> np.ndarray:
    """A body that points at the camera with an open mouth, as `draw_insets` shows it, on grey."""
    axes = torch.from_numpy(np.load(asset_path("body", "open.npz"))["finger_flexion_axes"][15:].astype(np.float32))
    bends = torch.tensor([angle for angle in POINTING.values() for _ in range(3)])
    body_pose = torch.zeros(1, 21, 3)
    for joint, angles in ARMS.items():
        body_pose[0, model.skeleton.index(joint) - 1] = torch.tensor(angles)
    with torch.no_grad():
        body = model(
            body_pose=body_pose.view(1, -1),
            global_orient=torch.tensor([[math.pi, 0.0, 0.0]]),
            transl=torch.tensor([[0.0, 0.3, 2.6]]),
            right_hand_pose=(axes * bends[:, None]).view(1, -1) - model.hand_means[1],
            jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]),
            expression=torch.tensor([[1.5] + 9 * [0.0]]),
        )
    picture = np.full((720, 960, 3), 150, np.uint8)
    parts = render.inset_parts(model)
    camera = Camera.make(1, (960, 720), focal_px=900.0)
    drawn = render.draw_insets(picture, [(body.vertices[0], render.person_color(0))], model.faces, camera, parts)
    assert drawn is not None
    return np.concatenate([drawn[:, x : x + 320] for x in range(328, drawn.shape[1], 656)], 1)  # the drawn ones alone


if __name__ == "__main__":
    main()
