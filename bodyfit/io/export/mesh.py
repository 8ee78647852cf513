"""Bodies as mesh files that stand upright in viewers: OBJ, PLY and binary glTF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.errors import OutputError, check_shape
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.glb import VERTICES, BinaryChunk, material, write_glb
from bodyfit.runtime.atomic import write_atomically

__all__ = ["save_glb", "save_obj", "save_ply"]


def save_obj(
    path: str | Path,
    vertices: Float[Tensor, "V 3"] | Float[np.ndarray, "V 3"],
    faces: Int[Tensor, "F 3"] | Int[np.ndarray, "F 3"],
    *,
    uv: Float[np.ndarray, "T 2"] | None = None,
    uv_faces: Int[np.ndarray, "F 3"] | None = None,
    texture: str | None = None,
    axes: str = "camera",
    placing: Placing | None = None,
) -> None:
    """Write one body as a Wavefront OBJ, with texture coordinates if given.

    texture: name of a picture in the same folder that colours it; a material library that names it, of the OBJ's name
    but .mtl, is written first.

    vertices: metres, in camera axes ("camera"), the model's own ("y_up") or AMASS's ("z_up"); in the file the body
    stands upright, y up and metres unless `placing` says otherwise. Raises `OutputError`.
    """
    placing = Placing() if placing is None else placing
    points, corners = _upright(vertices, faces, axes, placing), _array(faces)
    lines = [f"# bodyfit; {placing}"]
    if texture is not None:
        lines += _textured(Path(path), texture)
    lines += _rows("v %.6f %.6f %.6f", points)
    if uv is None or uv_faces is None:
        lines += _rows("f %d %d %d", corners + 1)
    else:
        check_shape("uv", uv, (None, 2))
        check_shape("uv_faces", uv_faces, (len(corners), 3), hint="one row a face")
        lines += _rows("vt %.6f %.6f", uv)
        both = np.stack([corners, np.asarray(uv_faces)], 2).reshape(-1, 6) + 1
        lines += _rows("f %d/%d %d/%d %d/%d", both)
    with write_atomically(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _textured(path: Path, texture: str) -> list[str]:
    """Write the material library of an OBJ and return the OBJ's lines that use it."""
    library = path.with_suffix(".mtl")
    # illum 1: matte, lit by ambient and diffuse light alone.
    lines = ["newmtl picture", "Ka 1 1 1", "Kd 1 1 1", "illum 1", f"map_Kd {texture}"]
    with write_atomically(library) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"mtllib {library.name}", "usemtl picture"]


def save_ply(
    path: str | Path,
    vertices: Float[Tensor, "V 3"] | Float[np.ndarray, "V 3"],
    faces: Int[Tensor, "F 3"] | Int[np.ndarray, "F 3"],
    *,
    axes: str = "camera",
    placing: Placing | None = None,
) -> None:
    """Write one body as a binary PLY with smooth normals; axes and placing as in `save_obj`. Raises `OutputError`."""
    import trimesh

    placing = Placing() if placing is None else placing
    mesh = trimesh.Trimesh(_upright(vertices, faces, axes, placing), _array(faces), process=False)
    corners = np.empty(len(mesh.faces), [("n", "u1"), ("corner", "<i4", 3)])
    corners["n"], corners["corner"] = 3, mesh.faces
    columns = ("x", "y", "z", "nx", "ny", "nz")
    header = [
        *(
            "ply",
            "format binary_little_endian 1.0",
            f"comment bodyfit; {placing}",
            f"element vertex {len(mesh.vertices)}",
        ),
        *(f"property float {column}" for column in columns),
        *(f"element face {len(corners)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    rows = np.concatenate([mesh.vertices, mesh.vertex_normals], 1).astype("<f4")
    with write_atomically(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + rows.tobytes() + corners.tobytes())


def save_glb(
    path: str | Path,
    vertices: Float[Tensor, "V 3"] | Float[np.ndarray, "V 3"],
    faces: Int[Tensor, "F 3"] | Int[np.ndarray, "F 3"],
    color: tuple[float, float, float] = (0.55, 0.76, 0.94),
    *,
    axes: str = "camera",
) -> None:
    """Write one body as binary glTF with smooth normals and a matte colour (sRGB in [0, 1]), metres.

    The mesh alone; `export` writes it with its skeleton. glTF is y-up: vertices in camera axes ("camera") are turned
    half about x, so that the body stands upright; "y_up" vertices (the model's own frame) are written as they are.
    Raises `OutputError`.
    """
    import trimesh  # takes a while to load

    path, placing, arrays = Path(path), Placing(), BinaryChunk()
    mesh = trimesh.Trimesh(_upright(vertices, faces, axes, placing), _array(faces), process=False)
    attributes = {
        "POSITION": arrays.add(mesh.vertices.astype(np.float32), target=VERTICES, bounds=True),
        "NORMAL": arrays.add(mesh.vertex_normals.astype(np.float32), target=VERTICES),
    }
    indices = arrays.add_triangles(mesh.faces, len(mesh.vertices))
    document = {
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": path.stem, "mesh": 0}],
        "meshes": [{"name": "body", "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [material(color)],
    }
    write_glb(path, document, arrays, placing)


def _upright(
    vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, axes: str, placing: Placing
) -> Float[np.ndarray, "V 3"]:
    """Checked vertices of one body in the file's axes and unit."""
    check_shape("vertices", vertices, (None, 3), hint="give one body at a time, out.vertices[0]")
    check_shape("faces", faces, (None, 3))
    points = torch.as_tensor(vertices).detach().cpu().double()
    if not bool(torch.isfinite(points).all()):
        raise OutputError("the mesh holds NaN or infinity, as after a failed fit; it is not written")
    return placing.points(points.numpy(), axes)


def _array(faces: Tensor | np.ndarray) -> Int[np.ndarray, "F 3"]:
    return torch.as_tensor(faces).detach().cpu().numpy()


def _rows(form: str, rows: np.ndarray) -> list[str]:
    """A line for each row; all in one step, three times as fast as line by line."""
    return ("\n".join([form] * len(rows)) % tuple(rows.ravel().tolist())).splitlines()
