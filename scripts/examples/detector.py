"""A detector of your own: any object with `detect(frames)` finds people for every part of bodyfit.

    python scripts/examples/detector.py [OUT]

`network` stands for your model. Here MoveNet, which ships, looks at the mirrored picture, so that what it finds has to
be brought back as a detector must: pixels of the frame, and the person's left on the person's left.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import bodyfit
from bodyfit import render, skeleton
from bodyfit.detect import DETECTORS

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"
LAYOUT = "mediapipe33"


class MirrorDetector:
    """Finds people in the mirrored picture."""

    def __init__(self) -> None:
        self.network = bodyfit.load_detector("movenet:quick")
        names = skeleton.layout_names(LAYOUT)
        self.other_side = [names.index(mirrored(name)) for name in names]

    def detect(self, frames: Sequence[bodyfit.Frame]) -> list[list[bodyfit.Keypoints2D]]:
        """People of each frame; a frame's `image` is (height, width, 3) RGB, upright."""
        return [[self.person(xyc, frame) for xyc in self.look(frame.image)] for frame in frames]

    def look(self, image: np.ndarray) -> list[np.ndarray]:
        """Your network: (33, 3) x px, y px and confidence of each person, here in the mirrored picture."""
        mirror = bodyfit.Frame(np.ascontiguousarray(image[:, ::-1]))
        return [person.xyc for person in self.network.detect([mirror])[0]]

    def person(self, xyc: np.ndarray, frame: bodyfit.Frame) -> bodyfit.Keypoints2D:
        """Keypoints of the frame itself."""
        xyc = xyc[self.other_side].copy()
        xyc[:, 0] = frame.image.shape[1] - xyc[:, 0]
        return bodyfit.Keypoints2D(LAYOUT, xyc)


def mirrored(name: str) -> str:
    """left_knee for right_knee."""
    return name.replace("left", "?").replace("right", "left").replace("?", "right")


def main(out: Path, picture: Path = SAMPLES / "walking.jpg") -> None:
    DETECTORS["mirror"] = MirrorDetector  # by an entry point, it is a --detector of the command line: docs/detectors.md
    model, frame = bodyfit.load_model("open"), bodyfit.read_image(picture)
    people = bodyfit.fit_image(frame, model=model, detector="mirror")
    bodies = [(model(**person.params).vertices[0], render.person_color(i)) for i, person in enumerate(people)]
    print(", ".join(f"{person.status[0].value}, {float(person.reprojection_error_px[0]):.1f} px" for person in people))
    Image.fromarray(render.overlay(frame.image, bodies, model.faces, people[0].camera)).save(out / "overlay.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/detector")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
