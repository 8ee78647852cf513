"""A body as animation programs know it: a rest mesh bound to joints, and the joints' motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.lbs import forward_kinematics, rigid_transforms
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError, OutputError
from bodyfit.geometry.camera import y_up_from
from bodyfit.geometry.rotation import so3_exp
from bodyfit.io.export.arkit import ARKIT_NAMES, arkit_shapes, arkit_weights
from bodyfit.io.export.export_frame import Placing
from bodyfit.timeline import check_times, clock_rate

__all__ = ["POSE_SHAPES", "TOLERANCE_M", "Morphs", "Rig", "check_clip", "clip_times", "rig_of"]

POSE_SHAPES = ("baked", "none")
"""What becomes of the model's pose blend shapes."""
TOLERANCE_M = 1e-4
"""How far from the model's vertices those of a clip may be whose pose shapes are baked."""
_CHUNK = 16
"""Bodies posed at a time."""
_ROTATED = 2048
"""Bodies whose joints are turned at a time."""
_SAMPLE = 256
"""Frames of a long clip that morph targets are found from."""
_DAMPING = 1e-5
"""Of the solve for rest offsets: where skinning folds a vertex flat, an offset along the fold does nothing but grow.
Elsewhere (singular values near 1) it costs a hundred-thousandth of the offset."""
_FACE_JOINTS = ("jaw", "left_eye_smplhf", "right_eye_smplhf")
"""What ARKit's shapes move."""
_SHAPE_TOLERANCE = 1e-5
"""Betas of a clip may differ by so much, rounding."""


@dataclass(frozen=True)
class Morphs:
    """Offsets of the rest mesh that vary over time, as weighted sums of few."""

    names: tuple[str, ...]
    """Of the targets: those of the face first (`rig_of`), then pose_shape_00 and on, strongest first."""
    targets: Float[np.ndarray, "K V 3"]
    """In the unit and axes of the rest mesh."""
    weights: Float[np.ndarray, "T K"]
    """Of each target in each frame: of an expression its coefficient; of others from 0 to 1, which is as far as
    Blender's sliders go."""
    error_m: float
    """The farthest that a vertex of any frame is from where the sum of all targets would put it, metres."""


@dataclass(frozen=True)
class Rig:
    """One body and its motion, in a file's axes and unit. Joint j of frame t is turned by its rotation about itself in
    its parent's axes; a vertex follows the joints by their weights (linear blend skinning)."""

    names: tuple[str, ...]
    """Joint names, root first."""
    parents: tuple[int, ...]
    """Of each joint, -1 for the root."""
    joints: Float[np.ndarray, "J 3"]
    """At rest: the T-pose."""
    vertices: Float[np.ndarray, "V 3"]
    """At rest, with the body's shape and, if pose shapes are baked, the pose's offsets or those morphs start from."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles."""
    weights: Float[np.ndarray, "V J"]
    """Skinning weights; rows sum to 1."""
    rotations: Float[np.ndarray, "T J 3 3"]
    """Of each joint in its parent's axes."""
    root: Float[np.ndarray, "T 3"]
    """Where the root joint is."""
    fps: float
    """Frames a second; 0 for a single pose. Where times are uneven the rate of formats that need an even one."""
    times_s: Float[np.ndarray, "T"]
    """When each frame is shown, seconds; the first may come later than 0. [0] for a single pose."""
    placing: Placing
    """The axes and the unit."""
    morphs: Morphs | None = None
    """What skinning lacks, over a clip."""
    uv: Float[np.ndarray, "U 2"] | None = None
    """Texture coordinates, v up."""
    uv_faces: Int[np.ndarray, "F 3"] | None = None
    """Their rows at each face's corners."""
    colors: Float[np.ndarray, "V 3"] | None = None
    """Of each vertex, sRGB in [0, 1]."""

    def __len__(self) -> int:
        return len(self.rotations)

    def posed_joints(self) -> Float[np.ndarray, "T J 3"]:
        """Where the joints are in every frame, in the file's axes and unit."""
        rest = torch.from_numpy(self.joints).expand(len(self), -1, -1)
        joints = forward_kinematics(torch.from_numpy(self.rotations), rest, self.parents)[1]
        return joints.numpy() + (self.root - self.joints[0])[:, None]


