"""Bodies in the world of calibrated cameras."""

from __future__ import annotations

import torch

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.geometry.camera import CalibratedCamera, turned_orient

__all__ = ["in_world"]


def in_world(params: BodyParams, model: BodyModel, camera: CalibratedCamera) -> BodyParams:
    """Transform a body from the camera's axes to those of its world."""
    root = model.rest_joints(params.betas)[:, 0].double().numpy()
    orient = turned_orient(params.global_orient.double().numpy(), camera.R.T)
    transl = (params.transl.double().numpy() + root - camera.t) @ camera.R - root
    like = params.transl
    values = dict(params) | {
        "global_orient": torch.from_numpy(orient).to(like),
        "transl": torch.from_numpy(transl).to(like),
    }
    return BodyParams(**values)
