"""Pickle records by value, to send them between processes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ByValue"]


class ByValue:
    """Base of dataclasses whose tensors are pickled as arrays.

    Otherwise multiprocessing sends each tensor as shared memory, with a file descriptor that stays open as long as the
    tensor lives: a pool that returned a hundred results would reach the usual limit of 1024.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # pyright: ignore[reportArgumentType]
        packed = {name: _Packed.of(value) if isinstance(value, Tensor) else value for name, value in values.items()}
        return _unpickle, (type(self), packed)


@dataclass(frozen=True)
class _Packed:
    """A tensor's values, device and gradient flag, without its graph."""

    array: np.ndarray
    device: str
    requires_grad: bool

    @classmethod
    def of(cls, tensor: Tensor) -> _Packed:
        return cls(tensor.detach().cpu().numpy(), str(tensor.device), tensor.requires_grad and tensor.is_leaf)

    def tensor(self) -> Tensor:
        return (
            torch.from_numpy(np.require(self.array, requirements="W"))
            .to(self.device)
            .requires_grad_(self.requires_grad)
        )


def _unpickle(cls: type, packed: dict[str, Any]) -> Any:
    """Make the record from its packed fields."""
    return cls(**{name: value.tensor() if isinstance(value, _Packed) else value for name, value in packed.items()})
