"""Bodies out of whatever file holds them: a fit, parameters, or motion by another program."""

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
    person: str = "0"
    """Who it is, by the file's own number or name, where it is one person over time."""
    program: str = "bodyfit"
    """Which program's or data set's layout the file is in."""
    notes: tuple[str, ...] = ()
    """What had to be assumed or left out, in words."""


def read_bodies(
    path: str | Path,
    *,
    model: str | None = None,
    axes: str | None = None,
    person: str | None = None,
    trajectory: str = "world",
    fps: float | int | None = None,
) -> Bodies:
    """The bodies of a file, and their model; of a file of several people over time, one of them.

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
    """Everyone in a file or folder, or one of them; arguments as of `read_bodies`. file: its contents, if it was
    read."""
    path = Path(path)
    if "bodyfit_format" in array_names(path):  # a fit or parameters that bodyfit wrote
        if person is not None:
            raise OptionError(f"{path} is a file of ours; its bodies are chosen by frame, and not by person")
        found = _ours(path, model, axes)
        return [found if fps is None else replace(found, fps=float(fps))]
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
    """When the bodies of a motion are shown."""
    return None if motion.fps <= 0 else motion.start_s + np.arange(motion.params.batch) / motion.fps


def _ours(path: Path, model: str | None, axes: str | None) -> Bodies:
    """A fit, or what `save_params` wrote."""
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
    """What `save_params` wrote."""
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
    given = {"body_pose": poses[:, 3:], "betas": betas, "transl": arrays[root[-1]]}
    given["global_orient"] = arrays["global_orient"] if len(root) == 2 else poses[:, :3]
    given |= {
        name: arrays[name] for name in (*dict(body.kind.poses), "expression") if name in arrays and name not in given
    }
    return body.params(**{name: torch.from_numpy(value) for name, value in given.items()}), body
