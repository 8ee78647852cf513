"""Binary glTF 2.0, for a mesh alone and for one with a skeleton: the container, the indices and the material."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from bodyfit.io.export.export_frame import Placing
from bodyfit.runtime.atomic import write_atomically

__all__ = ["BinaryChunk", "encoded_picture", "material", "write_glb"]

_COMPONENTS = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
VERTICES, TRIANGLES = 34962, 34963
"""What a view is for: attributes of vertices, indices."""
_JPEG_QUALITY = 90


class BinaryChunk:
    """A buffer in the making. Adding an array gives the number by which the JSON refers to it (its accessor)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, *, target: int | None = None, bounds: bool = False) -> int:
        """An array of numbers or vectors, one a row. Matrices are stored by columns, as glTF wants them.

        bounds: say least and greatest of each column, which positions and times must.
        """
        kind = _TYPES[array.shape[1:]]
        if kind == "MAT4":
            array = array.transpose(0, 2, 1)
        accessor = {"componentType": _COMPONENTS[array.dtype.str[1:]], "count": len(array), "type": kind}
        accessor["bufferView"] = self._view(array, target)
        return self._done(accessor, array if bounds else None)

    def add_sparse(self, array: np.ndarray) -> int:
        """An array of vectors most rows of which may be zero: those that are not, and where they are, if it is less."""
        rows = np.flatnonzero(array.any(1))
        wide = np.uint16 if len(array) <= 1 << 16 else np.uint32
        if len(rows) * (array[0].nbytes + wide(0).nbytes) >= array.nbytes:
            return self.add(array, target=VERTICES, bounds=True)
        rows = rows if len(rows) else np.zeros(1, np.int64)  # a sparse accessor has at least one row
        index, values = rows.astype(wide), array[rows]
        kind = _TYPES[array.shape[1:]]
        accessor: dict[str, Any] = {"componentType": _COMPONENTS[array.dtype.str[1:]], "count": len(array)}
        accessor |= {"type": kind, "sparse": {"count": len(rows)}}
        component = _COMPONENTS[index.dtype.str[1:]]
        accessor["sparse"]["indices"] = {"bufferView": self._view(index, None), "componentType": component}
        accessor["sparse"]["values"] = {"bufferView": self._view(values, None)}
        return self._done(accessor, array)

    def add_bytes(self, data: bytes) -> int:
        """A file as it is, such as a picture; returns the number of its view."""
        return self._view(np.frombuffer(data, np.uint8), None)

    def _view(self, array: np.ndarray, target: int | None) -> int:
        self._data += bytes(-len(self._data) % 4)  # components stand on multiples of their size
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": array.nbytes}
        self.views.append(view | ({} if target is None else {"target": target}))
        self._data += np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return len(self.views) - 1

    def _done(self, accessor: dict[str, Any], bounded: np.ndarray | None) -> int:
        if bounded is not None:
            flat = bounded.reshape(len(bounded), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_triangles(self, faces: Int[np.ndarray, "F 3"], vertices: int) -> int:
        """Add the corners of triangles of so many vertices, in as few bytes as hold their numbers."""
        small = np.uint16 if vertices < 1 << 16 else np.uint32
        return self.add(faces.astype(small).ravel(), target=TRIANGLES)

    @property
    def data(self) -> bytes:
        """All that was added."""
        return bytes(self._data)


def write_glb(path: Path, document: dict[str, Any], arrays: BinaryChunk, placing: Placing) -> None:
    """Write a file: its JSON, completed by its header and the arrays' descriptions, and their buffer.

    The JSON is strict: a number that is none is an error here (`ValueError`) and not null. Raises `OutputError`.
    """
    data = arrays.data + bytes(-len(arrays.data) % 4)
    about = {"version": "2.0", "generator": "bodyfit", "extras": {"axes_and_unit": str(placing)}}
    document = {"asset": about, "scene": 0} | document
    document |= {"buffers": [{"byteLength": len(data)}], "bufferViews": arrays.views, "accessors": arrays.accessors}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    with write_atomically(path) as temporary:
        temporary.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def material(color: tuple[float, float, float]) -> dict[str, Any]:
    """Describe a matte surface. color: sRGB in [0, 1], of which glTF wants linear light."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    surface = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
    return {"name": "skin", "pbrMetallicRoughness": surface}


def encoded_picture(texture: UInt8[np.ndarray, "H W C"]) -> tuple[bytes, str]:
    """Encode a picture as JPEG, or as PNG where it is transparent: glTF has no others; returns its media type, too."""
    buffer = BytesIO()
    if texture.shape[2] == 4:
        Image.fromarray(texture).save(buffer, "PNG", compress_level=6)
        return buffer.getvalue(), "image/png"
    Image.fromarray(texture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue(), "image/jpeg"
