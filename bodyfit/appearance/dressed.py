"""The records of dressed people: posed, textured surfaces, ready to be drawn or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.appearance.outfit import Outfit

__all__ = ["Dressed", "DressedPerson", "Surface"]


@dataclass(frozen=True, eq=False)
class Surface:
    """A posed mesh with its texture."""

    name: str
    """In the catalogue."""
    kind: str
    """skin, eyes, brows, lashes, shoes, lower, upper, whole, hair or hat."""
    vertices: Float[Tensor, "V 3"]
    """Metres, in the axes of the parameters."""
    faces: Int[np.ndarray, "F 3"]
    """Outward triangles; of a skin without those that are covered."""
    uv: Float[np.ndarray, "T 2"]
    """Texture coordinates, origin bottom left."""
    uv_faces: Int[np.ndarray, "F 3"]
    """Rows of `uv` at the faces' corners."""
    texture: UInt8[np.ndarray, "H W C"]
    """RGB, or RGBA (not premultiplied) where the surface is partly transparent."""
    coarse_faces: Int[np.ndarray, "K 3"] | None = None
    """Fewer faces of the same vertices that throw the same shadow; None where there are none."""


@dataclass(frozen=True, eq=False)
class DressedPerson:
    """One person's skin and all that is worn on it."""

    skin: Surface
    """The body's skin, its hidden faces left out."""
    pieces: tuple[Surface, ...]
    """Eyes, brows, lashes, clothes and hair."""
    outfit: Outfit
    """What they are."""

    def surfaces(self) -> tuple[Surface, ...]:
        """The skin and the pieces."""
        return (self.skin, *self.pieces)

    def moved(self, offset: Float[Tensor, "3"]) -> DressedPerson:
        """The person moved by an offset, metres."""
        return self._with([one.vertices + offset.to(one.vertices) for one in self.surfaces()])

    def turned(self, R: Float[Tensor, "3 3"], offset: Float[Tensor, "3"]) -> DressedPerson:
        """The person in other axes: R x + offset."""
        return self._with([one.vertices @ R.to(one.vertices).T + offset.to(one.vertices) for one in self.surfaces()])

    def _with(self, vertices: list[Tensor]) -> DressedPerson:
        skin, *rest = (replace(one, vertices=v) for one, v in zip(self.surfaces(), vertices, strict=True))
        return DressedPerson(skin, tuple(rest), self.outfit)


@dataclass(frozen=True, eq=False)
class Dressed(Sequence[DressedPerson]):
    """A batch of dressed people."""

    people: tuple[DressedPerson, ...]
    """One a body of the batch, in its order."""

    def __len__(self) -> int:
        return len(self.people)

    @overload
    def __getitem__(self, index: int) -> DressedPerson: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[DressedPerson, ...]: ...
    def __getitem__(self, index: int | slice) -> DressedPerson | tuple[DressedPerson, ...]:
        return self.people[index]

    def __iter__(self) -> Iterator[DressedPerson]:
        return iter(self.people)
