"""A window of a track: the evidence of its frames, their joint objective, and its minimisation."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.conditional import noise_cm, weighed_by_noise
from bodyfit.fit.config import SequenceConfig
from bodyfit.fit.depth.maps import DepthEvidence
from bodyfit.fit.depth.stage import CLIP_LEVELS, DepthVerdict
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.observations import EXPECTED, Observations
from bodyfit.fit.residuals.motion import Motion
from bodyfit.fit.residuals.reprojection import projected
from bodyfit.fit.sequence.focal import Focal, refined
from bodyfit.fit.sequence.left_right import centred_by, expected_sides, orders_of, reordered
from bodyfit.fit.sequence.objective import SequenceObjective
from bodyfit.fit.silhouette.masks import MaskEvidence
from bodyfit.fit.silhouette.stage import agreeing
from bodyfit.solve import ChainSummary, LMConfig, minimize_chain

__all__ = ["SequenceObjective", "Window"]


class Window:
    """Frames of a track that are optimised together.

    `fixed_frames` leading frames are not optimised; `fixed_shared` fixes the shared variables.
    """

    def __init__(
        self,
        frames: Fitter,
        settings: SequenceConfig,
        known: CheckedEvidence,
        present: Bool[Tensor, "T K"],
        exchanged: Int[Tensor, "T"],
        fps: float,
        *,
        motion: float,
        swaps: bool,
        fixed_frames: int = 0,
        fixed_shared: bool = False,
    ) -> None:
        self.frames, self.settings = frames, settings
        self.known, self.present, self.swaps = known, present, swaps
        self.fixed_frames, self.fixed_shared = fixed_frames, fixed_shared
        self.motion = Motion(frames.model, fps, settings.motion_tail, frames.variables) if motion > 0 else None
        self.weight = motion
        last = frames.config.stages[-1]
        self.stage = replace(
            last,
            shape=settings.shape if known.estimate is None else max(settings.shape, settings.estimated_shape),
            pose_tail=settings.pose_tail * last.pose_tail,
            interpenetration=settings.interpenetration * last.interpenetration,
            conditional=settings.conditional * last.conditional,
        )
        self.exchanged = exchanged.clone()
        self.orders = orders_of(frames.exchanges)
        self.seen = self.frames.observer.observations(known, present)
        self.mask_notes: list[str | None] = [None] * len(present)
        """Why masks of frames are not used."""
        self.depth_verdicts: list[DepthVerdict | None] = [None] * len(present)
        """How the bodies agree with depth maps of frames."""

    def solve(
        self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]
    ) -> tuple[Float[Tensor, "T N"], Float[Tensor, "S"], ChainSummary]:
        """Optimise poses x and shared variables z from a start.

        A few first iterations reveal which sides the detector confused.
        """
        steps = 0
        for lm in (LMConfig(max_iterations=4, cost_tolerance=1e-2), self.settings.lm):
            self._observe(x, z)
            x, z, summary = minimize_chain(self.objective(self.seen), x, z, lm)
            steps += summary.iterations
        if self.known.masks is not None:
            done = summary.converged
            x, z, summary = self._with_silhouettes(x, z, self.known.masks)
            summary = replace(summary, converged=done or summary.converged)  # a round has few iterations
            steps += summary.iterations
        if self.known.depth is not None:
            x, z = self._on_depth(x, z, self.known.depth)
        return x, z, replace(summary, iterations=steps)

    def _with_silhouettes(
        self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"], masks: MaskEvidence
    ) -> tuple[Float[Tensor, "T N"], Float[Tensor, "S"], ChainSummary]:
        """Optimise with silhouettes, whose contours are paired with masks a few times over."""
        frames, settings, steps = self.frames, self.frames.config.silhouette, 0
        used, summary, share = None, None, self.settings.silhouette
        for _ in range(settings.rounds):
            self._observe(x, z)
            full, joints = frames.variables.join(x, z), frames.observer.joints(self.known, self.present)
            pairs, explained = frames.silhouette.matcher(full, masks, self.known.rig, joints)
            if used is None:
                self.mask_notes, used = agreeing(masks, explained, full)
            self.seen = replace(self.seen, contour=replace(pairs, weight=share * pairs.weight * used[:, None]))
            x, z, summary = minimize_chain(self.objective(self.seen), x, z, settings.lm)
            steps += summary.iterations
        assert summary is not None
        return x, z, replace(summary, iterations=steps)

    def _on_depth(
        self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"], depth: DepthEvidence
    ) -> tuple[Float[Tensor, "T N"], Float[Tensor, "S"]]:
        """Optimise with the points of depth maps, which are paired with the skin a few times over."""
        layout, stage = self.frames.variables, self.frames.depth
        self._observe(x, z)
        people = stage.people(layout.join(x, z), depth)
        own, seen = self.stage, replace(self.seen, contour=None)
        if self.known.points_of_depth:  # beside the depth itself they measure nothing
            seen = replace(seen, points_m=None, points_weight=None)
        for level in CLIP_LEVELS:
            for _ in range(level.rounds):
                seen = replace(seen, surface=stage.pairs(layout.join(x, z), people, level))
                self.stage = replace(own, pose=min(own.pose, level.pose))
                x, z, _ = minimize_chain(self.objective(seen), x, z, level.stage().lm)
        surface = stage.pairs(layout.join(x, z), people, CLIP_LEVELS[-1], free_space=False)
        self.stage, self.seen = own, replace(seen, surface=surface)
        self.depth_verdicts = stage.verdicts(layout.join(x, z), people)
        return x, z

    def objective(self, seen: Observations) -> SequenceObjective:
        """Make the objective of observations of consecutive frames."""
        frames = StageObjective(self.frames.terms, self.stage, seen)
        return SequenceObjective(frames, self.motion, self.weight, self.fixed_frames)

    def focal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"], believed: Focal) -> Focal:
        """Update the belief about the focal length by these frames, from initial poses and shared variables."""
        self._observe(x, z)
        frames = StageObjective(self.frames.terms, self.stage, self.seen)
        return refined(frames, x, z, believed)

    def _observe(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]) -> None:
        """Update the observations for bodies at x: exchange sides that match better so, and scale to the depth."""
        frames = self.frames
        layout = frames.variables
        full = layout.join(x, z)
        transl = full[:, None, layout["transl"]]
        tree = StageObjective(frames.terms, self.stage, self.seen).tree(full)
        placed = frames.terms.points.place(tree, full[:, layout["betas"]])
        points = placed.positions + transl
        rig, root = self.known.rig, tree.joints[:, :1] + transl
        scale = frames.observer.scale_cm((root if rig is None else rig.points(root))[..., 2], self.known)
        if self.swaps and rig is None:
            uv, _ = projected(points)
            picture = expected_sides(uv, self.seen.target, self.seen.weight, scale, self.orders, 4.0)
            lift = torch.full_like(picture, -1)
            if self.seen.lift_m is not None and self.seen.lift_weight is not None:
                weight = self.seen.lift_weight
                turned, lifted = centred_by(points, weight), centred_by(self.seen.lift_m, weight)
                lift = expected_sides(turned, lifted, weight, torch.full_like(scale, 100.0), self.orders, 8.0)
            self.known, self.present = reordered(self.known, self.present, self.orders, picture, lift)
            self.exchanged = torch.where(picture >= 0, picture, self.exchanged)
            self._expect_again(((picture >= 0) | (lift >= 0)).nonzero()[:, 0])
        seen = frames.observer.observations(self.known, self.present, expect=False)
        seen = replace(seen, **{name: getattr(self.seen, name) for name in EXPECTED})
        seen = self._weighed(points, replace(seen, scale_cm=scale))
        self.seen = replace(seen, fixed=frames.variables.shared if self.fixed_shared else self.seen.fixed)

    def _expect_again(self, rows: Int[Tensor, "N"]) -> None:
        """Ask the conditional pose prior again in frames whose keypoints are in another order."""
        if self.seen.expected_pose is not None and len(rows) > 0:
            again = self.frames.observer.observations(self.known.select(rows), self.present[rows])
            self.seen = self.seen.replace_rows(rows, again, EXPECTED)

    def _weighed(self, points_m: Float[Tensor, "T K 3"], seen: Observations) -> Observations:
        """Return observations whose expectations weigh as much as the noise that fits leave in the window's keypoints.

        Errors of expectations are the same in many frames: where keypoints are exact, nothing makes up for them.
        """
        there = seen.weight.amax(1) > 0
        if seen.expected_weight is None or not there.any():
            return seen
        noise = noise_cm(points_m, seen)[there].square().mean().sqrt()
        return weighed_by_noise(seen, noise.expand(len(there)), least_cm=0.0)

    def costs(self, x: Float[Tensor, "R D"], core: slice) -> Float[Tensor, "R"]:
        """Compute the objective of each frame in `core`, without the motion."""
        index = torch.arange(len(self.present), device=x.device)[core]
        frames = StageObjective(self.frames.terms, self.stage, self.seen.select(index))
        rows = torch.arange(len(x), device=x.device).split(256)
        return torch.cat([frames.select(r).normal(x[r]).cost for r in rows])
