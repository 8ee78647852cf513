"""How sure a fit is: the covariance of the solver's variables, and how far off each joint may be.

At a minimum of E = |r|^2 with half-Hessian H = J^T J (Gauss-Newton), evidence and priors that err move the variables
by H^-1 times what they add to J^T r. The weights of an objective are chosen for the best fit and are not the precisions
of its terms, so E is no log-likelihood and a multiple of H^-1 no covariance. What is one is the sandwich of
misspecified models (Huber 1967; White 1982),

    C = H^-1 (s_seen H_seen + s_pose H_pose + s_shape H_shape) H^-1,        H = H_seen + H_pose + H_shape,

with s the variance of a weighted residual of each group of terms:

- pose: the mixture. Its deviation is 1, so s is its squared weight, halved because its cost is half a Mahalanobis
  distance (`Residual.variance`).
- shape: the betas' prior. Their deviation is 1, so s is its squared weight.
- all other groups (seen, motion, contact): s is `noise_cm` squared. A keypoint errs by `noise_cm`, and the weights of
  the others say how precise they are beside a keypoint: with the default weights a pose moves 0.1 rad from the previous
  frame's, a stature is known to 2 mm, and an angle goes 0.04 rad beyond its limit, as often as a keypoint is 2 cm off.

Factors near 1 (`Calibration`) were calibrated on people of known pose. Where the three agree C is s H^-1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.config import FitConfig
from bodyfit.fit.objective import StageObjective
from bodyfit.runtime.parallel import run

__all__ = ["Spread", "covariance", "joint_deviations", "spread"]

_GRAIN = 16
"""Minimum number of people per thread."""


@dataclass(frozen=True)
class Spread:
    """How sure fits are."""

    covariance: Float[Tensor, "B D D"]
    """Of the solver's variables."""
    joints_sd_m: Float[Tensor, "B J"]
    """Root of the expected square of each joint's distance from the truth, camera axes."""
    joints_sd_rel_m: Float[Tensor, "B J"]
    """The same, of joints about the root joint."""

    @classmethod
    def of_parts(
        cls, like: Float[Tensor, "B D"], n_joints: int, parts: Iterable[tuple[Int[Tensor, "N"], Spread]]
    ) -> Spread:
        """Put parts of a batch together, each with the rows of its people; NaN for who is in none."""
        batch, size = like.shape
        whole = [like.new_full((batch, *s), torch.nan) for s in ((size, size), (n_joints,), (n_joints,))]
        for rows, part in parts:
            for values, f in zip(whole, fields(cls), strict=True):
                values[rows] = getattr(part, f.name)
        return cls(*whole)

    def select(self, rows: Tensor) -> Spread:
        """Some of the people."""
        return Spread(*(getattr(self, f.name)[rows] for f in fields(self)))


def covariance(objective: StageObjective, x: Float[Tensor, "B D"], config: FitConfig) -> Float[Tensor, "B D D"]:
    """The covariance of the variables at solutions of a stage; a shape that is known has none."""
    s_evidence = config.calibration.seen * config.noise_cm**2
    H = objective.normal(x).hessian
    # Those of the priors, as what they are more than s_seen H.
    more = torch.zeros_like(H)
    for name, weight in objective.weights.items():
        residual = objective.terms.residual(name)
        if residual.group in ("pose", "shape"):
            s = residual.variance * getattr(config.calibration, residual.group) * weight**2
            objective.add_hessian(more, name, (s - s_evidence) * weight**2, x)
    # The solver's own floor: a direction that nothing tells of has a large variance and not an infinite one.
    H = H.double()
    diagonal = H.diagonal(dim1=1, dim2=2)
    diagonal.add_(1e-9 * diagonal.amax(1, keepdim=True))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(H)[0]).to(x.dtype)
    for columns in objective.fixed:
        inverse[:, columns] = 0
        inverse[:, :, columns] = 0
    return torch.add(inverse @ more @ inverse, inverse, alpha=s_evidence)


def spread(objective: StageObjective, x: Float[Tensor, "B D"], joints: Points, config: FitConfig) -> Spread:
    """The covariance and each joint's deviation at solutions of a stage; `joints` are the body's, the root first."""
    few = len(x) < 2 * _GRAIN
    if few or not x.is_cpu or torch.get_num_threads() > 1 or torch.is_grad_enabled():
        return _spread(objective, x, joints, config)
    out, batch = Spread.of_parts(x, len(joints), ()), len(x)
    inference = torch.is_inference_mode_enabled()

    def work(first: int, stop: int) -> None:
        torch.set_num_threads(1)  # each thread has its own count
        rows = torch.arange(first, stop)
        with torch.inference_mode(inference), torch.no_grad():
            part = _spread(objective.select(rows), x[rows], joints, config)
            for f in fields(Spread):
                getattr(out, f.name)[first:stop] = getattr(part, f.name)

    # torch's own threads are at rest (`loops_alone`): people are divided instead.
    run(work, batch, grain=_GRAIN)
    return out


def _spread(objective: StageObjective, x: Float[Tensor, "B D"], joints: Points, config: FitConfig) -> Spread:
    """Compute `spread` of all people at once."""
    C, layout = covariance(objective, x, config), objective.terms.layout
    J = joints.place(objective.tree(x), layout.coefficients(x)).jacobian()
    columns = list(layout.point_columns(joints.joints, joints.coefficients))
    return Spread(C, *joint_deviations(J, C[:, columns][:, :, columns]))


def joint_deviations(
    jacobian: Float[Tensor, "B J 3 D"], covariance: Float[Tensor, "B D D"]
) -> tuple[Float[Tensor, "B J"], Float[Tensor, "B J"]]:
    """Root of the expected square of each joint's error, in space and about the first joint, by the joints' derivative
    and the covariance of what they move with."""
    by_covariance = (jacobian.flatten(1, 2) @ covariance).view_as(jacobian)

    def deviation(rows: Float[Tensor, "B J 3 D"], by: Float[Tensor, "B J 3 D"]) -> Float[Tensor, "B J"]:
        return (rows * by).sum((2, 3)).clamp_min(0).sqrt()

    about_root = deviation(jacobian - jacobian[:, :1], by_covariance - by_covariance[:, :1])
    return deviation(jacobian, by_covariance), about_root
