"""Results from the solver's variables: parameters, joints and reprojection errors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyParams
from bodyfit.body.points.posed import pose_tree
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.objective import BodyTerms
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.residuals.reprojection import projected
from bodyfit.fit.result import FitResult, FitStatus, FitTrace

__all__ = ["Outcome"]

_AT_ONCE = 1024  # bodies measured together; those of an hour at once would take gigabytes


class Outcome:
    """Maker of results for one model and keypoint layout."""

    def __init__(self, terms: BodyTerms, layout: str) -> None:
        self.terms, self.model, self.variables, self.layout = terms, terms.model, terms.layout, layout

    def points(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K 3"]:
        """Compute the body's keypoints at the solver's variables, metres, in the axes of the first camera."""
        return torch.cat([self._points(self.model.params(**self.variables.params(some))) for some in x.split(_AT_ONCE)])

    def joints(self, params: BodyParams) -> Float[Tensor, "B J 3"]:
        """Compute the model's joints, metres, a bounded number of bodies at once."""
        rows = torch.arange(params.batch, device=params.transl.device).split(_AT_ONCE)
        return torch.cat([self.model.joints(params.select(r)) for r in rows])

    def result(
        self,
        x: Float[Tensor, "B D"],
        points: Float[Tensor, "B K 3"],
        evidence: CheckedEvidence,
        present: Bool[Tensor, "B N"],
        observed_joints: Bool[Tensor, "B J"],
        cost: Tensor,
        iterations: Tensor,
        flipped: Tensor,
        statuses: tuple[FitStatus, ...],
        trace: FitTrace | None = None,
        spreads: Spread | None = None,
    ) -> FitResult:
        """Make the result of the solver's variables, at which the body's keypoints are `points` (metres)."""
        params = self.model.params(**self.variables.params(x))
        rows = torch.arange(len(x), device=x.device).split(_AT_ONCE)
        off = [self._off_px(points[r], evidence.select(r), present[r]) for r in rows]
        ok = torch.isfinite(x).all(1)
        keypoints = evidence.xyc
        return FitResult(
            params=params,
            camera=evidence.camera,
            joints=self.joints(params),
            status=statuses,
            objective=cost,
            reprojection_error_px=torch.where(ok, torch.cat(off), torch.nan),
            layout=self.layout,
            keypoints=keypoints if evidence.rig is None else keypoints.unflatten(1, (len(evidence.rig.R), -1)),
            model_name=self.model.name,
            gender=self.model.gender,
            iterations=iterations,
            flipped=flipped,
            trace=trace,
            variables=self.variables,
            others=self.variables.others(x),
            covariance=None if spreads is None else spreads.covariance,
            joints_sd_m=None if spreads is None else spreads.joints_sd_m,
            joints_sd_rel_m=None if spreads is None else spreads.joints_sd_rel_m,
            observed_joints=observed_joints,
        )

    def _points(self, params: BodyParams) -> Float[Tensor, "B K 3"]:
        tree = pose_tree(self.model, params.betas, self.model.full_pose(params)[:, : self.model.body_joints])
        return self.terms.points.place(tree, params.betas).positions + params.transl[:, None]

    def _off_px(
        self, points: Float[Tensor, "B K 3"], evidence: CheckedEvidence, present: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B"]:
        """Compute the mean reprojection error of confident keypoints, pixels."""
        points = points if evidence.rig is None else evidence.rig.points(points)
        off = projected(points)[0] - evidence.target
        distance = evidence.focal_px * off.norm(dim=2)
        sure = present & (evidence.xyc[..., 2] >= 0.5)
        return torch.where(sure, distance, 0.0).sum(1) / sure.sum(1)  # 0 / 0 = NaN where there is none
