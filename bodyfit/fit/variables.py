"""The table of a fit's variables: which columns of the solver's vector are what.

Made once from a model and settings. All that reads or writes the solver's vector asks it, so that a new block of
variables is one more row here and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError

__all__ = ["Block", "Variables", "hand_and_face_blocks"]

_PARAMS = frozenset(f.name for f in fields(BodyParams))


@dataclass(frozen=True)
class Block:
    """Variables that go by one name."""

    name: str
    """As in `BodyParams` where it is one of a body's parameters."""
    size: int
    """Columns."""
    kind: Literal["translation", "rotations", "coefficients"] = "coefficients"
    """Metres, axis-angles in radians of three columns a joint, or plain numbers."""
    joints: tuple[int, ...] = ()
    """The joints that rotations turn, in the order of the columns."""
    shared: bool = False
    """Whether it is one of a person through all frames of a clip (a shape), and not one a frame (a pose)."""
    free: bool = True
    """False for variables that are held where they are."""
    eliminate: bool = False
    """Whether a dense solve takes it out first: true of blocks that are coupled to no other such block (a hand's
    fingers, and not the other hand's)."""
    start: float = 0.0
    """Where it starts, where nothing else says so."""
    about: tuple[float, ...] = ()
    """What its columns are added to for the joints' axis-angles: a hand's mean pose; empty for nothing."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise OptionError(f"variables {self.name} must have a size of at least 0, got {self.size}")
        if self.kind == "rotations" and self.size != 3 * len(self.joints):
            raise OptionError(f"rotations {self.name} must have 3 columns a joint, got {self.size} for {self.joints}")
        if self.about and (self.kind != "rotations" or len(self.about) != self.size):
            raise OptionError(f"a mean has one number a column of rotations, got {len(self.about)} for {self.name}")
        if self.kind == "translation" and self.size != 3:
            raise OptionError(f"a translation has 3 columns, {self.name} has {self.size}")


@dataclass(frozen=True)
class Variables:
    """The blocks of the solver's vector, in the order of their columns.

    Blocks of one a frame come before those that frames share, and of both kinds those that move the body before plain
    coefficients, whatever the order in which they were given.
    """

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        rank = {"translation": 0, "rotations": 1, "coefficients": 2}
        ordered = sorted(self.blocks, key=lambda block: (block.shared, rank[block.kind]))
        object.__setattr__(self, "blocks", tuple(ordered))
        names = [block.name for block in ordered]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise OptionError(f"there are two blocks of variables named {', '.join(twice)}; names must differ")

    @classmethod
    def of(cls, model: BodyModel, extra: Iterable[Block] = (), *, whole: bool = False) -> Variables:
        """The table for a body: where it stands, how it turns, its joints and its shape; then what else is wanted.

        `whole`: with hands, jaw, eyes and expression where the model has them.
        """
        joints = tuple(range(model.body_joints))
        return cls(
            (
                Block("transl", 3, "translation"),
                Block("global_orient", 3, "rotations", joints[:1]),
                Block("body_pose", 3 * len(joints[1:]), "rotations", joints[1:]),
                Block("betas", model.num_betas, shared=True),
                *(hand_and_face_blocks(model) if whole else ()),
                *extra,
            )
        )

    # Where a block is.

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The columns of each block."""
        ends = list(accumulate(block.size for block in self.blocks))
        return {b.name: slice(end - b.size, end) for b, end in zip(self.blocks, ends, strict=True)}

    def __getitem__(self, name: str) -> slice:
        """The columns of a block. Raises `OptionError` for a name that is not in the table."""
        if name not in self.slices:
            raise OptionError(f"there are no variables {name}; there are {', '.join(self.slices)}")
        return self.slices[name]

    def __contains__(self, name: str) -> bool:
        return name in self.slices

    def block(self, name: str) -> Block:
        """The row of the table."""
        self[name]
        return next(block for block in self.blocks if block.name == name)

    @cached_property
    def size(self) -> int:
        """Columns in all."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def frame_size(self) -> int:
        """Columns of one frame of a clip; those that frames share follow."""
        return sum(block.size for block in self.blocks if not block.shared)

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The blocks that frames share."""
        return tuple(block.name for block in self.blocks if block.shared)

    @cached_property
    def motion_size(self) -> int:
        """The first columns, of translations and rotations: those that a motion moves, triple by triple."""
        return sum(block.size for block in self.blocks if not block.shared and block.kind != "coefficients")

    @cached_property
    def joint_columns(self) -> tuple[int, ...]:
        """The first of the three columns of each joint that is turned, in the order of the joints."""
        found = {
            joint: self[block.name].start + 3 * i
            for block in self.blocks
            if block.kind == "rotations"
            for i, joint in enumerate(block.joints)
        }
        if sorted(found) != list(range(len(found))):
            raise OptionError(f"blocks of rotations must turn each of the first joints once, got {sorted(found)}")
        return tuple(found[joint] for joint in range(len(found)))

    @cached_property
    def about(self) -> Float[np.ndarray, "J 3"] | None:
        """What the joints' columns are added to for their axis-angles; None where that is 0 for all."""
        found = np.zeros((len(self.joint_columns), 3))
        for block in self.blocks:
            if block.about:
                found[list(block.joints)] = np.reshape(block.about, (-1, 3))
        return found if found.any() else None

    def columns_of_joint(self, joint: int) -> slice:
        """The columns of a joint's axis-angle."""
        start = self.joint_columns[joint]
        return slice(start, start + 3)

    def point_columns(self, joints: Iterable[int], coefficients: Iterable[str]) -> tuple[int, ...]:
        """The columns that points move with which these joints and blocks of coefficients move, in the order of their
        Jacobian: the translation, the joints' axis-angles, the coefficients."""
        turned = [self.joint_columns[joint] + axis for joint in joints for axis in range(3)]
        plain = [c for name in coefficients for c in range(*self[name].indices(self.size))]
        return (*range(*self["transl"].indices(self.size)), *turned, *plain)

    def coefficients(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B S"]:
        """Betas and expression, where that is a variable, as the columns of a model's `shapedirs`."""
        betas = x[:, self["betas"]]
        return torch.cat([betas, x[:, self["expression"]]], 1) if "expression" in self else betas

    @cached_property
    def held(self) -> tuple[slice, ...]:
        """The columns of blocks that are held."""
        return tuple(self[block.name] for block in self.blocks if not block.free)

    @cached_property
    def eliminated(self) -> tuple[slice, ...]:
        """The columns of blocks that a dense solve takes out first."""
        return tuple(self[block.name] for block in self.blocks if block.eliminate)

    # From and to parameters.

    def pack(self, values: Mapping[str, Tensor]) -> Float[Tensor, "B D"]:
        """Parameters as the solver's vector; a block that is not given is at its start."""
        like = values["transl"]
        blocks = [
            values[b.name] if b.name in values else like.new_full((len(like), b.size), b.start) for b in self.blocks
        ]
        return torch.cat(blocks, 1)

    def unpack(self, x: Float[Tensor, "*B D"]) -> dict[str, Float[Tensor, "*B _"]]:
        """The solver's vector, block by block."""
        return {name: x[..., columns] for name, columns in self.slices.items()}

    def params(self, x: Float[Tensor, "B D"]) -> BodyParams:
        """The body's parameters in the solver's vector."""
        return BodyParams(**{name: value for name, value in self.unpack(x).items() if name in _PARAMS})

    def others(self, x: Float[Tensor, "B D"]) -> dict[str, Float[Tensor, "B _"]]:
        """The blocks that are no parameters of a body."""
        return {name: value for name, value in self.unpack(x).items() if name not in _PARAMS}

    def put(self, x: Float[Tensor, "B D"], **values: Tensor) -> Float[Tensor, "B D"]:
        """The solver's vector with other values of some blocks."""
        x = x.clone()
        for name, value in values.items():
            x[:, self[name]] = value
        return x

    def rotvecs(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B J 3"]:
        """The axis-angles of all joints that are turned, root first."""
        starts = self.joint_columns
        if starts == tuple(range(starts[0], starts[0] + 3 * len(starts), 3)):
            found = x[..., starts[0] : starts[0] + 3 * len(starts)].unflatten(-1, (-1, 3))
        else:
            found = torch.stack([x[..., self.columns_of_joint(j)] for j in range(len(starts))], -2)
        about = self.about
        return found if about is None else found + torch.as_tensor(about, dtype=x.dtype, device=x.device)

    def put_rotvecs(self, x: Float[Tensor, "B D"], rotvecs: Float[Tensor, "B J 3"]) -> Float[Tensor, "B D"]:
        """The solver's vector with other axis-angles of all joints that are turned, root first."""
        x, columns = x.clone(), [start + axis for start in self.joint_columns for axis in range(3)]
        about = self.about
        x[:, columns] = (rotvecs if about is None else rotvecs - torch.as_tensor(about).to(rotvecs)).flatten(1)
        return x

    # Through time: the variables of a frame, and those that frames share.

    def split(self, x: Float[Tensor, "T D"]) -> tuple[Float[Tensor, "T N"], Float[Tensor, "T M"]]:
        """The columns of the frame, and those that frames share."""
        return x[:, : self.frame_size], x[:, self.frame_size :]

    def join(self, frames: Float[Tensor, "T N"], shared: Float[Tensor, "M"]) -> Float[Tensor, "T D"]:
        """The whole vector of each frame."""
        return torch.cat([frames, shared.expand(len(frames), -1)], 1)


def hand_and_face_blocks(model: BodyModel) -> tuple[Block, ...]:
    """The blocks of a model's hands, jaw, eyes and expression, of those that it has; hands about their mean pose.

    Points of one hand do not move with the other: a dense solve takes each out first.
    """
    blocks, first = [], model.body_joints
    for name, count in model.kind.poses[1:]:
        joints, side = tuple(range(first, first + count)), name.partition("_")[0]
        hand = name in ("left_hand_pose", "right_hand_pose")
        about = tuple(model.hand_means[("left", "right").index(side)].tolist()) if hand else ()
        blocks.append(Block(name, 3 * count, "rotations", joints, eliminate=hand, about=about))
        first += count
    if model.num_expression_coeffs:
        blocks.append(Block("expression", model.num_expression_coeffs))
    return tuple(blocks)
