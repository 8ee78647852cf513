"""Hands and faces that a detector saw, as evidence for a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.app.rays import rotation_to_ray
from bodyfit.body.model import BodyModel
from bodyfit.detect import Detector, load_detector, sees_parts
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig
from bodyfit.keypoints import Keypoints2D, Part

__all__ = ["detector_of_parts", "part_arrays", "wanted_parts", "without_parts"]

_HAND, _MESH, _WITH_IRISES = 21, 468, 478
_IRISES = {"right": slice(468, 473), "left": slice(473, 478)}
_LEAST_SCORE = 0.3
"""Of hands that a detector takes for hands less surely the points say nothing."""


def wanted_parts(model: BodyModel | None, hands: bool | None, face: bool | None) -> dict[str, bool]:
    """Which of hands and face are to be looked for: those that a model has, unless told otherwise.

    Raises `OptionError` for what is asked of a model without it.
    """
    poses = {} if model is None else dict(model.kind.poses)
    has = {"hands": "left_hand_pose" in poses, "face": "jaw_pose" in poses}
    for name, asked, models in (("hands", hands, "'open-h' or 'open-x'"), ("face", face, "'open-x'")):
        if asked and not has[name]:
            title = "open" if model is None else model.name
            raise OptionError(f"{name} cannot be fitted with the model {title}, which has none; load {models}")
        has[name] = has[name] if asked is None else asked
    return has


def without_parts(config: FitConfig | None, wanted: Mapping[str, bool]) -> FitConfig | None:
    """A configuration that leaves out what is not wanted, where keypoints of the body bring it along."""
    if all(wanted.values()) or (config is not None and not (config.hands or config.face)):
        return config
    config = FitConfig() if config is None else config
    return replace(config, hands=config.hands and wanted["hands"], face=config.face and wanted["face"])


def detector_of_parts(name: str, wanted: Mapping[str, bool], *, tta: bool = False, insist: bool = False) -> Detector:
    """The detector of a name, which looks for hands and face too where it can; `insist` raises `OptionError` where it
    cannot."""
    if any(wanted.values()) and (insist or sees_parts(name)):
        return load_detector(name, tta=tta, **wanted)
    return load_detector(name, tta=tta)


def part_arrays(
    people: Sequence[Keypoints2D], focals_px: Sequence[float], sizes: Sequence[tuple[int, int]], model: BodyModel
) -> dict[str, Any]:
    """The fields `hands`, `hands_lift` and `face` of `Evidence`, of those that are there and that the model has; NaN
    for who lacks them. Lifts are turned into the axes of the pictures' cameras."""
    wanted, found = wanted_parts(model, None, None), {}
    if wanted["hands"] and any(person.hands for person in people):
        hands = np.full((len(people), 2, _HAND, 3), np.nan, np.float32)
        lift = hands.copy()
        for row, (person, focal, size) in enumerate(zip(people, focals_px, sizes, strict=True)):
            for i, side in enumerate(("left", "right")):
                part = (person.hands or {}).get(side)
                if part is None or part.score < _LEAST_SCORE:
                    continue
                hands[row, i] = part.xyc
                if part.lift_m is not None:
                    lift[row, i] = part.lift_m @ _turn(part, focal, size).T
        found["hands"] = hands
        if np.isfinite(lift).any():
            found["hands_lift"] = lift
    if wanted["face"] and any(person.face for person in people):
        face = np.full((len(people), _WITH_IRISES, 3), np.nan, np.float32)
        for row, person in enumerate(people):
            if person.face is not None:
                face[row, :_MESH] = person.face.xyc
                for side, part in (person.irises or {}).items():
                    face[row, _IRISES[side]] = part.xyc
        found["face"] = face
    return found


def _turn(part: Part, focal_px: float, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """From the axes of a camera that looks at the hand to those of the picture's, which looks at its middle."""
    x, y = part.xyc[:, :2].mean(0).tolist()
    return rotation_to_ray(((x - size[0] / 2) / focal_px, (y - size[1] / 2) / focal_px, 1.0))
