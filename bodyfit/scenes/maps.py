"""Labels of each pixel of a drawing: who, what is worn, which part of the body, depth and normal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from bodyfit.appearance.binding import joint_names
from bodyfit.appearance.catalogue import KINDS, piece_arrays
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.render.dressed import DressedPicture

__all__ = ["GARMENTS", "PixelMaps", "part_names", "pixel_maps"]

GARMENTS = ("skin", *KINDS)
"""What the garment map's values 1 and on stand for."""


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Maps of a picture's size."""

    person: Int[np.ndarray, "S S"]
    """Who, from 0; -1 for nobody, also where a thing is."""
    garments: UInt8[np.ndarray, "S S"]
    """1 and on: `GARMENTS`; 0 for nobody."""
    parts: UInt8[np.ndarray, "S S"]
    """1 and on: the body's part (`part_names`), of clothes the part that they go with most; 0 for nobody."""
    depth_m: Float[np.ndarray, "S S"]
    """Of people and things along the optical axis, metres; infinite elsewhere."""
    normals: Float[np.ndarray, "S S 3"]
    """Of people and things, outward, camera axes; 0 elsewhere, and everywhere if they were left out."""


def pixel_maps(size: int, layer: DressedPicture | None, *, normals: bool = True) -> PixelMaps:
    """Put a layer's maps into pictures of a size; `normals` costs time."""
    person = np.full((size, size), -1, np.int32)
    garments, parts = np.zeros((2, size, size), np.uint8)
    depth = np.full((size, size), np.inf, np.float32)
    out = np.zeros((size, size, 3), np.float32)
    if layer is None:
        return PixelMaps(person, garments, parts, depth, out)
    x, y = layer.corner_px
    h, w = layer.person.shape
    box = (slice(y, y + h), slice(x, x + w))
    person[box], depth[box] = layer.person, layer.depth_m
    _label(layer, normals, parts, garments, out)
    return PixelMaps(person, garments, parts, depth, out)


def _label(
    layer: DressedPicture,
    with_normals: bool,
    parts: UInt8[np.ndarray, "S S"],
    garments: UInt8[np.ndarray, "S S"],
    out: Float[np.ndarray, "S S 3"],
) -> None:
    """Write the maps that need the surfaces."""
    from bodyfit.scenes.map_loops import label_pixels

    placed = layer.placed
    first_vertex = np.cumsum([0, *(len(one.in_picture) for one in placed)])
    first_face = np.cumsum([0, *(len(one.surface.faces) for one in placed)])
    kinds = np.array([GARMENTS.index(kind) + 1 if who >= 0 else 0 for who, kind, _ in layer.surfaces], np.uint8)
    vertex_parts = np.concatenate(
        [
            _vertex_parts(kind, name) + 1 if who >= 0 else np.zeros(len(one.in_picture), np.int64)
            for (who, kind, name), one in zip(layer.surfaces, placed, strict=True)
        ]
    )
    none = np.zeros((0, 3), np.float32)
    label_pixels(
        layer.surface,
        layer.face,
        first_vertex,
        first_face,
        np.concatenate([one.surface.faces for one in placed]).astype(np.int32),
        vertex_parts.astype(np.uint8),
        kinds,
        np.concatenate([one.in_picture for one in placed]) if with_normals else none,
        np.concatenate([one.normals for one in placed]) if with_normals else none,
        *layer.corner_px,
        parts,
        garments,
        out,
    )


@lru_cache(maxsize=1)
def _skin_parts() -> Int[np.ndarray, "V"]:
    return read_archive(asset_path("body", "open.npz"))["part_labels"].astype(np.int64)


@lru_cache(maxsize=64)
def _vertex_parts(kind: str, name: str) -> Int[np.ndarray, "V"]:
    """The part of each vertex of a surface."""
    if kind == "skin":
        return _skin_parts()
    return _part_of_joint()[piece_arrays(name).weights.argmax(1)]


@lru_cache(maxsize=1)
def part_names() -> tuple[str, ...]:
    """What the part map's values 1 and on stand for: SMPL's 24 joints."""
    return tuple(str(name) for name in read_archive(asset_path("body", "open.npz"))["part_names"])


@lru_cache(maxsize=1)
def _part_of_joint() -> Int[np.ndarray, "55"]:
    """The part that each joint of the largest layout moves."""
    names = part_names()
    out = []
    for joint in joint_names()[:55]:
        side, _, rest = joint.partition("_")
        if joint in names:
            out.append(names.index(joint))
        elif side in ("left", "right") and "eye" not in joint:
            out.append(names.index(f"{side}_wrist" if "thumb" in rest else f"{side}_hand"))
        else:
            out.append(names.index("head"))
    return np.array(out)
