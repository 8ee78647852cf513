"""The last stage of a fit with masks: contours are paired with masks and the objective minimised, a few times over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.fit.config import FitConfig, SilhouetteConfig, StageConfig
from bodyfit.fit.evidence import Extrinsics
from bodyfit.fit.initialise.descent import Solved
from bodyfit.fit.objective import BodyTerms, StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.silhouette.contour import ContourFinder
from bodyfit.fit.silhouette.masks import OTHERS, MaskEvidence
from bodyfit.fit.silhouette.match import Pairs, match
from bodyfit.fit.silhouette.pairs import ContourPairs
from bodyfit.fit.variables import Variables
from bodyfit.solve import minimize

__all__ = ["Matcher", "SilhouetteStage", "agreeing"]

_AT_ONCE = 64
"""Bodies whose vertices are in memory together."""
_EXPLAINED = 0.5
"""Share of a mask's edge that must have the body's contour beside it."""


class Matcher:
    """Pairs the contours of bodies with masks, for one model and table of variables."""

    def __init__(self, model: BodyModel, variables: Variables, config: SilhouetteConfig) -> None:
        self.model, self.variables, self.config = model, variables, config
        self.finder = ContourFinder(model)
        weights = model.weights[:, : model.body_joints]
        self.joint: Int[Tensor, "V"] = weights.argmax(1)
        """The body joint that moves a vertex most."""
        names = model.skeleton.names[: model.body_joints]
        apart = [i for i, name in enumerate(names) if name.endswith(("_wrist", "_hand"))]
        # Fingers, jaw and eyes have variables of their own, or none: hands are seldom as the model holds them.
        of_body = (weights.sum(1) > 0.999) & (model.weights[:, apart].sum(1) < 0.5)
        self.of_body: Bool[np.ndarray, "V"] = of_body.cpu().numpy()
        """Vertices that the body's own joints move, hands left out."""
        head = model.weights[:, [i for i, name in enumerate(model.skeleton.names) if name == "head"]].sum(1) > 0.5
        self.slack_cm: Float[np.ndarray, "V"] = np.where(head.cpu().numpy(), config.hair_cm, config.clothing_cm)

    def __call__(
        self,
        x: Float[Tensor, "B D"],
        masks: MaskEvidence,
        rig: Extrinsics | None,
        joints: Bool[Tensor, "B J"] | None = None,
    ) -> tuple[ContourPairs, list[float]]:
        """Pair the contours of bodies at x with their masks.

        joints: which of the body's joints are observed; what others move is left out. Returns also the least share of a
        mask's edge, over the views, that has a contour beside it; 1 without a mask.
        """
        found: list[list[tuple[int, float, Pairs]]] = []
        explained = []
        for rows in torch.arange(len(x), device=x.device).split(_AT_ONCE):
            vertices = self.model(**self.variables.params(x[rows])).vertices
            for body, row in zip(vertices, rows.tolist(), strict=True):
                usable = self.of_body
                if joints is not None:
                    usable = usable & joints[row, self.joint.to(joints.device)].cpu().numpy()
                mine = self._person(body, masks.edges[row], rig, usable)
                found.append(mine)
                explained.append(min((pairs.explained for *_, pairs in mine), default=1.0))
        return self._padded(found, x), explained

    def _person(
        self, body: Float[Tensor, "V 3"], edges: tuple, rig: Extrinsics | None, usable: Bool[np.ndarray, "V"]
    ) -> list[tuple[int, float, Pairs]]:
        """Pair one body in all views that have a mask: view, scale, pairs."""
        views = body[None] if rig is None else rig.points(body[None]).unflatten(1, (len(rig.R), -1))[0]
        found = []
        for view, edge in enumerate(edges):
            if edge is None:
                continue
            vertices_cam_m = views[view].cpu().double().numpy()
            scale = 100 * float(np.median(vertices_cam_m[:, 2]))
            contour = self.finder.find(vertices_cam_m, scale)
            found.append((view, scale, match(contour, edge, scale, usable, self.config)))
        return found

    def _padded(self, found: list[list[tuple[int, float, Pairs]]], like: Tensor) -> ContourPairs:
        """Put the pairs of all people in tensors."""
        batch, most = len(found), max((sum(len(p) for *_, p in mine) for mine in found), default=0)
        vertices, view = np.zeros((2, batch, most), np.int64)
        target, normal = np.zeros((2, batch, most, 2))
        weight, scale, slack = np.zeros((3, batch, most))
        for b, mine in enumerate(found):
            first = 0
            for c, unit, pairs in mine:
                at = (b, slice(first, first + len(pairs)))
                vertices[at], target[at], normal[at], weight[at] = (
                    pairs.vertices,
                    pairs.target,
                    pairs.normal,
                    pairs.weight,
                )
                view[at], scale[at], slack[at] = c, unit, self.slack_cm[pairs.vertices]
                first += len(pairs)
        index = (torch.as_tensor(v, device=like.device) for v in (vertices, view))
        numbers = (torch.as_tensor(v).to(like) for v in (target, normal, weight, scale, slack))
        return ContourPairs(*index, *numbers, sigma_cm=self.config.sigma_cm)


