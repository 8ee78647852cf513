"""Read bodies from any supported file: a fit, parameters, or another program's motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.files.archive import array_names, read_archive
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.record import GENDERS
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import model_of
from bodyfit.io.motions.formats import format_of
from bodyfit.io.motions.load import chosen, motion_file, moved, recordings_of
from bodyfit.io.motions.motion import Motion
from bodyfit.io.motions.recording import MotionFile
from bodyfit.io.results.params import load_result
from bodyfit.io.results.track import load_track

__all__ = ["Bodies", "read_bodies", "read_people"]


@dataclass(frozen=True)
class Bodies:
    """Body parameters, with the model, axes and times that go with them."""

    params: BodyParams
    """Parameters of several people, or of one person over time."""
    model: BodyModel
    """The body model of the parameters."""
    axes: str
    """Axes of the parameters: "camera", "y_up" or "z_up"."""
    fps: float
    """Frame rate, 1/s; 0 for people of pictures, or where unknown."""
    times_s: Float[np.ndarray, "T"] | None = None
    """Times, seconds on the clock that all people of a clip share; None where the file has only `fps`."""
    person: str = "0"
    """The person's number or name in the file, for one person over time."""
    program: str = "bodyfit"
    """The program or data set whose layout the file has."""
    notes: tuple[str, ...] = ()
    """Sentences on what was assumed or omitted."""


def read_bodies(
    path: str | Path,
    *,
    model: str | None = None,
    axes: str | None = None,
    person: str | None = None,
    trajectory: str = "world",
    fps: float | int | None = None,
) -> Bodies:
    """Read the bodies of a file and their model; of several people over time, one person.

    model: as for `load_model`; a fit knows its own, and so does motion that `save_amass` wrote; else it is the open
    body that has the file's joints. axes: where the file does not say ("camera", "y_up" or "z_up"): parameters are
    taken to be y up, motion in AMASS's layout z up. person, trajectory: as for `load_motion`. fps: frames a second
    where the file does not say; where it does, its frames keep their times, and these are the frames a second to write
    them at. Raises `AssetError`, naming the file, and `OptionError`.
    """
    people = read_people(path, model=model, axes=axes, person=person, trajectory=trajectory, fps=fps)
    if len(people) > 1:
        raise OptionError(
            f"{path} has {len(people)} people: choose one ({', '.join(one.person for one in people[:20])})"
        )
    return people[0]


def read_people(
    path: str | Path,
    *,
    model: str | None = None,
    axes: str | None = None,
    person: str | None = None,
    trajectory: str = "world",
    fps: float | int | None = None,
    file: MotionFile | None = None,
) -> list[Bodies]:
    """Read all people in a file or folder, or one of them.

    Arguments and errors as for `read_bodies`. file: the content, where it was read before.
    """
    path = Path(path)
    if "bodyfit_format" in array_names(path):  # a fit or parameters that bodyfit wrote
        if person is not None:
            raise OptionError(f"{path} is a file of ours; its bodies are chosen by frame, and not by person")
        bodies = _bodyfit_file(path, model, axes)
        return [bodies if fps is None else replace(bodies, fps=float(fps))]
    file = motion_file(path, trajectory) if file is None else replace(file, trajectory=trajectory)
    layout = format_of(file)
    if axes == "camera" and layout is not None and layout.name.startswith("AMASS"):
        raise OptionError(f"{path}: motion in AMASS's layout is y up or z up, not in camera axes")
    recordings = chosen(recordings_of(file), person, path)
    stated = str(file.value.get("model_name", "")) if isinstance(file.value, dict) else ""
    return [
        Bodies(m.params, body, "y_up", float(fps or m.fps), _times_s(m), m.person, m.program, m.notes)
        for m, body in moved(path, recordings, model or stated or None, axes=axes, fps=fps)
    ]


def _times_s(motion: Motion) -> Float[np.ndarray, "T"] | None:
    """Return the times of a motion's bodies, None without a rate."""
    return None if motion.fps <= 0 else motion.start_s + np.arange(motion.params.batch) / motion.fps


def _bodyfit_file(path: Path, model: str | None, axes: str | None) -> Bodies:
    """Read a fit, or a file of `save_params`. Raises `AssetError` and `OptionError`."""
    arrays = read_archive(path)
    rate = arrays.get("mocap_framerate")
    fps = float(rate) if isinstance(rate, np.ndarray) and rate.shape == () and rate.dtype.kind in "fiu" else 0.0
    if "status" in arrays:
        track = load_track(path) if "track_id" in arrays else None
        result = load_result(path) if track is None else track.result
        body = model_of(result, model)
        return Bodies(result.params, body, axes or "camera", fps, None if track is None else track.clock_s)
    source = model or str(arrays.get("model_name", ""))
    if not source:
        raise OptionError(f"{path} holds parameters and does not say of which model; name it (open, or an SMPL file)")
    return Bodies(*_saved_params(path, arrays, source), axes or str(arrays.get("axes", "y_up")), fps)


def _saved_params(path: Path, arrays: dict[str, Any], source: str) -> tuple[BodyParams, BodyModel]:
    """Read a file of `save_params`. Raises `AssetError` and `OptionError`."""
    root = ("global_orient", "transl") if "global_orient" in arrays else ("trans",)
    for key in ("poses", "betas", *root):
        table = arrays.get(key)
        if not (isinstance(table, np.ndarray) and table.ndim == 2 and table.dtype.kind == "f"):
            raise AssetError(f"{path}: damaged parameters; {key} must be a table of numbers")
    poses, betas = arrays["poses"], arrays["betas"]
    gender = str(arrays.get("gender", "neutral"))
    gender = gender if gender in GENDERS else "neutral"
    body = load_model(source, gender=gender, num_betas=max(10, betas.shape[1]))
    if poses.shape[1] - 3 != 3 * body.kind.poses[0][1]:
        raise OptionError(f"{path}: poses of {poses.shape[1]} columns are not of {body.name}, a {body.kind.title} body")
    params = {"body_pose": poses[:, 3:], "betas": betas, "transl": arrays[root[-1]]}
    params["global_orient"] = arrays["global_orient"] if len(root) == 2 else poses[:, :3]
    params |= {
        name: arrays[name] for name in (*dict(body.kind.poses), "expression") if name in arrays and name not in params
    }
    return body.params(**{name: torch.from_numpy(value) for name, value in params.items()}), body
