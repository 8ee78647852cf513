"""Define joint names, kinematic trees, keypoint layouts, and the correspondence between them, all by name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from bodyfit.errors import OptionError

__all__ = [
    "EDGES",
    "FLAME",
    "LAYOUTS",
    "MANO",
    "SMPL",
    "SMPLH",
    "SMPLX",
    "Skeleton",
    "correspondence",
    "hand_entries",
    "keypoint_trust",
    "layout_edges",
    "layout_names",
    "mirrored_rows",
]


@dataclass(frozen=True)
class Skeleton:
    """A kinematic tree; parents come before their children."""

    names: tuple[str, ...]
    """Joint names, root first."""
    parents: tuple[int, ...]
    """Index of each joint's parent, -1 for the root."""

    def index(self, name: str) -> int:
        """Return a joint's index."""
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)


SMPL = Skeleton(
    names=(
        *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle"),
        *("right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
        *("left_hand", "right_hand"),
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
)


def _hand(side: str, wrist: int, first: int) -> Skeleton:
    """Make the fifteen finger joints in the order of SMPL-H, each finger a chain from the wrist."""
    fingers = ("index", "middle", "pinky", "ring", "thumb")
    return Skeleton(
        names=tuple(f"{side}_{finger}{i}" for finger in fingers for i in (1, 2, 3)),
        parents=tuple(wrist if i == 0 else first + 3 * f + i - 1 for f in range(5) for i in range(3)),
    )


def _concatenate(*parts: Skeleton) -> Skeleton:
    """Concatenate the joints of several parts."""
    return Skeleton(sum((p.names for p in parts), ()), sum((p.parents for p in parts), ()))


_BODY22 = Skeleton(SMPL.names[:22], SMPL.parents[:22])
_FACE = Skeleton(("jaw", "left_eye_smplhf", "right_eye_smplhf"), (15, 15, 15))

SMPLH = _concatenate(_BODY22, _hand("left", 20, 22), _hand("right", 21, 37))
"""SMPL-H: the body up to the wrists, and 15 joints a hand (Romero et al. 2017)."""
SMPLX = _concatenate(_BODY22, _FACE, _hand("left", 20, 25), _hand("right", 21, 40))
"""SMPL-X: the body up to the wrists, jaw, eyes and hands (Pavlakos et al. 2019)."""
MANO = {side: _concatenate(Skeleton((f"{side}_wrist",), (-1,)), _hand(side, 0, 1)) for side in ("left", "right")}
"""MANO: one hand, by side (Romero et al. 2017)."""
FLAME = Skeleton(("head_root", "neck", "jaw", "left_eye_smplhf", "right_eye_smplhf"), (-1, 0, 1, 1, 1))
"""FLAME: the head (Li et al. 2017)."""

_COCO17 = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)
_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
_SIDES = ("left", "right")
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_HAND21 = ("wrist_root", *(f"{finger}_{part}" for finger in _FINGERS for part in ("1", "2", "3", "tip")))
_HANDS = tuple(f"{side}_{name}" for side in _SIDES for name in _HAND21)
_FACE70 = tuple(f"face_{i}" for i in range(70))  # 68 of the 300-W markup, then OpenPose's pupils
_OPENPOSE18 = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye"),
    *("right_ear", "left_ear"),
)
_OPENPOSE25 = (*_OPENPOSE18[:8], "mid_hip", *_OPENPOSE18[8:], *_FEET)
_HALPE26 = (
    *_COCO17,
    *("head_top", "neck", "mid_hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe"),
    *("left_heel", "right_heel"),
)

