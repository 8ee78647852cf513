"""A trained set of fields: the networks, and the codes of the people and backgrounds that they were trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.errors import AssetError, OptionError
from bodyfit.fields.compositional.network import FieldNetwork, NetworkConfig
from bodyfit.runtime.atomic import write_atomically

__all__ = ["FieldSet", "load_fields", "save_fields"]

_NEAR = 8
"""People among whom the other ends of random codes are drawn."""
_MOST = 0.6
"""How far a random code is from a person's towards another's, at most."""
_VERSION = 1


@dataclass(frozen=True, eq=False)
class FieldSet:
    """Networks and the codes that they were trained with."""

    network: FieldNetwork
    """In evaluation mode."""
    appearances: Float[Tensor, "K D"]
    """Codes of people."""
    backgrounds: Float[Tensor, "M E"]
    """Codes of backgrounds."""

    def random_appearances(self, n: int, seed: int = 0) -> Float[Tensor, "N D"]:
        """Draw codes of new people: each between a person's and that of one of the eight nearest to it.

        A normal distribution fitted to the codes would leave where they lie: outfits come out blotchy. Code i does not
        depend on `n`. Raises `OptionError`.
        """
        if n < 0 or seed < 0:
            raise OptionError(f"n and seed must not be negative, got {n} and {seed}")
        apart = torch.cdist(self.appearances, self.appearances)
        near = apart.argsort(dim=1, stable=True)[:, 1 : 1 + _NEAR]
        out = self.appearances.new_empty(n, self.appearances.shape[1])
        for i in range(n):
            rng = np.random.default_rng([seed, 71, i])
            one = int(rng.integers(len(self.appearances)))
            other = int(near[one, int(rng.integers(near.shape[1]))]) if near.shape[1] else one
            out[i] = torch.lerp(self.appearances[one], self.appearances[other], float(rng.uniform(0, _MOST)))
        return out

    def random_backgrounds(self, n: int, seed: int = 0) -> Float[Tensor, "N E"]:
        """Draw codes of backgrounds, each between two of the training's. Raises `OptionError`."""
        if n < 0 or seed < 0:
            raise OptionError(f"n and seed must not be negative, got {n} and {seed}")
        out = self.backgrounds.new_empty(n, self.backgrounds.shape[1])
        for i in range(n):
            rng = np.random.default_rng([seed, 72, i])
            one, other = rng.integers(len(self.backgrounds), size=2)
            out[i] = torch.lerp(self.backgrounds[one], self.backgrounds[other], float(rng.random()))
        return out

    def to(self, device: torch.device | str) -> FieldSet:
        """Move to a device; the networks themselves are moved."""
        return FieldSet(self.network.to(device), self.appearances.to(device), self.backgrounds.to(device))


def save_fields(fields: FieldSet, path: str | Path) -> None:
    """Write a set as an npz in half precision. Raises `OutputError`."""
    arrays = {f"network.{k}": v for k, v in fields.network.state_dict().items()}
    arrays |= {"appearances": fields.appearances, "backgrounds": fields.backgrounds}
    small = {k: v.detach().cpu().numpy().astype(np.float16) for k, v in arrays.items()}
    config = json.dumps({"version": _VERSION, **asdict(fields.network.config)})
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, config=np.frombuffer(config.encode(), np.uint8), **small)


@lru_cache(maxsize=2)
def load_fields(path: str | Path | None = None) -> FieldSet:
    """Load a set of fields; the shipped one if `path` is left out. Raises `AssetError`, naming the file."""
    path = asset_path("fields", "people.npz") if path is None else Path(path)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; train a set with scripts/train/fields.py, or leave it out")
    arrays = read_archive(path)
    try:
        values = json.loads(bytes(np.asarray(arrays.pop("config"), np.uint8)).decode())
        if values.pop("version") != _VERSION:
            raise ValueError("made for another version")
        config = NetworkConfig(**{**values, "widths": tuple(values["widths"])})
        tensors = {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in arrays.items()}
        network = FieldNetwork(config)
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        network.load_state_dict(weights)
        codes = tensors["appearances"], tensors["backgrounds"]
        if codes[0].shape[1:] != (config.code_size,) or codes[1].shape[1:] != (config.background_size,):
            raise ValueError("codes of another length than the networks'")
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise AssetError(f"{path}: not a set of fields ({str(fault).splitlines()[0]})") from fault
    return FieldSet(network.eval().requires_grad_(False), *codes)
