"""What goes into a body model and what comes out, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.errors import OptionError, ShapeError
from bodyfit.runtime.pickling import ByValue

__all__ = ["BodyOutput", "BodyParams", "ParamSize", "complete"]


@dataclass(frozen=True)
class BodyParams(ByValue, Mapping[str, Tensor]):
    """Parameters of a batch of bodies, named as in smplx; a mapping, so that `model(**params)` works.

    Parameters that the model's layout does not have are None and no items of the mapping.
    """

    betas: Float[Tensor, "B S"]
    """Shape, in standard deviations."""
    body_pose: Float[Tensor, "B P"]
    """Axis-angle of the body's joints but the root, radians, flat: (B, 69) for SMPL and STAR, (B, 63) for SMPL-H and
    SMPL-X, whose hands and face have their own parameters."""
    global_orient: Float[Tensor, "B 3"]
    """Axis-angle of the root, radians."""
    transl: Float[Tensor, "B 3"]
    """Translation, metres."""
    left_hand_pose: Float[Tensor, "B L"] | None = None
    """Axis-angle of 15 finger joints (B, 45), or the first n < 45 coefficients of the hand's components (B, n); about
    the mean hand."""
    right_hand_pose: Float[Tensor, "B L"] | None = None
    """The same, right."""
    jaw_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle, radians."""
    leye_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle, radians."""
    reye_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle, radians."""
    expression: Float[Tensor, "B E"] | None = None
    """Expression, in standard deviations."""
    hand_pose: Float[Tensor, "B L"] | None = None
    """MANO's one hand, as left_hand_pose."""
    neck_pose: Float[Tensor, "B 3"] | None = None
    """FLAME's neck, axis-angle, radians."""

    def __getitem__(self, key: str) -> Tensor:
        value = getattr(self, key) if key in self.__dataclass_fields__ else None
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self):
        return (f.name for f in fields(self) if getattr(self, f.name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def batch(self) -> int:
        """How many bodies."""
        return self.betas.shape[0]

    def select(self, index: Tensor | slice | list[int]) -> BodyParams:
        """Some of the bodies."""
        return BodyParams(**{name: value[index] for name, value in self.items()})

    def to(self, *args, **kwargs) -> BodyParams:
        """As `Tensor.to`, for every parameter."""
        return BodyParams(**{name: value.to(*args, **kwargs) for name, value in self.items()})


@dataclass(frozen=True)
class BodyOutput(ByValue):
    """A batch of posed bodies."""

    vertices: Float[Tensor, "B V 3"]
    """Metres."""
    joints: Float[Tensor, "B J 3"]
    """Metres, in the order of the model's `skeleton`."""


@dataclass(frozen=True)
class ParamSize:
    """How wide one parameter of a model may be."""

    full: int
    """Columns."""
    joints: int = 0
    """Of a pose, the joints that it turns, so that (B, joints, 3) is taken too."""
    default: int | None = None
    """Columns of the zeros that stand for a parameter left out, where not `full`."""
    shorter: bool = False
    """Whether fewer columns may be given: coefficients of components, of which the others are zero."""
    padded: bool = False
    """Whether those are filled with zeros."""

    def flat(self, name: str, value: Tensor) -> Tensor:
        """(B, columns), or an error that says what is expected."""
        if value.ndim == 3 and self.joints and value.shape[1:] == (self.joints, 3):
            value = value.flatten(1)
        if value.ndim != 2 or not (value.shape[1] == self.full or (self.shorter and value.shape[1] < self.full)):
            also = f" or (B, {self.joints}, 3)" if self.joints else ""
            raise ShapeError(f"{name} must be (B, {self.full}){also}, got {tuple(value.shape)}")
        missing = self.full - value.shape[1] if self.padded else 0
        return torch.nn.functional.pad(value, (0, missing)) if missing else value


def complete(
    given: Mapping[str, Tensor | None], sizes: Mapping[str, ParamSize], like: Tensor, layout: str
) -> BodyParams:
    """Checked parameters of one batch, those left out as zeros; a batch of 1 is repeated to the batch of the others.

    Raises `ShapeError`, and `OptionError` where the layout does not have a parameter.
    """
    flat: dict[str, Tensor] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in sizes:
            raise OptionError(f"a {layout} body has no {name}; it has {', '.join(sizes)}")
        flat[name] = sizes[name].flat(name, torch.as_tensor(value, dtype=like.dtype, device=like.device))
    batches = {value.shape[0] for value in flat.values()} or {1}
    batch = max(batches) if 0 not in batches else 0
    if not batches <= {1, batch}:
        raise ShapeError("batches differ: " + ", ".join(f"{k} {v.shape[0]}" for k, v in flat.items()))
    every: dict[str, Tensor] = {}
    for name, size in sizes.items():
        if name not in flat:
            every[name] = like.new_zeros(batch, size.full if size.default is None else size.default)
        else:
            every[name] = flat[name] if len(flat[name]) == batch else flat[name].expand(batch, -1)
    return BodyParams(**every)
