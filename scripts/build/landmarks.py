# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "onnxruntime==1.18.1", "pillow", "numpy<2",
# ]
# ///
"""Make assets/detector/pose_landmarks.onnx from the TensorFlow Lite model in MediaPipe's wheel.

    pip download --no-deps mediapipe==0.10.21
    python -m scripts.build.landmarks mediapipe-0.10.21-*.whl [-o assets/detector]

It is the landmark network of MediaPipe's pose solution (BlazePose GHUM full, Google, Apache-2.0) without the branch
that segments the person, which is half of its time and which MediaPipe computes whether or not it is asked for. The
weights are float16 in the wheel and so in the file, cast to float32 as the network is loaded: nothing is rounded. The
same wheel gives the same bytes. The environment is that of detector.py.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import zipfile
from pathlib import Path

import tf2onnx
from scripts.build.detector import ROOT, part, save

MODEL = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
SHA256 = "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
"""Of that file in version 0.10.21."""
OUTPUTS = {"Identity": "points", "Identity_1": "presence", "Identity_3": "heat", "Identity_4": "world"}
"""The model's names of what is kept: 39 x 5 numbers, one, 64x64 maps of 39 points, 39 x 3 metres."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path, help="mediapipe-0.10.21-...whl")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "assets" / "detector")
    args = parser.parse_args()
    data = zipfile.ZipFile(args.wheel).read(MODEL)
    if (got := hashlib.sha256(data).hexdigest()) != SHA256:
        raise SystemExit(f"{args.wheel}: sha256 of {MODEL} is {got}, not that of version 0.10.21, {SHA256}")
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(data)
        file.flush()
        model, _ = tf2onnx.convert.from_tflite(file.name, opset=13)
    model = part(model, model.graph.input[0], list(OUTPUTS))
    for value in (*model.graph.input, *model.graph.output):
        name = OUTPUTS.get(value.name, "input")
        for node in model.graph.node:
            node.input[:] = [name if i == value.name else i for i in node.input]
            node.output[:] = [name if o == value.name else o for o in node.output]
        value.name = name
    args.out.mkdir(parents=True, exist_ok=True)
    save(model, args.out / "pose_landmarks.onnx")


if __name__ == "__main__":
    main()
