"""Concatenate the keypoints of body, hands and face, which several formats store separately."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.keypoints import convert_keypoints

__all__ = ["PARTS", "whole_body"]

PARTS: Mapping[str, int] = {"hand_left": 21, "hand_right": 21, "face": 70}
"""Number of keypoints of each part, in the order of openpose137."""
_NO_PUPILS = 68


def whole_body(
    body: Float[np.ndarray, "K 3"], layout: str, parts: Mapping[str, Float[np.ndarray, "P 3"]], where: str
) -> tuple[str, Float[np.ndarray, "W 3"]]:
    """Return openpose137 and its keypoints where there is a part, else the body's layout and keypoints.

    A face may lack its pupils (68 points, as DWPose writes it). Raises `KeypointFileError` for parts of other counts.
    """
    parts = {name: points for name, points in parts.items() if len(points)}
    if not parts:
        return layout, body
    whole = [convert_keypoints(body, layout, "openpose25")[0] if len(body) else np.zeros((25, 3))]
    for name, count in PARTS.items():
        points = parts.get(name, np.zeros((count, 3)))
        if name == "face" and len(points) == _NO_PUPILS:
            points = np.concatenate([points, np.zeros((2, 3))])
        if len(points) != count:
            raise KeypointFileError(f"{where}: {name}_keypoints_2d has {len(points)} keypoints, expected {count}")
        whole.append(points)
    return "openpose137", np.concatenate(whole)
