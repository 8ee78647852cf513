"""Write and read parameters and fits as npz files with AMASS's keys, without pickles.

A file has two sets of axes and names both. `poses` and `trans` are in AMASS's axes, z up (`up_axis`), so that programs
for AMASS see people stand. `global_orient` and `transl` are exactly those of the result, in the axes that `axes` names:
for a fit the camera's, which its joints are in too. Files of format 1 have `poses` and `trans` in those axes.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import AssetError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import Camera, turned_orient, y_up_from
from bodyfit.runtime.atomic import write_atomically

__all__ = [
    "FORMAT_VERSION",
    "array_bytes",
    "load_result",
    "params_arrays",
    "read_arrays",
    "result_arrays",
    "result_from",
    "save",
    "save_params",
    "write_arrays",
]

FORMAT_VERSION = 2
"""Version of the format, increased when older readers could not read it, or would misread it."""

_TENSORS = ("joints", "keypoints", "objective", "reprojection_error_px", "iterations", "flipped")
_TEXTS = ("layout", "model_name", "gender", "focal_source")
_SOMETIMES = (
    "joints_sd_m",
    "joints_sd_rel_m",
    "observed_joints",
)  # where a fit has them; the covariance is not written
_PARAMS = ("poses", "trans", "betas")
_ROOT = ("global_orient", "transl")  # from format 2 on
_EXTRA = tuple(f.name for f in fields(BodyParams) if f.default is None)  # of hands and face, where a layout has them
MOTION = ("poses", "trans", *_EXTRA)
"""Keys of motion, a row a frame."""
FRAME_PREFIX = "frame_"
"""Prefix of the keys of motion at the original frames, where the plain keys hold it at an even rate."""
_KEYS = ("focal_px", "principal_point_px", "image_size", "status", *_PARAMS, *_TENSORS, *_TEXTS)


def save(result: FitResult, path: str | Path, *, fps: float = 0.0) -> None:
    """Write a fit as npz, in metres.

    AMASS's keys, z up: poses (B, 72) axis-angle, root first, or (B, 66) where the hands have parameters of their own,
    under their names; trans (B, 3); betas (B, 10); gender; mocap_framerate (`fps`, 0 for people of one
    picture). The camera is at the origin there and looks along y. The rest is in camera axes (x right, y down, z
    forward): global_orient (B, 3), transl (B, 3), joints. The covariance and the trace of the costs are not written.
    Raises `OutputError`.
    """
    write_arrays(path, result_arrays(result, fps))


def result_arrays(result: FitResult, fps: float) -> dict[str, np.ndarray]:
    """Return the arrays that `save` writes, by key."""
    pelvis = result.joints[:, 0] - result.params.transl
    arrays = _amass(result.params, result.gender, fps, "camera", pelvis)
    arrays |= {name: _numpy(getattr(result, name)) for name in _TENSORS}
    arrays |= {name: _numpy(value) for name in _SOMETIMES if (value := getattr(result, name)) is not None}
    arrays |= {name: np.array(getattr(result, name)) for name in _TEXTS}
    arrays |= {
        "focal_px": _numpy(result.camera.focal_px),
        "principal_point_px": _numpy(result.camera.principal_point_px),
        "image_size": np.array(result.camera.image_size, np.int64),
        "status": np.array([status.value for status in result.status], dtype="U20"),
        "reason": np.array([reason or "" for reason in result.reason], dtype=np.str_),
    }
    return arrays


def save_params(
    params: BodyParams, path: str | Path, gender: str = "neutral", *, fps: float = 0.0, model: BodyModel | None = None
) -> None:
    """Write bodies without a picture (random ones, for example) as npz with AMASS's keys; their axes are y up.

    model: the body model. The file then has its name and gender, and AMASS's poses and trans are z up. Without it the
    root's rest position, about which a body turns, is unknown, and they stay y up, as `up_axis` says. Raises
    `OutputError`.
    """
    arrays = _amass(params, gender, fps, "y_up", None) if model is None else params_arrays(params, model, fps=fps)
    write_arrays(path, arrays)


def params_arrays(params: BodyParams, model: BodyModel, *, fps: float = 0.0) -> dict[str, np.ndarray]:
    """Return the arrays that `save_params` writes with a model, by key."""
    pelvis = model.rest_joints(model.coefficients(params))[:, 0]
    return _amass(params, model.gender, fps, "y_up", pelvis) | {"model_name": np.array(model.name)}


def load_result(path: str | Path) -> FitResult:
    """Load a fit that `save` wrote, exactly; of its uncertainty only the joints' deviations.

    Raises `AssetError`, naming the file, where it is missing, damaged or not such a file.
    """
    path = Path(path)
    return result_from(path, read_arrays(path))


def result_from(path: Path, arrays: dict[str, np.ndarray]) -> FitResult:
    """Make the fit from the arrays of a file. Raises `AssetError`, naming the file."""
    arrays = arrays | {key: arrays[name] for key in MOTION if (name := f"{FRAME_PREFIX}{key}") in arrays}
    version = arrays.get("bodyfit_format")
    missing = [key for key in _KEYS if key not in arrays]
    if version is None or (missing and len(missing) > len(_KEYS) // 2):
        hint = "; it holds parameters without a fit" if set(_PARAMS) <= arrays.keys() else ""
        raise AssetError(f"{path}: not a fit saved by bodyfit{hint}")
    if version.shape != () or version.dtype.kind not in "iu" or int(version) > FORMAT_VERSION:
        raise AssetError(f"{path}: format {version}, this bodyfit reads up to {FORMAT_VERSION}; install a newer one")
    if missing:
        raise AssetError(f"{path}: a damaged fit, it lacks {', '.join(missing)}")
    root = _ROOT if int(version) > 1 else ()
    if lacks := [key for key in root if key not in arrays]:
        raise AssetError(f"{path}: a damaged fit, it lacks {', '.join(lacks)}")
    _check(path, arrays)
    extra = [key for key in _EXTRA if key in arrays]
    optional = [key for key in _SOMETIMES if key in arrays]
    keys = (*_PARAMS, *root, *_TENSORS, *extra, *optional, "focal_px", "principal_point_px")
    tensor = {key: torch.from_numpy(arrays[key]) for key in keys}
    width, height = (int(n) for n in arrays["image_size"])
    return FitResult(
        params=BodyParams(
            betas=tensor["betas"],
            body_pose=tensor["poses"][:, 3:].contiguous(),
            global_orient=tensor["global_orient"] if root else tensor["poses"][:, :3].contiguous(),
            transl=tensor["transl" if root else "trans"],
            **{key: tensor[key] for key in extra},
        ),
        camera=Camera(tensor["focal_px"], tensor["principal_point_px"], (width, height)),
        status=tuple(FitStatus(str(value)) for value in arrays["status"]),
        joints=tensor["joints"],
        keypoints=tensor["keypoints"],
        objective=tensor["objective"],
        reprojection_error_px=tensor["reprojection_error_px"],
        iterations=tensor["iterations"],
        flipped=tensor["flipped"],
        layout=str(arrays["layout"]),
        model_name=str(arrays["model_name"]),
        gender=str(arrays["gender"]),
        focal_source=str(arrays["focal_source"]),
        joints_sd_m=tensor.get("joints_sd_m"),
        joints_sd_rel_m=tensor.get("joints_sd_rel_m"),
        observed_joints=tensor.get("observed_joints"),
        reason=tuple(str(value) or None for value in arrays.get("reason", ())),
    )


def _amass(
    params: BodyParams, gender: str, fps: float, axes: str, pelvis: Float[Tensor, "B 3"] | None
) -> dict[str, np.ndarray]:
    """Return AMASS's keys, z up where the root's rest position (`pelvis`) is given, and the root in its own axes."""
    orient, trans = _numpy(params.global_orient), _numpy(params.transl)
    up = "y"
    if pelvis is not None:
        up = "z"
        turn = y_up_from("z_up").T @ y_up_from(axes)
        rest = _numpy(pelvis).astype(np.float64)
        trans = ((trans + rest) @ turn.T - rest).astype(trans.dtype)
        orient = turned_orient(orient, turn)
    return {
        "bodyfit_format": np.array(FORMAT_VERSION),
        "poses": np.concatenate([orient, _numpy(params.body_pose)], 1),
        "trans": trans,
        "up_axis": np.array(up),
        "global_orient": _numpy(params.global_orient),
        "transl": _numpy(params.transl),
        "axes": np.array(axes),
        "betas": _numpy(params.betas),
        "gender": np.array(gender),
        "mocap_framerate": np.array(float(fps)),
        **{key: _numpy(params[key]) for key in _EXTRA if key in params},
    }


def _numpy(tensor: Tensor) -> np.ndarray:
    """Return a tensor's values on the CPU."""
    return tensor.detach().cpu().numpy()


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz atomically. Raises `OutputError`."""
    # In memory first: on a full disk numpy's archive would raise again when it is collected.
    content = array_bytes(arrays)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def array_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """What an npz of arrays holds."""
    archive = BytesIO()
    assert not any(array.dtype.hasobject for array in arrays.values())  # numpy would pickle them
    np.savez(archive, **arrays)  # pyright: ignore[reportArgumentType]
    return archive.getvalue()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz. Raises `AssetError`, naming the file."""
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give an npz that bodyfit saved")
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise AssetError(f"{path}: not an npz archive")
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
    except OSError as error:
        raise AssetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise AssetError(f"{path}: a damaged npz or none: {error}") from error


