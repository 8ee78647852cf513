"""Load marker files in metres and y-up axes, whatever their unit and axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError, OptionError
from bodyfit.io.points3d.c3d_file import read_c3d
from bodyfit.io.points3d.raw import Axis, RawPoints
from bodyfit.io.points3d.record import Points3D, find_keypoints
from bodyfit.io.points3d.trc import read_trc

__all__ = ["is_points3d", "load_points3d"]

_READERS: Mapping[str, Callable[[Path], RawPoints]] = {".trc": read_trc, ".c3d": read_c3d}
"""Readers by suffix."""
_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1e-3),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 1e-2),
    **dict.fromkeys(("in", "inch", "inches"), 0.0254),
    **dict.fromkeys(("ft", "foot", "feet"), 0.3048),
}
"""Metres per unit."""
_SPAN_M = (0.25, 3.5)
"""Plausible diagonals of the bounding box of a body's points, for children and adults in any pose."""
_UPRIGHT = 0.85
"""Least cosine of the angle between the body and an axis along which it stands."""
_HIGH = ("head_top", "nose", "neck", "left_shoulder", "right_shoulder")
_LOW = ("left_ankle", "right_ankle", "left_heel", "right_heel", "left_knee", "right_knee")


def is_points3d(path: str | Path) -> bool:
    """Tell whether a file has the suffix of 3D points."""
    return Path(path).suffix.lower() in _READERS


def load_points3d(
    path: str | Path, *, up: str | None = None, unit: str | None = None, subject: str | None = None
) -> Points3D:
    """Load the markers of a TRC (OpenSim, Pose2Sim, OpenCap, Motion Analysis) or C3D file (Vicon, Qualisys, OptiTrack).

    In metres, y up, at an even rate: frames that the file omits are NaN. up: the file's axis that points up, for
    example "y", "z" or "-x"; by default the file's (C3D's Y_SCREEN), else the axis along which the body stands, else y
    for TRC and z for C3D. unit: the file's, for example "m", "mm" or "cm"; by default the one it names, if the body's
    size is plausible. subject: the name before the colon of one of several people in a C3D; by default the one with
    most markers. C3D needs the extra `bodyfit[c3d]`. Raises `KeypointFileError`, naming the file, and `OptionError`.
    """
    path = Path(path)
    if not is_points3d(path):
        raise OptionError(f"{path}: the ending must be one of {', '.join(_READERS)}, got {path.suffix or 'none'}")
    up_axis = None if up is None else _axis(up)
    if unit is not None and unit.lower() not in _UNITS:
        raise OptionError(f"unit must be one of m, mm, cm, in, ft, got {unit!r}")
    if not path.is_file():
        raise KeypointFileError(f"{path} does not exist")
    raw = _fill_frames(_select_subject(_READERS[path.suffix.lower()](path), subject))
    notes = list(raw.notes)
    points, _ = find_keypoints(raw.names, raw.xyz)
    scale, unit = _scale(raw, points, unit, notes)
    axis = up_axis or _up(raw, points, notes)
    xyz = scale * raw.xyz @ _to_y_up(axis, raw.right if axis == raw.up else None).T
    words = ("-" if axis[1] < 0 else "") + "xyz"[axis[0]]
    return Points3D(raw.names, xyz, raw.times_s, raw.fps, unit, words, path, tuple(notes))


def _select_subject(raw: RawPoints, subject: str | None) -> RawPoints:
    """Select the markers of one subject, and those without a subject. Raises `OptionError`."""
    whose = [name.rpartition(":")[0] for name in raw.names]
    subjects = sorted({who for who in whose if who}, key=lambda who: -whose.count(who))
    if subject is not None and subject not in subjects:
        raise OptionError(f"subject must be one of {', '.join(subjects) or 'none'} in {raw.path}, got {subject!r}")
    if len(subjects) < 2:
        return raw
    chosen = subjects[0] if subject is None else subject
    selected = [i for i, who in enumerate(whose) if who in ("", chosen)]
    notes = raw.notes
    if subject is None:
        notes = (*notes, f"{raw.path}: has the subjects {', '.join(subjects)}; {chosen} is read")
    return replace(raw, names=tuple(raw.names[i] for i in selected), xyz=raw.xyz[:, selected], notes=notes)


