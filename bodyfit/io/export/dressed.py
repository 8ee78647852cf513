"""Dressed bodies as binary glTF: one skeleton, a mesh of skin and clothes bound to it, their textures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.appearance.combined import DressedModel, Part, dressed_model
from bodyfit.appearance.outfit import Outfit
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.glb import BinaryChunk, encoded_picture
from bodyfit.io.export.gltf import write_skinned
from bodyfit.io.export.rig import TOLERANCE_M, rig_of

__all__ = ["save_dressed_glb"]

_INFLUENCES = 4
"""Weights a vertex: what every reader of glTF must take."""
_ROUGHNESS = {"skin": 0.55, "eyes": 0.15, "hair": 0.6, "shoes": 0.5}
_CLOTH_ROUGHNESS = 0.9
_CUT = 0.4
"""Opacity from which on hair is drawn: blended, its cards would have to be sorted, which viewers do not do."""


def save_dressed_glb(
    path: str | Path,
    bodies: BodyParams,
    outfit: Outfit,
    *,
    model: BodyModel,
    fps: float | int = 0.0,
    times_s: Float[np.ndarray, "T"] | None = None,
    axes: str = "y_up",
    placing: Placing | None = None,
    tolerance_m: float | int = TOLERANCE_M,
) -> Path:
    """Write one dressed person, or one over time, as binary glTF with skeleton, skinned meshes and textures.

    bodies, fps, times_s, axes, placing and tolerance_m are as in `rig_of`; the body's first vertices keep their order.
    Skirts and long hair follow the joints alone. Raises `OptionError` and `OutputError`; nothing is then left behind.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise OptionError(f"{path}: dressed bodies are written as .glb, got {path.suffix or 'no ending'}")
    dressed = dressed_model(model, outfit)
    rig = rig_of(
        dressed.model,
        bodies,
        fps=fps,
        times_s=times_s,
        axes=axes,
        placing=placing,
        influences=_INFLUENCES,
        tolerance_m=tolerance_m,
    )
    arrays = BinaryChunk()
    write_skinned(path, rig, arrays, _materials(dressed, arrays), [part.faces for part in dressed.parts])
    return path


def _materials(dressed: DressedModel, arrays: BinaryChunk) -> dict[str, Any]:
    """A material, a texture and a picture for each part, as glTF's document has them."""
    materials, images = [], []
    for number, part in enumerate(dressed.parts):
        data, kind = encoded_picture(part.texture)
        images.append({"name": part.name, "bufferView": arrays.add_bytes(data), "mimeType": kind})
        materials.append(_material(part, number))
    return {
        "materials": materials,
        "textures": [{"source": k, "sampler": 0} for k in range(len(images))],
        "images": images,
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
    }


def _material(part: Part, texture: int) -> dict[str, Any]:
    roughness = _ROUGHNESS.get(part.kind, _CLOTH_ROUGHNESS)
    surface = {"baseColorTexture": {"index": texture}, "metallicFactor": 0.0, "roughnessFactor": roughness}
    out: dict[str, Any] = {"name": f"{part.kind} {part.name}", "pbrMetallicRoughness": surface}
    out["doubleSided"] = part.kind not in ("skin", "eyes")
    if part.texture.shape[2] == 4:
        cut = {"alphaMode": "MASK", "alphaCutoff": _CUT}
        out |= cut if part.kind == "hair" else {"alphaMode": "BLEND"}
    return out
