"""Detected hands and faces as evidence for a fit."""

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
from bodyfit.keypoints import Keypoints2D, Part, hand_joints_of_mediapipe

__all__ = ["detector_of_parts", "part_arrays", "parts_to_fit", "without_parts"]

_HAND, _MESH, _WITH_IRISES = 21, 468, 478
_IRISES = {"right": slice(468, 473), "left": slice(473, 478)}
_MEDIAPIPE = "mediapipe33"
_LEAST_SCORE = 0.3
"""Hands of a lower detection score are ignored: their points are unreliable."""


def parts_to_fit(model: BodyModel | None, hands: bool | None, face: bool | None) -> dict[str, bool]:
    """Decide whether hands and face are detected and fitted: by default if the model has them.

    `hands` and `face` force it on or off. Raises `OptionError` for a part that the model lacks.
    """
    poses = {} if model is None else dict(model.kind.poses)
    has = {"hands": "left_hand_pose" in poses, "face": "jaw_pose" in poses}
    for name, choice, models in (("hands", hands, "'open-h' or 'open-x'"), ("face", face, "'open-x'")):
        if choice and not has[name]:
            title = "open" if model is None else model.name
            raise OptionError(f"{name} cannot be fitted with the model {title}, which has none; load {models}")
        has[name] = has[name] if choice is None else choice
    return has


def without_parts(config: FitConfig | None, parts: Mapping[str, bool]) -> FitConfig | None:
    """Switch off the fit of hands or face that are not in `parts`, which keypoints of some layouts would include."""
    if all(parts.values()) or (config is not None and not (config.hands or config.face)):
        return config
    config = FitConfig() if config is None else config
    return replace(config, hands=config.hands and parts["hands"], face=config.face and parts["face"])


def detector_of_parts(
    name: str, parts: Mapping[str, bool], *, tta: bool = False, insist: bool = False, masks: bool = False
) -> Detector:
    """Load a detector by name that detects hands and face too, if it can.

    With `insist`, raises `OptionError` if it cannot, and with `masks` if it has none.
    """
    if any(parts.values()) and (insist or sees_parts(name)):
        return load_detector(name, tta=tta, masks=masks, **parts)
    return load_detector(name, tta=tta, masks=masks)


def part_arrays(
    people: Sequence[Keypoints2D], focals_px: Sequence[float], sizes: Sequence[tuple[int, int]], model: BodyModel
) -> dict[str, Any]:
    """Collect the fields `hands`, `hands_lift` and `face` of `Evidence` from P people.

    Fields that nobody has or the model lacks are left out; people without a part are NaN. `focals_px` and `sizes`
    (width, height) are of each person's image. Lifts are rotated to the axes of its camera, metres. Hands of people in
    MediaPipe's layout are moved from its points to the model's (`hand_joints_of_mediapipe`).
    """
    parts, found = parts_to_fit(model, None, None), {}
    if parts["hands"] and any(person.hands for person in people):
        hands = np.full((len(people), 2, _HAND, 3), np.nan, np.float32)
        lift = hands.copy()
        for row, (person, focal, size) in enumerate(zip(people, focals_px, sizes, strict=True)):
            for i, side in enumerate(("left", "right")):
                part = (person.hands or {}).get(side)
                if part is None or part.score < _LEAST_SCORE:
                    continue
                hands[row, i] = part.xyc
                if person.layout == _MEDIAPIPE:
                    hands[row, i, :, :2] = hand_joints_of_mediapipe(part.xyc[:, :2])
                if part.lift_m is not None:
                    lift[row, i] = part.lift_m @ _turn(part, focal, size).T
        found["hands"] = hands
        if np.isfinite(lift).any():
            found["hands_lift"] = lift
    if parts["face"] and any(person.face for person in people):
        face = np.full((len(people), _WITH_IRISES, 3), np.nan, np.float32)
        for row, person in enumerate(people):
            if person.face is not None:
                face[row, :_MESH] = person.face.xyc
                for side, part in (person.irises or {}).items():
                    face[row, _IRISES[side]] = part.xyc
        found["face"] = face
    return found


def _turn(part: Part, focal_px: float, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Compute the rotation from a camera that looks at the hand to the image's, which looks at the image's centre."""
    x, y = part.xyc[:, :2].mean(0).tolist()
    return rotation_to_ray(((x - size[0] / 2) / focal_px, (y - size[1] / 2) / focal_px, 1.0))
