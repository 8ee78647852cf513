"""Names that programs give to points of a body, and the layout that such points make up.

Body parts of DeepLabCut's projects and markers of TRC and C3D files are named by whoever made them. What is understood
is a part of the body with a side before or after it (RBigToe, left_knee, Shoulder L, hip-right), Pose2Sim's and
OpenSim's names among them.
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
"""Parts of which there are two, in words, and what keypoints call them."""
_SINGLE = {
    "nose": "nose",
    **dict.fromkeys(("head", "head top", "headtop", "top head", "top of head", "vertex"), "head_top"),
    **dict.fromkeys(("neck",), "neck"),
    **dict.fromkeys(("hip", "mid hip", "midhip", "chip", "c hip", "hip centre", "hip center", "pelvis"), "mid_hip"),
    **{"root": "mid_hip", "thorax": "thorax"},
    **{"mouth left": "mouth_left", "left mouth": "mouth_left", "mouth right": "mouth_right"},
    "right mouth": "mouth_right",
}
"""Parts of which there is one."""
_DEEPERCUT = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
"""Of DeepLabCut's pretrained human network: 1 is the right, 2 the left, as in MPII."""


def keypoint_name(name: str, among: Iterable[str] = ()) -> str | None:
    """What keypoints call the point that somebody named so; None where it is no point of theirs.

    A subject before a colon is left aside (`Anna:LKnee`). `among` are the names that it stands with.
    """
    return _keypoint_name(name, "forehead" in {other.strip().lower() for other in among})


@lru_cache(maxsize=4096)
def _keypoint_name(name: str, deepercut: bool) -> str | None:
    words = _words(name.rpartition(":")[2])
    phrase = " ".join(words)
    if phrase in _SINGLE:
        return _SINGLE[phrase]
    if deepercut and len(words) == 2 and words[0] in _DEEPERCUT and words[1] in ("1", "2"):
        return f"{'right' if words[1] == '1' else 'left'}_{words[0]}"
    for side, rest in ((words[:1], words[1:]), (words[-1:], words[:-1])):
        if side and side[0] in _SIDES and (part := _PAIRED.get(" ".join(rest))):
            return f"{_SIDES[side[0]]}_{part}"
    # RKNEE, lhip and lefteye have nothing that parts the side from the rest.
    for side in ("left", "right", "l", "r"):
        if len(words) == 1 and words[0].startswith(side) and (part := _PAIRED.get(words[0][len(side) :])):
            return f"{_SIDES[side]}_{part}"
    return None


def layout_of_names(names: Sequence[str | None]) -> tuple[str, dict[int, int]]:
    """The smallest of the layouts that hold most of the keypoints, and for each of these its row there.

    `names` are keypoints' names, None for points that are none. Of several of one name the first counts.
    """
    wanted = {name for name in names if name is not None}
    best = max(LAYOUTS, key=lambda layout: (len(wanted & set(LAYOUTS[layout])), -len(LAYOUTS[layout])))
    rows: dict[int, int] = {}
    for i, name in enumerate(names):
        if name in LAYOUTS[best] and (row := LAYOUTS[best].index(name)) not in rows.values():
            rows[i] = row
    return best, rows


def _words(name: str) -> list[str]:
    """Small words, parted where separators, capitals or digits part them: RBigToe is r, big, toe."""
    parted = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])|([A-Za-z])(\d)", lambda m: _parted(m), name.strip())
    return [word for word in re.split(r"[\s_.\-]+", parted.lower()) if word]


def _parted(match: re.Match[str]) -> str:
    left, right = (group for group in match.groups() if group is not None)
    return f"{left} {right}"
