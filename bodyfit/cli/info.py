"""`bodyfit info`: what is installed, and what a file holds."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bodyfit.cli.support import common
from bodyfit.errors import AssetError, BodyfitError

__all__ = ["info", "installation"]

_PACKAGES = (
    "bodyfit",
    "torch",
    "easypytorch3d",
    "mediapipe",
    "opencv-contrib-python",
    "onnxruntime",
    "numpy",
    "numba",
    "pillow",
    "trimesh",
    "smplx",
)
_OPTIONAL = ("mediapipe", "smplx")
"""What only an extra brings, and what serves the tests only."""
_CLIPS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_ASSETS = (("body", "open.npz"), *(("body", f"open_{g.value}.npz") for g in common.Gender), ("prior", "pose_gmm.npz"))


def info(
    file: Annotated[
        Path | None,
        typer.Argument(
            help='A model (.npz, .pkl, "open-x"), a result (.npz), motion by a program that convert reads, or a folder '
            "of models; left out: the installation."
        ),
    ] = None,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Tell what is installed, or what a model or result file holds; of a folder, which models are in it.

    Examples:
        bodyfit info
        bodyfit info SMPL_NEUTRAL.pkl
        bodyfit info models
        bodyfit info out/photo/person0.npz --json

    Exit code: 0 all is well, 1 something that bodyfit needs is missing, 2 the file cannot be used.
    """
    facts = installation() if file is None else _contents(file)
    if as_json:
        common.say_json(facts)
    else:
        _print(facts)
    return common.SOME_FAILED if file is None and facts["missing"] else common.OK