def rig_of(
    model: BodyModel,
    bodies: BodyParams,
    *,
    fps: float | int = 0.0,
    times_s: Float[np.ndarray, "T"] | None = None,
    axes: str = "camera",
    placing: Placing | None = None,
    pose_shapes: str = "baked",
    influences: int | None = None,
    tolerance_m: float | int = TOLERANCE_M,
    arkit: bool = False,
) -> Rig:
    """One body, or one over time, bound to its skeleton.

    The expression of a model that has one is morph targets expression_00 and on, one standard deviation each. arkit:
    the open body's face has ARKit's 52 shapes in their place, by Apple's names, and is moved by them alone: jaw and
    eyes stay at rest as joints, and what the weights cannot show (`arkit_weights`) goes with the pose shapes.

    times_s: when each body is shown, seconds; from 0 on at `fps` if left out, else `fps` is found from them if 0. axes:
    of the bodies, "camera", "y_up" or "z_up". influences: at most so many weights a vertex, the largest; None for all.
    pose_shapes "none": what linear blend skinning alone gives. "baked": as the model gives it; what skinning lacks,
    which is the pose blend shapes and weights left out, goes into the rest mesh of a single pose, and into as many more
    morph targets of a clip as put every vertex within `tolerance_m`. Raises `OptionError` and `OutputError`.
    """
    if pose_shapes not in POSE_SHAPES:
        raise OptionError(f"pose_shapes must be one of {', '.join(POSE_SHAPES)}, got {pose_shapes!r}")
    if not tolerance_m > 0:
        raise OptionError(f"tolerance_m must be more than 0, got {tolerance_m}")
    fps, times_s = clip_times(bodies.batch, fps, times_s)
    check_clip(bodies, fps)
    placing = Placing() if placing is None else placing
    bodies = model.params(**bodies)
    with torch.no_grad():
        rest = model.v_template + (bodies.betas[:1] @ model.shapedirs[: model.num_betas]).unflatten(1, (-1, 3))[0]
        joints_rest = model.rest_joints(bodies.betas[:1])[0].double().cpu()
        pose = model.full_pose(bodies)
        R_local = torch.empty(*pose.shape[:2], 3, 3, dtype=torch.float64)  # by far the largest of a long clip
        for rows in torch.arange(len(pose)).split(_ROTATED):
            R_local[rows] = so3_exp(pose[rows].double()).cpu()
    rest, transl = rest.double().cpu(), bodies.transl.double().cpu()
    weights = _fewer(model.weights.double().cpu(), influences)
    face = _arkit_face(model, bodies) if arkit else _expressions(model, bodies)
    if arkit:
        still = [joint for joint, name in enumerate(model.skeleton.names) if name in _FACE_JOINTS]
        R_local[:, still] = torch.eye(3, dtype=R_local.dtype)
    morphs = face
    if pose_shapes == "baked":
        transforms = _transforms(R_local, joints_rest, transl, model.parents)
        lacks = _Offsets(model, bodies, rest, transforms, weights, face)
        if len(R_local) == 1:
            rest = rest + lacks.of(slice(None))[0]
        else:
            rest, shapes = _morphed(lacks, len(R_local), tolerance_m)
            morphs = _together(face, shapes)
    to_y_up = y_up_from(axes)
    R, scale = placing.from_y_up, placing.per_metre
    root = (joints_rest[0] + transl).numpy() @ to_y_up.T
    rotations = R_local.numpy()
    for rows in range(0, len(rotations), _ROTATED):
        some = rotations[rows : rows + _ROTATED]
        some[:, 0] = to_y_up @ some[:, 0]
        some[:] = R @ some @ R.T
    if morphs is not None:
        morphs = replace(morphs, targets=scale * morphs.targets @ R.T.astype(np.float32))
    return Rig(
        names=model.skeleton.names,
        parents=model.parents,
        joints=scale * joints_rest.numpy() @ R.T,
        vertices=scale * rest.numpy() @ R.T,
        faces=model.faces.cpu().numpy(),
        weights=weights.numpy(),
        rotations=rotations,
        root=scale * root @ R.T,
        fps=fps if len(R_local) > 1 else 0.0,
        times_s=times_s,
        placing=placing,
        morphs=morphs,
        uv=model.uv,
        uv_faces=model.uv_faces,
    )


