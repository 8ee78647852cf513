"""Hands and face of one person through a clip, fitted to what is seen of them once the body's track is found.

The positions of the body's joints stay as they are; hands and face are compared with pictures up to an offset
(`fit/residuals/parts/offsets.py`). Their directions come from their own points: wrists and the head turn, and each
elbow takes a part of the twist about its forearm, which moves no joint. A part that is not visible is carried by its
motion through gaps of up to half a second, and is at rest half a second after it was last visible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from bodyfit.body.points.posed import pose_tree
from bodyfit.fit.config import SequenceConfig
from bodyfit.fit.initialise.hands import swing_twist
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.parts import PartEvidence
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.sequence.continuity import between, unwrapped
from bodyfit.fit.sequence.part_objective import PartColumns, PartMotion, PartObjective
from bodyfit.fit.sequence.part_uncertainty import part_spread
from bodyfit.fit.variables import Variables
from bodyfit.fit.whole import WholeBody
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.solve import minimize_chain

__all__ = ["PartTrack", "relaxed_share"]

_SIDES = ("left", "right")
_CARRIED_S = 0.5
"""The longest gap that the motion fills."""
_RELAXED_S = 0.5
"""Time after a part was last visible, or before it is next, at which it is at rest."""
_ELBOW_SHARE = 0.6
"""The elbow turns about the forearm by so many radians times the sine of the wrist's additional twist."""


def relaxed_share(visible: Bool[np.ndarray, "T"], fps: float) -> Float[np.ndarray, "T"]:
    """Compute how far a part is at rest in each frame, from 0 to 1.

    It is 0 where the part is visible and in gaps of at most half a second, else it rises smoothly to 1 at half a second
    from the nearest visible frame. A part that is never visible is at rest throughout.
    """
    if not visible.any():
        return np.ones(len(visible))
    gaps = np.zeros(len(visible), np.int32)
    label(~visible, output=gaps)
    away_s = np.asarray(distance_transform_edt(~visible)) / fps
    ends = {gaps[0], gaps[-1]}
    short = [g for g, count in enumerate(np.bincount(gaps)) if g not in ends and count <= _CARRIED_S * fps]
    share = np.clip(away_s / _RELAXED_S, 0, 1)
    return np.where(visible | np.isin(gaps, short), 0.0, share**2 * (3 - 2 * share))