def _fill_frames(raw: RawPoints) -> RawPoints:
    """Insert NaN frames where the file omits frames of an even rate. Raises `KeypointFileError`."""
    ticks = np.round(raw.times_s * raw.fps).astype(np.int64)
    if len(ticks) == ticks[-1] + 1 or (np.diff(ticks) < 1).any():
        return raw
    if ticks[-1] > 100 * len(ticks):
        raise KeypointFileError(f"{raw.path}: its times leap over {ticks[-1] + 1 - len(ticks)} frames")
    xyz = np.full((ticks[-1] + 1, *raw.xyz.shape[1:]), np.nan)
    xyz[ticks] = raw.xyz
    note = f"{raw.path}: {len(xyz) - len(ticks)} frames are left out in it, which the motion fills"
    return replace(raw, xyz=xyz, times_s=np.arange(len(xyz)) / raw.fps, notes=(*raw.notes, note))


def _scale(
    raw: RawPoints, points: Mapping[str, Float[np.ndarray, "T 3"]], unit: str | None, notes: list[str]
) -> tuple[float, str]:
    """Return metres per unit of the file, and its name. Raises `KeypointFileError` where no unit is plausible."""
    if unit is not None:
        return _UNITS[unit.lower()], unit.lower()
    name, span = raw.unit.lower().strip("[]() "), _span(points)
    if name in _UNITS and (span is None or _SPAN_M[0] <= span * _UNITS[name] <= _SPAN_M[1]):
        return _UNITS[name], name
    if span is None:
        raise KeypointFileError(f"{raw.path}: says no unit of length ({raw.unit or 'none'}); name it to load_points3d")
    likely = next((u for u in ("m", "mm", "cm") if _SPAN_M[0] <= span * _UNITS[u] <= _SPAN_M[1]), None)
    if likely is None:
        raise KeypointFileError(
            f"{raw.path}: its body is {span:.3g} {raw.unit or 'units'} long, which no unit makes a body"
        )
    says = f"says {name}" if name else "says no unit"
    notes.append(f"{raw.path}: {says}, but a body of {span:.3g} can only be in {likely}; taken as such")
    return _UNITS[likely], likely


def _span(points: Mapping[str, Float[np.ndarray, "T 3"]]) -> float | None:
    """Return the median diagonal of the bounding box of a body's points; None for fewer than four points."""
    if len(points) < 4:
        return None
    xyz = np.stack(list(points.values()), 1)
    xyz = xyz[np.isfinite(xyz).all(2).sum(1) >= 4]
    if not len(xyz):
        return None
    return float(np.median(np.linalg.norm(np.nanmax(xyz, 1) - np.nanmin(xyz, 1), axis=1)))


def _up(raw: RawPoints, points: Mapping[str, Float[np.ndarray, "T 3"]], notes: list[str]) -> Axis:
    """Return the up axis: the file's, else the axis along which the body stands, else the format's."""
    if raw.up_in_file:
        return raw.up
    high, low = ([points[name] for name in names if name in points] for names in (_HIGH, _LOW))
    if not high or not low:
        return raw.up
    direction = _middle(high) - _middle(low)
    direction = direction[np.isfinite(direction).all(1)]
    if not len(direction):
        return raw.up
    mean = np.median(direction / np.linalg.norm(direction, axis=1, keepdims=True), 0)
    k = int(np.abs(mean).argmax())
    stands: Axis = (k, 1 if mean[k] > 0 else -1)
    if abs(mean[k]) < _UPRIGHT or stands == raw.up or k == 0:  # no program has x up, and a lying body may be along it
        return raw.up
    words = ("-" if stands[1] < 0 else "") + "xyz"[k]
    notes.append(f"{raw.path}: the body stands along {words}, which is taken for up")
    return stands


def _middle(points: Sequence[Float[np.ndarray, "T 3"]]) -> Float[np.ndarray, "T 3"]:
    """Average the finite points, NaN where there are none."""
    xyz = np.stack(points)
    finite = np.isfinite(xyz).all(2, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.where(finite, xyz, 0).sum(0) / finite.sum(0)


def _axis(text: str) -> Axis:
    """Parse an axis. Raises `OptionError`."""
    sign, name = (-1 if text.startswith("-") else 1), text.lstrip("+-").lower()
    if len(name) != 1 or name not in "xyz":
        raise OptionError(f"up must be x, y or z, perhaps with a minus before it, got {text!r}")
    return "xyz".index(name), sign


def _to_y_up(up: Axis, right: Axis | None) -> Float[np.ndarray, "3 3"]:
    """Return the rotation that maps the up axis to y, and the right axis to x where it is orthogonal."""
    y = np.zeros(3)
    y[up[0]] = up[1]
    x = np.zeros(3)
    if right is not None and right[0] != up[0]:
        x[right[0]] = right[1]
    else:
        x[1 if up[0] == 0 else 0] = 1
    return np.stack([x, y, np.cross(x, y)])
