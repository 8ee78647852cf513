"""Write and read radiance fields as npz files, without pickles."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.body.files.archive import read_archive
from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError, BodyfitError
from bodyfit.fields.casting.cast import CastConfig
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.field import RadianceField, start_field
from bodyfit.runtime.atomic import write_atomically

__all__ = ["load_field", "save_field"]

_FORMAT = "bodyfit radiance field"
_VERSION = 1


def save_field(field: RadianceField, path: str | Path) -> None:
    """Write a field as npz: values in half precision, the settings as text. Raises `OutputError`."""
    arrays = {
        "format": np.array(_FORMAT),
        "version": np.array(_VERSION),
        "model": np.array([field.model.name, field.model.gender]),
        "betas": field.canonical.betas.cpu().numpy(),
        "config": np.array(json.dumps(asdict(field.config))),
        "values": np.clip(field.values, -6e4, 6e4).astype(np.float16),
        **{name: getattr(field, name) for name in ("light", "gains", "offsets")},
    }
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_field(path: str | Path, model: BodyModel) -> RadianceField:
    """Read a field that `save_field` wrote, for the body model that it was trained with. Raises `AssetError`."""
    path = Path(path)
    found = read_archive(path)
    if str(found.get("format", "")) != _FORMAT:
        raise AssetError(f"{path}: no radiance field; bodyfit's avatar command writes them")
    if int(_number(path, found, "version")) > _VERSION:
        raise AssetError(f"{path}: written by a newer version of bodyfit; update it to read the field")
    name = [str(part) for part in np.ravel(found.get("model", ()))]
    if name != [model.name, model.gender]:
        raise AssetError(f"{path}: of the body model {' '.join(name)}, not {model.name} {model.gender}; load that one")
    config = _config(path, str(found.get("config", "")))
    try:
        betas = np.asarray(found["betas"], np.float32).reshape(1, -1)
        empty = start_field(model, betas, config, len(found["gains"]))
    except (KeyError, ValueError, TypeError, BodyfitError) as error:
        raise AssetError(f"{path}: the field's shape or settings cannot be used: {error}") from error
    parts = {}
    for key in ("values", "light", "gains", "offsets"):
        array, shape = np.asarray(found.get(key)), getattr(empty, key).shape
        if array.dtype.kind != "f" or array.shape != shape or not bool(np.isfinite(array).all()):
            raise AssetError(f"{path}: {key} must be finite numbers of shape {shape}, got {array.shape}")
        parts[key] = array.astype(np.float32)
    return replace(empty, **parts)


def _number(path: Path, found: dict[str, Any], key: str) -> float:
    try:
        return float(np.asarray(found[key]))
    except (KeyError, TypeError, ValueError) as error:
        raise AssetError(f"{path}: {key} must be a number") from error


def _config(path: Path, text: str) -> RadianceConfig:
    """Read settings. Raises `AssetError`."""
    try:
        values = json.loads(text)
        values["cast"] = CastConfig(**values["cast"])
        values["nodes_m"] = tuple(float(size) for size in values["nodes_m"])
        if values.get("background") is not None:
            values["background"] = tuple(float(part) for part in values["background"])
        return RadianceConfig(**values)
    except (KeyError, TypeError, ValueError, BodyfitError) as error:
        raise AssetError(f"{path}: the field's settings cannot be read: {error}") from error
