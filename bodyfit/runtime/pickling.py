"""Pickle records by value, to send them between processes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ByValue"]


class ByValue:
    """Base of dataclasses whose tensors, also those in dicts, are pickled as arrays.

    Otherwise multiprocessing sends each tensor as shared memory, with a file descriptor that stays open as long as the
    tensor lives: a pool that returned a hundred results would reach the usual limit of 1024.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # pyright: ignore[reportArgumentType]
        return _unpickle, (type(self), _pack(values))


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


def _pack(value: Any) -> Any:
    """Replace tensors, and those in dicts, by their values."""
    if type(value) is dict:
        return {key: _pack(item) for key, item in value.items()}
    return _Packed.of(value) if isinstance(value, Tensor) else value


def _unpack(value: Any) -> Any:
    """Make tensors of what `_pack` put in their place."""
    if type(value) is dict:
        return {key: _unpack(item) for key, item in value.items()}
    return value.tensor() if isinstance(value, _Packed) else value


def _unpickle(cls: type, packed: dict[str, Any]) -> Any:
    """Make the record from its packed fields."""
    return cls(**_unpack(packed))
