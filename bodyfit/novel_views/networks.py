"""The shipped networks of new views, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from bodyfit.body.assets import asset_path
from bodyfit.detect.networks.session import Network
from bodyfit.detect.networks.threads import threads_from_environment

__all__ = ["SIDE", "ViewNetworks", "shipped_networks"]

SIDE = 256
"""Of the networks' pictures, pixels."""


@dataclass(frozen=True, eq=False)
class ViewNetworks:
    """What finds the depth of clothes, and what completes a view. Threads may share them."""

    depth: Network
    """Input (1, 10, S, S) of `depth_input`, output (1, 1, S, S) tenths of a metre behind the body."""
    refine: Network
    """Input (1, 16, S, S) of `view_input`, output (1, 5, S, S) for `completed`."""

    def offset(self, inputs: Float32[np.ndarray, "10 S S"]) -> Float32[np.ndarray, "S S"]:
        """Compute the cloth's offset from the body."""
        return self.depth.run(["output"], {"input": inputs[None]})[0][0, 0]

    def completion(self, inputs: Float32[np.ndarray, "16 S S"]) -> Float32[np.ndarray, "5 S S"]:
        """Compute what completes a view."""
        return self.refine.run(["output"], {"input": inputs[None]})[0][0]


@lru_cache(maxsize=1)
def shipped_networks() -> ViewNetworks:
    """Open assets/views. Raises `AssetError` and `DetectorError`."""
    threads = threads_from_environment()
    return ViewNetworks(
        *(Network(asset_path("views", f"{name}.onnx"), threads=threads) for name in ("depth", "refine"))
    )