def _expressions(model: BodyModel, bodies: BodyParams) -> Morphs | None:
    """The directions of the expression and its coefficients; None where the model has none."""
    if bodies.expression is None:
        return None
    targets = model.shapedirs[model.num_betas :].unflatten(1, (-1, 3)).float().cpu().numpy()
    names = tuple(f"expression_{k:02d}" for k in range(len(targets)))
    return Morphs(names, targets, bodies.expression.double().cpu().numpy(), 0.0)


def _arkit_face(model: BodyModel, bodies: BodyParams) -> Morphs:
    """ARKit's shapes and their weights. Raises `OptionError`."""
    weights = arkit_weights(model, bodies)
    return Morphs(ARKIT_NAMES, arkit_shapes().offsets.astype(np.float32), weights, 0.0)


def _together(face: Morphs | None, shapes: Morphs | None) -> Morphs | None:
    """The targets of the face, then those of the pose."""
    if face is None or shapes is None:
        return face or shapes
    return Morphs(
        face.names + shapes.names,
        np.concatenate([face.targets, shapes.targets]),
        np.concatenate([face.weights, shapes.weights], 1),
        shapes.error_m,
    )


def clip_times(
    bodies: int, fps: float | int, times_s: Float[np.ndarray, "T"] | None
) -> tuple[float, Float[np.ndarray, "T"]]:
    """The rate and the times of a clip of so many bodies; [0] of one body.

    Raises `ShapeError` and `OptionError` for times that are none.
    """
    if bodies < 2:
        return float(fps), np.zeros(bodies)
    if times_s is None:
        return float(fps), np.arange(bodies) / (fps if 0 < fps < float("inf") else 1.0)  # `check_clip` refuses others
    check_times(times_s, bodies)
    return (float(fps) if fps > 0 else clock_rate(times_s, 0.0)), times_s.astype(np.float64)


def check_clip(bodies: BodyParams, fps: float | int) -> None:
    """Raise `OutputError` or `OptionError` unless the bodies are finite and, if many, one person over time."""
    n = bodies.batch
    if n == 0:
        raise OutputError("there is no body to write")
    bad = sorted({int(i) for value in bodies.values() for i in (~value.isfinite()).any(1).nonzero()})
    if bad:
        which = ", ".join(map(str, bad[:8])) + (" and more" if len(bad) > 8 else "")
        what = "the body holds NaN or infinity" if n == 1 else f"bodies {which} of {n} hold NaN or infinity"
        raise OutputError(f"{what}, as after a failed fit; nothing is written")
    if n == 1:
        return
    if not 0 < fps < float("inf"):
        raise OptionError(
            f"{n} bodies and fps {fps:g}: give the frame rate if they are one person's motion, or one body"
        )
    spread = float((bodies.betas - bodies.betas[:1]).abs().max()) if bodies.betas.numel() else 0.0
    if spread > _SHAPE_TOLERANCE:
        raise OptionError(
            f"the {n} bodies are of different shapes (betas differ by up to {spread:.2g}), and a clip has one shape; "
            "give one body, or the betas of one to all"
        )


def _fewer(weights: Float[Tensor, "V J"], influences: int | None) -> Float[Tensor, "V J"]:
    """The largest weights of each vertex, summing to 1."""
    if influences is not None and influences < weights.shape[1]:
        largest = weights.topk(influences, 1)
        weights = torch.zeros_like(weights).scatter_(1, largest.indices, largest.values)
    return weights / weights.sum(1, keepdim=True)


def _transforms(
    R_local: Float[Tensor, "T J 3 3"],
    joints_rest: Float[Tensor, "J 3"],
    transl: Float[Tensor, "T 3"],
    parents: tuple[int, ...],
) -> Float[Tensor, "T J 3 4"]:
    """What each joint does to a rest point."""
    rest = joints_rest.expand(len(R_local), -1, -1)
    R_world, joints = forward_kinematics(R_local, rest, parents)
    return rigid_transforms(R_world, joints + transl[:, None], rest)


