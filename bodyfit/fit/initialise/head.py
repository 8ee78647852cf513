"""A start for people of whom little but the head is visible: its size gives the distance, ears and eyes the facing."""

from __future__ import annotations

import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.fit.initialise.placement import starting_orientations
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import SMPL, mirrored_rows

__all__ = ["HeadStart"]

_LEAST = 3
"""Keypoints of the head that give its place and turn."""
_TURN = 1.0
"""How far the head turns on the body, radians; what is more the body turns, too."""
_UPSIDE_DOWN = 0.3
"""A head is taken for one that hangs if that explains it so much better: nose and ears then lie on the wrong sides of
the eyes by more than keypoints err."""
_SIDEWAYS = 0.3
"""From where on left and right of the head tell how it is tilted: how far apart they are, in parts of its extent."""


class HeadStart:
    """Starts from the head's keypoints of one layout."""

    def __init__(self, points: Points, names: tuple[str, ...], rest_pose: Float[Tensor, "P"]) -> None:
        head = SMPL.index("head")
        known = torch.tensor(points.known, device=points.weight.device)
        self.points, self.rest_pose = points, rest_pose
        self.rows: Float[Tensor, "K"] = ((points.weight[:, head] > 0.5) & known).to(points.weight.dtype)
        """1 for keypoints of the head."""
        left = [i for i, name in enumerate(names) if "left" in name.split("_") and self.rows[i] > 0]
        other = mirrored_rows(names)
        self.pairs: Int[Tensor, "2 N"] = torch.tensor([left, [other[i] for i in left]], device=known.device)
        """Its left points and their likes on the right."""

    def __call__(
        self,
        target: Float[Tensor, "B K 2"],
        weight: Float[Tensor, "B K"],
        betas: Float[Tensor, "#B S"],
        up: Float[Tensor, "B 2"],
        sure_up: Bool[Tensor, "B"],
    ) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B J 3"], Bool[Tensor, "B"]]:
        """Where the root joint lies (camera axes, metres), the axis-angles of all joints, the root's first, and who
        shows enough of the head.

        The body stands upright under the head: along `up` in the picture where shoulders tell of it (`sure_up`), else
        as the head is tilted. Neck and head share what the head is turned on it.
        """
        batch, weight = len(weight), weight * self.rows
        usable = (weight > 0).sum(1) >= _LEAST
        betas = betas.expand(batch, -1)
        rest = torch.cat([self.rest_pose.new_zeros(3), self.rest_pose]).view(1, -1, 3).expand(batch, -1, -1)
        about_root = self._placed(rest, betas)
        tilt = self._tilt(target, weight)
        R, t, tilt = self._turned(about_root, target, weight, tilt)
        # Upright along `up`, facing as the head does.
        y = torch.where(sure_up[:, None], up, tilt)
        y = torch.nn.functional.normalize(torch.cat([y, torch.zeros_like(y[:, :1])], 1), dim=1)
        z = R[:, :, 2] - (R[:, :, 2] * y).sum(1, keepdim=True) * y
        flat = z.norm(dim=1, keepdim=True) < 0.2  # who looks straight up or down faces as the top of the head says
        down = -R[:, :, 1] * torch.sign((R[:, :, 2] * y).sum(1, keepdim=True))
        z = torch.nn.functional.normalize(torch.where(flat, down - (down * y).sum(1, keepdim=True) * y, z), dim=1)
        upright = torch.stack([torch.linalg.cross(y, z), y, z], 2)
        turn = roma.rotmat_to_rotvec(upright.mT @ R)
        angle = turn.norm(dim=1, keepdim=True)
        turn = turn * (_TURN / angle.clamp_min(1e-6)).clamp(max=1)
        pose = self._nodded(rest, turn)
        pose[:, 0] = roma.rotmat_to_rotvec(R @ so3_exp(turn).mT)
        share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
        position = (share * (about_root @ R.mT + t[:, None])).sum(1)
        return position - (share * self._placed(pose, betas)).sum(1), pose, usable

    def _placed(self, pose: Float[Tensor, "B J 3"], betas: Float[Tensor, "B S"]) -> Float[Tensor, "B K 3"]:
        """The keypoints about the root joint."""
        tree = pose_tree(self.points.model, betas, pose)
        return self.points.place(tree, betas).positions - tree.joints[:, :1]

    def _tilt(self, target: Float[Tensor, "B K 2"], weight: Float[Tensor, "B K"]) -> Float[Tensor, "B 2"]:
        """The way up in the picture of a head, from its right to its left points turned by a quarter; straight up
        where these lie close together, and never down."""
        left, right = self.pairs
        w = torch.minimum(weight[:, left], weight[:, right])[..., None]
        across = (w * (target[:, left] - target[:, right])).sum(1) / w.sum(1).clamp_min(1e-12)
        share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
        extent = (share * (target - (share * target).sum(1, keepdim=True)).square()).sum((1, 2)).sqrt()
        up = torch.stack([across[:, 1], -across[:, 0]], 1)
        up = torch.where(up[:, 1:] > 0, -up, up)
        return torch.where((across.norm(dim=1) > _SIDEWAYS * extent)[:, None], up, up.new_tensor([0.0, -1.0]))

    def _turned(
        self,
        points: Float[Tensor, "B K 3"],
        target: Float[Tensor, "B K 2"],
        weight: Float[Tensor, "B K"],
        up: Float[Tensor, "B 2"],
    ) -> tuple[Float[Tensor, "B 3 3"], Float[Tensor, "B 3"], Float[Tensor, "B 2"]]:
        """The body in its mean pose, turned so that its head is seen where it is: the crown along `up`, or the other
        way for who hangs; which way it is comes last."""
        found = [starting_orientations(points, target, weight, u, keep=1) for u in (up, -up)]
        hangs = (found[1].cost[:, 0] < _UPSIDE_DOWN**2 * found[0].cost[:, 0])[:, None]
        R = torch.where(hangs[..., None], found[1].R[:, 0], found[0].R[:, 0])
        return R, torch.where(hangs, found[1].t[:, 0], found[0].t[:, 0]), torch.where(hangs, -up, up)

    def _nodded(self, rest: Float[Tensor, "B J 3"], turn: Float[Tensor, "B 3"]) -> Float[Tensor, "B J 3"]:
        """The rest pose with the head turned about the root's axes, half of it by the neck."""
        neck, head = SMPL.index("neck"), SMPL.index("head")
        chain, joint = [], SMPL.parents[neck]
        while joint > 0:
            chain.append(joint)
            joint = SMPL.parents[joint]
        R = so3_exp(rest)
        spine = torch.eye(3).to(R).expand(len(R), 3, 3)
        for joint in reversed(chain):
            spine = spine @ R[:, joint]
        half = so3_exp(0.5 * turn)
        to_neck = spine @ R[:, neck]
        pose = rest.clone()
        pose[:, neck] = roma.rotmat_to_rotvec(spine.mT @ half @ to_neck)
        pose[:, head] = roma.rotmat_to_rotvec(to_neck.mT @ half @ to_neck @ R[:, head])
        return pose
