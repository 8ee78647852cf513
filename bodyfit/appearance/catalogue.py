"""The pieces that ship: what there is, and their arrays and pictures, read when first used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.errors import AssetError, OptionError

__all__ = ["AGES", "KINDS", "PieceArrays", "catalogue", "irises", "picture", "piece_arrays", "pieces", "skins"]

KINDS = ("upper", "lower", "whole", "shoes", "hat", "hair", "brows", "lashes", "eyes")
"""Kinds of pieces. "whole" covers what an upper and a lower piece cover."""
AGES = ("young", "middleage", "old")
"""How old a skin looks, as MakeHuman names it."""
_BODY_VERTICES = 13492


@dataclass(frozen=True, eq=False)
class PieceArrays:
    """A piece as a mesh on the open bodies, in their T-pose, metres."""

    template: Float[np.ndarray, "3 P 3"]
    """Vertices on the mean body of each of `GENDERS`."""
    shapedirs: Float[np.ndarray, "3 P 3 10"]
    """Offsets for one unit of each beta."""
    weights: Float[np.ndarray, "P 55"]
    """Skinning weights in the largest layout's joints."""
    anchors: Int[np.ndarray, "P 3"]
    """Vertices of the body whose pose shapes and expression move a vertex."""
    anchor_shares: Float[np.ndarray, "P 3"]
    """By how much; rows sum to 1 on the skin and to less away from it."""
    faces: Int[np.ndarray, "F 3"]
    """Outward triangles."""
    uv: Float[np.ndarray, "T 2"]
    """Texture coordinates, origin bottom left."""
    uv_faces: Int[np.ndarray, "F 3"]
    """Rows of `uv` at the faces' corners."""
    hidden: Bool[np.ndarray, "V"]
    """Vertices of the body that the piece covers: faces with three such corners are not drawn."""


@lru_cache(maxsize=1)
def catalogue() -> dict:
    """Read the list of what ships."""
    path = asset_path("appearance", "catalogue.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise AssetError(f"{path}: not a readable catalogue ({fault}); reinstall bodyfit") from fault


def pieces(kind: str, wearer: str = "any") -> tuple[str, ...]:
    """Names of the pieces of a kind; wearer: "women" or "men" leaves out what is cut for the other, "any" nothing."""
    if kind not in KINDS:
        raise OptionError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    fits = ("any", wearer) if wearer != "any" else ("any", "women", "men")
    return tuple(name for name, one in catalogue()["pieces"].items() if one["kind"] == kind and one["wearer"] in fits)


def skins(gender: str = "neutral", age: str | None = None) -> tuple[str, ...]:
    """Names of the skins of a gender ("neutral" for both) and an age (None for all)."""
    return tuple(
        name
        for name, one in catalogue()["skins"].items()
        if gender in ("neutral", one["gender"]) and age in (None, one["age"])
    )


def irises() -> tuple[str, ...]:
    """Names of the colours of eyes."""
    return tuple(catalogue()["irises"])


@lru_cache(maxsize=64)
def piece_arrays(name: str) -> PieceArrays:
    """Read a piece's arrays. Raises `OptionError` for a name that is none."""
    if name not in catalogue()["pieces"]:
        raise OptionError(f"there is no piece {name!r}; there are {', '.join(catalogue()['pieces'])}")
    stored, unit = read_archive(asset_path("appearance", f"{name}.npz")), catalogue()["unit_m"]
    weights = np.zeros((len(stored["joint"]), 55))
    np.add.at(weights, (np.arange(len(weights))[:, None], stored["joint"].astype(np.int64)), stored["weight"] / 65535)
    return PieceArrays(
        template=stored["template"] * unit,
        shapedirs=stored["shapedirs"].transpose(0, 3, 2, 1) * unit,
        weights=weights / weights.sum(1, keepdims=True),
        anchors=stored["anchor"].astype(np.int64),
        anchor_shares=stored["anchor_share"].astype(np.float64),
        faces=stored["faces"].astype(np.int64),
        uv=stored["uv"].astype(np.float64),
        uv_faces=stored["uv_faces"].astype(np.int64),
        hidden=np.unpackbits(stored["hidden"], count=_BODY_VERTICES).astype(bool),
    )


@lru_cache(maxsize=128)
def picture(name: str) -> UInt8[np.ndarray, "H W C"]:
    """Read the picture of a piece, a skin or an iris: RGB, or RGBA where it has transparency. Read-only."""
    path = asset_path("appearance", f"{name}.webp")
    try:
        with Image.open(path) as file:
            image = np.array(file)
    except OSError as fault:
        raise AssetError(f"{path}: not a readable picture ({fault}); reinstall bodyfit") from fault
    image.flags.writeable = False
    return image
