# /// script
# requires-python = ">=3.10"
# dependencies = ["onnx==1.16.2"]
# ///
"""Let assets/detector/pose_landmarks.onnx give the maps of features that the lift is made from, too.

    python -m scripts.build.landmark_maps [assets/detector/pose_landmarks.onnx]

Run after `python -m scripts.build.landmarks full`. The maps are values that the network computes anyway: they get names
and are listed as outputs; nothing else changes, and a network that has them is left as it is. An output that is not
asked for is not copied.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx

MAPS = {
    "v347": ("half", (1, 48, 32, 32)),
    "v337": ("quarter", (1, 48, 16, 16)),
    "v143": ("middle", (1, 88, 16, 16)),
    "v207": ("deep", (1, 288, 8, 8)),
    "v308": ("last", (1, 288, 2, 2)),
}
"""The names that `detector.settle` gives the values, ours, and their shapes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "assets" / "detector" / "pose_landmarks.onnx"
    parser.add_argument("network", type=Path, nargs="?", default=default)
    path = parser.parse_args().network
    model = onnx.load(str(path))
    if {output.name for output in model.graph.output} >= {name for name, _ in MAPS.values()}:
        return
    exposed(model)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(model.SerializeToString(deterministic=True))
    unfinished.rename(path)


def exposed(model: onnx.ModelProto) -> None:
    """Name the maps and list them as outputs."""
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    names = {was: name for was, (name, _) in MAPS.items()}
    for was, (name, shape) in MAPS.items():
        found = tuple(size.dim_value for size in shapes[was].type.tensor_type.shape.dim) if was in shapes else None
        if found != shape:
            raise SystemExit(
                f"{was} of the network is of the shape {found}, not {shape}: not the network of version 0.10.21"
            )
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    for node in model.graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    onnx.checker.check_model(model)


if __name__ == "__main__":
    main()