@dataclass(frozen=True)
class PartTrack:
    """The fit of hands and face to a body's track, for one model, layout and frame rate."""

    whole: WholeBody
    body: Variables
    """The table of the body's variables."""
    settings: SequenceConfig
    fps: float

    @torch.no_grad()
    def fit(
        self, body: Float[Tensor, "T N"], seen: Observations, parts: PartEvidence
    ) -> tuple[Float[Tensor, "T D"], Spread | None]:
        """Return all variables of frames on end, from those of the body's fit and the evidence of their parts.

        The second is how sure the parts are given the body (`part_spread`), of parts at rest as their chain has them;
        None without `FitConfig.uncertainty`, or where there is no minimum.
        """
        layout = self.whole.layout
        base = layout.pack(self.body.unpack(body))
        observed = self._observed(base, seen, parts)
        assert observed.parts is not None
        hands = observed.parts.largest_hand_weight() > 0
        face = observed.parts.largest_face_weight()
        x = self._with_rest(base)
        resting, start = x.clone(), x
        for i in range(len(_SIDES)):
            start = self._started(start, i, hands[:, i], observed)
        x, spread = self._solve(start, observed)
        for i in range(len(_SIDES)):
            share = torch.from_numpy(relaxed_share(hands[:, i].cpu().numpy(), self.fps)).to(x)
            x = self._relaxed_hand(x, resting, i, share)
        if face is not None:
            share = torch.from_numpy(relaxed_share((face > 0).cpu().numpy(), self.fps)).to(x)
            x = self._toward(x, resting, self.whole.model.skeleton.index("head"), share)
            for name in ("jaw_pose", "leye_pose", "reye_pose", "expression"):
                x[:, layout[name]] *= 1 - share[:, None]
        return x, spread

    def _observed(self, base: Float[Tensor, "T D"], seen: Observations, parts: PartEvidence) -> Observations:
        """Add the evidence of hands and face, at the depth of the body, to the observations of the body."""
        tree = StageObjective(self.whole.terms, self.whole.stage, seen).tree(base)
        at = tree.joints[:, :1] + base[:, None, self.whole.layout["transl"]]
        depth = (at if seen.rig is None else seen.rig.points(at))[..., 2].clamp_min(0.3)
        return self.whole.observations(seen, parts, 100 * depth)

    def _with_rest(self, base: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Return the variables with relaxed hands."""
        rest = {}
        for i, side in enumerate(_SIDES):
            template = self.whole.starts.relaxed(i) - self.whole.model.hand_means[i]
            rest[f"{side}_hand_pose"] = template.expand(len(base), -1)
        return self.whole.layout.put(base, **rest)

    def _wrist(self, i: int) -> tuple[int, int]:
        """Return the numbers of a side's elbow and wrist."""
        skeleton = self.whole.model.skeleton
        return skeleton.index(f"{_SIDES[i]}_elbow"), skeleton.index(f"{_SIDES[i]}_wrist")

    def _started(
        self, x: Float[Tensor, "T D"], i: int, visible: Bool[Tensor, "T"], observed: Observations
    ) -> Float[Tensor, "T D"]:
        """Start one hand and its wrist from fits of the hand alone in keyframes, interpolated between them."""
        keys = self._keyframes(visible)
        if not len(keys):
            return x
        layout, (_, wrist) = self.whole.layout, self._wrist(i)
        own = torch.zeros(len(keys), 2, dtype=torch.bool, device=x.device)
        own[:, i] = True
        found = self.whole.with_hands(x[keys], own, observed.select(keys), elbow_share=0.0)
        spread = between(found, keys, torch.arange(len(x), device=x.device), layout)
        x = x.clone()
        columns = layout.columns_of_joint(wrist)
        x[:, columns] = unwrapped(spread[:, None, columns])[:, 0]
        hand = layout[f"{_SIDES[i]}_hand_pose"]
        x[:, hand] = spread[:, hand]
        return x

    def _keyframes(self, visible: Bool[Tensor, "T"]) -> Int[Tensor, "N"]:
        """Choose the first visible frame of each interval."""
        step = max(1, round(self.fps * self.settings.keyframe_s))
        rows = visible.nonzero()[:, 0]
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = (rows // step)[1:] != (rows // step)[:-1]
        return rows[first]

    def columns(self) -> PartColumns:
        """Find the columns that are free."""
        joints = {self._wrist(i)[1]: "wrist" for i in range(len(_SIDES))}
        if "jaw_pose" in self.whole.layout:
            joints[self.whole.model.skeleton.index("head")] = "head"
        return PartColumns.of(self.whole.layout, joints)

    def _solve(self, start: Float[Tensor, "T D"], observed: Observations) -> tuple[Float[Tensor, "T D"], Spread | None]:
        """Minimise the objective window by window.

        For several windows sizes of parts are found first, on frames spread over the track; each window goes on from
        the last two frames of the one before.
        """
        size, overlap, n = self.settings.window, self.settings.overlap, len(start)
        columns = self.columns()
        motion = PartMotion(columns, self.fps, start)
        x, z = start[:, list(columns.frame)].clone(), start[0, list(columns.shared)]

        def objective(rows: Tensor, motion: PartMotion | None, fixed_frames: int, fixed_shared: bool) -> PartObjective:
            frames = StageObjective(self.whole.terms, self.whole.stage, observed.select(rows))
            return PartObjective(frames, start[rows], columns, motion, self.settings.motion, fixed_frames, fixed_shared)

        if n > size:
            some = torch.linspace(0, n - 1, size // 2, device=x.device).round().long()
            _, z, _ = minimize_chain(objective(some, None, 0, False), x[some], z, self.settings.lm)
        done = 0
        while done < n:
            fixed_frames = min(done, 2)
            last = n if n - done <= size else done + size - overlap
            rows = torch.arange(done - fixed_frames, min(n, last + overlap), device=x.device)
            x[rows], z, _ = minimize_chain(
                objective(rows, motion, fixed_frames, n > size), x[rows], z, self.settings.lm
            )
            done = last
        spread = None
        if self.whole.config.uncertainty:
            track = objective(torch.arange(n, device=x.device), motion, 0, False)
            spread = part_spread(track, x, z, self.whole.joints, self.whole.config, self.settings)
        start = start.clone()
        start[:, list(columns.frame)], start[:, list(columns.shared)] = x, z
        return start, spread

    def _toward(
        self, x: Float[Tensor, "T D"], target: Float[Tensor, "T D"], joint: int, share: Float[Tensor, "T"]
    ) -> Float[Tensor, "T D"]:
        """Return the variables with a joint turned back by a share to where the body's track has it."""
        columns, x = self.whole.layout.columns_of_joint(joint), x.clone()
        R = so3_exp(x[:, columns])
        R = R @ so3_exp(share[:, None] * so3_log(R.mT @ so3_exp(target[:, columns])))
        x[:, columns] = unwrapped(so3_log(R)[:, None])[:, 0]
        return x

    def _relaxed_hand(
        self, x: Float[Tensor, "T D"], resting: Float[Tensor, "T D"], i: int, share: Float[Tensor, "T"]
    ) -> Float[Tensor, "T D"]:
        """Return the variables with one hand at rest by a share, and a part of its wrist's twist at the elbow."""
        layout, (elbow, wrist) = self.whole.layout, self._wrist(i)
        hand = layout[f"{_SIDES[i]}_hand_pose"]
        at_elbow, at_wrist = layout.columns_of_joint(elbow), layout.columns_of_joint(wrist)
        x = x.clone()
        x[:, hand] = torch.lerp(x[:, hand], resting[:, hand], share[:, None])
        x = self._toward(x, resting, wrist, share)
        target, wrists = so3_exp(resting[:, at_wrist]), so3_exp(x[:, at_wrist])
        still = pose_tree(self.whole.model, layout.coefficients(x[:1]), 0 * layout.rotvecs(x[:1])).joints[0]
        axis = torch.nn.functional.normalize(still[wrist] - still[elbow], dim=0)
        more = swing_twist(wrists, axis)[1] - swing_twist(target, axis)[1]
        turn = so3_exp(_ELBOW_SHARE * more.sin()[:, None] * axis)
        changed = [(at_elbow, so3_exp(resting[:, at_elbow]) @ turn), (at_wrist, turn.mT @ wrists)]
        for columns, R in changed:
            x[:, columns] = unwrapped(so3_log(R)[:, None])[:, 0]
        return x
