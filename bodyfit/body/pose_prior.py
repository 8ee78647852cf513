"""Load, check and sample the Gaussian mixture prior over body poses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.body.assets import asset_path, read_archive
from bodyfit.body.files.safe_pickle import as_array
from bodyfit.errors import AssetError
from bodyfit.skeleton import SMPL

__all__ = ["PosePrior", "load_pose_prior"]

_ANGLES = 3 * (len(SMPL.names) - 1)


@dataclass(frozen=True)
class PosePrior:
    """A full-covariance Gaussian mixture over 69 angles (axis-angles of joints 1 to 23), or the first P; float64."""

    means: Float[np.ndarray, "M P"]
    """Means of the components, radians."""
    covars: Float[np.ndarray, "M P P"]
    """Covariances of the components, radians squared."""
    weights: Float[np.ndarray, "M"]
    """Weights of the components, sum 1."""
    limits_lower: Float[np.ndarray, "P"]
    """Lower joint limits, axis-angle components in radians."""
    limits_upper: Float[np.ndarray, "P"]
    """Upper joint limits, axis-angle components in radians."""

    @property
    def mean(self) -> Float[np.ndarray, "P"]:
        """Mean of the whole mixture."""
        return self.weights @ self.means

    def of_joints(self, joints: int) -> PosePrior:
        """Marginalise the prior to the first `joints` joints, root included, component by component."""
        n = 3 * (joints - 1)
        return PosePrior(
            self.means[:, :n],
            self.covars[:, :n, :n],
            self.weights,
            self.limits_lower[:n],
            self.limits_upper[:n],
        )

    def sample(self, n: int, *, seed: int) -> Float[np.ndarray, "N P"]:
        """Sample n poses from the mixture, clamped to the joint limits; reproducible by the seed.

        Angles beyond a limit are set to it: in 69 dimensions nearly no sample lies within all of them.
        """
        rng = np.random.default_rng(seed)
        return self.pose_of(rng.random(n), rng.standard_normal((n, self.means.shape[1])))

    def pose_of(self, uniform: Float[np.ndarray, " N"], normal: Float[np.ndarray, "N P"]) -> Float[np.ndarray, "N P"]:
        """Map random numbers to poses: `uniform` in [0, 1) chooses the components, `normal` the samples from them."""
        which = np.searchsorted(self.weights.cumsum() / self.weights.sum(), uniform, side="right")
        poses = self.means[which] + np.einsum("nij,nj->ni", self._roots[which], normal)
        return poses.clip(self.limits_lower, self.limits_upper)

    @cached_property
    def _roots(self) -> Float[np.ndarray, "M P P"]:
        """Cholesky factors of the covariances."""
        return np.linalg.cholesky(self.covars)


def load_pose_prior(path: str | Path | None = None) -> PosePrior:
    """Load the shipped prior, or a file with means (M, 69), covars (M, 69, 69) and weights (M).

    An npz, or a pickle in the layout of SMPLify's gmm_08.pkl, read without executing it. A file without joint limits
    gets the shipped ones. Raises `AssetError`, naming the file.
    """
    shipped = asset_path("prior", "pose_gmm.npz")
    path = shipped if path is None else Path(path)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give a pose prior as .npz or .pkl")
    arrays = read_archive(path)
    missing = [k for k in ("means", "covars", "weights") if k not in arrays]
    if missing:
        raise AssetError(f"{path}: not a pose prior, it lacks {', '.join(missing)}")
    limits = arrays if {"limits_lower", "limits_upper"} <= arrays.keys() else read_archive(shipped)
    try:
        means, covars, weights, lower, upper = (
            np.atleast_1d(np.asarray(as_array(a), np.float64))
            for a in (
                *(arrays[k] for k in ("means", "covars", "weights")),
                limits["limits_lower"],
                limits["limits_upper"],
            )
        )
    except (TypeError, ValueError):
        raise AssetError(f"{path}: means, covars and weights must be numeric") from None
    except MemoryError:
        raise AssetError(f"{path}: refused, an array in it asks for too much memory") from None
    except AssetError as error:
        raise AssetError(f"{path}: {error}") from None
    m = len(means)
    if means.shape != (m, _ANGLES) or covars.shape != (m, _ANGLES, _ANGLES) or weights.shape != (m,) or m == 0:
        raise AssetError(
            f"{path}: expected means (M, {_ANGLES}), covars (M, {_ANGLES}, {_ANGLES}) and weights (M), "
            f"found {means.shape}, {covars.shape}, {weights.shape}"
        )
    if lower.shape != (_ANGLES,) or upper.shape != (_ANGLES,) or not (lower <= upper).all():
        raise AssetError(f"{path}: limits_lower and limits_upper must be ({_ANGLES}), the one below the other")
    if not all(np.isfinite(a).all() for a in (means, covars, weights)) or weights.min() <= 0:
        raise AssetError(f"{path}: the mixture holds NaN, infinity or a weight that is not positive")
    if np.linalg.eigvalsh(covars).min() <= 0:
        raise AssetError(f"{path}: a covariance is not positive definite")
    return PosePrior(means, covars, weights / weights.sum(), lower, upper)
