"""Tracks as npz files: what `io.save` writes for a fit (AMASS's keys), and which frames its rows are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodyfit.errors import AssetError, BodyfitError
from bodyfit.fit.track import Track
from bodyfit.io.params import read_arrays, result_arrays, result_from, write_arrays

__all__ = ["load_track", "save_track"]

_KINDS = {"track_id": "i", "mocap_framerate": "f", "frames": "i", "times_s": "f", "seen": "b"}
"""Kind of each key; the first two are numbers, the others have a row a body."""


def save_track(track: Track, path: str | Path) -> None:
    """Write a track as npz: the keys of `io.save` with `mocap_framerate` the track's, and track_id (), frames (T,),
    times_s (T,) seconds, seen (T,). `load_result` reads the fit in it alone. Raises `OutputError`."""
    rows = {
        "track_id": np.array(track.id, np.int64),
        "frames": track.frames.astype(np.int64),
        "times_s": track.times_s.astype(np.float64),
        "seen": track.seen,
    }
    write_arrays(path, result_arrays(track.result, track.fps) | rows)


def load_track(path: str | Path) -> Track:
    """The track that `save_track` wrote, exactly, of its uncertainty the deviations of joints.

    Raises `AssetError`, naming the file, where it is missing, damaged or holds no track.
    """
    path = Path(path)
    arrays = read_arrays(path)
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
        )
    except BodyfitError as error:
        raise AssetError(f"{path}: a damaged track: {error}") from None
