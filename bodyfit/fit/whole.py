"""Joint fit of body, hands and face, from the body's fit.

The body is fitted alone first; hands are initialised by fits of their own (`initialise/hands.py`). Then all variables
are optimised together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.points.face import face_entries
from bodyfit.body.points.posed import Points, PosedTree, pose_tree
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig, StageConfig
from bodyfit.fit.initialise.hands import HandObservations, HandStarts, mirrored_hands, swing_twist
from bodyfit.fit.objective import BodyTerms, StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.outcome import Outcome
from bodyfit.fit.parts import HAND_POINTS, PartEvidence, PartObservations
from bodyfit.fit.residuals.parts.face import FACE_SCALE
from bodyfit.fit.residuals.parts.hand_prior import HandPosePrior
from bodyfit.fit.residuals.parts.hands import HAND_SCALE, hand_noise_scale
from bodyfit.fit.residuals.parts.offsets import FACE_OFFSET, HAND_OFFSET
from bodyfit.fit.variables import Variables
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.skeleton import hand_entries, layout_names
from bodyfit.solve import LMConfig, LMSummary, minimize

__all__ = ["WholeBody"]

_SIDES = ("left", "right")
_CLIP_HAND_POSE = 2.0
"""Weight of the hand pose prior in clips: neighbouring frames tell more than in a single frame it has to."""
_ELBOW_SHARE, _ELBOW_MOST = 0.5, 0.8
"""Share of the twist of a hand about its forearm that the elbow takes, and its limit, radians."""


class WholeBody:
    """Joint fitter of body, hands and face for one model, layout and configuration."""

    def __init__(
        self, body: BodyTerms, layout: str, config: FitConfig, face_points: int = 0, *, offsets: bool = False
    ) -> None:
        """`face_points`: number of points of a face; 0 for hands alone. `offsets`: whether hands and face may be offset
        from where the body puts them, for bodies that are fixed.

        Raises `OptionError` for a model without fingers, or with finger poses as PCA coefficients.
        """
        model = body.model
        if "left_hand_pose" not in dict(model.kind.poses):
            raise OptionError(
                f"hands are seen, and the model {model.name} has no fingers: load 'open-h' or 'open-x', or an SMPL-H"
                " or SMPL-X file"
            )
        if model.num_pca_comps is not None:
            raise OptionError("fingers are fitted as angles: load the model without num_pca_comps")
        hands = Points(model, [entry for side in _SIDES for entry in hand_entries(side)], whole=True)
        face = Points(model, face_entries(model, face_points), whole=True) if face_points else None
        own = [HAND_SCALE, FACE_SCALE, *([HAND_OFFSET, FACE_OFFSET] if offsets else [])]
        blocks = (*config.blocks, *(block for block in own if face is not None or block.name.startswith("hand")))
        setup, more = body.setup, {"blocks": blocks, "backend": config.backend}
        self.terms = BodyTerms(model, setup.points, setup.prior, setup.points3d, hands=hands, face=face, **more)
        self.outcome = Outcome(self.terms, layout)
        self.model, self.config = model, config
        self.stage: StageConfig = replace(config.stages[-1], lm=LMConfig(max_iterations=8, cost_tolerance=5e-3))
        if offsets and HandPosePrior.name not in self.stage.weights:
            weights = {**self.stage.weights, HandPosePrior.name: _CLIP_HAND_POSE}
            self.stage = replace(self.stage, weights=weights)
        self.joints = Points(model, [{name: 1.0} for name in model.skeleton.names], whole=True)
        self.starts = HandStarts(model.dtype, model.device)
        names = layout_names(layout)
        self.of_hand = torch.tensor(
            [[_is_of_hand(name, side) for name in names] for side in _SIDES], device=model.device
        )
        """(2, K): whether keypoints of the body's layout are points of the left and of the right hand."""
        self.of_face = torch.tensor([name.startswith("face_") for name in names], device=model.device)
        """(K,): whether they are points of a face."""

    @property
    def layout(self) -> Variables:
        """Table of all variables."""
        return self.terms.layout

    def observations(self, seen: Observations, parts: PartEvidence, depth_cm: Float[Tensor, "B C"]) -> Observations:
        """Add hands and face to the observations of the body.

        Keypoints of the body on visible hands or a visible face are left out: the part's own are more precise.
        `depth_cm`: depth of the person in each camera, centimetres.
        """
        found = self.visible_parts(parts, depth_cm.shape[1]).with_(depth_cm=depth_cm)
        fingers = ((found.largest_hand_weight() > 0).to(seen.weight) @ self.of_hand.to(seen.weight)) > 0
        if (face := found.largest_face_weight()) is not None:
            fingers = fingers | ((face > 0)[:, None] & self.of_face)
        weight = torch.where(fingers.repeat(1, depth_cm.shape[1]), 0.0, seen.weight)
        lift = seen.lift_weight
        return replace(
            seen, parts=found, weight=weight, lift_weight=None if lift is None else torch.where(fingers, 0.0, lift)
        )

    def visible_parts(self, parts: PartEvidence, cameras: int = 1) -> PartObservations:
        """Return what is used of hands and face, without depths."""
        return parts.observations(cameras, self.config.min_confidence, self.config.noise_px / 2)

    def start(self, body: Float[Tensor, "B N"], variables: Variables, seen: Observations) -> Float[Tensor, "B D"]:
        """Initialise all variables from those of the body's fit and from fits of each hand."""
        assert seen.parts is not None
        x = self.with_relaxed_hands(variables.unpack(body))
        return self.with_hands(x, seen.parts.largest_hand_weight() > 0, seen)

    def with_relaxed_hands(self, variables: Mapping[str, Float[Tensor, "B _"]]) -> Float[Tensor, "B D"]:
        """Return all variables from those of the body, with relaxed hands."""
        batch = len(variables["transl"])
        relaxed = {
            f"{side}_hand_pose": (self.starts.relaxed(i) - self.model.hand_means[i]).expand(batch, -1)
            for i, side in enumerate(_SIDES)
        }
        return self.layout.pack({**variables, **relaxed})

    def with_hands(
        self,
        x: Float[Tensor, "N D"],
        visible: Bool[Tensor, "N 2"],
        seen: Observations,
        *,
        elbow_share: float = _ELBOW_SHARE,
    ) -> Float[Tensor, "N D"]:
        """Return the variables with visible hands, their wrists and their elbows' twists from fits of the hands alone.

        An elbow takes `elbow_share` of the hand's twist about the forearm.
        """
        rows = [visible[:, i].nonzero()[:, 0] for i in range(2)]
        if not sum(map(len, rows)):
            return x
        layout, skeleton = self.layout, self.model.skeleton
        tree = StageObjective(self.terms, self.stage, seen).tree(x)
        left, right = self.hand_observations(x, seen, tree)
        hands, _ = self.starts(HandObservations.cat([left.select(rows[0]), right.mirrored().select(rows[1])]))
        local = layout.rotvecs(x)
        for i, hand in enumerate(hands.split([len(rows[0]), len(rows[1])])):
            hand = mirrored_hands(hand) if i else hand
            side, axis, own = _SIDES[i], self.starts.forearm * (1 - 2 * i), rows[i]
            elbow, wrist = skeleton.index(f"{side}_elbow"), skeleton.index(f"{side}_wrist")
            D = tree.R_world[own, elbow].mT @ so3_exp(hand[:, 3:6])
            _, twist = swing_twist(D, axis)
            share = (elbow_share * twist).clamp(-_ELBOW_MOST, _ELBOW_MOST)
            shared = so3_exp(share[:, None] * axis)
            local[own, elbow] = so3_log(so3_exp(local[own, elbow]) @ shared)
            local[own, wrist] = so3_log(shared.mT @ D)
            local[own[:, None], torch.tensor(self.finger_joints(side), device=x.device)] = hand[:, 6:].unflatten(
                1, (-1, 3)
            )
        return layout.put_rotvecs(x, local)

    def finger_joints(self, side: str) -> list[int]:
        """List the joints of a hand's pose, in its order."""
        return list(self.layout.block(f"{side}_hand_pose").joints)

    def hand_observations(
        self, x: Float[Tensor, "N D"], seen: Observations, tree: PosedTree
    ) -> tuple[HandObservations, HandObservations]:
        """Collect the observations of left and right hands by the first camera, and the poses of their forearms."""
        parts, hands, n = seen.parts, self.terms.setup.hands, len(x)
        assert parts is not None
        assert hands is not None
        coefficients = self.layout.coefficients(x)
        still = pose_tree(self.model, coefficients, 0 * self.layout.rotvecs(x))
        rest = hands.place(still, coefficients).positions
        scale = x.new_ones(n, 2 * HAND_POINTS) if parts.hands_target is None else hand_noise_scale(parts)

        def of_side(i: int) -> HandObservations:
            own = slice(HAND_POINTS * i, HAND_POINTS * (i + 1))
            elbow, wrist = (self.model.skeleton.index(f"{_SIDES[i]}_{joint}") for joint in ("elbow", "wrist"))

            def of_hand(value: Tensor | None, *columns: int) -> Tensor:
                return x.new_zeros(n, HAND_POINTS, *columns) if value is None else value[:, own]

            return HandObservations(
                rest=rest[:, own],
                target=of_hand(parts.hands_target, 2),
                weight=of_hand(parts.hands_weight),
                scale=scale[:, own],
                lift_m=of_hand(parts.hands_lift_m, 3),
                lift_weight=of_hand(parts.hands_lift_weight),
                points_m=of_hand(parts.hands_points_m, 3),
                points_weight=of_hand(parts.hands_points_weight),
                wrist=tree.joints[:, wrist] + x[:, self.layout["transl"]],
                R_forearm=tree.R_world[:, elbow],
                R_wrist=tree.R_world[:, wrist],
            )

        return of_side(0), of_side(1)

    def observed(self, seen: Bool[Tensor, "B J"], parts: PartEvidence) -> Bool[Tensor, "B N"]:
        """Determine which of all joints the evidence constrains; `seen` are those of the body."""
        cameras = 1 if parts.face is None else parts.face.shape[1] // parts.face_points
        found = parts.observations(cameras, self.config.min_confidence, 1.0)
        rest = torch.zeros(len(seen), self.model.num_joints - seen.shape[1], dtype=torch.bool, device=seen.device)
        out = torch.cat([seen, rest], 1)
        visible = found.largest_hand_weight() > 0
        for i, side in enumerate(_SIDES):
            out[:, self.finger_joints(side)] = visible[:, i, None]
        if (face := found.largest_face_weight()) is not None:
            for name in ("jaw_pose", "leye_pose", "reye_pose"):
                out[:, list(self.layout.block(name).joints)] = (face > 0)[:, None]
        return out

    def descend(
        self, x: Float[Tensor, "B D"], seen: Observations
    ) -> tuple[Float[Tensor, "B D"], LMSummary, StageObjective]:
        """Minimise the objective from x; return the variables, the solver's summary and the objective."""
        objective = StageObjective(self.terms, self.stage, seen)
        x, summary = minimize(objective, x, self.stage.lm, eliminate=self.layout.eliminated)
        return x, summary, objective


def _is_of_hand(name: str, side: str) -> bool:
    parts = name.split("_")
    return parts[0] == side and (
        parts[1] in ("thumb", "index", "middle", "ring", "pinky") or name.endswith("wrist_root")
    )
