"""Vertices of posed bodies, other ones for each person, with their derivatives in closed form.

`posed.py` has fixed lists of points, the same for everybody, split into pieces beforehand. Contours and nearest points
of scans change from person to person and from step to step, so that here the vertices are numbers in a tensor:

    x = sum_b w_b y_b,    y_b = R_b v + A_b,    A_b = p_b - R_b j_b,    v = t + S beta + P f(theta)

with w_b the skinning weights, R_b the bones' rotations, p_b posed and j_b rest joints. Turning joint i by a small world
rotation omega moves x by omega x sum_{b below i} w_b (y_b - p_i); see `posed.py` for omega of a change of the
axis-angle. The derivative along one direction a point is all that a point-to-line or point-to-plane distance needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import PosedTree, ancestors

__all__ = ["PosedVertices", "Surface"]

_AT_ONCE = 2048  # vertices whose dense pose blend shapes are looked through together
_SURFACES: WeakKeyDictionary[BodyModel, tuple[tuple, Surface]] = WeakKeyDictionary()


class Surface:
    """The vertices of a model, ready to be posed by number."""

    def __init__(self, model: BodyModel) -> None:
        self.parents, self.template = model.parents, model.v_template
        self.joints, self.joints_shape = model.joints_template, model.joints_shapedirs
        self.weights = model.weights
        """(V, J): skinning weights of all joints."""
        every = torch.arange(len(model.v_template), device=model.device)
        self.directions = model.shape_response(every, expression=True).contiguous()
        """(V, 3, S): derivatives of the rest vertices by betas and expression."""
        joint, response = _sparse_response(model)
        self.response_joint = joint
        """(V, R): the joints, counted without the root, whose pose blend shapes move a vertex, padded with 0."""
        self.response = response
        """(V, R, 3, C): derivatives of the rest vertex by these joints' pose features; 0 where padded."""

    @classmethod
    def of(cls, model: BodyModel) -> Surface:
        """Return the surface of a model, which is made once until its tensors change."""
        key = (model.v_template.data_ptr(), model.v_template._version, model.shapedirs.data_ptr(), model.dtype)
        found = _SURFACES.get(model)
        if found is None or found[0] != key:
            _SURFACES[model] = found = (key, cls(model))
        return found[1]

    def place(self, tree: PosedTree, coefficients: Float[Tensor, "B S"], vertices: Int[Tensor, "B N"]) -> PosedVertices:
        """Pose some vertices of each person, without `transl`.

        `tree` may hold the first joints alone: the others are then at rest, as part of their nearest ancestor.
        """
        n_j, n_s, flat = tree.joints.shape[1], coefficients.shape[1], vertices.flatten()
        weight = _folded(self.weights, self.parents, n_j)[flat].unflatten(0, vertices.shape)
        directions = self.directions[flat, :, :n_s].unflatten(0, vertices.shape)
        rest = self.template[flat].unflatten(0, vertices.shape) + torch.einsum("bncs,bs->bnc", directions, coefficients)
        joint = self.response_joint[flat].unflatten(0, vertices.shape)  # (B, N, R)
        response = self.response[flat].unflatten(0, vertices.shape)
        # Joints that the tree lacks are at rest, where features are 0.
        response = torch.where((joint < n_j - 1)[..., None, None], response, 0.0)
        joint = joint.clamp_max(max(n_j - 2, 0))
        if response.shape[2]:
            features = _of_joints(tree.features, joint)  # (B, N, R, C)
            rest = rest + torch.einsum("bnrcf,bnrf->bnc", response, features)
        return PosedVertices(self, tree, coefficients, weight, directions, joint, response, rest)


