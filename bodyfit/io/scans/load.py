"""Read scans of people: meshes and point clouds of usual formats. Nothing in a file is executed, no other file read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bodyfit.errors import BodyfitError, ScanError
from bodyfit.io.results.params import read_arrays

__all__ = ["SCAN_FORMATS", "Scan", "load_scan"]

_LARGEST_BYTES = 2 << 30


@dataclass(frozen=True)
class Scan:
    """A scan as its file has it, in its own unit and axes."""

    points: Float[np.ndarray, "N 3"]
    """Points, or the vertices of a mesh."""
    normals: Float[np.ndarray, "N 3"] | None = None
    """Normals of the points of a cloud."""
    faces: Int[np.ndarray, "F 3"] | None = None
    """Triangles of a mesh."""
    colors: Float[np.ndarray, "N 3"] | None = None
    """RGB of the points in [0, 1]; of a textured mesh its texture at the vertices."""


def load_scan(path: str | Path) -> Scan:
    """Read a scan: .ply, .obj, .glb, .stl, .off; .xyz, .txt, .csv, .pts (x y z, then normals, then colors); .npz, .npy.

    An npz has `points` or `vertices`, and may have `normals`, `faces` and `colors`. Raises `ScanError`, naming the
    file.
    """
    path = Path(path)
    read = SCAN_FORMATS.get(path.suffix.lower())
    if read is None:
        raise ScanError(f"{path}: scans are read from {', '.join(SCAN_FORMATS)}, not {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise ScanError(f"{path}: no such file")
    if path.stat().st_size > _LARGEST_BYTES:
        raise ScanError(f"{path}: larger than {_LARGEST_BYTES >> 30} GiB; thin the scan first")
    try:
        scan = read(path)
    except ScanError:
        raise
    except MemoryError as error:
        raise ScanError(f"{path}: needs more memory than there is; thin the scan first") from error
    except BodyfitError as error:
        raise ScanError(str(error)) from error
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # trimesh's readers raise whatever their parsing runs into
        raise ScanError(f"{path}: damaged, or no {path.suffix[1:].upper()} file: {error}") from error
    if len(scan.points) == 0:
        raise ScanError(f"{path}: holds no points")
    return scan


def _mesh(path: Path) -> Scan:
    """Read a mesh or a cloud by trimesh; materials are read from the file itself alone."""
    import trimesh

    kind = path.suffix[1:].lower()
    with path.open("rb") as file:
        loaded: Any = trimesh.load_scene(file, file_type=kind, resolver=None)
    parts = [part for part in loaded.dump() if len(getattr(part, "vertices", ()))]
    if not parts:
        raise ScanError(f"{path}: holds no points")
    points, colors = [np.asarray(part.vertices, np.float64) for part in parts], [_colors(part) for part in parts]
    faces = [np.asarray(part.faces, np.int64) for part in parts if len(getattr(part, "faces", ()))]
    if faces and len(faces) == len(parts):
        first = np.cumsum([0, *(len(p) for p in points[:-1])])
        triangles = np.concatenate([f + start for f, start in zip(faces, first, strict=True)])
    elif faces:
        raise ScanError(f"{path}: holds meshes and clouds of points; give one of them")
    else:
        triangles = None
    tint = None if any(c is None for c in colors) else np.concatenate([c for c in colors if c is not None])
    normals = _ply_normals(parts[0]) if triangles is None and len(parts) == 1 else None
    return Scan(np.concatenate(points), normals, triangles, tint)


def _colors(part: Any) -> np.ndarray | None:
    """Return RGB in [0, 1] of a part's vertices, from colours or from a texture; None without any."""
    visual = getattr(part, "visual", None)
    if visual is None or not getattr(visual, "defined", True):
        return None
    if getattr(visual, "kind", None) == "texture":
        visual = visual.to_color()
    colors = getattr(visual, "vertex_colors", None)
    if colors is None and hasattr(part, "colors"):
        colors = part.colors
    if colors is None or len(colors) != len(part.vertices):
        return None
    return np.asarray(colors, np.float64)[:, :3] / 255


def _ply_normals(part: Any) -> np.ndarray | None:
    """Return the normals of a cloud of points in a PLY file, which trimesh leaves in its metadata."""
    raw = part.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    names = ("nx", "ny", "nz")
    if raw is None or not all(name in (raw.dtype.names or ()) for name in names):
        return None
    return np.stack([np.asarray(raw[name], np.float64).ravel() for name in names], 1)


def _columns(path: Path) -> Scan:
    """Read a text file of 3, 6 or 9 columns: positions, then normals, colours (0 to 255), or both."""
    with path.open("r", encoding="utf-8", errors="replace") as file:
        head = [line for line in (file.readline() for _ in range(20)) if line.strip()]
    if not head:
        raise ScanError(f"{path}: holds no points")
    splits = next((mark for mark in (",", ";") if mark in head[-1]), None)
    skip = next((i for i, line in enumerate(head) if _is_row(line, splits)), len(head))
    if skip == len(head):
        raise ScanError(f"{path}: no line of at least three numbers among the first {len(head)}")
    with path.open("r", encoding="utf-8", errors="replace") as file:
        return _of_columns(path, np.loadtxt(file, delimiter=splits, skiprows=skip, comments="#", ndmin=2))


def _is_row(line: str, splits: str | None) -> bool:
    try:
        return len([float(part) for part in line.split(splits)]) >= 3
    except ValueError:
        return False


def _of_columns(path: Path, rows: np.ndarray) -> Scan:
    if rows.ndim != 2 or rows.shape[1] not in (3, 4, 6, 7, 9):
        raise ScanError(f"{path}: rows must be x y z, and may go on with normals and colours; got shape {rows.shape}")
    if rows.shape[1] in (4, 7):  # an intensity after the position
        rows = np.delete(rows, 3, 1)
    more = rows[:, 3:6]
    if rows.shape[1] == 9:
        return Scan(rows[:, :3], more, None, _scaled(rows[:, 6:]))
    if rows.shape[1] == 6:
        length = np.linalg.norm(more, axis=1)
        if np.nanmedian(np.abs(length - 1)) < 0.05:
            return Scan(rows[:, :3], more)
        return Scan(rows[:, :3], None, None, _scaled(more))
    return Scan(rows[:, :3])


def _scaled(colors: np.ndarray) -> np.ndarray:
    return np.clip(colors / 255 if np.nanmax(colors, initial=0) > 1 else colors, 0, 1)


def _npy(path: Path) -> Scan:
    with path.open("rb") as file:
        return _of_columns(path, np.asarray(np.load(file, allow_pickle=False), np.float64))


def _npz(path: Path) -> Scan:
    arrays = read_arrays(path)
    name = next((key for key in ("points", "vertices") if key in arrays), None)
    if name is None:
        raise ScanError(f"{path}: an npz scan has points or vertices, this one has {', '.join(arrays) or 'nothing'}")
    points = arrays[name]
    colors = arrays.get("colors")
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise ScanError(f"{path}: {name} must be numbers (N, 3), got {points.dtype} {points.shape}")
    tint = None if colors is None else _scaled(colors.astype(np.float64))
    return Scan(points.astype(np.float64), arrays.get("normals"), arrays.get("faces"), tint)


SCAN_FORMATS: dict[str, Callable[[Path], Scan]] = {
    **dict.fromkeys((".ply", ".obj", ".glb", ".stl", ".off"), _mesh),
    **dict.fromkeys((".xyz", ".txt", ".csv", ".pts"), _columns),
    ".npz": _npz,
    ".npy": _npy,
}
"""Readers by suffix."""
