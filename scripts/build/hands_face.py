# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "onnxruntime==1.18.1", "pillow", "numpy<2",
# ]
# ///
"""Make the networks of hands and faces in assets/detector from the TensorFlow Lite models in MediaPipe's wheel.

    pip download --no-deps mediapipe==0.10.21
    python -m scripts.build.hands_face mediapipe-0.10.21-*.whl [-o assets/detector] [--force]

They are those of MediaPipe's holistic solution (Google, Apache-2.0), whole: where in a rough region a hand lies, its 21
landmarks, the mesh of a face, an eye with its iris. The weights are stored as they are in the wheel (float16, but for
the irises' float32): nothing is rounded. The same wheel gives the same bytes. A network that is there is left alone
unless `--force` is given, so that a run that was ended goes on. The environment is that of detector.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from scripts.build.detector import ROOT, save
from scripts.build.tflite import between, converted


@dataclass(frozen=True)
class Source:
    """A model of the wheel, and the names under which we know its outputs."""

    member: str
    sha256: str
    outputs: dict[str, str]


NETWORKS = {
    "hand_region": Source(
        "mediapipe/modules/holistic_landmark/hand_recrop.tflite",
        "67d996ce96f9d36fe17d2693022c6da93168026ab2f028f9e2365398d8ac7d5d",
        {"output_crop": "ends"},
    ),
    "hand_landmarks": Source(
        "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
        {"Identity": "points", "Identity_1": "presence", "Identity_2": "right", "Identity_3": "world"},
    ),
    "face_landmarks": Source(
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        {"conv2d_21": "points", "conv2d_31": "presence"},
    ),
    "iris_landmarks": Source(
        "mediapipe/modules/iris_landmark/iris_landmark.tflite",
        "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        {"output_eyes_contours_and_brows": "eye", "output_iris": "iris"},
    ),
}
"""By the name of the file that is made."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path, help="mediapipe-0.10.21-...whl")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "assets" / "detector")
    parser.add_argument("--force", action="store_true", help="make again what is there")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, source in NETWORKS.items():
        path = args.out / f"{name}.onnx"
        if path.exists() and not args.force:
            print(f"{path}: is there; --force makes it again")
            continue
        model = converted(args.wheel, source.member, source.sha256)
        save(between(model, {model.graph.input[0].name: "input"}, source.outputs), path)


if __name__ == "__main__":
    main()
