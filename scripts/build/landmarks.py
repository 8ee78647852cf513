# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "onnxruntime==1.18.1", "pillow", "numpy<2",
# ]
# ///
"""Make assets/detector/pose_landmarks.onnx and pose_mask.onnx from the TensorFlow Lite model in MediaPipe's wheel.

    pip download --no-deps mediapipe==0.10.21
    python -m scripts.build.landmarks mediapipe-0.10.21-*.whl [-o assets/detector]

It is the landmark network of MediaPipe's pose solution (BlazePose GHUM full, Google, Apache-2.0), cut in two: the
branch that segments the person, which MediaPipe computes whether or not it is asked for, is a network of its own that
goes on from two maps of features of the first. The weights are float16 in the wheel and so in the files, cast to
float32 as the networks are loaded: nothing is rounded. The same wheel gives the same bytes. The environment is that of
detector.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.build.detector import ROOT, save
from scripts.build.tflite import between, converted

MODEL = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
SHA256 = "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
"""Of that file in version 0.10.21."""
OUTPUTS = {"Identity": "points", "Identity_1": "presence", "Identity_3": "heat", "Identity_4": "world"}
"""The model's names of what is kept: 39 x 5 numbers, one, 64x64 maps of 39 points, 39 x 3 metres."""
FEATURES = {
    "model_1/model/add_11/add": "coarse",
    "model_1/model/batch_normalization_2/FusedBatchNormV3;model_1/model/depthwise_conv2d_32/depthwise;"
    "model_1/model/conv2d_1/Conv2D1": "fine",
}
"""The maps that the mask is made from, 64x64 and 128x128."""
MASK = {"Identity_2": "mask"}
"""256x256 logits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path, help="mediapipe-0.10.21-...whl")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "assets" / "detector")
    args = parser.parse_args()
    model = converted(args.wheel, MODEL, SHA256)
    args.out.mkdir(parents=True, exist_ok=True)
    save(between(model, {model.graph.input[0].name: "input"}, OUTPUTS | FEATURES), args.out / "pose_landmarks.onnx")
    save(between(model, FEATURES, MASK), args.out / "pose_mask.onnx")


if __name__ == "__main__":
    main()