def installation() -> dict[str, Any]:
    """Versions, GPU, assets and the shipped body."""
    import bodyfit

    versions = {name: _version(name) for name in _PACKAGES} | {"bodyfit": bodyfit.__version__}
    assets = {"/".join(parts): _asset(parts) for parts in _ASSETS}
    needed = [name for name in _PACKAGES if name not in _OPTIONAL]
    missing = [name for name in needed if versions[name] is None] + [name for name, at in assets.items() if not at]
    body: dict[str, Any] | str
    try:
        body = _describe("open")
    except BodyfitError as fault:
        body = str(fault)
    return {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "versions": versions,
        "gpu": _gpu(),
        "detectors": _detectors(),
        "assets": assets,
        "body": body,
        "missing": missing,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _asset(parts: tuple[str, ...]) -> str | None:
    from bodyfit.body.assets import asset_path

    try:
        return str(asset_path(*parts))
    except AssetError:
        return None


def _detectors() -> list[str]:
    from bodyfit.detect import detector_names

    return detector_names()


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _contents(file: Path) -> dict[str, Any]:
    """What a file holds: a fit, parameters, or else a body model, whose reader says what is wrong with it."""
    from bodyfit.body.families.open import OPEN_FAMILIES
    from bodyfit.images.frame import IMAGE_SUFFIXES

    if str(file) in OPEN_FAMILIES:
        return _describe(str(file))
    if file.is_dir():
        if any((file / name).is_file() for name in ("summary.json", "status.jsonl")):
            raise AssetError(f"{file} holds results; bodyfit report {file} and bodyfit view {file} show them")
        return _models(file)
    if not file.is_file():
        raise AssetError(f"{file} does not exist; give a model file (.npz, .pkl) or a result (.npz)")
    if file.suffix.lower() in IMAGE_SUFFIXES:
        raise AssetError(f"{file} is a picture; bodyfit fit {file} -o OUT fits bodies to it")
    if file.suffix.lower() in _CLIPS:
        raise AssetError(f"{file} is a clip; bodyfit video {file} -o OUT fits bodies to it")
    for reader in (_fit, _parameters, _motion):
        found = _attempt(reader, file)
        if found is not None:
            return found
    return _describe(str(file))


def _attempt(reader: Callable[[Path], dict[str, Any] | None], file: Path) -> dict[str, Any] | None:
    try:
        return reader(file)
    except AssetError:
        return None


def _fit(file: Path) -> dict[str, Any]:
    from bodyfit.io import load_result

    result = load_result(file)
    w, h = result.camera.image_size
    people = [
        {
            "status": status.value,
            **({"reason": reason} if (reason := result.reason[i]) else {}),
            "reprojection_error_px": float(result.reprojection_error_px[i]),
            "focal_px": float(result.camera.focal_px[i]),
            "distance_m": float(result.joints[i, 0, 2]),
            "betas": [round(b, 3) for b in result.params.betas[i].tolist()],
        }
        for i, status in enumerate(result.status)
    ]
    return {
        "kind": "fit",
        "model": f"{result.model_name} ({result.gender})",
        "picture": f"{w}x{h}" if result.camera.has_picture else "none",
        "focal_source": result.focal_source,
        "layout": result.layout,
        "people": people,
    }


def _parameters(file: Path) -> dict[str, Any] | None:
    """A file in AMASS's layout, or None."""
    from bodyfit.body.assets import read_archive

    arrays = read_archive(file)
    if not {"poses", "trans"} <= arrays.keys():
        return None
    rate = float(arrays.get("mocap_framerate", 0))
    return {
        "kind": "parameters",
        "bodies": len(arrays["poses"]),
        "gender": str(arrays.get("gender", "unknown")),
        "frames_per_second": rate or None,
        "arrays": {key: list(value.shape) for key, value in arrays.items() if getattr(value, "shape", ())},
    }


def _motion(file: Path) -> dict[str, Any] | None:
    """Motion by another program; None for a body model."""
    from bodyfit.cli.support.convert_source import SourceKind, what_is
    from bodyfit.io.motions.load import recordings_of

    content = what_is(str(file))
    if isinstance(content, SourceKind):
        return None
    found = recordings_of(content)
    people = [
        {
            "person": one.person,
            "frames": len(one.poses),
            "joints": len(one.joints),
            "betas": 0 if one.betas is None else one.betas.shape[1],
            "frames_per_second": one.fps or None,
            "axes": one.axes,
            "gender": one.gender,
        }
        for one in found
    ]
    return {"kind": "motion", "program": found[0].program, "people": people}


def _models(folder: Path) -> dict[str, Any]:
    """The models of a folder in smplx's layout, and of each that cannot be used why."""
    from bodyfit.body.families.folders import model_files

    found = []
    for path in model_files(folder):
        entry: dict[str, Any] = {"file": str(path.relative_to(folder))}
        try:
            facts = _describe(str(path))
            entry |= {key: facts[key] for key in ("model", "gender", "vertices", "joints", "betas")}
        except BodyfitError as fault:
            entry["unusable"] = str(fault)
        found.append(entry)
    if not found and (motion := _attempt(_motion, folder)) is not None:
        return motion
    if not found:
        raise AssetError(f"{folder} is a folder with no model and no motion in it; give a model file or a result")
    return {"kind": "folder of models", "models": found}


def _describe(source: str) -> dict[str, Any]:
    from bodyfit.body.assets import load_assets
    from bodyfit.body.record import PoseBlocks

    body = load_assets(source)
    heights, marks, blocks = body.v_template[:, 1], body.landmarks, body.posedirs
    contour = 0 if marks is None or marks.contour_faces_idx is None else marks.contour_faces_idx.shape[1]
    joints = len(body.parents)
    sparse = isinstance(blocks, PoseBlocks)
    share = len(blocks.vertex) / (len(heights) * max(joints - 1, 1)) if sparse else 1
    return {
        "kind": "body model",
        "model": body.kind.title,
        "name": source,
        "gender": body.gender,
        "vertices": len(heights),
        "faces": len(body.faces),
        "joints": joints,
        "betas": body.shapedirs.shape[2],
        "expression_coefficients": 0 if body.exprdirs is None else body.exprdirs.shape[2],
        "hand_components": {side: len(space.components) for side, space in body.hands.items()},
        "pose_corrections": "none" if blocks is None else f"sparse, {share:.1%} of all" if sparse else "dense",
        "height_m": float(heights.max() - heights.min()),
        "landmarks": 0 if marks is None else len(marks.faces_idx) + contour,
        "keypoints": sorted(body.keypoints),
        "texture_coordinates": body.uv is not None,
    }


def _print(facts: dict[str, Any], indent: str = "") -> None:
    """Names and values in two columns, nested ones indented."""
    simple = {k: v for k, v in facts.items() if not isinstance(v, dict) and not _is_table(v)}
    width = max((len(k) for k in simple), default=0)
    for name, value in facts.items():
        label = name if "/" in name else name.replace("_", " ")
        if isinstance(value, dict):
            common.say(f"{indent}{label}")
            _print(value, indent + "  ")
        elif _is_table(value):
            for i, row in enumerate(value):
                common.say(f"{indent}{label} {i}")
                _print(row, indent + "  ")
        else:
            common.say(f"{indent}{label:<{width}}  {_words(value)}")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _words(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > 12:
        return str(len(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
