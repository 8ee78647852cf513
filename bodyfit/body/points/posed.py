"""Named points of a posed body with their derivatives in closed form, without the mesh.

A joint, or a surface point that linear blend skinning moves, is a sum of pieces that are each rigid to one bone b:
piece = R_b l_b + w_b p_b, with p_b the posed joint and l_b an offset in the bone's rest axes, linear in betas. Turning
joint i by a small world rotation omega moves every piece below it by omega x (piece - w_b p_i), and a change d of the
joint's axis-angle is the world rotation omega = R_parent(i) J_left(theta_i) d. So the Jacobian costs one matrix product
and a cross product. Pose blend shapes add to l_b what is linear in the pose features of a few joints.

Points stand on the body's joints alone: hands, jaw and eyes, which keypoints of the body do not show, keep their
mean pose, and their points are rigid to the wrist or the head. `whole` points move with all joints of the model, and
with its expression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.features import pose_features, pose_features_derivative
from bodyfit.body.model import BodyModel
from bodyfit.body.points.tables import PointTables
from bodyfit.errors import OptionError
from bodyfit.geometry.rotation import exp_and_left_jacobian, so3_exp, unit

__all__ = ["Points", "PosedPoints", "PosedTree", "VertexSum", "ancestors", "pose_tree"]


_MANY = 64
"""Points of a longer list than this, of a face say, have their pieces added up by index."""


class VertexSum(NamedTuple):
    """A point on the skin as a weighted sum of vertices."""

    vertices: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class PosedTree:
    """A posed kinematic tree and the derivatives that its points share; metres, without `transl`."""

    R_world: Float[Tensor, "B J 3 3"]
    """Rotation of each bone."""
    joints: Float[Tensor, "B J 3"]
    """Posed joints."""
    axes: Float[Tensor, "B J 3 3"]
    """Columns: derivative of the joint's world rotation (rotation vector) by each axis-angle component."""
    bones_dbetas: Float[Tensor, "B J S3"]
    """Derivative by betas of each posed bone vector (the root's: of its position)."""
    features: Float[Tensor, "B M C"]
    """Pose features of each joint but the root, the inputs of pose blend shapes."""
    features_dpose: Float[Tensor, "B M C 3"]
    """Derivative of the pose features by the joint's axis-angle."""

    def first(self, joints: int, coefficients: int) -> PosedTree:
        """Select the first joints of the tree, with derivatives by the first coefficients."""
        by = self.bones_dbetas.unflatten(2, (3, -1))
        if self.joints.shape[1] == joints and by.shape[3] == coefficients:
            return self
        return PosedTree(
            self.R_world[:, :joints],
            self.joints[:, :joints],
            self.axes[:, :joints],
            by[:, :joints, :, :coefficients].flatten(2),
            self.features[:, : joints - 1],
            self.features_dpose[:, : joints - 1],
        )


@dataclass(frozen=True)
class _Chain:
    """A tree's parents as index tensors, made once: an index list would be copied to the device at every use."""

    parent: Int[Tensor, "J"]
    """Parent of each joint; the root's is J, one past the last."""
    jumps: tuple[Int[Tensor, "J1"], ...]
    """The ancestor 1, 2, 4, ... joints above, J where there is none; one entry more, for J itself."""


@lru_cache(maxsize=32)
def _chain(parents: tuple[int, ...], device: torch.device) -> _Chain:
    end = len(parents)
    up = torch.tensor([*(end if p < 0 else p for p in parents), end])
    jumps = [up]
    while (jumps[-1] < end).any():
        jumps.append(jumps[-1][jumps[-1]])
    with_end = [jump.to(device) for jump in jumps[:-1]]
    return _Chain(up[:end].to(device), tuple(with_end))


_CACHE_SIZE = 8
"""Number of sets of tensors whose bone vectors are cached for a model."""
_BONES: WeakKeyDictionary[BodyModel, dict[tuple, Float[Tensor, "J 3 S1"]]] = WeakKeyDictionary()


def _bones(model: BodyModel, joints: int, coefficients: int) -> Float[Tensor, "J 3 S1"]:
    """Compute the rest offsets of joints from their parents: of the mean shape, then by each shape coefficient, metres.

    The root's offset is its position. Cached for each model until its tensors change.
    """
    template, directions = model.joints_template[:joints], model.joints_shapedirs[:joints, :, :coefficients]
    key = (joints, coefficients, template.data_ptr(), template._version, directions.data_ptr(), directions._version)
    cache = _BONES.setdefault(model, {})
    if len(cache) > _CACHE_SIZE:
        cache.clear()
    if key not in cache:
        rest = torch.cat([template[..., None], directions], 2)
        parents = _chain(model.parents[:joints], rest.device).parent  # the root's is one past the last, 0
        cache[key] = rest - torch.cat([rest, torch.zeros_like(rest[:1])])[parents]
    return cache[key]