@dataclass(frozen=True)
class _Offsets:
    """How each rest vertex must be moved for plain skinning to put it where the model does."""

    model: BodyModel
    bodies: BodyParams
    rest: Float[Tensor, "V 3"]
    transforms: Float[Tensor, "T J 3 4"]
    weights: Float[Tensor, "V J"]
    face: Morphs | None
    """What moves the rest vertices already."""

    def of(self, rows: slice | Tensor) -> Float[Tensor, "N V 3"]:
        """In float64. With M d = r for the blended rotation M and the missing r: d = (M'M + damping)^-1 M'r."""
        with torch.no_grad():
            posed = self.model(**self.bodies.select(rows)).vertices.double().cpu()
        blend = (self.weights @ self.transforms[rows].flatten(2)).unflatten(2, (3, 4))
        M, missing = blend[..., :3], posed - blend[..., 3]
        missing = missing - (M @ self._rest(rows)[..., None])[..., 0]
        return _solve(M.mT @ M + _DAMPING * torch.eye(3, dtype=M.dtype), (M.mT @ missing[..., None])[..., 0])

    def _rest(self, rows: slice | Tensor) -> Float[Tensor, "#N V 3"]:
        """The rest vertices as the face has them."""
        if self.face is None:
            return self.rest[None]
        targets = torch.from_numpy(self.face.targets).double()
        return self.rest + torch.tensordot(torch.from_numpy(self.face.weights)[rows], targets, 1)

    def chunks(self, rows: Tensor) -> Iterator[Float[Tensor, "N V 3"]]:
        """Some frames at a time."""
        yield from map(self.of, rows.split(_CHUNK))


def _solve(A: Float[Tensor, "*B 3 3"], b: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """A^-1 b of symmetric A by its cofactors: millions of small systems at the speed of memory."""
    x, y, z = A.unbind(-2)
    cofactors = torch.stack([torch.linalg.cross(y, z), torch.linalg.cross(z, x), torch.linalg.cross(x, y)], -2)
    determinant = (x * cofactors[..., 0, :]).sum(-1, keepdim=True)
    return (cofactors @ b[..., None])[..., 0] / determinant


def _morphed(lacks: _Offsets, frames: int, tolerance_m: float) -> tuple[Float[Tensor, "V 3"], Morphs | None]:
    """Principal components of the offsets, as many as the tolerance takes, and the rest mesh that they start from."""
    sample = torch.linspace(0, frames - 1, min(frames, _SAMPLE)).round().long().unique()
    X = torch.cat([offsets.float() for offsets in lacks.chunks(sample)]).flatten(1)
    basis, error = _components(X, tolerance_m)
    if len(sample) == frames:
        weights = X @ basis.T
    else:
        parts = []
        for offsets in lacks.chunks(torch.arange(frames)):
            flat = offsets.float().flatten(1)
            more, left = _components(flat - flat @ basis.T @ basis, tolerance_m)
            basis, error = torch.cat([basis, more]), max(error, left)
            parts.append(flat @ basis.T)
        # Frames that were near enough before a component was found go without it.
        weights = torch.cat([torch.nn.functional.pad(part, (0, len(basis) - part.shape[1])) for part in parts])
    if not len(basis):
        return lacks.rest, None
    least, most = weights.aminmax(dim=0)
    span = (most - least).clamp_min(1e-9)
    targets = (basis * span[:, None]).unflatten(1, (-1, 3))
    rest = lacks.rest + (least @ basis).unflatten(0, (-1, 3))
    names = tuple(f"pose_shape_{k:02d}" for k in range(len(targets)))
    return rest, Morphs(names, targets.numpy(), ((weights - least) / span).numpy(), error)


def _components(X: Float[Tensor, "N V3"], tolerance_m: float) -> tuple[Float[Tensor, "K V3"], float]:
    """The first principal directions of offsets, of length 1, that leave no vertex farther off than the tolerance; and
    how far the farthest is."""
    _, U = torch.linalg.eigh(X.double() @ X.double().T)
    rows: list[Tensor] = []
    left, farthest = X.clone(), _farthest(X)
    for u in U.flip(1).T.float():
        if farthest <= tolerance_m:
            break
        row = u @ X
        left -= torch.outer(u, row)
        rows.append(row / row.norm())
        farthest = _farthest(left)
    return torch.stack(rows) if rows else X[:0], farthest


def _farthest(offsets: Float[Tensor, "N V3"]) -> float:
    return float(offsets.unflatten(1, (-1, 3)).square().sum(-1).max().sqrt())
