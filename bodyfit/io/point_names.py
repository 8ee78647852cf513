"""Recognise the names that programs give to body points, and find the layout that such points belong to.

Body parts of DeepLabCut's projects and markers of TRC and C3D files have names chosen by their authors. Recognised is a
part of the body with a side before or after it (RBigToe, left_knee, Shoulder L, hip-right), including Pose2Sim's and
OpenSim's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from bodyfit.skeleton import LAYOUTS

__all__ = ["keypoint_name", "layout_of_names"]

_SIDES = {"l": "left", "lt": "left", "left": "left", "r": "right", "rt": "right", "right": "right"}
_PAIRED = {
    **{name: name for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel")},
    **{"eye inner": "eye_inner", "eye outer": "eye_outer", "inner eye": "eye_inner", "outer eye": "eye_outer"},
    **dict.fromkeys(("toe", "big toe", "bigtoe", "great toe", "hallux", "foot index", "toe big"), "big_toe"),
    **dict.fromkeys(("small toe", "smalltoe", "little toe", "pinky toe", "toe small"), "small_toe"),
    **{f"{finger}{end}": f"{finger}_knuckle" for finger in ("index", "pinky", "thumb") for end in ("", " knuckle")},
    **{"hjc": "hip", "kjc": "knee", "ajc": "ankle", "sjc": "shoulder", "ejc": "elbow", "wjc": "wrist"},
    "calc": "heel",
}
"""Names of paired parts, without the side, and their keypoints."""
_SINGLE = {
    "nose": "nose",
    **dict.fromkeys(("head", "head top", "headtop", "top head", "top of head", "vertex"), "head_top"),
    **dict.fromkeys(("neck",), "neck"),
    **dict.fromkeys(("hip", "mid hip", "midhip", "chip", "c hip", "hip centre", "hip center", "pelvis"), "mid_hip"),
    **{"root": "mid_hip", "thorax": "thorax"},
    **{"mouth left": "mouth_left", "left mouth": "mouth_left", "mouth right": "mouth_right"},
    "right mouth": "mouth_right",
}
"""Names of unpaired parts, and their keypoints."""
_DEEPERCUT = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
"""Parts of DeepLabCut's pretrained human network, with 1 for right and 2 for left, as in MPII."""


def keypoint_name(name: str, among: Iterable[str] = ()) -> str | None:
    """Return the keypoint that a name refers to, None where it refers to none.

    A subject before a colon is ignored (`Anna:LKnee`). `among` are the other names in the same file.
    """
    return _keypoint_name(name, "forehead" in {other.strip().lower() for other in among})


@lru_cache(maxsize=4096)
def _keypoint_name(name: str, deepercut: bool) -> str | None:
    """Return the keypoint that a name refers to; `deepercut` for names of DeepLabCut's human network."""
    words = _words(name.rpartition(":")[2])
    phrase = " ".join(words)
    if phrase in _SINGLE:
        return _SINGLE[phrase]
    if deepercut and len(words) == 2 and words[0] in _DEEPERCUT and words[1] in ("1", "2"):
        return f"{'right' if words[1] == '1' else 'left'}_{words[0]}"
    for side, rest in ((words[:1], words[1:]), (words[-1:], words[:-1])):
        if side and side[0] in _SIDES and (part := _PAIRED.get(" ".join(rest))):
            return f"{_SIDES[side[0]]}_{part}"
    # RKNEE, lhip and lefteye have no separator after the side.
    for side in ("left", "right", "l", "r"):
        if len(words) == 1 and words[0].startswith(side) and (part := _PAIRED.get(words[0][len(side) :])):
            return f"{_SIDES[side]}_{part}"
    return None


def layout_of_names(names: Sequence[str | None]) -> tuple[str, dict[int, int]]:
    """Find the smallest layout that contains most of the keypoints, and their rows in it.

    `names` are names of keypoints, None for other points. Of duplicates the first counts.
    """
    present = {name for name in names if name is not None}
    best = max(LAYOUTS, key=lambda layout: (len(present & set(LAYOUTS[layout])), -len(LAYOUTS[layout])))
    rows: dict[int, int] = {}
    for i, name in enumerate(names):
        if name in LAYOUTS[best] and (row := LAYOUTS[best].index(name)) not in rows.values():
            rows[i] = row
    return best, rows


def _words(name: str) -> list[str]:
    """Split a name into lower-case words at separators, capitals and digits: RBigToe is r, big, toe."""
    separated = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])|([A-Za-z])(\d)", lambda m: _with_space(m), name.strip())
    return [word for word in re.split(r"[\s_.\-]+", separated.lower()) if word]


def _with_space(match: re.Match[str]) -> str:
    """Insert a space between the two matched groups."""
    left, right = (group for group in match.groups() if group is not None)
    return f"{left} {right}"
