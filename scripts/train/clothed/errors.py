"""How fits err: turns of each limb out of and within the picture, and betas, taken from real fits and given to others.

A limb's direction in depth is wrong by far more than in the picture. So errors are kept in axes of the limb and the
camera's ray: about the axis across both (the limb tilts in depth), along the limb (it twists), and across these two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.geometry.rotation import so3_exp, so3_log

__all__ = ["FitErrors", "errors_of", "global_rotations", "local_rotations"]


@dataclass(frozen=True, eq=False)
class FitErrors:
    """Errors of N fits."""

    turns: Float[Tensor, "N J 3"]
    """Rotation vectors that take the true limbs' orientations to the fits', in the limbs' axes."""
    betas: Float[Tensor, "N K"]

    def applied(
        self,
        model: BodyModel,
        betas: Float[Tensor, "B K"],
        pose: Float[Tensor, "B J 3"],
        rays: Float[Tensor, "B 3"],
        strength: Float[Tensor, "B"],
        rng: np.random.Generator,
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B J 3"]]:
        """Make bodies err as some of the fits do. pose: rotation vectors, the root first, in the axes of the rays."""
        some = torch.from_numpy(rng.integers(len(self.turns), size=len(pose)))
        true = global_rotations(model, pose)
        turns = limb_axes(model, true, rays) @ self.turns[some, :, :, None] * strength[:, None, None, None]
        wrong = local_rotations(model, so3_exp(turns[..., 0]) @ true)
        return betas + strength[:, None] * self.betas[some], wrong


def errors_of(
    model: BodyModel,
    true: tuple[Float[Tensor, "N K"], Float[Tensor, "N J 3"]],
    fitted: tuple[Float[Tensor, "N K"], Float[Tensor, "N J 3"]],
    rays: Float[Tensor, "N 3"],
) -> FitErrors:
    """Take the errors of fits, betas and poses, in the camera's axes."""
    one, other = global_rotations(model, true[1]), global_rotations(model, fitted[1])
    turns = so3_log(other @ one.mT)
    return FitErrors((limb_axes(model, one, rays).mT @ turns[..., None])[..., 0], fitted[0] - true[0])


def global_rotations(model: BodyModel, pose: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J 3 3"]:
    """Compose the rotations of joints along the tree."""
    own = so3_exp(pose)
    found: list[Tensor] = []
    for joint, parent in enumerate(model.parents):
        found.append(own[:, joint] if parent < 0 else found[int(parent)] @ own[:, joint])
    return torch.stack(found, 1)


def local_rotations(model: BodyModel, turned: Float[Tensor, "B J 3 3"]) -> Float[Tensor, "B J 3"]:
    """Take composed rotations apart again, as rotation vectors."""
    parents = torch.tensor(model.parents)
    before = turned[:, parents.clamp(min=0)]
    local = before.mT @ turned
    local[:, parents < 0] = turned[:, parents < 0]
    return so3_log(local)


def limb_axes(
    model: BodyModel, turned: Float[Tensor, "B J 3 3"], rays: Float[Tensor, "B 3"]
) -> Float[Tensor, "B J 3 3"]:
    """Axes, in columns, across limb and ray, along the limb, and across both of these."""
    with torch.no_grad():
        joints = model().joints[0, : len(model.parents)].to(turned)
    along = torch.zeros_like(joints)
    for joint, parent in reversed(list(enumerate(model.parents))):
        if parent >= 0:
            bone = joints[joint] - joints[int(parent)]
            along[int(parent)] += bone
            if not along[joint].any():
                along[joint] = bone  # a leaf goes on as it came
    y = torch.nn.functional.normalize(turned @ along[:, :, None], dim=-2)[..., 0]
    x = torch.linalg.cross(y, rays[:, None].expand_as(y))
    aside = torch.linalg.cross(y, torch.eye(3).to(y)[y.abs().argmin(-1)])  # where the limb points along the ray
    x = torch.nn.functional.normalize(torch.where(x.norm(dim=-1, keepdim=True) > 1e-3, x, aside), dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)
