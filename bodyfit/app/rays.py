"""Rotations between a camera and one that looks at another point of its image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["rotation_to_ray"]


def rotation_to_ray(ray: tuple[float, float, float]) -> Float[np.ndarray, "3 3"]:
    """Compute the smallest rotation that takes the optical axis (0, 0, 1) to a ray with z > 0 (Rodrigues)."""
    x, y, z = np.asarray(ray, dtype=np.float64) / np.linalg.norm(ray)
    # With the axis a = (0, 0, 1) x ray: R = I + [a] + [a]^2 / (1 + z).
    K = np.array([[0.0, 0.0, x], [0.0, 0.0, y], [-x, -y, 0.0]])
    return np.eye(3) + K + K @ K / (1 + z)
