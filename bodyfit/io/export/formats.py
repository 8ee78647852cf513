"""Bodies to files of other programs: the format by the ending, the options the same for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.appearance.outfit import Outfit
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError
from bodyfit.fit.result import FitResult, model_of
from bodyfit.fit.sequence.track import Track
from bodyfit.io.amass import save_amass
from bodyfit.io.export.bvh import bvh_start_s, save_rig_bvh
from bodyfit.io.export.dressed import save_dressed_glb
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.gltf import save_rig_glb
from bodyfit.io.export.live_link import save_live_link
from bodyfit.io.export.mesh import save_obj, save_ply
from bodyfit.io.export.rig import TOLERANCE_M, Rig, check_clip, rig_of
from bodyfit.io.export.usd import save_rig_usd
from bodyfit.timeline import is_even

__all__ = ["EXPORTS", "export", "time_note"]

_GLTF_WEIGHTS = 4
"""What every reader of glTF must take; three.js takes no more."""


def export(
    bodies: FitResult | BodyParams | Track,
    path: str | Path,
    *,
    model: BodyModel | None = None,
    frame: int | None = None,
    fps: float | int = 0.0,
    times_s: Float[np.ndarray, "T"] | None = None,
    axes: str | None = None,
    up: str | None = None,
    unit: str = "m",
    pose_shapes: str | None = None,
    tolerance_m: float | int | None = None,
    color: tuple[float, float, float] = (0.55, 0.76, 0.94),
    arkit: bool = False,
    outfit: Outfit | None = None,
) -> Path:
    """Write a body, or one person over time, for other programs; returns the path.

    The ending says the format: .glb (binary glTF: mesh, skeleton, skin, pose or animation), .usd, .usda, .usdc (the
    same), .bvh (skeleton and motion), .npz (AMASS), .obj and .ply (mesh of one body), .csv (face as Live Link Face
    records it).

    outfit: what the body of a .glb wears, with textures (`bodyfit.random_outfits`); the open bodies only.

    model: what the bodies are of; a fit knows its own. frame: one of the bodies, from 0; all if left out. fps: of a
    clip. times_s: when each body of a clip is shown, seconds; a `Track` has its own, on the clock of all people of its
    clip. GLB and USD hold any times; BVH and AMASS are interpolated at the rate `fps` (found from the times if 0) where
    they are uneven. BVH begins at 0, AMASS has start_s. axes: of the bodies, "camera", "y_up" or "z_up"; by default a
    fit's are the camera's and parameters' y up. up: of the file, "y" or "z"; by default AMASS's is z and the others' y.
    unit: "m" or "cm". pose_shapes ("baked" or "none") and tolerance_m: of skinned files, see `rig_of`. color: sRGB in
    [0, 1]. arkit: the face of a skinned file is moved by ARKit's 52 blend shapes, see `rig_of`. Raises `OptionError`
    for what cannot be meant, NaN included as `OutputError`, and `OutputError` where the file cannot be written; nothing
    is then left behind.
    """
    path = Path(path)
    writer = EXPORTS.get(path.suffix.lower())
    if writer is None:
        raise OptionError(f"{path}: the ending must be one of {', '.join(EXPORTS)}, got {path.suffix or 'none'}")
    if (pose_shapes or tolerance_m) is not None and writer not in (_glb, _usd):
        raise OptionError(f"{path}: pose_shapes and tolerance_m are for .glb and .usd, {path.suffix} has no skin")
    if arkit and writer not in (_glb, _usd):
        raise OptionError(f"{path}: ARKit's shapes are for .glb and .usd; .csv has their weights without asking")
    if outfit is not None and (writer is not _glb or arkit or pose_shapes == "none"):
        raise OptionError(f"{path}: clothes are for .glb, with baked pose shapes and without ARKit's face")
    if writer is _live_link and (up, unit) != (None, "m"):
        raise OptionError(f"{path}: a face's weights and angles have no up and no unit of length")
    if isinstance(bodies, Track):
        fps, times_s = fps or bodies.fps, bodies.clock_s if times_s is None else times_s
        bodies = bodies.result
    if isinstance(bodies, FitResult):
        model = model or model_of(bodies)
        axes, bodies = axes or "camera", bodies.params
    if model is None:
        raise OptionError("parameters do not say of which model they are; give model=load_model(...)")
    if frame is not None:
        if not 0 <= frame < bodies.batch:
            raise OptionError(f"there are {bodies.batch} bodies, numbered from 0; there is no {frame}")
        bodies, times_s = bodies.select([frame]), None
    placing = Placing(up or ("z" if writer is _amass else "y"), unit)
    tolerance_m = TOLERANCE_M if tolerance_m is None else tolerance_m
    pose_shapes = pose_shapes or "baked"
    look = (color, arkit, outfit)
    writer(_Job(path, model, bodies, fps, times_s, axes or "y_up", placing, pose_shapes, tolerance_m, *look))
    return path


def time_note(path: str | Path, times_s: Float[np.ndarray, "T"], fps: float) -> str | None:
    """What a format that has no times of its own does to those of a clip, in a sentence; None where it keeps them."""
    suffix, words = Path(path).suffix.lower(), []
    if len(times_s) < 2 or suffix not in (".bvh", ".npz"):
        return None
    if not is_even(times_s, fps):
        words.append(f"its frames are uneven in time and are interpolated at {fps:.4g} a second")
    if suffix == ".bvh" and bvh_start_s(times_s) > 0:
        words.append(f"it begins with the body, at {times_s[0]:.2f} s of the clip, not at 0: BVH has no start time")
    return f"{Path(path).name}: {'; '.join(words)}" if words else None


@dataclass(frozen=True)
class _Job:
    """What is to be written, and how."""

    path: Path
    model: BodyModel
    bodies: BodyParams
    fps: float | int
    times_s: Float[np.ndarray, "T"] | None
    axes: str
    placing: Placing
    pose_shapes: str
    tolerance_m: float | int
    color: tuple[float, float, float]
    arkit: bool
    outfit: Outfit | None

    def rig(self, *, pose_shapes: str, influences: int | None = None) -> Rig:
        return rig_of(
            self.model,
            self.bodies,
            fps=self.fps,
            times_s=self.times_s,
            axes=self.axes,
            placing=self.placing,
            pose_shapes=pose_shapes,
            influences=influences,
            tolerance_m=self.tolerance_m,
            arkit=self.arkit,
        )


def _glb(job: _Job) -> None:
    """Offsets make up for the weights left out where pose shapes are baked; else there are sets of weights for all."""
    if job.outfit is not None:
        clock = {"fps": job.fps, "times_s": job.times_s}
        options = {"axes": job.axes, "placing": job.placing, "tolerance_m": job.tolerance_m}
        save_dressed_glb(job.path, job.bodies, job.outfit, model=job.model, **clock, **options)
        return
    influences = _GLTF_WEIGHTS if job.pose_shapes == "baked" else None
    save_rig_glb(job.path, job.rig(pose_shapes=job.pose_shapes, influences=influences), color=job.color)


def _usd(job: _Job) -> None:
    save_rig_usd(job.path, job.rig(pose_shapes=job.pose_shapes), color=job.color)


def _bvh(job: _Job) -> None:
    save_rig_bvh(job.path, job.rig(pose_shapes="none"))


def _amass(job: _Job) -> None:
    clock = {"fps": job.fps, "times_s": job.times_s}
    save_amass(job.path, job.model, job.bodies, **clock, axes=job.axes, placing=job.placing)


def _live_link(job: _Job) -> None:
    save_live_link(job.path, job.model, job.bodies, fps=job.fps, times_s=job.times_s, axes=job.axes)


def _mesh(job: _Job) -> None:
    if job.bodies.batch > 1:
        n = job.bodies.batch
        raise OptionError(f"{job.path}: a mesh is of one body, there are {n}; choose one by its number (frame)")
    check_clip(job.bodies, 0)
    with torch.no_grad():
        vertices = job.model(**job.bodies).vertices[0]
    if job.path.suffix.lower() == ".ply":
        save_ply(job.path, vertices, job.model.faces, axes=job.axes, placing=job.placing)
        return
    uv, uv_faces = job.model.uv, job.model.uv_faces
    save_obj(job.path, vertices, job.model.faces, uv=uv, uv_faces=uv_faces, axes=job.axes, placing=job.placing)


EXPORTS: dict[str, Callable[[_Job], None]] = {
    **{".glb": _glb, ".bvh": _bvh, ".npz": _amass, ".obj": _mesh, ".ply": _mesh, ".csv": _live_link},
    **dict.fromkeys((".usd", ".usda", ".usdc"), _usd),
}
"""The writer of each ending."""
