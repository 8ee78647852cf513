"""The setups of the fingers, and of the one joint that bends four of them in SMPL's small tree."""

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.build.pose_shapes.joints import Bone, Crease, Setup

FINGERS = ("index", "middle", "ring", "pinky", "thumb")
DEEPEST_DEG = {1: 90.0, 2: 110.0, 3: 80.0}
THUMB_DEG = {1: 40.0, 2: 60.0, 3: 80.0}
# Around the joint of each segment: free as far from it, and plain skinning as far; the knuckles are in the palm.
REACH_M = {1: (0.019, 0.030), 2: (0.015, 0.024), 3: (0.013, 0.021)}
CUBE_M = {1: 0.0045, 2: 0.0035, 3: 0.0032}
BACK = np.array([0.0, 1.0, 0.0])  # of the hand, palm down


def hand_setups(J: dict[str, np.ndarray], vertices: np.ndarray, flexion: dict[str, np.ndarray]) -> list[Setup]:
    """The left hand's joints, where the body has them; `flexion` are their axes, where known."""
    known = [f for f in FINGERS if f"left_{f}1" in J]
    out = [_finger(J, f, k, vertices, flexion.get(f"left_{f}{k}")) for f in known for k in (1, 2, 3)]
    return [*out, _four_fingers(J)]


def _finger(J: dict[str, np.ndarray], finger: str, k: int, vertices: np.ndarray, flexion: np.ndarray | None) -> Setup:
    j = J[f"left_{finger}{k}"]
    before = J["left_wrist"] if k == 1 else J[f"left_{finger}{k - 1}"]
    after = J[f"left_{finger}{k + 1}"] if k < 3 else j + 0.7 * (j - before)
    way_in, way_out = _unit(j - before), _unit(after - j)
    girth = float(np.sort(np.linalg.norm(vertices - j, axis=1))[:8].mean())
    bones = [
        Bone(before, j - 0.7 * girth * way_in, 0.35 * girth, "parent"),
        Bone(j + 0.7 * girth * way_out, after, 0.35 * girth, "child"),
        Bone(j, j, 0.40 * girth, "half"),
    ]
    axis = _unit(np.cross(BACK, way_out)) if flexion is None else flexion
    side = _unit(np.cross(axis, way_out))
    deepest, wide = (DEEPEST_DEG[k], 20.0) if finger != "thumb" else (THUMB_DEG[k], 25.0)
    turns = [(part * deepest * axis, 1.0) for part in (0.25, 0.5, 0.75, 1.0)] + [(-20 * axis, 0.7)]
    if k == 1:
        turns += [(a * side, 0.7) for a in (-wide, wide)]
        both = [_turn(0.5 * deepest * axis) * _turn(0.6 * a * side) for a in (-wide, wide)]
        turns += [(turn.as_rotvec(degrees=True), 0.4) for turn in both]
    if finger == "thumb":
        turns += [(a * way_out, 0.4) for a in (-25.0, 25.0)]
    creases = () if (finger, k) == ("thumb", 1) else (Crease(j, _unit(way_in + way_out), side),)
    others = tuple(f"left_{other}{n}" for other in FINGERS if other != finger for n in (1, 2, 3))
    samples = [(tuple(turn), weight) for turn, weight in turns]
    return Setup(
        f"left_{finger}{k}", CUBE_M[k], (j - 0.004 * way_in, j + 0.004 * way_out), REACH_M[k], bones, samples,
        creases=creases, foreign=others,
    )  # fmt: skip


def _four_fingers(J: dict[str, np.ndarray]) -> Setup:
    h, w = J["left_hand"], J["left_wrist"]
    way = _unit(h - w)
    first, last = (J.get(f"left_{finger}1", h) for finger in ("index", "pinky"))
    axis = _unit(np.cross(BACK, way))
    samples = [(tuple(a * axis), 1.0) for a in (-30.0, 25.0, 50.0, 75.0, 95.0)]
    samples += [(tuple(a * np.cross(axis, way)), 0.4) for a in (-15.0, 15.0)]
    samples += [(tuple(a * way), 0.3) for a in (-15.0, 15.0)]
    bones = [Bone(first, last, 0.006, "half")]
    for finger in ("index", "middle", "ring", "pinky"):
        root, next_one = J.get(f"left_{finger}1", h), J.get(f"left_{finger}2", h + 0.04 * way)
        bones += [Bone(w, root - 0.012 * way, 0.005, "parent"), Bone(root + 0.015 * way, next_one, 0.005, "child")]
    return Setup(
        "left_hand", 0.006, (first, last), (0.026, 0.042), bones, samples, creases=(Crease(h, way, -BACK),),
        foreign=tuple(f"left_thumb{n}" for n in (1, 2, 3) if f"left_thumb{n}" in J),
    )  # fmt: skip


def _turn(degrees: np.ndarray) -> Rotation:
    return Rotation.from_rotvec(degrees, degrees=True)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
