"""Estimate joint centres from skin markers, by the names of common marker sets.

Pose2Sim and OpenPose-like files name joint centres, which `point_names` recognises. Laboratories put markers on bones:
the midpoint of a pair on both sides of a joint is its centre, a single marker lies some centimetres beside it. Hips are
estimated from the pelvis by the regression of Harrington et al. (2007), Journal of Biomechanics 40, 595-602.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["joint_centres"]

_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "knee": (("{s}_knee_study", "{s}_mknee_study"), ("{s}FLE", "{s}FME"), ("{s}KNE", "{s}KNM"), ("{s}KNE", "{s}KNEM")),
    "ankle": (
        ("{s}_ankle_study", "{s}_mankle_study"),
        ("{s}FAL", "{s}TAM"),
        ("{s}ANK", "{s}MED"),
        ("{s}ANK", "{s}ANM"),
    ),
    "elbow": (("{s}_lelbow_study", "{s}_melbow_study"), ("{s}HLE", "{s}HME"), ("{s}ELB", "{s}ELBM")),
    "wrist": (("{s}_lwrist_study", "{s}_mwrist_study"), ("{s}RSP", "{s}USP"), ("{s}WRA", "{s}WRB")),
}
"""Lateral and medial markers of each joint: OpenCap's, those named after ISB landmarks, Plug-in Gait's."""
_SINGLE: Mapping[str, tuple[str, ...]] = {
    "heel": ("{s}_calc_study", "{s}FCC", "{s}HEE"),
    "hip": ("{s}HJC_study",),
    "shoulder": ("{s}SJC_study", "{s}_shoulder_study", "{s}ACR", "{s}SAE", "{s}SHO"),
    "knee": ("{s}KNE", "{s}FLE"),
    "ankle": ("{s}ANK", "{s}FAL"),
    "elbow": ("{s}ELB", "{s}HLE"),
}
"""Single markers at, or beside, the joint."""
_BESIDE = ("shoulder", "knee", "ankle", "elbow")
"""Joints whose single marker is off the joint's centre."""
_PELVES = (
    ("LASI", "RASI", "LPSI", "RPSI"),
    ("LIAS", "RIAS", "LIPS", "RIPS"),
    ("L.ASIS_study", "r.ASIS_study", "L.PSIS_study", "r.PSIS_study"),
    ("LASI", "RASI", "SACR", "SACR"),
)
"""The iliac spines: left and right anterior, left and right posterior."""


def joint_centres(
    names: Sequence[str], xyz_m: Float[np.ndarray, "T P 3"]
) -> Iterator[tuple[str, Float[np.ndarray, "T 3"], tuple[int, ...], bool]]:
    """Yield keypoints from markers: name, position, the markers' rows, and whether a single off-centre marker is used.

    A keypoint may come several times, the best estimate first.
    """
    rows = {_plain(name): i for i, name in reversed(list(enumerate(names)))}

    def find_rows(patterns: Sequence[str], side: str) -> tuple[int, ...] | None:
        at = [rows.get(_plain(pattern.format(s=side[0]))) for pattern in patterns]
        return tuple(i for i in at if i is not None) if None not in at else None

    for side in ("left", "right"):
        for part, pairs in _PAIRS.items():
            for pair in pairs:
                if at := find_rows(pair, side):
                    yield f"{side}_{part}", xyz_m[:, at].mean(1), at, False
    yield from _hips(rows, xyz_m)
    for side in ("left", "right"):
        for part, singles in _SINGLE.items():
            for single in singles:
                if at := find_rows([single], side):
                    yield f"{side}_{part}", xyz_m[:, at[0]], at, part in _BESIDE


def _hips(
    rows: Mapping[str, int], xyz_m: Float[np.ndarray, "T P 3"]
) -> Iterator[tuple[str, Float[np.ndarray, "T 3"], tuple[int, ...], bool]]:
    """Yield Harrington's hip centres, in pelvis axes from the midpoint of the anterior spines."""
    for spines in _PELVES:
        at = tuple(rows[_plain(name)] for name in spines if _plain(name) in rows)
        if len(at) < len(spines):
            continue
        left, right, back_left, back_right = (xyz_m[:, i] for i in at)
        front, back = (left + right) / 2, (back_left + back_right) / 2
        width = np.linalg.norm(right - left, axis=1, keepdims=True)
        depth = np.linalg.norm(front - back, axis=1, keepdims=True)
        z = (right - left) / width
        x = front - back
        x = x - (x * z).sum(1, keepdims=True) * z
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        y = np.cross(z, x)
        middle = front + (-0.24 * depth - 0.0099) * x + (-0.30 * width - 0.0109) * y
        aside = (0.33 * width + 0.0073) * z
        yield "left_hip", middle - aside, at, False
        yield "right_hip", middle + aside, at, False
        return


def _plain(name: str) -> str:
    """Reduce a name to lower-case letters and digits, without the subject before a colon."""
    return re.sub(r"[^a-z0-9]", "", name.rpartition(":")[2].lower())
