"""Tracks as npz files: what `io.save` writes for a fit (AMASS's keys), and which frames its rows are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodyfit.errors import AssetError, BodyfitError
from bodyfit.fit.sequence.track import Track
from bodyfit.io.results.params import FRAME_PREFIX, MOTION, read_arrays, result_arrays, result_from, write_arrays
from bodyfit.timeline import between, even_times, lerp_rows, slerp_rows

__all__ = ["load_track", "save_track", "track_from"]

_KINDS = {"track_id": "i", "mocap_framerate": "f", "frames": "i", "times_s": "f", "seen": "b"}
"""Kind of each key; the first two are numbers, the others have a row a body."""
_ROTATIONS = ("poses", "jaw_pose", "leye_pose", "reye_pose", "neck_pose")
"""Keys of axis-angle vectors. Those of hands are sums about a mean, or coefficients: interpolated linearly."""


def save_track(track: Track, path: str | Path) -> None:
    """Write a track as npz: the keys of `io.save` with `mocap_framerate` the track's, and track_id (), frames (T,),
    times_s (T,) seconds, seen (T,), start_s () when the first row is shown on the clock of all people of the clip.

    Where times are uneven, what AMASS's tools read is at the even rate `mocap_framerate`: the motion's keys (poses,
    trans, fingers) have as many rows as that takes, and frame_poses, frame_trans and so on hold those of the frames at
    `times_s`. `load_result` reads the fit in it alone. Raises `OutputError`."""
    rows = {
        "track_id": np.array(track.id, np.int64),
        "frames": track.frames.astype(np.int64),
        "times_s": track.times_s.astype(np.float64),
        "seen": track.seen,
        "start_s": np.array(float(track.clock_s[0])),
    }
    arrays = result_arrays(track.result, track.fps) | rows
    write_arrays(path, arrays if track.even else arrays | _at_even_rate(track, arrays))


def _at_even_rate(track: Track, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The motion interpolated at the track's rate, under its keys, and as it is, under the frames'."""
    motion = {key: arrays[key] for key in MOTION if key in arrays}
    ticks = even_times(track.times_s, track.fps, float(track.times_s[0]))
    rows, part = between(track.times_s, ticks, track.fps)
    even = {}
    for key, values in motion.items():
        if key in _ROTATIONS:
            flat = slerp_rows(values.reshape(len(values), -1, 3), rows, part).reshape(len(rows), -1)
        else:
            flat = lerp_rows(values, rows, part)
        even[key] = flat.astype(values.dtype)
    return even | {f"{FRAME_PREFIX}{key}": values for key, values in motion.items()}


def load_track(path: str | Path) -> Track:
    """The track that `save_track` wrote, exactly, of its uncertainty the deviations of joints.

    Raises `AssetError`, naming the file, where it is missing, damaged or holds no track.
    """
    path = Path(path)
    return track_from(path, read_arrays(path))


def track_from(path: Path, arrays: dict[str, np.ndarray]) -> Track:
    """Make the track of the arrays of a file. Raises `AssetError`, naming the file."""
    result = result_from(path, arrays)
    if "track_id" not in arrays:
        raise AssetError(f"{path}: a fit of single pictures, not a track; load_result reads it")
    for key, kind in _KINDS.items():
        if key not in arrays:
            raise AssetError(f"{path}: a damaged track, it lacks {key}")
        shape = () if key in ("track_id", "mocap_framerate") else (len(result),)
        if arrays[key].dtype.kind != kind or arrays[key].shape != shape:
            raise AssetError(f"{path}: a damaged track, {key} is {arrays[key].dtype} of shape {arrays[key].shape}")
    try:
        return Track(
            id=int(arrays["track_id"]),
            frames=arrays["frames"],
            times_s=arrays["times_s"],
            fps=float(arrays["mocap_framerate"]),
            seen=arrays["seen"],
            result=result,
            origin_s=_origin_s(arrays),
        )
    except BodyfitError as error:
        raise AssetError(f"{path}: a damaged track: {error}") from None


def _origin_s(arrays: dict[str, np.ndarray]) -> float:
    """Where the clip's clock begins; 0 in files that do not say."""
    start = arrays.get("start_s")
    if start is None or start.shape != () or start.dtype.kind != "f":
        return 0.0
    origin = float(arrays["times_s"][0] - start)
    return 0.0 if abs(origin) < 1e-9 else origin