def pose_tree(model: BodyModel, betas: Float[Tensor, "B S"], rotvecs: Float[Tensor, "B J 3"]) -> PosedTree:
    """Compute forward kinematics of the first J joints, with what derivatives need.

    `rotvecs` (radians) begins with the root; `betas` may be followed by the expression.

    Each joint's transform is multiplied by that of its ancestor 1, 2, 4, 8 above (pointer jumping), so that a chain of
    nine joints takes four steps and few operations.
    """
    n, n_betas = rotvecs.shape[1], betas.shape[1]
    chain = _chain(model.parents[:n], betas.device)
    bones = _bones(model, n, n_betas)
    R_local, left = exp_and_left_jacobian(rotvecs)
    offset = bones[..., 0] + (bones[..., 1:] @ betas.T).permute(2, 0, 1)
    world = unit(4, betas.dtype, betas.device).repeat(len(betas), n + 1, 1, 1)
    world[:, :n, :3, :3] = R_local
    world[:, :n, :3, 3] = offset
    for jump in chain.jumps:
        world = world[:, jump] @ world
    R_parent = world[:, chain.parent, :3, :3]
    moved = rotvecs[:, 1:], R_local[:, 1:]
    columns = model.feature_columns
    return PosedTree(
        R_world=world[:, :n, :3, :3].contiguous(),
        joints=world[:, :n, :3, 3].contiguous(),
        axes=R_parent @ left,
        bones_dbetas=(R_parent @ bones[..., 1:]).flatten(2),
        features=pose_features(*moved, columns),
        features_dpose=pose_features_derivative(*moved, left[:, 1:], columns),
    )


def ancestors(parents: tuple[int, ...]) -> np.ndarray:
    """Compute (J, J): 1 where the column's joint is the row's joint or an ancestor of it."""
    table = np.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            table[joint] += table[parent]
    return table


