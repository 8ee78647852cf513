"""Write the body of a registration: parameters as npz, upright, with the way back to the scan's axes and unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OutputError
from bodyfit.geometry.camera import turned_orient
from bodyfit.io.results.params import params_arrays, write_arrays
from bodyfit.register.registration import Registration

__all__ = ["save_registration", "upright_turn"]


def upright_turn(result: Registration) -> Float[np.ndarray, "3 3"]:
    """Compute the rotation of the scan's axes to y up: that axis is up to which the line from feet to head is nearest.

    It exchanges axes and turns signs, and is the identity for scans with y up.
    """
    assert result.joints is not None
    joints = result.joints.double().numpy()
    up = joints[15] - 0.5 * (joints[10] + joints[11])  # head, left and right foot of all SMPL layouts
    axis = int(np.abs(up).argmax())
    sign = float(np.sign(up[axis])) or 1.0
    turn = np.zeros((3, 3))
    turn[1, axis] = sign
    turn[0, (axis + 2) % 3], turn[2, (axis + 1) % 3] = 1.0, sign
    if axis == 1 and sign > 0:
        return np.eye(3)
    if np.linalg.det(turn) < 0:
        turn[0] *= -1
    return turn


def save_registration(result: Registration, path: str | Path, model: BodyModel) -> None:
    """Write a registration's body as an npz that all commands read, y up; metres.

    Beside AMASS's keys it has `turn`, `unit_m`, `registration_status` and `registration_reason`: a vertex v of the
    body in the file lies at turn^T v / unit_m in the scan; and, with a surface, `offsets_m` (V, 3), added to the
    vertices of the rest pose before they are skinned. Raises `OutputError`, also if there is no body.
    """
    if result.joints is None:
        raise OutputError(f"{path}: there is no body to write, {result.reason}")
    turn = upright_turn(result)
    params = result.params
    root = model.rest_joints(params.betas)[:, 0].double().numpy()
    transl = (params.transl.double().numpy() + root) @ turn.T - root
    orient = turned_orient(params.global_orient.double().numpy(), turn)
    values = dict(params) | {
        "transl": torch.from_numpy(transl).to(params.transl),
        "global_orient": torch.from_numpy(orient).to(params.global_orient),
    }
    arrays = params_arrays(BodyParams(**values), model)
    arrays |= {
        "turn": turn,
        "unit_m": np.array(result.unit_m),
        "registration_status": np.array(result.status.value),
        "registration_reason": np.array(result.reason or ""),
    }
    if result.offsets_m is not None:
        arrays["offsets_m"] = result.offsets_m.astype(np.float32)
    write_arrays(path, arrays)
