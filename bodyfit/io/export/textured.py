"""A mesh with its texture as binary glTF, at rest or with a skeleton."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from bodyfit.errors import OptionError, OutputError, check_shape
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.glb import VERTICES, BinaryChunk, encoded_picture, write_glb
from bodyfit.io.export.gltf import write_skinned
from bodyfit.io.export.rig import Rig

__all__ = ["save_textured_glb", "save_textured_rig_glb"]


_MATTE = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.8}
_LOOKS = {
    "materials": [{"name": "surface", "pbrMetallicRoughness": _MATTE}],
    "textures": [{"source": 0, "sampler": 0}],
    "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
}


def save_textured_glb(
    path: str | Path,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "T 2"],
    uv_faces: Int[np.ndarray, "G 3"],
    image: UInt8[np.ndarray, "H W 3"],
    *,
    axes: str = "y_up",
) -> None:
    """Write a mesh with smooth normals and a texture (PNG, within the file) as binary glTF, y up, metres.

    uv: the origin at the picture's lower left; uv_faces: rows of it at each face's corners. axes: as in `save_obj`.
    Raises `ShapeError`, `OptionError` and `OutputError`.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise OptionError(f"{path}: a textured mesh is written as .glb, got {path.suffix or 'no ending'}")
    check_shape("uv_faces", uv_faces, (len(faces), 3), hint="one row a face")
    if not np.isfinite(vertices).all():
        raise OutputError("the mesh holds NaN or infinity, as after a failed fit; it is not written")
    placing, arrays = Placing(), BinaryChunk()
    points = placing.points(np.asarray(vertices, np.float64), axes)
    normals = vertex_normals(points, faces)
    normals = np.where(normals.any(1, keepdims=True), normals, [0.0, 1.0, 0.0])  # glTF wants unit ones
    # glTF has one index for place and texture: a vertex on a seam becomes one for each of its rows.
    pairs, corner = np.unique(np.stack([faces, uv_faces], 2).reshape(-1, 2), axis=0, return_inverse=True)
    texture_at = np.stack([uv[pairs[:, 1], 0], 1 - uv[pairs[:, 1], 1]], 1)
    attributes = {
        "POSITION": arrays.add(points[pairs[:, 0]].astype(np.float32), target=VERTICES, bounds=True),
        "NORMAL": arrays.add(normals[pairs[:, 0]].astype(np.float32), target=VERTICES),
        "TEXCOORD_0": arrays.add(texture_at.astype(np.float32), target=VERTICES),
    }
    indices = arrays.add_triangles(corner.reshape(-1, 3), len(pairs))
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    document = {
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": path.stem, "mesh": 0}],
        "meshes": [{"name": "surface", "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        **_LOOKS,
        "images": [{"bufferView": arrays.add_bytes(encoded.getvalue()), "mimeType": "image/png"}],
    }
    write_glb(path, document, arrays, placing)


def save_textured_rig_glb(path: str | Path, rig: Rig, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write a rig with one texture (JPEG, within the file) as binary glTF: mesh, skeleton and, of a clip, its motion.

    Raises `OptionError` for another ending and for a rig without texture coordinates, and `OutputError`.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise OptionError(f"{path}: a textured mesh is written as .glb, got {path.suffix or 'no ending'}")
    if rig.uv is None or rig.uv_faces is None:
        raise OptionError(f"{path}: a texture needs texture coordinates, which this body has not")
    arrays = BinaryChunk()
    data, kind = encoded_picture(image)
    looks = _LOOKS | {"images": [{"bufferView": arrays.add_bytes(data), "mimeType": kind}]}
    write_skinned(path, rig, arrays, looks, [slice(0, len(rig.faces))])