LAYOUTS: dict[str, tuple[str, ...]] = {
    "smpl24": SMPL.names,
    "coco17": _COCO17,
    "openpose25": _OPENPOSE25,
    "openpose18": _OPENPOSE18,
    "openpose137": (*_OPENPOSE25, *_HANDS, *_FACE70),
    "lsp14": (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist"),
        *("right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
    ),
    "mediapipe33": (
        *("nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer"),
        *("left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow"),
        *("right_elbow", "left_wrist", "right_wrist", "left_pinky_knuckle", "right_pinky_knuckle"),
        *("left_index_knuckle", "right_index_knuckle", "left_thumb_knuckle", "right_thumb_knuckle", "left_hip"),
        *("right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel"),
        *("left_big_toe", "right_big_toe"),
    ),
    "h36m17": (
        *("mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine2"),
        *("neck", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow"),
        "right_wrist",
    ),
    "halpe26": _HALPE26,
    "halpe136": (*_HALPE26, *_FACE70[:68], *_HANDS),
    "mpii16": (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "mid_hip", "thorax"),
        *("neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow"),
        "left_wrist",
    ),
    "wholebody133": (*_COCO17, *_FEET, *_FACE70[:68], *_HANDS),
}
"""The names of each layout's keypoints, in its order. openpose25 is BODY_25, openpose18 its COCO model, openpose137
BODY_25 with both hands and the face; face_0 to face_67 are the 300-W markup, face_68 and face_69 the right and the left
pupil; left_thumb_1 to left_thumb_tip go from the wrist to the tip."""

_FACE_NAMES = {8: "chin", 30: "nose", 36: "right_eye_outer", 39: "right_eye_inner", 42: "left_eye_inner"}
_FACE_NAMES |= {45: "left_eye_outer", 48: "mouth_right", 54: "mouth_left", 68: "right_eye", 69: "left_eye"}
_FACE_RUNS = (range(17), range(17, 27), range(31, 36), range(48, 55), range(55, 60), range(60, 65), range(65, 68))
_FACE_MIRROR = {f"face_{i}": f"face_{run[0] + run[-1] - i}" for run in (*_FACE_RUNS, range(68, 70)) for i in run}
_FACE_MIRROR |= {f"face_{i}": f"face_{81 - i}" for i in (36, 37, 38, 39, 42, 43, 44, 45)}  # upper lids
_FACE_MIRROR |= {f"face_{i}": f"face_{87 - i}" for i in (40, 41, 46, 47)}  # lower lids
_FINGER_NAMES = {f"{f}_{'2' if f == 'thumb' else '1'}": f"{f}_knuckle" for f in _FINGERS}
_FINGER_NAMES |= {f"{f}_tip": f"{f}_tip" for f in _FINGERS} | {"wrist_root": "wrist"}

# Body points that keypoints correspond to under another name; of faces and fingers only some have one.
_BODY_POINTS: dict[str, dict[str, float]] = {
    "mid_hip": {"left_hip": 0.5, "right_hip": 0.5},
    "thorax": {"left_shoulder": 0.4, "right_shoulder": 0.4, "neck": 0.2},
    **{name: {_FACE_NAMES[i]: 1.0} if i in _FACE_NAMES else {} for i, name in enumerate(_FACE70)},
    **{
        f"{side}_{name}": {f"{side}_{_FINGER_NAMES[name]}": 1.0} if name in _FINGER_NAMES else {}
        for side in _SIDES
        for name in _HAND21
    },
}

# Keypoints that share a joint's name but correspond to another point.
_OVERRIDES: dict[str, dict[str, dict[str, float]]] = {
    layout: {"neck": {"left_shoulder": 0.5, "right_shoulder": 0.5}}
    for layout in ("openpose18", "openpose25", "openpose137")
}
# MediaPipe marks an ear where it meets the cheek, the body's points lie on its rim: 0.78 times as far apart in frontal
# views of rendered people (44 half bodies; 0.76 of 35 whole ones). Without this heads come out 10 % small.
_OVERRIDES["mediapipe33"] = {
    f"{side}_ear": {f"{side}_ear": 0.89, f"{other}_ear": 0.11} for side, other in (_SIDES, _SIDES[::-1])
}

# Factors on the confidence of keypoints in a fit. MediaPipe's hips are offset from the joint centres; a small toe or an
# eye corner adds little to its neighbours. Fingers are fitted as part of a rigid hand: knuckles determine the wrist's
# rotation, tips depend on how the fingers are bent.
_SMALL_TRUST: dict[str, float] = {
    **dict.fromkeys((f"face_{i}" for i in _FACE_NAMES), 0.4),
    **{f"{s}_{name}": 0.1 if "tip" in name else 0.4 for s in _SIDES for name in _HAND21},
}
_TRUST: dict[str, dict[str, float]] = {
    "mediapipe33": {
        **dict.fromkeys(("left_hip", "right_hip"), 0.7),
        **{f"{s}_eye{part}": 0.35 for s in _SIDES for part in ("", "_inner", "_outer")},
        **dict.fromkeys(("mouth_left", "mouth_right"), 0.4),
        **{f"{s}_{f}_knuckle": 0.4 for s in _SIDES for f in ("pinky", "index", "thumb")},
    },
}


def _chain(*names: str) -> tuple[tuple[str, str], ...]:
    """Return the edges between consecutive names."""
    return tuple(pairwise(names))


def _face_lines() -> tuple[tuple[str, str], ...]:
    """Return the edges of jaw, brows, nose, eyes and lips in the 300-W markup."""
    lines = [range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36)]
    loops = [range(36, 42), range(42, 48), range(48, 60), range(60, 68)]
    runs = [list(line) for line in lines] + [[*loop, loop[0]] for loop in loops]
    return tuple(edge for run in runs for edge in _chain(*(f"face_{i}" for i in run)))