def _check(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Raise `AssetError` for arrays that do not make a `FitResult`."""
    n = len(arrays["status"]) if arrays["status"].ndim == 1 else -1
    shapes: dict[str, tuple[int | None, ...]] = {
        "status": (n,),
        "poses": (n, None),
        "trans": (n, 3),
        "betas": (n, None),
        "focal_px": (n,),
        "principal_point_px": (n, 2),
        "image_size": (2,),
        "joints": (n, None, 3),
        "keypoints": (n, None, 3) if arrays["keypoints"].ndim < 4 else (n, None, None, 3),
        **{key: (n, None) for key in (*_EXTRA, *_SOMETIMES) if key in arrays},
        **({"reason": (n,)} if "reason" in arrays else {}),
        **{key: (n, 3) for key in _ROOT if key in arrays},
        **dict.fromkeys(("objective", "reprojection_error_px", "iterations", "flipped"), (n,)),
        **dict.fromkeys(_TEXTS, ()),
    }
    kinds: dict[str, str] = dict.fromkeys(("status", "reason", *_TEXTS), "U")
    kinds |= {"iterations": "i", "image_size": "i", "flipped": "b", "observed_joints": "b"}
    for key, shape in shapes.items():
        actual, kind = arrays[key].shape, kinds.get(key, "f")
        fits = len(actual) == len(shape) and all(a in (None, b) for a, b in zip(shape, actual, strict=True))
        if key == "poses" and actual[-1:] not in ((72,), (66,)):
            fits = False
        if not fits or arrays[key].dtype.kind != kind:
            raise AssetError(f"{path}: a damaged fit, {key} is {arrays[key].dtype} of shape {actual}")
    unknown = set(arrays["status"].tolist()) - {status.value for status in FitStatus}
    if unknown:
        raise AssetError(f"{path}: a damaged fit, unknown status {', '.join(sorted(unknown))}")
