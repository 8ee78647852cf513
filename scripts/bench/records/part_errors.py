"""How far fitted hands and faces are off."""

from __future__ import annotations

import torch
from torch import Tensor

import bodyfit
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points.face import face_entries
from bodyfit.body.points.posed import VertexSum
from bodyfit.geometry.procrustes import align
from scripts.bench.inputs.whole_people import People, hand_points, on_face, world_rotations

__all__ = ["body_errors", "face_errors", "face_spread", "hand_errors", "off_mm", "spread_ratio"]

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
EYE_JOINTS = [23, 24]
"""The left and the right eye of open-x."""
OPEN_MM = 5.0


def off_mm(found: Tensor, true: Tensor) -> Tensor:
    """(N,) mean distance after similarity alignment, mm."""
    moved = align(found.double().numpy(), true.double().numpy())(found.double().numpy())
    return 1000 * (torch.from_numpy(moved) - true).norm(dim=-1).mean(-1)


def hand_errors(people: People, result: bodyfit.FitResult) -> Tensor:
    """(N,) PA-MPJPE of the 20 points but the wrist of each hand."""
    found, true = hand_points(people.model, result.params), hand_points(people.model, people.params)
    return off_mm(found[:, :, 1:].flatten(0, 1), true[:, :, 1:].flatten(0, 1))


def body_errors(people: People, result: bodyfit.FitResult) -> Tensor:
    """(N,) PA-MPJPE of the body's joints."""
    n = people.model.body_joints
    return off_mm(result.joints[:, :n], people.model.joints(people.params)[:, :n])


def spread_ratio(people: People, result: bodyfit.FitResult) -> float:
    """Root mean square of how far finger joints are off about the root, by how far they say they are."""
    joints = people.model.joints(people.params)
    fingers = [i for i, n in enumerate(people.model.skeleton.names) if n.split("_")[-1][:-1] in FINGERS]
    off = ((result.joints - result.joints[:, :1]) - (joints - joints[:, :1])).norm(dim=2)[:, fingers]
    assert result.joints_sd_rel_m is not None
    said = result.joints_sd_rel_m[:, fingers]
    return float((off.square().mean() / said.square().mean()).sqrt())


def face_errors(model: BodyModel, true: BodyParams, result: bodyfit.FitResult) -> dict[str, float]:
    """How far faces are off, of who looks at the camera by less than 60 degrees.

    `jaw_share` and `lids_share` are parts of the range: the widest opening of the jaws, and the gap of eyes that are
    open. Gaze is counted in eyes whose lids are at least 5 mm apart.
    """
    found = result.params
    head = model.skeleton.index("head")
    rotations = world_rotations(model, true)
    toward = (rotations[:, head, 2, 2] < -0.5) & torch.isfinite(found.transl).all(1)
    who, neutral = toward, {"betas": true.betas[toward]}
    shapes = [model(**neutral, expression=p.expression[who], jaw_pose=p.jaw_pose[who]).vertices for p in (true, found)]
    rows = sorted({v for e in face_entries(model, 468) if isinstance(e, VertexSum) for v in e.vertices})
    off = 1000 * (shapes[0] - shapes[1])[:, rows].norm(dim=2)
    lids = [lid_gaps_mm(model, v) for v in (*shapes, model(**neutral).vertices)]
    lips = [1000 * (on_face(model, v)[:, 13] - on_face(model, v)[:, 14]).norm(dim=1) for v in shapes]
    gazes = [world_rotations(model, p)[who][:, EYE_JOINTS, :, 2] for p in (true, found)]
    gaze = torch.rad2deg((gazes[0] * gazes[1]).sum(-1).clamp(-1, 1).acos())
    jaw = torch.rad2deg((true.jaw_pose - found.jaw_pose)[who][:, 0].abs())
    gap = (lids[0] - lids[1]).abs()
    return {
        "faces": int(who.sum()),
        "jaw_deg": float(jaw.mean()),
        "jaw_share": float(jaw.mean() / torch.rad2deg(true.jaw_pose[who][:, 0]).amax()),
        "lips_mm": float((lips[0] - lips[1]).abs().mean()),
        "face_vertices_mm": float(off.mean()),
        "lids_mm": float(gap.mean()),
        "lids_share": float(gap.mean() / lids[2].mean()),
        "lids_true_sd_mm": float(lids[0].std()),
        "gaze_deg": float(gaze[lids[0].flip(1) > OPEN_MM].mean()),
    }


def lid_gaps_mm(model: BodyModel, vertices: Tensor) -> Tensor:
    """(B, 2) how far the lids of the right and the left eye are apart."""
    points = on_face(model, vertices)
    return 1000 * (points[:, [159, 386]] - points[:, [145, 374]]).norm(dim=2)


def face_spread(true: BodyParams, result: bodyfit.FitResult) -> dict[str, float]:
    """Root mean squares of errors of jaw, eyes and expression, by those of their predicted deviations."""
    assert result.covariance is not None
    assert result.variables is not None
    ratios = {}
    for name in ("jaw_pose", "leye_pose", "reye_pose", "expression"):
        columns = result.variables[name]
        variance = result.covariance[:, columns, columns].diagonal(dim1=1, dim2=2)
        off = (getattr(result.params, name) - getattr(true, name)).square()
        rows = torch.isfinite(variance).all(1)
        if name != "expression":  # the roll of an eye and what a jaw hardly does are not counted
            off, variance = off[:, : 1 if name == "jaw_pose" else 2], variance[:, : 1 if name == "jaw_pose" else 2]
        ratios[name] = float((off[rows].mean() / variance[rows].mean()).sqrt())
    return ratios
