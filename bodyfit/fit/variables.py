"""The table of a fit's variables: the columns of each block in the solver's vector.

It is made once from a model and settings. All code that reads or writes the solver's vector uses it, so that a new
block of variables is one more row.
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
    """Block of variables: its columns and how the solver treats them."""

    name: str
    """Name; that of `BodyParams` for the parameters of a body."""
    size: int
    """Number of columns."""
    kind: Literal["translation", "rotations", "coefficients"] = "coefficients"
    """Translation in metres, axis-angles in radians (three columns per joint), or plain coefficients."""
    joints: tuple[int, ...] = ()
    """Joints of the rotations, in the order of the columns."""
    shared: bool = False
    """Whether all frames of a clip share it, such as the shape."""
    free: bool = True
    """False for variables that keep their initial values."""
    eliminate: bool = False
    """Whether a dense solve eliminates it first (Schur complement). Such blocks must not be coupled to each other, like
    the fingers of the left and of the right hand."""
    start: float = 0.0
    """Initial value, if nothing else sets it."""
    about: tuple[float, ...] = ()
    """Axis-angles to which the columns are added, such as a hand's mean pose; empty for 0."""

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
    """Blocks of the solver's vector, in the order of their columns.

    They are sorted: first the blocks of each frame, then those that frames share; in each group the translation, the
    rotations, the coefficients.
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
        """Make the table of a body: translation, orientation, pose and shape, then `extra` blocks.

        `whole` adds hands, jaw, eyes and expression, if the model has them.
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
        """Columns of each block."""
        ends = list(accumulate(block.size for block in self.blocks))
        return {b.name: slice(end - b.size, end) for b, end in zip(self.blocks, ends, strict=True)}

    def __getitem__(self, name: str) -> slice:
        """Return the columns of a block. Raises `OptionError` for a name that is not in the table."""
        if name not in self.slices:
            raise OptionError(f"there are no variables {name}; there are {', '.join(self.slices)}")
        return self.slices[name]

    def __contains__(self, name: str) -> bool:
        return name in self.slices

    def block(self, name: str) -> Block:
        """Return a block by name. Raises `OptionError` for a name that is not in the table."""
        self[name]
        return next(block for block in self.blocks if block.name == name)

    @cached_property
    def size(self) -> int:
        """Total number of columns."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def frame_size(self) -> int:
        """Number of columns of one frame of a clip; the shared ones follow."""
        return sum(block.size for block in self.blocks if not block.shared)

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """Names of the blocks that frames share."""
        return tuple(block.name for block in self.blocks if block.shared)

    @cached_property
    def motion_size(self) -> int:
        """Number of the leading columns of translations and rotations, on which the motion residual acts."""
        return sum(block.size for block in self.blocks if not block.shared and block.kind != "coefficients")

    @cached_property
    def joint_columns(self) -> tuple[int, ...]:
        """First of the three columns of each joint's axis-angle, in the order of the joints."""
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
        """Axis-angles to which the joints' columns are added (`Block.about`); None if all are 0."""
        found = np.zeros((len(self.joint_columns), 3))
        for block in self.blocks:
            if block.about:
                found[list(block.joints)] = np.reshape(block.about, (-1, 3))
        return found if found.any() else None

    def columns_of_joint(self, joint: int) -> slice:
        """Return the columns of a joint's axis-angle."""
        start = self.joint_columns[joint]
        return slice(start, start + 3)

    def point_columns(self, joints: Iterable[int], coefficients: Iterable[str]) -> tuple[int, ...]:
        """List the columns on which points depend, in the order of their Jacobian's columns.

        These are the translation, the axis-angles of `joints` and the blocks of `coefficients`.
        """
        turned = [self.joint_columns[joint] + axis for joint in joints for axis in range(3)]
        plain = [c for name in coefficients for c in range(*self[name].indices(self.size))]
        return (*range(*self["transl"].indices(self.size)), *turned, *plain)

    def coefficients(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B S"]:
        """Return betas and, if it is a variable, expression, in the order of the columns of `shapedirs`."""
        betas = x[:, self["betas"]]
        return torch.cat([betas, x[:, self["expression"]]], 1) if "expression" in self else betas

    @cached_property
    def coefficient_columns(self) -> tuple[int, ...]:
        """Columns of `coefficients`."""
        names = [name for name in ("betas", "expression") if name in self]
        return tuple(c for name in names for c in range(*self[name].indices(self.size)))

    @cached_property
    def fixed(self) -> tuple[slice, ...]:
        """Columns of the blocks that keep their initial values."""
        return tuple(self[block.name] for block in self.blocks if not block.free)

    @cached_property
    def eliminated(self) -> tuple[slice, ...]:
        """Columns of the blocks that a dense solve eliminates first."""
        return tuple(self[block.name] for block in self.blocks if block.eliminate)

    # From and to parameters.

    def pack(self, values: Mapping[str, Tensor]) -> Float[Tensor, "B D"]:
        """Concatenate blocks to the solver's vector; missing ones have their initial value."""
        like = values["transl"]
        blocks = [
            values[b.name] if b.name in values else like.new_full((len(like), b.size), b.start) for b in self.blocks
        ]
        return torch.cat(blocks, 1)

    def unpack(self, x: Float[Tensor, "*B D"]) -> dict[str, Float[Tensor, "*B _"]]:
        """Split the solver's vector into blocks by name."""
        return {name: x[..., columns] for name, columns in self.slices.items()}

    def params(self, x: Float[Tensor, "B D"]) -> BodyParams:
        """Extract the body's parameters from the solver's vector."""
        return BodyParams(**{name: value for name, value in self.unpack(x).items() if name in _PARAMS})

    def others(self, x: Float[Tensor, "B D"]) -> dict[str, Float[Tensor, "B _"]]:
        """Extract the blocks that are no parameters of a body."""
        return {name: value for name, value in self.unpack(x).items() if name not in _PARAMS}

    def put(self, x: Float[Tensor, "B D"], **values: Tensor) -> Float[Tensor, "B D"]:
        """Return a copy of the solver's vector with new values of some blocks."""
        x = x.clone()
        for name, value in values.items():
            x[:, self[name]] = value
        return x

    def rotvecs(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B J 3"]:
        """Compute the axis-angles of all J joints, root first, radians."""
        starts = self.joint_columns
        if starts == tuple(range(starts[0], starts[0] + 3 * len(starts), 3)):
            found = x[..., starts[0] : starts[0] + 3 * len(starts)].unflatten(-1, (-1, 3))
        else:
            found = torch.stack([x[..., self.columns_of_joint(j)] for j in range(len(starts))], -2)
        about = self.about
        return found if about is None else found + torch.as_tensor(about, dtype=x.dtype, device=x.device)

    def put_rotvecs(self, x: Float[Tensor, "B D"], rotvecs: Float[Tensor, "B J 3"]) -> Float[Tensor, "B D"]:
        """Return a copy of the solver's vector with new axis-angles of all J joints, root first, radians."""
        x, columns = x.clone(), [start + axis for start in self.joint_columns for axis in range(3)]
        about = self.about
        x[:, columns] = (rotvecs if about is None else rotvecs - torch.as_tensor(about).to(rotvecs)).flatten(1)
        return x

    # Through time: the variables of a frame, and those that frames share.

    def split(self, x: Float[Tensor, "T D"]) -> tuple[Float[Tensor, "T N"], Float[Tensor, "T M"]]:
        """Split the vectors of frames into the columns of the frame and the shared ones."""
        return x[:, : self.frame_size], x[:, self.frame_size :]

    def join(self, frames: Float[Tensor, "T N"], shared: Float[Tensor, "M"]) -> Float[Tensor, "T D"]:
        """Concatenate the columns of each frame with the shared ones."""
        return torch.cat([frames, shared.expand(len(frames), -1)], 1)


def hand_and_face_blocks(model: BodyModel) -> tuple[Block, ...]:
    """Make the blocks of a model's hands, jaw, eyes and expression, if it has them; hands are about their mean pose.

    The two hands are not coupled, so that a dense solve can eliminate them first.
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
