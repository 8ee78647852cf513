"""A known mass of the body."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.anthropometry.cross_section import close_holes
from bodyfit.body.anthropometry.measure import BODY_DENSITY
from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["MassTerm"]

_MOST_BETAS = 64
"""Largest number of betas: the volume has a coefficient for every three of them."""
_FACES_AT_ONCE = 2048
_POLYNOMIALS: WeakKeyDictionary[BodyModel, tuple[tuple[int, ...], Float[Tensor, "S1 S1 S1"]]] = WeakKeyDictionary()
"""The polynomial of each model that is alive, and the state of the tensors that it was made from."""


class MassTerm(VariableResidual):
    """Difference of the body's mass from a known one, kilograms.

    Vertices are linear in betas, so that the volume inside them is a cubic polynomial in betas: with b = (1, betas) it
    is the sum of K_ijk b_i b_j b_k, K the determinants of the faces' corners. Exact, and made once. The density is that
    of `Measurements.mass`.
    """

    name, group, weight, blocks = "mass", "seen", 2.0, ("betas",)

    def __init__(self, model: BodyModel) -> None:
        self.model = model

    @property
    def coefficients(self) -> Float[Tensor, "S1 S1 S1"]:
        """K above, symmetric, in kilograms: computed when a mass is first asked for, as it costs more than a fit.

        Made once for a model, until its tensors change. Raises `OptionError` for a model of too many betas.
        """
        model = self.model
        sources = model.v_template, model.shapedirs
        state = tuple(number for tensor in sources for number in (tensor.data_ptr(), tensor._version))
        source, found = _POLYNOMIALS.get(model, ((), None))
        if found is None or source != state:
            found = self._coefficients()
            _POLYNOMIALS[model] = state, found
        return found

    def _coefficients(self) -> Float[Tensor, "S1 S1 S1"]:
        model = self.model
        n_s = model.num_betas
        if n_s > _MOST_BETAS:
            raise OptionError(f"a known mass takes models of up to {_MOST_BETAS} betas, this one has {n_s}: load fewer")
        unit = torch.eye(n_s, dtype=model.dtype, device=model.device)
        with torch.no_grad():
            rest = model(betas=torch.cat([torch.zeros_like(unit[:1]), unit])).vertices.double().cpu().numpy()
        corners = np.concatenate([rest[:1], rest[1:] - rest[0]]).transpose(1, 2, 0)  # (V, 3, 1 + S)
        corners[:, :, 0] -= corners[:, :, 0].mean(0)
        faces, rims = close_holes(model.faces.cpu().numpy(), len(corners))
        corners = np.concatenate([corners, *(corners[rim].mean(0, keepdims=True) for rim in rims)])
        K = _determinants(corners, faces) * BODY_DENSITY / 6
        K = (K + K.transpose(1, 2, 0) + K.transpose(2, 0, 1)) / 3
        K = (K + K.transpose(0, 2, 1)) / 2
        outward = -1.0 if K[0, 0, 0] < 0 else 1.0
        return torch.from_numpy(outward * K).to(model.v_template)

    @classmethod
    def of(cls, setup: Setup) -> MassTerm:
        """Make the residual for the body model of the fit."""
        return cls(setup.model)

    def applies(self, seen: Observations) -> bool:
        """Tell whether a mass is known and the shape is not."""
        return seen.mass_kg is not None and "betas" not in seen.fixed

    def mass(self, betas: Float[Tensor, "B S"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B S"]]:
        """Compute the mass (kilograms) and its derivative by betas."""
        b = torch.nn.functional.pad(betas, (1, 0), value=1.0)
        coefficients = self.coefficients
        n = len(coefficients)
        by_two = (b @ coefficients.reshape(n, n * n)).view(-1, n, n)
        by_one = (by_two @ b[..., None])[..., 0]
        return (by_one * b).sum(1), 3 * by_one[:, 1:]

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model (Gauss-Newton)."""
        assert seen.mass_kg is not None
        mass, row = self.mass(variables["betas"])
        r = mass - seen.mass_kg
        return Quadratic(r.square(), r[:, None] * row, row[:, :, None] * row[:, None])

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the one residual and its derivative."""
        assert seen.mass_kg is not None
        mass, row = self.mass(variables["betas"])
        return Vector((mass - seen.mass_kg)[:, None], by_variables=row[:, None])


def _determinants(corners: Float[np.ndarray, "V 3 N"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "N N N"]:
    """Sum the determinants of the corners of all faces, for every three coefficients of the vertices."""
    n = corners.shape[2]
    total = np.zeros((n, n * n))
    for start in range(0, len(faces), _FACES_AT_ONCE):
        a, b, c = (corners[some] for some in faces[start : start + _FACES_AT_ONCE].T)  # (F, 3, N)
        across = np.cross(b[:, :, :, None], c[:, :, None], axis=1)  # (F, 3, N, N)
        total += a.transpose(2, 0, 1).reshape(n, -1) @ across.reshape(-1, n * n)
    return total.reshape(n, n, n)
