"""Draws clothed surfaces of photographs, for docs/clothed-surfaces.md.

python -m scripts.figures.clothed PICTURE [PICTURE ...] -o docs/images/clothed.jpg

For the first person of each picture, from left to right: the picture, the naked body and the clothed surface from the
side, the surface from in front, and both its sides in the picture's colours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bodyfit
from bodyfit import render
from bodyfit.app.pipeline import fit_detections
from bodyfit.clothed.texture import surface_texture
from bodyfit.images.frame import read_image
from bodyfit.keypoints import SoftMask
from bodyfit.render.stage import Stage

HEIGHT, WIDTH = 400, 240
MARGIN = 0.1


def strip(path: Path, model: bodyfit.BodyModel, detector: bodyfit.detect.Detector) -> np.ndarray:
    """The cells of a picture."""
    frame = read_image(path)
    person = detector.detect([frame])[0][0]
    assert isinstance(person.mask, SoftMask)
    result = fit_detections([frame], [[person]], model=model)[0][0]
    surface = bodyfit.clothed_surface(result.params, frame.image, person.mask, result.camera, model)
    image = surface_texture(surface, 0, frame.image, person.mask, result.camera)
    paint = render.Texture(image, np.asarray(model.uv), np.asarray(model.uv_faces), lit=False)
    with torch.no_grad():
        naked = model(**result.params).vertices[0]
    moved = torch.from_numpy(surface.vertices_m[0]).float()
    stage = Stage.around([moved], view=(0.0, 5.0), size=(WIDTH, HEIGHT), all_round=True)
    grey = (0.72, 0.74, 0.78)

    def cell(vertices: torch.Tensor, yaw_deg: float, color: render.Texture | tuple[float, float, float]) -> np.ndarray:
        return stage.turned(yaw_deg).draw([(vertices, color)], model.faces, rays=24)

    drawn = [cell(naked, 90, grey), cell(moved, 90, grey), cell(moved, 0, grey), cell(moved, 40, paint)]
    return np.concatenate([_photograph(frame.image, result, naked), *drawn, cell(moved, -40, paint)], 1)


def _photograph(image: np.ndarray, result: bodyfit.FitResult, vertices: torch.Tensor) -> np.ndarray:
    """The part of the picture that shows the person, as large as the other cells."""
    xy = result.camera.project(vertices[None])[0].numpy()
    low, high = xy.min(0), xy.max(0)
    centre, height = (low + high) / 2, (1 + 2 * MARGIN) * (high - low).max()
    half = np.array([height * WIDTH / HEIGHT, height]) / 2
    box = (*(centre - half), *(centre + half))
    return np.asarray(Image.fromarray(image).crop(tuple(int(x) for x in box)).resize((WIDTH, HEIGHT)))


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    chosen = parser.parse_args()
    model, detector = bodyfit.load_model(), bodyfit.load_detector(masks=True)
    rows = [strip(path, model, detector) for path in chosen.pictures]
    Image.fromarray(np.concatenate(rows)).save(chosen.out, quality=85)


if __name__ == "__main__":
    main()
