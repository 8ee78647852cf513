"""Keypoints of your own: an array in any layout becomes a body, without a detector.

python scripts/examples/keypoints.py [OUT]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import bodyfit
from bodyfit import render

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"
SEEN = {  # x px, y px from the upper left corner, and confidence; who is not named is missing
    "nose": (225, 115, 1.0),
    "left_eye": (232, 107, 1.0),
    "left_ear": (246, 111, 1.0),
    "left_shoulder": (269, 155, 1.0),
    "right_shoulder": (249, 163, 1.0),
    "left_elbow": (301, 217, 1.0),
    "right_elbow": (221, 227, 0.5),
    "left_wrist": (331, 274, 1.0),
    "right_wrist": (164, 256, 0.8),
    "left_hip": (240, 285, 1.0),
    "right_hip": (245, 283, 1.0),
    "left_knee": (198, 370, 1.0),
    "right_knee": (281, 374, 0.9),
    "left_ankle": (193, 462, 1.0),
    "right_ankle": (341, 443, 1.0),
}
"""Of the walking woman in the photograph, by COCO's names; `bodyfit.load_keypoints` reads files of other programs."""


def main(out: Path) -> None:
    names = bodyfit.skeleton.layout_names("coco17")
    xyc = np.array([[SEEN.get(name, (0, 0, 0)) for name in names]], np.float32)  # (1 person, 17, 3)
    frame = bodyfit.read_image(SAMPLES / "walking.jpg")
    model = bodyfit.load_model("open")
    result = bodyfit.fit_keypoints(xyc, layout="coco17", image_size=frame.size, model=model)  # focal_px= if it is known
    off_px = float(result.reprojection_error_px[0])
    print(f"{result.status[0].value}, keypoints {off_px:.1f} px off, {float(result.params.transl[0, 2]):.1f} m away")
    bodyfit.save(result, out / "person.npz")

    body = [(model(**result.params).vertices[0], render.person_color(0))]
    overlay = render.overlay(frame.image, body, model.faces, result.camera)
    side = render.studio(body, model.faces, view="side", size=overlay.shape[1::-1])
    Image.fromarray(np.concatenate([overlay, side], 1)).save(out / "overlay.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/keypoints")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
