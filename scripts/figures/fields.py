"""Draw the gallery of docs/fields.md: in each row one factor of a scene changes and all others stay.

python -m scripts.figures.fields -o docs/images/fields.webp [--fields RUN/people.npz]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bodyfit
from bodyfit.fields.compositional import BodyField, FieldCamera, FieldScene, FieldSet, draw_fields, load_fields
from bodyfit.runtime.atomic import write_atomically

COLUMNS = 8
SIZE = 128
DISTANCE_M, FOCAL_PX = 3.6, 225.0


def camera(azimuth: float = 0.3, height_m: float = 1.3, distance_m: float = DISTANCE_M) -> FieldCamera:
    """A camera that looks at the origin's chest from an azimuth, radians."""
    eye = np.array([distance_m * np.sin(azimuth), height_m, distance_m * np.cos(azimuth)])
    forward = np.array([0.0, 0.85, 0.0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    return FieldCamera(FOCAL_PX, R, -R @ eye, SIZE)


def rows(fields: FieldSet) -> list[list[FieldScene]]:
    """Scenes of each row: look, look between two people, shape, pose, camera, place, number, background."""
    model = bodyfit.load_model("open-x")
    bodies = bodyfit.random_bodies(COLUMNS, model=model, seed=12, floor=True)
    looks = fields.random_appearances(COLUMNS, 4)
    behind = fields.random_backgrounds(COLUMNS, 3)
    steps = np.linspace(0, 1, COLUMNS)

    def body(k: int = 1, look: torch.Tensor = looks[0], **changed) -> BodyField:
        params = model.params(**{**bodies.select([k]), **changed})
        with torch.no_grad():
            lift = -model(**params).vertices[0, :, 1].min()
        moved = params.transl + torch.tensor([[0.0, float(lift), 0.0]])
        return BodyField(model.params(**{**params, "transl": moved}), model, look)

    def scene(*objects: BodyField, background: int = 0, view: FieldCamera | None = None) -> FieldScene:
        return FieldScene(tuple(objects), behind[background], camera() if view is None else view)

    def placed(k: int, x: float, z: float) -> BodyField:
        return replace(body(k, looks[k]), t_world_body_m=np.array([x, 0.0, z]))

    one = body()
    shapes = [torch.tensor([[2 - 4 * s, 4 * s - 2] + [0.0] * 8], dtype=torch.float32) for s in steps]
    people = [placed(k, x, z) for k, (x, z) in enumerate([(0, 0), (-1, -0.4), (1, -0.6), (-0.5, -1.8), (0.7, -2.0)])]
    wide = camera(0.1, 1.6, 6.0)
    two = (people[1], replace(body(2, looks[5])))
    return [
        [scene(body(look=look)) for look in looks],
        [scene(body(look=torch.lerp(fields.appearances[0], fields.appearances[1], float(s)))) for s in steps],
        [scene(body(betas=shape)) for shape in shapes],
        [scene(body(k)) for k in range(COLUMNS)],
        [scene(one, view=camera(0.3 + 2 * np.pi * s * (COLUMNS - 1) / COLUMNS)) for s in steps],
        [scene(two[0], replace(two[1], t_world_body_m=np.array([1.5 * s - 0.8, 0.0, -0.6]))) for s in steps],
        [scene(*people[: min(k, 5)], view=wide) for k in range(COLUMNS - 2)]
        + [scene(*people[::-1], view=camera(a, 1.6, 6.0)) for a in (-0.5, 0.7)],
        [scene(one, background=k) for k in range(COLUMNS)],
    ]


def main() -> None:
    """Draw all rows into one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--fields", type=Path, help="a set of fields; the shipped one if left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    fields = load_fields(args.fields)
    drawn = [np.hstack([draw_fields(scene, fields).picture for scene in row]) for row in rows(fields)]
    with write_atomically(args.out) as path:
        Image.fromarray(np.vstack(drawn)).save(path, quality=92)


if __name__ == "__main__":
    main()
