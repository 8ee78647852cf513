"""A residual of your own: whoever is known to stand has straight knees, which one picture does not show.

    python scripts/examples/residual.py [OUT]

In one picture knees that bend towards the camera look straight, and the fit bends them as people mostly do. A residual
more says what is known here. docs/extending.md has residuals on points, with evidence and variables of their own.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

import bodyfit
from bodyfit import render, skeleton
from bodyfit.fit.residuals import Quadratic, VariableResidual, register

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"


@register
class StraightKnees(VariableResidual):
    """Radians of both knees."""

    name, group, blocks = "straight_knees", "pose", ("body_pose",)

    @classmethod
    def of(cls, setup):
        """Made once for a model and a keypoint layout."""
        return cls()

    def at(self, variables, seen, stage) -> Quadratic:
        """Cost, half its gradient and half its Hessian's diagonal, of everybody: (B,), (B, 69), (B, 69)."""
        pose = variables["body_pose"]
        knees = pose.new_zeros(pose.shape[1])
        knees[knee_columns()] = 1
        return Quadratic((knees * pose.square()).sum(1), knees * pose, knees.expand_as(pose))


def knee_columns() -> list[int]:
    """Columns of `body_pose`, which has no root, that turn the knees."""
    first = [3 * (skeleton.SMPL.index(name) - 1) for name in ("left_knee", "right_knee")]
    return [column + axis for column in first for axis in range(3)]


def knees_rad(pose: Tensor) -> str:
    """The angle of each knee."""
    return " and ".join(f"{float(turn):.2f}" for turn in pose[0, knee_columns()].view(2, 3).norm(dim=1))


def main(out: Path, picture: Path = SAMPLES / "standing.jpg") -> None:
    model, config = bodyfit.load_model("open"), bodyfit.FitConfig()
    stages = tuple(replace(stage, weights={"straight_knees": 30.0}) for stage in config.stages)
    frame = bodyfit.read_image(picture)
    pictures = []
    for name, settings in (("as it is", config), ("straight knees", replace(config, stages=stages))):
        person = bodyfit.fit_image(frame, model=model, config=settings)[0]
        off_px = float(person.reprojection_error_px[0])
        print(f"{name}: knees bent {knees_rad(person.params.body_pose)} rad, keypoints {off_px:.1f} px off")
        body = [(model(**person.params).vertices[0], render.person_color(len(pictures)))]
        pictures.append(render.studio(body, model.faces, view="side", size=(480, 640)))
    Image.fromarray(np.concatenate(pictures, 1)).save(out / "side.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/residual")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
