"""Draws masks against bodies, fitted to keypoints alone and to silhouettes too, for docs/silhouettes.md.

python -m scripts.figures.silhouettes PICTURE [PICTURE ...] -o docs/images/silhouettes.jpg
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bodyfit
from bodyfit import render
from bodyfit.app.pipeline import fit_detections
from bodyfit.detect import load_detector
from bodyfit.images.frame import read_image
from bodyfit.keypoints import SoftMask

HEIGHT = 420


def cells(path: Path, model: bodyfit.BodyModel) -> list[Image.Image]:
    """The first person of a picture, without and with silhouettes."""
    frame = read_image(path)
    person = load_detector(masks=True).detect([frame])[0][0]
    assert isinstance(person.mask, SoftMask)
    found = []
    for one in (replace(person, mask=None), person):
        result = fit_detections([frame], [[one]], model=model)[0][0]
        with torch.no_grad():
            vertices = model(**result.params).vertices[0]
        drawn = render.draw_silhouettes(frame.image, [person.mask], [vertices], model.faces, result.camera)
        image = Image.fromarray(drawn)
        found.append(image.resize((round(HEIGHT * image.width / image.height), HEIGHT), Image.Resampling.LANCZOS))
    return found


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    chosen = parser.parse_args()
    model = bodyfit.load_model()
    row = [np.asarray(image) for path in chosen.pictures for image in cells(path, model)]
    Image.fromarray(np.concatenate(row, 1)).save(chosen.out, quality=85)


if __name__ == "__main__":
    main()
