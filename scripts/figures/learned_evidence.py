"""Draws fits without what was learned about depth and with it, for docs/learned-prior.md: over the picture, and from
the side.

Left of each person: 2D keypoints and the mixture of poses alone. Right: the default, with the lift by the picture and
the conditional pose prior.

python -m scripts.figures.learned_evidence PICTURE [PICTURE ...] -o docs/images/learned-evidence.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import bodyfit
from bodyfit import render
from bodyfit.app.pipeline import fit_detections
from bodyfit.detect import load_detector
from bodyfit.fit.config import FitConfig
from bodyfit.images.frame import Frame, read_image
from bodyfit.keypoints import Keypoints2D
from scripts.figures.cells import cell_about

CELL = (210, 320)
TITLES = ("2D and mixture", "with lift and learned prior")


def row(path: Path, model: bodyfit.BodyModel) -> Image.Image:
    """The first person of a picture, without and with."""
    frame = read_image(path)
    person = load_detector().detect([frame])[0][0]
    ways = ((replace(person, lift_m=None), FitConfig.without_conditional_prior()), (person, FitConfig()))
    halves = []
    for title, (seen, config) in zip(TITLES, ways, strict=True):
        result = fit_detections([frame], [[seen]], model=model, config=config)[0][0]
        halves.append(_half(frame, person, result, model, title))
    return _beside(halves)


def _half(
    frame: Frame, person: Keypoints2D, result: bodyfit.FitResult, model: bodyfit.BodyModel, title: str
) -> Image.Image:
    """A crop of the overlay with the side view beside it."""
    with torch.no_grad():
        vertices = model(**result.params).vertices[0]
    color = render.person_color(0)
    drawn = render.overlay(frame.image, [(vertices, color)], model.faces, result.camera)
    crop = cell_about(drawn, person, CELL)
    side = Image.fromarray(render.side_view(vertices, model.faces, size=CELL, color=color))
    both = _beside([crop, side])
    ImageDraw.Draw(both).text((CELL[0] + 6, 6), title, fill=(40, 40, 40), font_size=15)
    return both


def _beside(pictures: Sequence[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    model = bodyfit.load_model()
    rows = [np.asarray(row(path, model)) for path in args.pictures]
    Image.fromarray(np.concatenate(rows)).save(args.out, quality=82)


if __name__ == "__main__":
    main()