EDGES: tuple[tuple[str, str], ...] = (
    *(("nose", "neck"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear")),
    *(("right_eye", "right_ear"), ("mouth_left", "mouth_right"), ("head_top", "neck"), ("neck", "head")),
    *(("neck", "thorax"), ("neck", "spine3"), ("spine2", "mid_hip"), ("spine2", "neck")),
    *_chain("spine3", "spine2", "spine1", "pelvis"),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    *(
        (f"{s}_{a}", f"{s}_{b}")
        for s in _SIDES
        for a, b in (
            *(("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle")),
            *(("ankle", "heel"), ("heel", "big_toe"), ("ankle", "foot"), ("wrist", "index_knuckle")),
            *(("index_knuckle", "pinky_knuckle"), ("wrist", "hand"), ("wrist", "thumb_knuckle")),
            *(("eye_inner", "eye"), ("eye", "eye_outer"), ("big_toe", "small_toe"), ("collar", "shoulder")),
            *(
                edge
                for f in _FINGERS
                for edge in _chain("wrist_root", *(f"{f}_{part}" for part in ("1", "2", "3", "tip")))
            ),
        )
    ),
    *_face_lines(),
)
"""Pairs of keypoints that drawings connect by lines."""


def layout_names(layout: str) -> tuple[str, ...]:
    """Return the keypoint names of a layout. Raises `OptionError`, listing the layouts."""
    if layout not in LAYOUTS:
        raise OptionError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    return LAYOUTS[layout]


def correspondence(layout: str) -> list[dict[str, float]]:
    """Return, for each keypoint of a layout, the weights of body points (joints, surface points) whose mean it is.

    An empty entry means that the keypoint corresponds to no body point; fits ignore it. Raises `OptionError`.
    """
    body_points = {**_BODY_POINTS, **_OVERRIDES.get(layout, {})}
    return [dict(body_points.get(name, {name: 1.0})) for name in layout_names(layout)]


def keypoint_trust(layout: str) -> list[float]:
    """Return, for each keypoint of a layout, the factor in (0, 1] on its confidence in fits."""
    trust = _SMALL_TRUST | _TRUST.get(layout, {})
    return [trust.get(name, 1.0) for name in layout_names(layout)]


def hand_entries(side: str) -> list[dict[str, float]]:
    """The joints and fingertips that the 21 points of a hand with fingers are: the wrist, then thumb, index, middle,
    ring and little finger from the palm to the tip."""
    points = (f"{finger}{part}" for finger in _FINGERS for part in ("1", "2", "3", "_tip"))
    return [{f"{side}_wrist": 1.0}, *({f"{side}_{point}": 1.0} for point in points)]


def mirrored_rows(names: tuple[str, ...]) -> list[int]:
    """Return, for each keypoint, the row of its counterpart on the other side of the body, or its own row."""
    other = {"left": "right", "right": "left"}
    mirrored = [_FACE_MIRROR.get(n) or "_".join(other.get(part, part) for part in n.split("_")) for n in names]
    return [names.index(name) if name in names else row for row, name in enumerate(mirrored)]


def layout_edges(layout: str) -> list[tuple[int, int]]:
    """Return pairs of rows of the keypoints that drawings of this layout connect."""
    row = {name: i for i, name in enumerate(layout_names(layout))}
    return [(row[a], row[b]) for a, b in EDGES if a in row and b in row]