@dataclass(frozen=True)
class PosedVertices:
    """Vertices of posed bodies; positions leave `transl` out."""

    surface: Surface
    tree: PosedTree
    coefficients: Float[Tensor, "B S"]
    weight: Float[Tensor, "B N J"]
    """Skinning weights of the tree's joints."""
    directions: Float[Tensor, "B N 3 S"]
    response_joint: Int[Tensor, "B N R"]
    response: Float[Tensor, "B N R 3 C"]
    rest: Float[Tensor, "B N 3"]
    """Rest vertices with all blend shapes, metres."""

    @property
    def _offsets(self) -> Float[Tensor, "B J 3"]:
        """A_b of each bone."""
        tree, surface = self.tree, self.surface
        n_j, n_s = tree.joints.shape[1], self.coefficients.shape[1]
        moved = torch.einsum("jcs,bs->bjc", surface.joints_shape[:n_j, :, :n_s], self.coefficients)
        rest = surface.joints[:n_j] + moved
        return tree.joints - (tree.R_world @ rest[..., None])[..., 0]

    @property
    def _by_bone(self) -> Float[Tensor, "B N J 3"]:
        """y_b: where each bone alone would take the vertices, metres."""
        return torch.einsum("bjcd,bnd->bnjc", self.tree.R_world, self.rest) + self._offsets[:, None]

    @property
    def positions(self) -> Float[Tensor, "B N 3"]:
        """Positions, metres, without `transl`."""
        R = torch.einsum("bnj,bjcd->bncd", self.weight, self.tree.R_world)
        return (R @ self.rest[..., None])[..., 0] + self.weight @ self._offsets

    def rows(self, along: Float[Tensor, "B N 3"], joints: int) -> Float[Tensor, "B N D"]:
        """Compute the derivatives of the positions along one direction each.

        The columns are the translation, the axis-angles of the first `joints` joints, and the coefficients.
        """
        tree, n_b = self.tree, len(self.rest)
        above = torch.as_tensor(ancestors(self.surface.parents[: tree.joints.shape[1]])).to(self.rest)  # (J, J)
        below = self.weight[..., None] * torch.cat([self._by_bone, torch.ones_like(self.weight)[..., None]], 3)
        sums = torch.einsum("bnjc,ji->bnic", below, above[:, :joints])
        lever = sums[..., :3] - sums[..., 3:] * tree.joints[:, None, :joints]
        torque = torch.linalg.cross(lever, along[:, :, None].expand_as(lever), dim=3)
        by_pose = torch.einsum("bnic,bick->bnik", torque, tree.axes[:, :joints])
        turned = torch.einsum("bnj,bjcd,bnc->bnd", self.weight, tree.R_world, along)  # the direction in rest axes
        if self.response.shape[2]:
            by_feature = torch.einsum("bnrcf,bnc->bnrf", self.response, turned)
            by_angle = torch.einsum(
                "bnrf,bnrfk->bnrk", by_feature, _of_joints(tree.features_dpose, self.response_joint)
            )
            column = (self.response_joint + 1).clamp_max(joints - 1)
            by_angle = torch.where((self.response_joint + 1 < joints)[..., None], by_angle, 0.0)
            by_pose = by_pose.scatter_add(2, column[..., None].expand_as(by_angle), by_angle)
        by_shape = torch.einsum("bncs,bnc->bns", self.directions, turned)
        n_j, n_s = tree.joints.shape[1], self.coefficients.shape[1]
        moved = torch.einsum("ji,bik->bjk", above, tree.bones_dbetas).unflatten(2, (3, -1))[..., :n_s]
        moved = moved - tree.R_world @ self.surface.joints_shape[:n_j, :, :n_s]
        by_shape = by_shape + torch.einsum("bnj,bjcs,bnc->bns", self.weight, moved, along)
        return torch.cat([along, by_pose.reshape(n_b, -1, 3 * joints), by_shape], 2)


def _of_joints(values: Float[Tensor, "B M *C"], joint: Int[Tensor, "B N R"]) -> Float[Tensor, "B N R *C"]:
    """Look up the values of each vertex's joints."""
    rows = torch.arange(len(values), device=values.device)[:, None, None]
    return values[rows, joint]


def _folded(weights: Float[Tensor, "V J"], parents: tuple[int, ...], n: int) -> Float[Tensor, "V N"]:
    """Add the weights of the joints from the n-th on to their nearest ancestors before it."""
    if n >= weights.shape[1]:
        return weights
    to = list(range(n))
    for joint in range(n, weights.shape[1]):
        to.append(to[parents[joint]])
    index = torch.tensor(to, device=weights.device)
    return weights.new_zeros(len(weights), n).index_add(1, index, weights)


def _sparse_response(model: BodyModel) -> tuple[Int[Tensor, "V R"], Float[Tensor, "V R 3 C"]]:
    """Collect the joints whose pose features move each vertex, and the derivatives by these."""
    n_v = len(model.v_template)
    blocks = [
        model.pose_response(rows).transpose(1, 2)  # (N, M, 3, C)
        for rows in torch.arange(n_v, device=model.device).split(_AT_ONCE)
    ]
    affects = torch.cat([(block != 0).flatten(2).any(2) for block in blocks])  # (V, M)
    most = int(affects.sum(1).max()) if affects.numel() else 0
    order = affects.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    found = [
        block[torch.arange(len(block), device=model.device)[:, None], some]
        for block, some in zip(blocks, order.split(_AT_ONCE), strict=True)
    ]
    there = affects.gather(1, order)
    return torch.where(there, order, 0), torch.cat(found) * there[..., None, None]