class Points:
    """A fixed list of points on one model; each is a weighted mean of named joints and surface keypoints.

    An empty entry, or one that names what the model lacks, gives a point at the root with `known` False. An entry may
    be a sum of vertices instead. `whole` points move with all joints of the model, and its expression.
    """

    def __init__(
        self, model: BodyModel, entries: Sequence[dict[str, float] | VertexSum], *, whole: bool = False
    ) -> None:
        if not model.body_joints:
            raise OptionError(f"a {model.kind.title} model is no whole body and cannot be fitted to one")
        self.model = model
        self.known = [
            isinstance(entry, VertexSum) or (bool(entry) and all(model.has_point(name) for name in entry))
            for entry in entries
        ]
        sums = [entry for entry in entries if isinstance(entry, VertexSum)]
        skin = _Skin(model, sums, whole=whole)
        pieces = [
            (k, bone, piece)
            for k, entry in enumerate(entries)
            for bone, piece in skin.pieces(entry if self.known[k] else {"pelvis": 1.0}).items()
        ]
        n_k, n_j, n_s = len(entries), skin.n, skin.shape.shape[2]
        self.coefficients = ("betas", "expression") if n_s > model.num_betas else ("betas",)
        """Blocks of coefficients that the points move with, in the order of the Jacobian's columns."""
        above = ancestors(model.parents[:n_j])
        weight = np.zeros((n_k, n_j))
        for k, bone, piece in pieces:
            weight[k, bone] += piece.weight
        soft = [(k, bone, piece) for k, bone, piece in pieces if not piece.bare]
        member = np.zeros((n_k, len(soft)))
        for q, (k, _, _) in enumerate(soft):
            member[k, q] = 1
        bones = np.array([bone for _, bone, _ in soft], dtype=np.int64)
        below = above[bones].reshape(len(soft), n_j)  # (Q, J): joint i moves piece q
        self.has_soft = bool(soft)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=model.dtype, device=model.device).contiguous()

        def index(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=torch.int64, device=model.device)

        self.soft_bone = index(bones)
        self.weight = tensor(weight)
        self.member = tensor(member)
        self.offset = tensor(np.array([piece.offset for *_, piece in soft]).reshape(-1, 3))
        self.offset_shape = tensor(np.array([piece.by_betas for *_, piece in soft]).reshape(-1, 3, n_s))
        self.below = tensor(above.T)  # (J, J): what hangs on joint i
        self.below_soft = tensor(below.T)
        # Per point k and joint i: the total weight below i.
        self.lever_weight = tensor(weight @ above)
        # Pose blend shapes, of which a piece feels those of few joints.
        columns = model.feature_columns
        response = np.array([piece.by_features for *_, piece in soft]).reshape(len(soft), 3, n_j - 1, columns)
        piece_of, joint_of = np.nonzero(response.any((1, 3)))
        self.has_response = len(piece_of) > 0
        self.response = tensor(response[piece_of, :, joint_of])
        self.response_piece, self.response_joint = index(piece_of), index(joint_of)
        self.response_bone = self.soft_bone[self.response_piece]
        point_of = np.array([k for k, *_ in soft], dtype=np.int64)[piece_of]
        # A point moves with few joints: only these pairs of a point and a joint are reckoned with. To be multiplied
        # from the right so that the product is one large matrix: sums of joint and soft positions below the joint.
        moves = (weight @ above != 0) | (member @ below != 0)
        moves[point_of, joint_of + 1] = True
        like = model.joints_template.new_empty(n_s, columns).cpu().numpy()
        self.tables = PointTables.of(pieces, moves, tuple(model.parents[:n_j]), like)
        """The same for the loops of a CPU."""
        k, i = np.nonzero(moves)
        self.pair_joint, self.pair_weight = index(i), tensor((weight @ above)[k, i])
        self.lever_joints, self.lever_soft = tensor((weight[k] * above.T[i]).T), tensor((member[k] * below.T[i]).T)
        # Of many points these products would be nearly all zeros: their pieces are added up by index instead.
        self.soft_point = index(np.array([k for k, *_ in soft], dtype=np.int64))
        self.many = n_k > _MANY
        lever_pair, lever_piece = np.nonzero(member[k] * below.T[i]) if self.many else (np.zeros(0, np.int64),) * 2
        self.lever_pair, self.lever_piece = index(lever_pair), index(lever_piece)
        pair = np.full(moves.shape, -1)
        pair[k, i] = np.arange(len(k))
        self.response_point, self.response_pair = index(point_of), index(pair[point_of, joint_of + 1])
        self.joints = tuple(np.flatnonzero(moves.any(0)).tolist()) if whole else tuple(range(n_j))
        """The joints that the Jacobian has columns of: all of the body's, or those that move any of the points."""
        self.joint_index = index(np.array(self.joints, dtype=np.int64))
        # Where the pair's 3 x 3 numbers lie in the Jacobian's (K, 3, J, 3).
        row, column = 3 * k[:, None] + np.arange(3), np.searchsorted(self.joints, i)
        self.pair_place = index(((row * len(self.joints) + column[:, None])[..., None] * 3 + np.arange(3)).ravel())

    def __len__(self) -> int:
        return len(self.known)

    def place(self, tree: PosedTree, betas: Float[Tensor, "B S"]) -> PosedPoints:
        """Place the points on a posed tree; further joints and coefficients than the points' are ignored."""
        n_s = self.offset_shape.shape[2]
        tree, betas = tree.first(self.weight.shape[1], n_s), betas[:, :n_s]
        positions = self.weight @ tree.joints
        soft = None
        if self.has_soft:
            local = self.offset + (self.offset_shape @ betas.T).permute(2, 0, 1)
            if self.has_response:
                moved = (self.response @ tree.features[:, self.response_joint, :, None])[..., 0]
                local = local.index_add(1, self.response_piece, moved)
            soft = (tree.R_world[:, self.soft_bone] @ local[..., None])[..., 0]
            positions = positions + self.of_points(soft)
        return PosedPoints(self, tree, positions, soft)

    def of_points(self, pieces: Float[Tensor, "B Q N"]) -> Float[Tensor, "B K N"]:
        """Sum the pieces of each point."""
        if not self.many:
            return self.member @ pieces
        total = pieces.new_zeros(len(pieces), len(self), pieces.shape[2])
        return total.index_add(1, self.soft_point, pieces)


