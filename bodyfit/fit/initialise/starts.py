"""Where each person's fit starts: mean bodies placed by pictures, the head, measured points; the body before."""

from __future__ import annotations

from dataclasses import replace

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.points.posed import pose_tree
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.initialise.placement import Placement, placed_on, starting_orientations, translation_for, uphill
from bodyfit.fit.objective import BodyTerms, Observations
from bodyfit.fit.observe import Observer
from bodyfit.skeleton import layout_names

__all__ = ["Starts"]

# How far a point says where the trunk is: limbs move, so they count little until the pose is free.
_TRUNK = ("hip", "shoulder", "neck", "pelvis", "spine", "thorax", "collar")
_HEAD = ("nose", "eye", "ear", "mouth", "head", "chin")


class Starts:
    """Makes the starts for one model, keypoint layout and configuration."""

    def __init__(self, terms: BodyTerms, observer: Observer, layout: str) -> None:
        self.terms, self.observer, self.trust = terms, observer, observer.trust
        self.variables, names = terms.layout, layout_names(layout)
        self.trunk = self.trust.new_tensor(
            [1.0 if any(p in n for p in _TRUNK) else 0.4 if any(p in n for p in _HEAD) else 0.15 for n in names]
        )
        """(K,): how far each keypoint says where the trunk is."""
        self._sides = [
            [i for i, n in enumerate(names) if n.endswith(f"_{part}") and n != "mid_hip"]
            for part in ("hip", "shoulder")
        ]

    def __call__(
        self, evidence: CheckedEvidence, observed: Observations
    ) -> tuple[Float[Tensor, "B H D"], Bool[Tensor, "B H"], Observations]:
        """Starts, which of them can be used, and the observations with their scale at the first usable one's depth."""
        model, rest_pose = self.terms.model, self.observer.rest_pose
        batch, zero = len(evidence), self.trust.new_zeros(1, model.num_betas)
        betas = evidence.betas if evidence.betas is not None else zero
        if evidence.height_m is not None:
            betas = self.terms.height.betas_for(evidence.height_m)
        rest = torch.cat([zero.new_zeros(1, 3), rest_pose[None]], 1).unflatten(1, (-1, 3))
        tree = pose_tree(model, betas, rest.expand(len(betas), -1, -1))
        root = tree.joints[:, 0]
        points = self.terms.points.place(tree, betas).positions - root[:, None]
        places = self._placements(evidence, observed, points)
        if observed.points_m is not None and observed.points_weight is not None:
            points3d = self.terms.points3d.place(tree, betas).positions - root[:, None]
            places.append(placed_on(points3d.expand(batch, -1, -1), observed.points_m, observed.points_weight))
        starts = [
            self.variables.pack(
                {
                    "betas": betas.expand(batch, -1),
                    "body_pose": rest_pose.expand(batch, -1),
                    "global_orient": roma.rotmat_to_rotvec(place.R),
                    "transl": place.t - root,
                }
            )
            for place in places
        ]
        usable = [place.usable for place in places]
        if evidence.rig is None and observed.points_m is None:
            heads = self.observer.partial.starts(observed, betas, root, self._up(observed, points))
            if heads is not None:
                starts.insert(0, heads[0])  # residuals are scaled by the depth of the first that can be used
                usable.insert(0, heads[1])
        enough = (observed.weight > 0).sum(1) >= self.observer.config.min_keypoints
        if observed.expected_pose is not None and observed.expected_orient is not None:
            own = observed.expected_orient, observed.expected_pose
            starts.append(self._placed(observed, betas.expand(batch, -1), *own))
            usable.append(enough)
        estimate = evidence.estimate
        if estimate is not None and evidence.rig is None:
            starts.append(self._placed(observed, betas.expand(batch, -1), estimate.global_orient, estimate.body_pose))
            usable.append(enough & (estimate.known > 0))
        if evidence.previous is not None:
            before = self.variables.pack(evidence.previous)
            if evidence.betas is not None:
                before = self.variables.put(before, betas=evidence.betas)
            starts.append(before)
            usable.append(torch.isfinite(before).all(1))
        x, can = torch.stack(starts, 1), torch.stack(usable, 1)
        can &= torch.isfinite(x).all(2)
        x = torch.where(can[..., None], x, 0.0)
        first = x[torch.arange(batch, device=x.device), can.to(torch.int8).argmax(1)]
        at = (first[:, self.variables["transl"]] + root)[:, None]
        depth = (at if evidence.rig is None else evidence.rig.points(at))[..., 2]  # (B, C)
        return x, can, replace(observed, scale_cm=self.observer.scale_cm(depth, evidence))

    def _placed(
        self,
        observed: Observations,
        betas: Float[Tensor, "B S"],
        orient: Float[Tensor, "B 3"],
        pose: Float[Tensor, "B A"],
    ) -> Float[Tensor, "B D"]:
        """Return bodies of given poses, placed by the picture (the solver's variables)."""
        tree = pose_tree(self.terms.model, betas, torch.cat([orient, pose], 1).unflatten(1, (-1, 3)))
        points = self.terms.points.place(tree, betas).positions
        t = translation_for(points, observed.target, observed.weight)
        return self.variables.pack({"betas": betas, "body_pose": pose, "global_orient": orient, "transl": t})

    def _placements(
        self, evidence: CheckedEvidence, observed: Observations, points: Float[Tensor, "#B K 3"]
    ) -> list[Placement]:
        """Where the pictures say that the body stands, turned how; the body's points are about its root."""
        per_view = observed.weight.unflatten(1, (-1, len(self.trust)))
        visible = (per_view > 0).sum(2) >= self.observer.config.min_keypoints  # (B, C)
        weight = per_view * self.trunk
        target = observed.target.unflatten(1, (-1, len(self.trust)))
        rig = evidence.rig
        if rig is None:
            lift_weight = None if observed.lift_weight is None else observed.lift_weight * self.trunk
            # The expected body takes the place of one.
            keep = max(1, self.observer.config.hypotheses - (observed.expected_orient is not None))
            lift = {"lift_m": observed.lift_m, "lift_weight": lift_weight, "keep": keep}
            found = starting_orientations(points, target[:, 0], weight[:, 0], self._up(observed, points), **lift)
            return [Placement(found.R[:, h], found.t[:, h], visible[:, 0]) for h in range(found.R.shape[1])]
        where, met = rig.triangulated(observed.target, observed.weight)
        places = [placed_on(points.expand(len(where), -1, -1), where, met * self.trust * self.trunk.sqrt())]
        for c in range(len(rig.R)):
            view = replace(observed, target=target[:, c], weight=per_view[:, c])
            found = starting_orientations(points, target[:, c], weight[:, c], self._up(view, points), keep=1)
            R_back = rig.R[c].T
            t = (found.t[:, 0] - rig.t[c]) @ rig.R[c]
            places.append(Placement(R_back @ found.R[:, 0], t, visible[:, c]))
        return places

    def _up(self, observed: Observations, points: Float[Tensor, "#B K 3"]) -> Float[Tensor, "B 2"]:
        """From the hips to the shoulders in the picture; where either is unseen, to where points lie that are higher in
        the mean pose (`points`, y up): from shoulders to head, from feet to hips."""
        middles = []
        for rows in self._sides:
            w = observed.weight[:, rows]
            w = (w > 0.2 * self.trust[rows]).to(w.dtype)
            total = w.sum(1, keepdim=True)
            middles.append(((w[..., None] * observed.target[:, rows]).sum(1) / total.clamp_min(1e-6), total[:, 0] > 0))
        (hip, has_hip), (shoulder, has_shoulder) = middles
        up = shoulder - hip
        clear = has_hip & has_shoulder & (up.norm(dim=1) > 1e-4)
        return torch.where(clear[:, None], up, uphill(points[..., 1], observed.target, observed.weight * self.trunk))
