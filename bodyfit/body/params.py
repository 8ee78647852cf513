"""Define the inputs and outputs of a body model as records, and check and complete its parameters."""

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

    Parameters that the model's layout lacks are None and not items of the mapping.
    """

    betas: Float[Tensor, "B S"]
    """Shape, in standard deviations."""
    body_pose: Float[Tensor, "B P"]
    """Axis-angles of the body's joints except the root, radians, flat: (B, 69) for SMPL and STAR, (B, 63) for SMPL-H
    and SMPL-X, whose hands and face have their own parameters."""
    global_orient: Float[Tensor, "B 3"]
    """Axis-angle of the root, radians."""
    transl: Float[Tensor, "B 3"]
    """Translation, metres."""
    left_hand_pose: Float[Tensor, "B L"] | None = None
    """Axis-angles of 15 finger joints (B, 45), or the first n < 45 coefficients of the hand's components (B, n); added
    to the mean hand."""
    right_hand_pose: Float[Tensor, "B L"] | None = None
    """The right hand's pose, as `left_hand_pose`."""
    jaw_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle of the jaw, radians."""
    leye_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle of the left eye, radians."""
    reye_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle of the right eye, radians."""
    expression: Float[Tensor, "B E"] | None = None
    """Expression coefficients, in standard deviations."""
    hand_pose: Float[Tensor, "B L"] | None = None
    """The hand of a MANO model, as `left_hand_pose`."""
    neck_pose: Float[Tensor, "B 3"] | None = None
    """Axis-angle of FLAME's neck, radians."""

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
        """Number of bodies."""
        return self.betas.shape[0]

    def select(self, index: Tensor | slice | list[int]) -> BodyParams:
        """Select bodies by index, mask or slice."""
        return BodyParams(**{name: value[index] for name, value in self.items()})

    def unknown(self, batch: int) -> BodyParams:
        """Make parameters of bodies of which nothing is known, NaN, of the same names, sizes and type."""
        return BodyParams(**{name: v.new_full((batch, *v.shape[1:]), torch.nan) for name, v in self.items()})

    def to(self, *args, **kwargs) -> BodyParams:
        """Apply `Tensor.to` to every parameter."""
        return BodyParams(**{name: value.to(*args, **kwargs) for name, value in self.items()})


@dataclass(frozen=True)
class BodyOutput(ByValue):
    """A batch of posed bodies."""

    vertices: Float[Tensor, "B V 3"]
    """Posed vertices, metres."""
    joints: Float[Tensor, "B J 3"]
    """Posed joints in the order of the model's `skeleton`, metres."""


@dataclass(frozen=True)
class ParamSize:
    """The accepted widths of one parameter of a model."""

    full: int
    """Number of columns."""
    joints: int = 0
    """Number of joints that a pose turns, so that (B, joints, 3) is accepted too."""
    default: int | None = None
    """Columns of the zeros that replace a missing parameter; None for `full`."""
    shorter: bool = False
    """Accept fewer columns: coefficients of which the others are zero."""
    padded: bool = False
    """Pad these with zeros to `full` columns."""

    def flat(self, name: str, value: Tensor) -> Tensor:
        """Return the value as (B, columns). Raises `ShapeError`."""
        if value.ndim == 3 and self.joints and value.shape[1:] == (self.joints, 3):
            value = value.flatten(1)
        if value.ndim != 2 or not (value.shape[1] == self.full or (self.shorter and value.shape[1] < self.full)):
            also = f" or (B, {self.joints}, 3)" if self.joints else ""
            raise ShapeError(f"{name} must be (B, {self.full}){also}, got {tuple(value.shape)}")
        missing = self.full - value.shape[1] if self.padded else 0
        return torch.nn.functional.pad(value, (0, missing)) if missing else value


def complete(
    values: Mapping[str, Tensor | None], sizes: Mapping[str, ParamSize], like: Tensor, layout: str
) -> BodyParams:
    """Check parameters, replace missing ones by zeros and repeat a batch of 1 to the batch of the others.

    `like` gives dtype and device, `layout` the name for errors. Raises `ShapeError`, and `OptionError` where the layout
    does not have a parameter.
    """
    flat: dict[str, Tensor] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name not in sizes:
            raise OptionError(f"a {layout} body has no {name}; it has {', '.join(sizes)}")
        flat[name] = sizes[name].flat(name, torch.as_tensor(value, dtype=like.dtype, device=like.device))
    batches = {value.shape[0] for value in flat.values()} or {1}
    batch = max(batches) if 0 not in batches else 0
    if not batches <= {1, batch}:
        raise ShapeError("batches differ: " + ", ".join(f"{k} {v.shape[0]}" for k, v in flat.items()))
    completed: dict[str, Tensor] = {}
    for name, size in sizes.items():
        if name not in flat:
            completed[name] = like.new_zeros(batch, size.full if size.default is None else size.default)
        else:
            completed[name] = flat[name] if len(flat[name]) == batch else flat[name].expand(batch, -1)
    return BodyParams(**completed)