@dataclass(frozen=True)
class PosedPoints:
    """Points on a posed body; positions leave `transl` out (its Jacobian is the identity)."""

    points: Points
    tree: PosedTree
    positions: Float[Tensor, "B K 3"]
    """Positions, metres, without `transl`."""
    soft: Float[Tensor, "B Q 3"] | None
    """R_b l_b of the pieces that are not just a joint, metres."""

    def levers(self) -> Float[Tensor, "B 3 N"]:
        """Compute the vector from joint to the part of the point that it moves, for each such pair, metres."""
        p, joints = self.points, self.tree.joints.mT
        sums = joints @ p.lever_joints
        if self.soft is not None and p.many:
            sums = sums.index_add(2, p.lever_pair, self.soft.mT[:, :, p.lever_piece])
        elif self.soft is not None:
            sums = sums + self.soft.mT @ p.lever_soft
        return sums - p.pair_weight * joints[:, :, p.pair_joint]

    def jacobian_pose(self) -> Float[Tensor, "B K 3 J3"]:
        """Compute d position / d axis-angle of the joints, root first: the cross product axis x lever."""
        p, n_b = self.points, len(self.tree.joints)
        n_j = len(p.joints)
        by_pair = torch.linalg.cross(self.tree.axes[:, p.pair_joint], self.levers().mT[..., None], dim=2)
        if p.has_response:  # the pieces of a pair that feel the joint add up
            by_pair = by_pair.index_add(1, p.response_pair, self.response_dpose())
        flat = by_pair.new_zeros(n_b, len(p) * 9 * n_j).index_copy(1, p.pair_place, by_pair.flatten(1))
        return flat.view(n_b, len(p), 3, 3 * n_j)

    def response_dpose(self) -> Float[Tensor, "B N 3 3"]:
        """Compute derivatives of pieces by axis-angles of the joints whose pose blend shapes move them."""
        p, tree = self.points, self.tree
        return tree.R_world[:, p.response_bone] @ (p.response @ tree.features_dpose[:, p.response_joint])

    def jacobian_betas(self, first: int = 0) -> Float[Tensor, "B K 3 S"]:
        """Compute d position / d betas, from the `first` coefficient on."""
        p, bones = self.points, self.tree.bones_dbetas
        bones = bones.unflatten(2, (3, -1))[..., first:].flatten(2) if first else bones
        jacobian = p.lever_weight @ bones
        if self.soft is not None:
            jacobian = jacobian + p.of_points(
                (self.tree.R_world[:, p.soft_bone] @ p.offset_shape[..., first:]).flatten(2)
            )
        return jacobian.unflatten(2, (3, -1))

    def jacobian(self) -> Float[Tensor, "B K 3 D"]:
        """Compute d position / d (transl, axis-angles of the joints, betas)."""
        eye = torch.eye(3, dtype=self.positions.dtype, device=self.positions.device)
        by_transl = eye.expand(*self.positions.shape, 3)
        return torch.cat([by_transl, self.jacobian_pose(), self.jacobian_betas()], 3)

    def pull_back(self, forces: Float[Tensor, "B *N K 3"]) -> Float[Tensor, "B *N J3"]:
        """Compute jacobian_pose^T forces without the Jacobian: at each joint the torque of the forces below it."""
        p = self.points

        def over_n(value: Tensor) -> Tensor:
            return value.reshape(len(value), *[1] * (forces.ndim - 3), *value.shape[1:])

        joints, along = over_n(self.tree.joints), forces.mT
        on_joints = _times(along, p.weight)
        torque = _times(torch.linalg.cross(joints.mT, on_joints, dim=-2), p.below.T).mT
        torque = torque - torch.linalg.cross(joints, _times(on_joints, p.below.T).mT)
        if self.soft is not None:
            on_soft = torch.linalg.cross(over_n(self.soft).mT, _times(along, p.member), dim=-2)
            torque = torque + _times(on_soft, p.below_soft.T).mT
        pulled = (torque.unsqueeze(-2) @ over_n(self.tree.axes)).squeeze(-2)
        if p.has_response:
            response = forces[..., p.response_point, None, :] @ over_n(self.response_dpose())
            pulled = pulled.index_add(-2, p.response_joint + 1, response.squeeze(-2))
        if len(p.joints) < pulled.shape[-2]:
            pulled = pulled.index_select(-2, p.joint_index)
        return pulled.flatten(-2)


def _times(x: Float[Tensor, "*B K"], matrix: Float[Tensor, "K N"]) -> Float[Tensor, "*B N"]:
    """x @ matrix as one product; of a transposed x torch makes one for each item of the batch."""
    return (x.reshape(-1, len(matrix)) @ matrix).view(*x.shape[:-1], matrix.shape[1])


