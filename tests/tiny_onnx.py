"""Writes small ONNX files by hand (onnx.proto3), so that no test needs a network or the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a message: an integer, or bytes of a text or a message with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_field(1, n) for n in array.shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, array.astype("<f4").tobytes())


def _value(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(n, int) else 2, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _node(kind: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind) + attributes


def _max_over(axis: int) -> bytes:
    axes = _field(1, "axes") + _field(8, axis) + _field(20, 7)
    keep = _field(1, "keepdims") + _field(3, 0) + _field(20, 2)
    return _field(5, axes) + _field(5, keep)


def write_simcc(
    path: Path, directions: np.ndarray, *, batch: int | str = "n", size: tuple[int, int] = (96, 128), outputs: int = 2
) -> Path:
    """A network of RTMPose's form, whose keypoint k is where the picture has most of colour `directions[k]` (K, 3).

    Its two outputs have two bins a pixel of the input, as SimCC has with a split ratio of 2.
    """
    (w, h), k = size, len(directions)
    nodes = [_node("Conv", ("input", "colours"), "maps")]
    constants = [_tensor("colours", directions.reshape(k, 3, 1, 1))]
    ends = []
    for name, axis, length in (("simcc_x", 2, w), ("simcc_y", 3, h))[:outputs]:
        nodes.append(_node("ReduceMax", ("maps",), f"{name}_max", _max_over(axis)))
        nodes.append(_node("MatMul", (f"{name}_max", f"{name}_twice"), name))
        constants.append(_tensor(f"{name}_twice", np.repeat(np.eye(length), 2, 1)))
        ends.append(_value(name, (batch, k, 2 * length)))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "tiny")
    graph += b"".join(_field(5, constant) for constant in constants)
    graph += _field(11, _value("input", (batch, 3, h, w))) + b"".join(_field(12, end) for end in ends)
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
    return path
