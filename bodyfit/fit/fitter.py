"""SMPLify for a batch of people: keypoints in, bodies in camera axes out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.points import Points, pose_tree
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.camera import Camera
from bodyfit.errors import OptionError, check_shape
from bodyfit.fit.config import FitConfig
from bodyfit.fit.initial import starting_orientations
from bodyfit.fit.objective import BodyTerms, Observations, StageObjective, pack, unpack
from bodyfit.fit.result import FitResult, FitStatus, FitTrace
from bodyfit.skeleton import correspondence, keypoint_trust, layout_names
from bodyfit.solve import LMSummary, minimize

__all__ = ["Fitter", "fit_keypoints"]

# How far a point says where the trunk is: limbs move, so they count little until the pose is free.
_TRUNK = ("hip", "shoulder", "neck", "pelvis", "spine", "thorax", "collar")
_HEAD = ("nose", "eye", "ear", "mouth", "head", "chin")


def fit_keypoints(
    xyc: Float[Tensor, "B K 3"] | Float[np.ndarray, "B K 3"],
    *,
    layout: str,
    image_size: tuple[int, int],
    model: BodyModel | None = None,
    focal_px: float | Float[Tensor, "B"] | None = None,
    principal_point_px: tuple[float, float] | Float[Tensor, "B 2"] | None = None,
    joints3d: Float[Tensor, "B K 3"] | Float[np.ndarray, "B K 3"] | None = None,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """Bodies that explain 2D keypoints (SMPLify, Bogo et al. 2016), any number of people at once.

    xyc: x px, y px (pixel centres at +0.5) and confidence of each keypoint of `layout`; missing is confidence 0 or NaN.
    image_size: (width, height) px. focal_px, principal_point_px: one for all or one a person; default
    sqrt(w^2 + h^2) and the centre. joints3d: metres about any origin, camera axes, NaN where unknown, a soft term.
    The result is in camera axes (x right, y down, z forward) and metres. A person who cannot be fitted has a status
    that says so and NaN parameters; the others are not touched. Raises `ShapeError` and `OptionError`.
    """
    fitter = Fitter(model=model, layout=layout, config=config, device=device)
    return fitter(
        xyc, image_size=image_size, focal_px=focal_px, principal_point_px=principal_point_px, joints3d=joints3d
    )


@dataclass(frozen=True)
class _Solved:
    """The end of a chunk's fit."""

    x: Float[Tensor, "B D"]
    summary: LMSummary
    iterations: Tensor
    flipped: Tensor
    trace: Tensor