@dataclass
class _Piece:
    """The part of a point that is rigid to one bone."""

    weight: float
    """Weight of the bone's joint."""
    offset: np.ndarray
    """(3,) in the bone's rest axes, from weight x joint."""
    by_betas: np.ndarray
    """(3, S): derivative of the offset by betas."""
    by_features: np.ndarray
    """(3, M, C): derivative by the pose features of the body's joints but the root."""

    @property
    def bare(self) -> bool:
        """Tell whether the piece is just the joint."""
        return not (self.offset.any() or self.by_betas.any() or self.by_features.any())

    def turned(self, R: np.ndarray, at: np.ndarray, at_by_betas: np.ndarray) -> _Piece:
        """On the bone that the piece's own hangs on, turned by R, with its joint at `at` from that bone's."""
        w = self.weight
        by_features = np.einsum("cd,dmf->cmf", R, self.by_features)
        return _Piece(w, R @ self.offset + w * at, R @ self.by_betas + w * at_by_betas, by_features)

    def __add__(self, other: _Piece) -> _Piece:
        return _Piece(
            self.weight + other.weight,
            self.offset + other.offset,
            self.by_betas + other.by_betas,
            self.by_features + other.by_features,
        )


class _Skin:
    """Skinning weights and blend shapes of a model's keypoints and of sums of vertices, to be split into pieces."""

    def __init__(self, model: BodyModel, sums: Sequence[VertexSum] = (), *, whole: bool = False) -> None:
        def numbers(tensor: Tensor) -> np.ndarray:
            return tensor.double().cpu().numpy()

        self.model, self.n = model, model.num_joints if whole else model.body_joints
        self.rest, self.shape = numbers(model.joints_template), numbers(model.joints_shapedirs)
        self.shape = self.shape[..., : None if whole else model.num_betas]
        own = model.keypoint_vertices.cpu().numpy()
        extra = np.unique([vertex for entry in sums for vertex in entry.vertices]).astype(np.int64)
        vertices = torch.as_tensor(np.concatenate([own, np.setdiff1d(extra, own)]), device=model.device)
        self.row = {int(vertex): row for row, vertex in enumerate(vertices.tolist())}
        self.template, self.weights = numbers(model.v_template[vertices]), numbers(model.weights[vertices])
        self.directions = numbers(model.shape_response(vertices, expression=whole))
        self.regressors = numbers(model.keypoint_weights)
        self.response = numbers(model.pose_response(vertices))
        full = model.full_pose(model.params())
        self.R_local = numbers(so3_exp(full)[0])
        fixed = pose_features(full[:, self.n :], so3_exp(full[:, self.n :]), model.feature_columns)
        self.fixed = numbers(fixed[0])

    def pieces(self, entry: dict[str, float] | VertexSum) -> dict[int, _Piece]:
        """Split an entry into its pieces by bone; those of fixed joints move to the nearest free ancestor."""
        total: dict[int, _Piece] = {}
        for found in self._parts(entry):
            for bone, piece in found.items():
                bone, piece = self._on_body(bone, piece)
                total[bone] = total[bone] + piece if bone in total else piece
        return total

    def _parts(self, entry: dict[str, float] | VertexSum) -> Iterator[dict[int, _Piece]]:
        if isinstance(entry, VertexSum):
            yield self._surface(np.array([self.row[v] for v in entry.vertices]), np.array(entry.weights))
            return
        for name, w in entry.items():
            is_joint, at = self.model.place(name)
            used = np.zeros(0, np.int64) if is_joint else self.regressors[at].nonzero()[0]
            yield {at: self._joint(w)} if is_joint else self._surface(used, w * self.regressors[at, used])

    def _joint(self, w: float) -> _Piece:
        zeros = np.zeros((3, *self.response.shape[2:]))[:, : self.n - 1]
        return _Piece(w, np.zeros(3), np.zeros((3, self.shape.shape[2])), zeros)

    def _surface(self, used: np.ndarray, weights: np.ndarray) -> dict[int, _Piece]:
        share = weights[:, None] * self.weights[used]  # (N, J)
        # What the fixed joints' pose does to the skin is the same in every pose of the body.
        template = self.template[used] + np.einsum("ncmf,mf->nc", self.response[used][:, :, self.n - 1 :], self.fixed)
        found = {}
        for bone in share.sum(0).nonzero()[0]:
            s = share[:, bone]
            found[int(bone)] = _Piece(
                s.sum(),
                s @ template - s.sum() * self.rest[bone],
                np.einsum("n,ncs->cs", s, self.directions[used]) - s.sum() * self.shape[bone],
                np.einsum("n,ncmf->cmf", s, self.response[used][:, :, : self.n - 1]),
            )
        return found

    def _on_body(self, bone: int, piece: _Piece) -> tuple[int, _Piece]:
        while bone >= self.n:
            parent = self.model.parents[bone]
            piece = piece.turned(
                self.R_local[bone], self.rest[bone] - self.rest[parent], self.shape[bone] - self.shape[parent]
            )
            bone = parent
        return bone, piece