def agreeing(
    masks: MaskEvidence, explained: Sequence[float], x: Float[Tensor, "B D"]
) -> tuple[list[str | None], Bool[Tensor, "B"]]:
    """Tell why masks are not used, and who has one that is: the body must have a contour beside most of it."""
    notes = [
        OTHERS if there and share < _EXPLAINED else note
        for there, share, note in zip(masks.present, explained, masks.notes, strict=True)
    ]
    used = torch.tensor([m and n != OTHERS for m, n in zip(masks.present, notes, strict=True)], device=x.device)
    return notes, used & torch.isfinite(x).all(1)


@dataclass(frozen=True)
class SilhouetteStage:
    """The stage, for one table of variables and configuration."""

    terms: BodyTerms
    config: FitConfig
    matcher: Matcher

    @classmethod
    def of(cls, terms: BodyTerms, config: FitConfig) -> SilhouetteStage:
        """Make the stage."""
        return cls(terms, config, Matcher(terms.model, terms.layout, config.silhouette))

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        """The stage of each round."""
        settings = self.config.silhouette
        return (replace(self.config.stages[-1], lm=settings.lm),) * settings.rounds

    def refine(
        self, solved: Solved, seen: Observations, masks: MaskEvidence, joints: Bool[Tensor, "B J"] | None
    ) -> tuple[Solved, Observations, list[str | None]]:
        """Minimise with silhouettes from where the fit stands.

        Returns the fits, the observations with the last pairs, and why masks were not used. People without a mask, and
        those whose mask does not agree with the keypoints, stay where they are, and their trace goes on as it ended.
        """
        lm, rounds = self.config.silhouette.lm, self.config.silhouette.rounds
        x, iterations = solved.x.clone(), solved.iterations.clone()
        cost, converged = solved.cost.clone(), solved.converged.clone()
        columns = rounds * (lm.max_iterations + 1)
        trace = solved.cost[:, None].repeat(1, columns)
        pairs, explained = self.matcher(x, masks, seen.rig, joints)
        notes, used = agreeing(masks, explained, x)
        used &= torch.isfinite(cost)
        rows = used.nonzero()[:, 0]
        pairs = replace(pairs, weight=pairs.weight * used[:, None])
        if len(rows) == 0:
            return replace(solved, trace=torch.cat([solved.trace, trace], 1)), seen, notes
        some, some_masks = seen.select(rows), masks.select(rows)
        mine = None if joints is None else joints[rows]
        own = pairs.select(rows)
        for k, stage in enumerate(self.stages):
            if k:
                own, _ = self.matcher(x[rows], some_masks, seen.rig, mine)
            objective = StageObjective(self.terms, stage, replace(some, contour=own))
            x[rows], summary = minimize(objective, x[rows], stage.lm, eliminate=self.terms.layout.eliminated)
            first = k * (lm.max_iterations + 1)
            trace[rows, first : first + lm.max_iterations + 1] = summary.trace
            iterations[rows] += summary.iterations
            cost[rows], converged[rows] = summary.cost, summary.converged
        seen = replace(seen, contour=self._spread(own, rows, len(x)))
        done = replace(
            solved,
            x=x,
            cost=cost,
            converged=converged | solved.converged,
            iterations=iterations,
            trace=torch.cat([solved.trace, trace], 1),
        )
        return done, seen, notes

    def _spread(self, own: ContourPairs, rows: Int[Tensor, "N"], batch: int) -> ContourPairs:
        """Put the pairs of some people in the rows of all; the others have none."""

        def of_all(value: Tensor) -> Tensor:
            return value.new_zeros(batch, *value.shape[1:]).index_copy(0, rows, value)

        values = {name: of_all(value) for name, value in vars(own).items() if isinstance(value, Tensor)}
        return ContourPairs(**values, sigma_cm=own.sigma_cm)
