"""Fits to the pictures of FreiHAND and EHF, scored as their papers do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.detect.parts import HandFinder
from bodyfit.errors import OptionError
from bodyfit.evaluate.part_sets import (
    EHF_FOCAL_PX,
    EHF_PRINCIPAL_PX,
    SMPLX_VERTICES,
    hand_scores,
    part_errors,
    read_ehf,
    read_freihand,
)
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import fit
from bodyfit.images.frame import read_image
from bodyfit.io.keypoints import load_keypoints
from bodyfit.keypoints import hand_joints_of_mediapipe
from bodyfit.skeleton import hand_entries

__all__ = ["evaluate_ehf", "evaluate_freihand"]

_PICTURE_PX = (224, 224)


def evaluate_freihand(folder: str | Path, model: BodyModel, *, limit: int | None = None) -> dict[str, float | int]:
    """Fit hands to FreiHAND's evaluation pictures and score them (`hand_scores`), the first `limit` or all.

    Hands are found by the hand networks in the whole picture and fitted without a body, by the given cameras. Raises
    `AssetError`, and `OptionError` for a model without fingers.
    """
    if "right_hand_pose" not in dict(model.kind.poses):
        raise OptionError(f"FreiHAND needs a model with fingers, and {model.name} has none; give open-h or open-x")
    data, finder = read_freihand(folder), HandFinder()
    n = len(data.images) if limit is None else min(limit, len(data.images))
    hands = np.full((n, 2, 21, 3), np.nan, np.float32)
    lift = hands.copy()
    for i, path in enumerate(data.images[:n]):
        part = finder.alone(read_image(path).image, "right")
        if part is not None:
            hands[i, 1] = part.xyc
            hands[i, 1, :, :2] = hand_joints_of_mediapipe(part.xyc[:, :2])
            lift[i, 1] = part.lift_m
    K = torch.tensor(data.K[:n])
    evidence = Evidence(
        hands=hands,
        hands_lift=lift,
        image_size=_PICTURE_PX,
        focal_px=0.5 * (K[:, 0, 0] + K[:, 1, 1]),
        principal_point_px=K[:, :2, 2],
    )
    result = fit(evidence, model=model)
    return hand_scores(_right_hands(model, result.params), data.xyz[:n])


def _right_hands(model: BodyModel, params: BodyParams) -> Float[np.ndarray, "N 21 3"]:
    out = model(**params)
    points = [model.point(out, next(iter(entry))) for entry in hand_entries("right")]
    return torch.stack(points, 1).double().numpy()


def evaluate_ehf(folder: str | Path, model: BodyModel, *, limit: int | None = None) -> dict[str, float | int]:
    """Fit SMPL-X to EHF's OpenPose keypoints by its camera and average `part_errors`, over the first `limit` or all.

    Who is not fitted counts as failed and is left out of the means. Raises `AssetError`, `KeypointFileError`, and
    `OptionError` for another model than SMPL-X.
    """
    if len(model.v_template) != SMPLX_VERTICES:
        part_errors(model, np.zeros((0, 3)), np.zeros((0, 3)))  # which says what is wrong
    items, rows = read_ehf(folder)[:limit], []
    for item in items:
        frame = read_image(item.image)
        people = load_keypoints(item.keypoints).entries[0].people
        if not people:
            continue
        person = max(people, key=lambda p: float(p.xyc[:, 2].sum()))
        evidence = Evidence(
            keypoints=person.xyc[None],
            layout=person.layout,
            image_size=frame.size,
            focal_px=EHF_FOCAL_PX,
            principal_point_px=EHF_PRINCIPAL_PX,
        )
        vertices = model(**fit(evidence, model=model).params).vertices[0].double().numpy()
        if np.isfinite(vertices).all():
            rows.append(part_errors(model, vertices, item.vertices))
    names = ("all", "body", "hands", "face")
    means = {f"pa_v2v_{name}_mm": float(np.mean([r[name] for r in rows])) if rows else math.nan for name in names}
    return {"people": len(items), "failed": len(items) - len(rows), **means}
