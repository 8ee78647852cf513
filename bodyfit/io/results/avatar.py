"""Avatars as npz files, without pickles; pictures within are PNG."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from bodyfit.avatars.avatar import Avatar
from bodyfit.body.params import BodyParams
from bodyfit.errors import AssetError, BodyfitError
from bodyfit.io.results.params import read_arrays, write_arrays

__all__ = ["is_avatar", "load_avatar", "save_avatar"]

_VERSION = 1
_POSE = "params_"
_KEYS = ("betas", "offsets_m", "texture_png", "confidence_png", "iou", "model_name", "gender", "status", "reason")


def save_avatar(avatar: Avatar, path: str | Path) -> None:
    """Write an avatar as npz. Raises `OutputError`."""
    arrays = {
        "bodyfit_avatar": np.array(_VERSION),
        "betas": avatar.betas.detach().cpu().numpy(),
        "offsets_m": avatar.offsets_m.astype(np.float32),
        "texture_png": _png(avatar.texture),
        "confidence_png": _png(avatar.confidence),
        "iou": avatar.iou.astype(np.float64),
        **({} if avatar.light is None else {"light": avatar.light.astype(np.float32)}),
        **{name: np.array(getattr(avatar, name) or "") for name in ("model_name", "gender", "status", "reason")},
        **{f"{_POSE}{name}": value.detach().cpu().numpy() for name, value in avatar.params.items()},
    }
    write_arrays(path, arrays)


def load_avatar(path: str | Path) -> Avatar:
    """Load an avatar that `save_avatar` wrote. Raises `AssetError`, naming the file."""
    path = Path(path)
    arrays = read_arrays(path)
    version = arrays.get("bodyfit_avatar")
    if version is None:
        raise AssetError(f"{path}: not an avatar; give the avatar.npz that bodyfit avatar wrote")
    if version.shape != () or version.dtype.kind not in "iu" or int(version) > _VERSION:
        raise AssetError(f"{path}: an avatar of version {version}, this bodyfit reads {_VERSION}; install a newer one")
    if missing := [key for key in _KEYS if key not in arrays]:
        raise AssetError(f"{path}: a damaged avatar, it lacks {', '.join(missing)}")
    try:
        params = {key.removeprefix(_POSE): torch.from_numpy(arrays[key]) for key in arrays if key.startswith(_POSE)}
        return Avatar(
            betas=torch.from_numpy(arrays["betas"]),
            offsets_m=arrays["offsets_m"],
            texture=_picture(path, arrays["texture_png"], "RGB"),
            confidence=_picture(path, arrays["confidence_png"], "L"),
            params=BodyParams(**params),
            iou=arrays["iou"],
            model_name=str(arrays["model_name"]),
            gender=str(arrays["gender"]),
            status=str(arrays["status"]),
            reason=str(arrays["reason"]) or None,
            light=arrays.get("light"),
        )
    except (BodyfitError, TypeError) as error:
        raise AssetError(f"{path}: a damaged avatar: {error}") from None


def is_avatar(path: Path) -> bool:
    """Tell whether a file is an avatar. Raises `AssetError` for one that cannot be read."""
    return "bodyfit_avatar" in read_arrays(path)


def _png(image: UInt8[np.ndarray, "S S *C"]) -> UInt8[np.ndarray, " N"]:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _picture(path: Path, data: np.ndarray, mode: str) -> UInt8[np.ndarray, "S S *C"]:
    """Decode a picture. Raises `AssetError`."""
    try:
        with Image.open(BytesIO(data.tobytes()), formats=("PNG",)) as picture:
            return np.array(picture.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise AssetError(f"{path}: a damaged avatar: its picture cannot be read ({error})") from None
