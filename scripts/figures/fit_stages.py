"""Draws a fit by stage, for docs/how-it-works.md: over the picture, and from the side, with the objective's fall.

python -m scripts.figures.fit_stages PICTURE [PICTURE ...] -o docs/images/fit-stages.jpg
"""

from __future__ import annotations

import argparse
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
from bodyfit.solve import LMConfig
from scripts.figures.cells import cell_about

CELL = (300, 400)


def row(path: Path, model: bodyfit.BodyModel) -> list[np.ndarray]:
    """The first person of a picture: the start, and the end of each stage, over the picture and from the side."""
    frame = read_image(path)
    person = load_detector().detect([frame])[0][0]
    stages = FitConfig().stages
    start = replace(stages[0], lm=LMConfig(max_iterations=0))
    cells = []
    for count in range(len(stages) + 1):
        config = FitConfig(stages=stages[:count] if count else (start,))
        result = fit_detections([frame], [[person]], model=model, config=config)[0][0]
        with torch.no_grad():
            vertices = model(**result.params).vertices[0]
        title = f"stage {count}" if count else "start"
        cells.append(_cell(frame, person, result, vertices, model, title))
    return cells


def _cell(
    frame: Frame,
    person: Keypoints2D,
    result: bodyfit.FitResult,
    vertices: torch.Tensor,
    model: bodyfit.BodyModel,
    title: str,
) -> np.ndarray:
    """A crop of the overlay with the side view beside it."""
    color = render.person_color(0)
    drawn = render.overlay(
        frame.image,
        [(vertices, color)],
        model.faces,
        result.camera,
        keypoints=[result.keypoints[0]],
        layout=person.layout,
    )
    crop = cell_about(drawn, person, CELL)
    both = Image.new("RGB", (2 * CELL[0], CELL[1]), "white")
    both.paste(crop, (0, 0))
    both.paste(Image.fromarray(render.side_view(vertices, model.faces, size=CELL, color=color)), (CELL[0], 0))
    error = float(result.reprojection_error_px[0])
    ImageDraw.Draw(both).text((CELL[0] + 8, 8), f"{title}: {error:.1f} px", fill=(40, 40, 40), font_size=22)
    return np.asarray(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    model = bodyfit.load_model()
    cells = [cell for path in args.pictures for cell in row(path, model)]
    sheet = Image.fromarray(render.contact_sheet(cells, columns=len(cells) // len(args.pictures)))
    sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.Resampling.LANCZOS).save(args.out, quality=85)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