class Fitter:
    """`fit_keypoints` for one model, layout and configuration, with what does not change made once."""

    def __init__(
        self,
        *,
        layout: str,
        model: BodyModel | None = None,
        config: FitConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if model is None:
            model = load_model(device=device or "cpu")
        elif device is not None and torch.device(device) != model.device:
            model = copy.deepcopy(model).to(device)  # the caller's own stays where it is
        self.model = model
        self.layout = layout
        self.config = FitConfig() if config is None else config
        names = layout_names(layout)
        points = Points(self.model, correspondence(layout))
        prior = load_pose_prior(self.config.pose_prior).of_joints(self.model.body_joints)
        self.terms = BodyTerms(self.model, points, prior)
        self.trust = self._tensor([t * k for t, k in zip(keypoint_trust(layout), points.known, strict=True)])
        self.trunk = self._tensor(
            [1.0 if any(p in n for p in _TRUNK) else 0.4 if any(p in n for p in _HEAD) else 0.15 for n in names]
        )
        self.rest_pose = self._tensor(prior.mean)

    def _tensor(self, value) -> Tensor:
        return torch.as_tensor(value, dtype=self.model.dtype, device=self.model.device)

    @torch.no_grad()
    def __call__(
        self,
        xyc: Tensor | np.ndarray,
        *,
        image_size: tuple[int, int],
        focal_px: float | Tensor | None = None,
        principal_point_px: tuple[float, float] | Tensor | None = None,
        joints3d: Tensor | np.ndarray | None = None,
    ) -> FitResult:
        """See `fit_keypoints`."""
        xyc = self._tensor(xyc)
        n_k = len(self.trust)
        check_shape("xyc", xyc, (None, n_k, 3), hint=f"layout {self.layout} has {n_k} keypoints of x, y, confidence")
        kind = {"dtype": self.model.dtype, "device": self.model.device}
        camera = Camera.make(len(xyc), image_size, focal_px=focal_px, principal_point_px=principal_point_px, **kind)
        lift = None if joints3d is None else self._tensor(joints3d)
        if lift is not None:
            check_shape("joints3d", lift, tuple(xyc.shape), hint="one 3D point for each keypoint, NaN where unknown")
        confidence = xyc[..., 2]
        if bool((torch.isfinite(confidence) & ((confidence > 1.5) | (confidence < 0))).any()):
            raise OptionError("confidences must lie in [0, 1]; scale the third column of xyc")
        said = (confidence >= self.config.min_confidence) & (self.trust > 0)
        present = said & torch.isfinite(xyc).all(2)
        fit, claimed = (seen.sum(1) >= self.config.min_keypoints for seen in (present, said))
        x = xyc.new_full((len(xyc), 3 + 3 * self.model.body_joints + self.model.num_betas), torch.nan)
        cost, iterations = x.new_full((len(x),), torch.nan), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        converged, flipped = torch.zeros_like(fit), torch.zeros_like(fit)
        columns = [
            stage for stage, config in enumerate(self.config.stages) for _ in range(config.lm.max_iterations + 1)
        ]
        trace = FitTrace(x.new_full((len(x), len(columns)), torch.nan), torch.tensor(columns, device=x.device))
        for rows in fit.nonzero()[:, 0].split(self.config.batch_size):
            solved = self._solve(xyc[rows], present[rows], None if lift is None else lift[rows], camera.select(rows))
            good = torch.isfinite(solved.summary.cost) & torch.isfinite(solved.x).all(1)
            x[rows] = torch.where(good[:, None], solved.x, torch.nan)
            cost[rows], iterations[rows] = solved.summary.cost, solved.iterations
            converged[rows], flipped[rows] = solved.summary.converged, solved.flipped
            trace.cost[rows] = solved.trace
        statuses = _statuses(torch.isfinite(x).all(1), converged, unseen=~claimed)
        return self._result(x, xyc, present, camera, cost, iterations, flipped, statuses, trace)

    def _observations(self, xyc: Tensor, present: Tensor, lift: Tensor | None, camera: Camera) -> Observations:
        """Keypoints as the objective wants them, missing ones zeroed; the depth is not known yet."""
        clean = torch.where(present[..., None], xyc, torch.zeros_like(xyc))
        target = (clean[..., :2] - camera.principal_point_px[:, None]) / camera.focal_px[:, None, None]
        weight = clean[..., 2].clamp(max=1) * self.trust
        seen = Observations(target * present[..., None], weight, weight.new_ones(len(xyc)))
        if lift is None:
            return seen
        lifted = torch.isfinite(lift).all(2) & (self.trust > 0)
        # A point outside the picture has a place in the lift all the same, only less sure.
        lift_weight = lifted * self.trust * torch.nan_to_num(xyc[..., 2], nan=0.0).clamp(0.1, 1)
        lift = torch.where(lifted[..., None], lift, torch.zeros_like(lift))
        return replace(seen, lift_m=lift, lift_weight=lift_weight)

    def _solve(self, xyc: Tensor, present: Tensor, lift: Tensor | None, camera: Camera) -> _Solved:
        """One batch: starting orientations, the first stage from each, the other stages from the better."""
        x, seen = self._start(self._observations(xyc, present, lift, camera), camera.focal_px)
        batch, keep = x.shape[:2]
        rows = torch.arange(batch, device=x.device).repeat_interleave(keep)
        first, *others = self.config.stages
        x, summary = minimize(StageObjective(self.terms, first, seen.select(rows)), x.flatten(0, 1), first.lm)
        # One row of costs a person; the first of equals is the better start.
        best = torch.nan_to_num(summary.cost, nan=torch.inf).view(batch, keep).argmin(1)
        iterations = summary.iterations.view(batch, keep).sum(1)
        chosen = torch.arange(batch, device=x.device) * keep + best
        x = x[chosen]
        traces = [summary.trace[chosen]]
        summary = LMSummary(summary.cost[chosen], iterations, summary.converged[chosen], traces[0])
        for stage in others:
            x, summary = minimize(StageObjective(self.terms, stage, seen), x, stage.lm)
            iterations = iterations + summary.iterations
            traces.append(summary.trace)
        return _Solved(x, summary, iterations, best > 0, torch.cat(traces, 1))

    def _start(self, seen: Observations, focal_px: Float[Tensor, "B"]) -> tuple[Float[Tensor, "B H D"], Observations]:
        """The mean body in each starting orientation, and the observations with their scale at its depth."""
        betas = seen.target.new_zeros(1, self.model.num_betas)
        rest = torch.cat([betas.new_zeros(1, 3), self.rest_pose[None]], 1).unflatten(1, (-1, 3))
        tree = pose_tree(self.model, betas, rest)
        root = tree.joints[0, 0]
        start = starting_orientations(
            self.terms.points.place(tree, betas).positions[0] - root,
            seen.target,
            seen.weight * self.trunk,
            self._up(seen),
            lift_m=seen.lift_m,
            lift_weight=None if seen.lift_weight is None else seen.lift_weight * self.trunk,
            keep=self.config.hypotheses,
        )
        batch, keep = start.t.shape[:2]
        params = BodyParams(
            betas=betas.expand(batch * keep, -1),
            body_pose=self.rest_pose.expand(batch * keep, -1),
            global_orient=roma.rotmat_to_rotvec(start.R).flatten(0, 1),
            transl=(start.t - root).flatten(0, 1),
        )
        # Centimetres at the person for one unit of normalised coordinates, less where a pixel's noise is worth more.
        depth_cm = 100 * start.t[:, 0, 2].clamp_min(0.3)
        pixel_noise = self.config.noise_px * depth_cm / focal_px / self.config.noise_cm
        scaled = replace(seen, scale_cm=depth_cm / (1 + pixel_noise.square()).sqrt())
        return pack(params).unflatten(0, (batch, keep)), scaled

    def _up(self, seen: Observations) -> Float[Tensor, "B 2"]:
        """From the hips to the shoulders in the picture; straight up where either is unseen."""
        names = layout_names(self.layout)
        middles = []
        for part in ("hip", "shoulder"):
            rows = [i for i, n in enumerate(names) if n.endswith(f"_{part}") and n != "mid_hip"]
            w = (seen.weight[:, rows] > 0.2 * self.trust[rows]).to(seen.weight.dtype) if rows else seen.weight[:, :0]
            total = w.sum(1, keepdim=True)
            middles.append(((w[..., None] * seen.target[:, rows]).sum(1) / total.clamp_min(1e-6), total[:, 0] > 0))
        (hip, has_hip), (shoulder, has_shoulder) = middles
        up = shoulder - hip
        known = has_hip & has_shoulder & (up.norm(dim=1) > 1e-4)
        return torch.where(known[:, None], up, up.new_tensor([0.0, -1.0]))

    def _result(
        self,
        x: Tensor,
        xyc: Tensor,
        present: Tensor,
        camera: Camera,
        cost: Tensor,
        iterations: Tensor,
        flipped: Tensor,
        statuses: tuple[FitStatus, ...],
        trace: FitTrace,
    ) -> FitResult:
        """Names and errors for the solver's variables."""
        params = self.model.params(**unpack(x, self.model.num_betas))
        tree = pose_tree(self.model, params.betas, self.model.full_pose(params)[:, : self.model.body_joints])
        seen = self.terms.points.place(tree, params.betas).positions + params.transl[:, None]
        distance = (camera.project(seen) - xyc[..., :2]).norm(dim=2)
        sure = present & (xyc[..., 2] >= 0.5)
        mean = torch.where(sure, distance, 0.0).sum(1) / sure.sum(1)  # 0 / 0 = NaN where there is none
        ok = torch.isfinite(x).all(1)
        return FitResult(
            params=params,
            camera=camera,
            joints=self.model.joints(params),
            status=statuses,
            objective=cost,
            reprojection_error_px=torch.where(ok, mean, torch.nan),
            layout=self.layout,
            keypoints=xyc,
            model_name=self.model.name,
            gender=self.model.gender,
            iterations=iterations,
            flipped=flipped,
            trace=trace,
        )


def _statuses(found: Tensor, converged: Tensor, *, unseen: Tensor) -> tuple[FitStatus, ...]:
    """The status of each person; `unseen`: not even said to show enough."""

    def status(found: bool, converged: bool, unseen: bool) -> FitStatus:
        if found:
            return FitStatus.CONVERGED if converged else FitStatus.MAX_STEPS
        return FitStatus.UNOBSERVABLE if unseen else FitStatus.INVALID_INPUT

    return tuple(map(status, found.tolist(), converged.tolist(), unseen.tolist()))
