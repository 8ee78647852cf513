"""Draw the pictures of docs/new-views.md: people of the sample photographs seen from elsewhere, and a film.

    python -m scripts.figures.turns -o docs/images [--yaws=-45,-20,20,45]

Writes turn.jpg, a row a person with the photograph first, and turn.webp, the first person turning there and back.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import bodyfit
from bodyfit.app.new_views import Angles, TurnMaterial, gather_turn, turned_pictures
from bodyfit.app.results.find import find_results
from bodyfit.detect import load_detector
from bodyfit.io.picture import save_webp
from bodyfit.io.results.summary import write_json
from bodyfit.runtime.atomic import write_atomically

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"
PEOPLE = (("walking.jpg", 0), ("street_two_people.jpg", 1), ("astronaut_portrait.jpg", 0))
_CELL_PX, _FILM_PX, _FRAMES, _FPS = 250, 300, 16, 10.0


def main() -> None:
    """Fit, turn, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--yaws", default="-45,-20,20,45")
    args = parser.parse_args()
    yaws = [float(yaw) for yaw in args.yaws.split(",")]
    materials = [material_of(SAMPLES / name, number) for name, number in PEOPLE]
    sheet = np.concatenate([row(one, yaws) for one in materials])
    with write_atomically(args.out / "turn.jpg") as temporary:
        Image.fromarray(sheet).save(temporary, format="JPEG", quality=82)
    film = turned_pictures(materials[0], Angles((-55, 55)).path(_FRAMES))
    frames = [cell(materials[0], picture, _FILM_PX) for picture in film]
    save_webp(args.out / "turn.webp", frames, fps=_FPS, quality=60)


def material_of(path: Path, number: int) -> TurnMaterial:
    """Fit a photograph and gather one of its people."""
    with tempfile.TemporaryDirectory() as folder:
        people = bodyfit.fit_image(path, silhouette=True)
        file = Path(folder) / f"person{number}.npz"
        bodyfit.save(people[number], file)
        write_json(Path(folder) / "summary.json", {"inputs": []})
        return gather_turn(find_results([file], path), detector=load_detector(masks=True))


def row(material: TurnMaterial, yaws: Sequence[float]) -> np.ndarray:
    """Lay the photograph and the person turned side by side."""
    pictures = [material.view.image, *turned_pictures(material, [(yaw, 0.0) for yaw in yaws])]
    return np.concatenate([cell(material, picture, _CELL_PX) for picture in pictures], 1)


def cell(material: TurnMaterial, picture: np.ndarray, side: int) -> np.ndarray:
    """Cut the square about the person out of a picture."""
    square = material.views.depth.square
    (x, y), width = square.corner_px, round(square.side / square.scale)
    part = picture[max(y, 0) : y + width, max(x, 0) : x + width]
    scale = side / max(part.shape[:2])
    size = round(scale * part.shape[1]), round(scale * part.shape[0])
    out = np.zeros((side, side, 3), np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return out


if __name__ == "__main__":
    main()
