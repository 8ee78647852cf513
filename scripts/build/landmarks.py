# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "onnxruntime==1.18.1", "pillow", "numpy<2",
# ]
# ///
"""Make the networks of a person's landmarks in assets/detector from the TensorFlow Lite models of MediaPipe's packages.

    pip download --no-deps mediapipe==0.10.21
    python -m scripts.build.landmarks full mediapipe-0.10.21-*.whl [-o assets/detector]
    npm pack @mediapipe/pose@0.5.1675469404
    python -m scripts.build.landmarks heavy mediapipe-pose-0.5.1675469404.tgz [-o assets/detector]

They are the landmark networks of MediaPipe's pose solution (BlazePose GHUM full and heavy, Google, Apache-2.0), each
cut in two: the branch that segments the person, which MediaPipe computes whether or not it is asked for, is a network
of its own that goes on from two maps of features of the first. The weights are float16 in the packages and so in the
files, cast to float32 as the networks are loaded: nothing is rounded. The same package gives the same bytes. The
environment is that of detector.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from scripts.build.detector import ROOT, save
from scripts.build.tflite import between, converted


@dataclass(frozen=True)
class Source:
    """A landmark network of one of MediaPipe's packages."""

    member: str
    """Its path inside the package."""
    sha256: str
    coarse: str
    """The model's name of the map of features, 64x64, that the mask is made from."""
    fine: str
    """The same of 128x128."""
    files: tuple[str, str]
    """The names of what is made: of the landmarks, of the mask."""


NETWORKS = {
    "full": Source(
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        "model_1/model/add_11/add",
        "model_1/model/batch_normalization_2/FusedBatchNormV3;model_1/model/depthwise_conv2d_32/depthwise;"
        "model_1/model/conv2d_1/Conv2D1",
        ("pose_landmarks", "pose_mask"),
    ),
    "heavy": Source(
        "package/pose_landmark_heavy.tflite",
        "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
        "model_1/model/add_25/add",
        "model_1/model/batch_normalization_2/FusedBatchNormV3;model_1/model/depthwise_conv2d_76/depthwise;"
        "model_1/model/conv2d_1/Conv2D1",
        ("pose_landmarks_heavy", "pose_mask_heavy"),
    ),
}
OUTPUTS = {"Identity": "points", "Identity_1": "presence", "Identity_3": "heat", "Identity_4": "world"}
"""The models' names of what is kept: 39 x 5 numbers, one, 64x64 maps of 39 points, 39 x 3 metres."""
MASK = {"Identity_2": "mask"}
"""256x256 logits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("package", type=Path, help="mediapipe-0.10.21-...whl or mediapipe-pose-0.5.1675469404.tgz")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "assets" / "detector")
    args = parser.parse_args()
    source = NETWORKS[args.network]
    model = converted(args.package, source.member, source.sha256)
    args.out.mkdir(parents=True, exist_ok=True)
    features = {source.coarse: "coarse", source.fine: "fine"}
    points, mask = (args.out / f"{name}.onnx" for name in source.files)
    save(between(model, {model.graph.input[0].name: "input"}, OUTPUTS | features), points)
    save(between(model, features, MASK), mask)


if __name__ == "__main__":
    main()
