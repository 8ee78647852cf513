"""The shipped network of new views, run by onnxruntime."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from bodyfit.body.assets import asset_path
from bodyfit.detect.networks.session import Network
from bodyfit.detect.networks.threads import threads_from_environment

__all__ = ["SIDE", "completion", "shipped_network"]

SIDE = 256
"""Of the network's pictures, pixels."""


@lru_cache(maxsize=1)
def shipped_network() -> Network:
    """Open assets/views/refine.onnx: input (1, 16, S, S) of `view_input`, output (1, 5, S, S) for `completed`.

    Threads may share it. Raises `AssetError` and `DetectorError`.
    """
    return Network(asset_path("views", "refine.onnx"), threads=threads_from_environment())


def completion(network: Network, inputs: Float32[np.ndarray, "16 S S"]) -> Float32[np.ndarray, "5 S S"]:
    """Compute what completes a view."""
    return network.run(["output"], {"input": inputs[None]})[0][0]
