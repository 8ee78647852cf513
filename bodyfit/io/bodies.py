"""Bodies out of whatever npz holds them: a fit, parameters, or motion in AMASS's layout."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.archive import read_archive
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.errors import AssetError, OptionError
from bodyfit.io.amass import load_amass
from bodyfit.io.params import load_result
from bodyfit.io.track import load_track

__all__ = ["Bodies", "holds_bodies", "read_bodies"]


@dataclass(frozen=True)
class Bodies:
    """Bodies and all that is needed to pose them."""

    params: BodyParams
    """Several people, or one over time."""
    model: BodyModel
    """Whose parameters they are."""
    axes: str
    """Theirs: "camera", "y_up" or "z_up"."""
    fps: float
    """Frames a second; 0 where they are no clip, or the file does not say."""
    times_s: Float[np.ndarray, "T"] | None = None
    """When each is shown, seconds on the clock of all people of a clip; None where the file says no more than `fps`."""


def holds_bodies(path: Path) -> bool:
    """Whether a file is an npz of poses; a look at its table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"poses.npy", "trans.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_bodies(path: str | Path, *, model: str | None = None, axes: str | None = None) -> Bodies:
    """The bodies of a file, and their model.

    model: as for `load_model`; a fit knows its own, and so does motion that `save_amass` wrote. axes: where the file
    does not say ("camera", "y_up" or "z_up"): parameters are taken to be y up, motion in AMASS's layout z up.
    Raises `AssetError`, naming the file, and `OptionError`.
    """
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give an npz of bodies")
    arrays = read_archive(path)
    rate = arrays.get("mocap_framerate")
    fps = float(rate) if isinstance(rate, np.ndarray) and rate.shape == () and rate.dtype.kind in "fiu" else 0.0
    if "bodyfit_format" in arrays and "status" in arrays:
        result = load_result(path)
        body = _model(model or result.model_name, result.gender, result.params.betas.shape[1])
        times_s = load_track(path).clock_s if "track_id" in arrays else None
        return Bodies(result.params, body, axes or "camera", fps, times_s)
    source = model or str(arrays.get("model_name", ""))
    if not source:
        raise OptionError(f"{path} holds parameters and does not say of which model; name it (open, or an SMPL file)")
    if "bodyfit_format" in arrays:
        return Bodies(*_saved_params(path, arrays, source), axes or "y_up", fps)
    gender = str(arrays.get("gender", "neutral")).removeprefix("b").strip("'")
    betas = arrays.get("betas")
    body = _model(source, gender, betas.shape[-1] if isinstance(betas, np.ndarray) and betas.ndim else 0)
    if axes == "camera":
        raise OptionError(f"{path}: motion in AMASS's layout is y up or z up, not in camera axes")
    motion = load_amass(path, body, up=None if axes is None else axes[0])
    clocked = "start_s" in arrays and motion.fps > 0
    times_s = motion.start_s + np.arange(motion.params.batch) / motion.fps if clocked else None
    return Bodies(motion.params, body, "y_up", motion.fps, times_s)


def _model(source: str, gender: str, betas: int) -> BodyModel:
    gender = gender if gender in ("neutral", "male", "female") else "neutral"
    return load_model(source, gender=gender, num_betas=max(10, betas))


def _saved_params(path: Path, arrays: dict, source: str) -> tuple[BodyParams, BodyModel]:
    """What `save_params` wrote."""
    tables = {key: arrays.get(key) for key in ("poses", "trans", "betas")}
    for key, table in tables.items():
        if not (isinstance(table, np.ndarray) and table.ndim == 2 and table.dtype.kind == "f"):
            raise AssetError(f"{path}: damaged parameters; {key} must be a table of numbers")
    poses, trans, betas = (np.asarray(table) for table in tables.values())
    body = _model(source, str(arrays.get("gender", "neutral")), betas.shape[1])
    if poses.shape[1] - 3 != 3 * body.kind.poses[0][1]:
        raise OptionError(f"{path}: poses of {poses.shape[1]} columns are not of {body.name}, a {body.kind.title} body")
    given = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:], "transl": trans, "betas": betas}
    given |= {name: arrays[name] for name in (*dict(body.kind.poses), "expression") if name in arrays}
    return body.params(**{name: torch.from_numpy(value) for name, value in given.items()}), body
