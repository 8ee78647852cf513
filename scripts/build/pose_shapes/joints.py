"""Where each joint's flesh is, which bones hold it, and the rotations it is tried in: anatomy, as tables.

Only left and middle joints are here; the right follows by reflection. Directions in the rest pose: x to the body's left
(along the left arm), y up, z forward. Ranges of motion are the usual ones of orthopaedic handbooks.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

SIDED = {
    "hip": "pelvis", "knee": "hip", "ankle": "knee", "foot": "ankle", "collar": "spine3", "shoulder": "collar",
    "elbow": "shoulder", "wrist": "elbow", "hand": "wrist",
}  # fmt: skip
MIDDLE = {"spine1": "pelvis", "spine2": "spine1", "spine3": "spine2", "neck": "spine3", "head": "neck"}


@dataclass(frozen=True)
class Bone:
    """A capsule of nodes that move with a bone."""

    start: np.ndarray
    end: np.ndarray
    radius: float
    owner: str
    """"parent", "child", or "half": a joint's head, which turns half way."""


@dataclass(frozen=True)
class Crease:
    """A plane between the two sides of a joint, which turns half as far as the joint."""

    point: np.ndarray
    normal: np.ndarray
    """Towards the child."""
    inner: np.ndarray
    """The side of the joint that closes."""


@dataclass(frozen=True)
class Setup:
    """One joint; metres and degrees."""

    name: str
    cube_m: float
    """Edge of the lattice's cubes."""
    axis: tuple[np.ndarray, np.ndarray]
    """The region follows this segment,"""
    reach: tuple[float, float]
    """deforms freely as far from it, and keeps to plain skinning as far."""
    bones: list[Bone]
    samples: list[tuple[tuple[float, float, float], float]]
    """(rotation vector, weight)"""
    ramp: tuple[np.ndarray, np.ndarray] | None = None
    """The bone's twist grows from none at the first point to all at the second."""
    creases: tuple[Crease, ...] = ()
    """Where the two sides of the joint may meet; the one that a rotation closes most counts."""
    relaxed: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The rotation at which the skin was sculpted (MakeHuman's rest pose), where it is free of stress."""
    core_m: float = np.inf
    """Nodes deeper than this that hardly belong to the child keep still: ribs, pelvis."""
    firm: float = 2.0
    """Nodes whose share of the child is above this move with it as one: the face, the toes."""
    smooth: float = 0.5
    """How far corrections are evened out along the skin, in rings of vertices squared."""
    keep_out: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Half-spaces (point, normal) that hold other limbs."""
    foreign: tuple[str, ...] = ()
    """Joints whose skin stays out of it."""


def setups(J: dict[str, np.ndarray]) -> list[Setup]:
    """Every left and middle joint that gets shapes; `J` are the rest joints by name."""
    makers = (_elbow, _wrist, _shoulder, _collar, _hip, _knee, _ankle, _foot)
    return [make(J) for make in makers] + _trunk(J) + _neck(J)


def parents(names: tuple[str, ...]) -> tuple[int, ...]:
    """Number of each joint's parent, -1 for the root; in SMPL's trees, whichever of their joints there are."""
    return tuple(names.index(_parent(name)) if name != "pelvis" else -1 for name in names)


def _parent(name: str) -> str:
    side, _, part = name.partition("_")
    if part in SIDED:
        return f"{side}_{SIDED[part]}" if part not in ("hip", "collar") else SIDED[part]
    if part and part[-1] in "123":  # fingers
        return f"{side}_wrist" if part[-1] == "1" else f"{side}_{part[:-1]}{int(part[-1]) - 1}"
    return MIDDLE.get(name, "head")  # jaw and eyes


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _v(*xyz: float) -> np.ndarray:
    return np.array(xyz, dtype=float)


def _combine(*turns: tuple[float, float, float]) -> tuple[float, float, float]:
    """Rotation vectors in degrees, the first applied last."""
    R = Rotation.identity()
    for turn in turns:
        R = R * Rotation.from_rotvec(turn, degrees=True)
    return tuple(R.as_rotvec(degrees=True))


def _elbow(J) -> Setup:
    s, e, w = J["left_shoulder"], J["left_elbow"], J["left_wrist"]
    up, fore = _unit(e - s), _unit(w - e)
    bones = [
        Bone(s, e - 0.020 * up, 0.011, "parent"),
        Bone(e + 0.020 * fore, w, 0.011, "child"),
        Bone(e - _v(0, 0.014, 0), e + _v(0, 0.014, 0), 0.013, "half"),
        Bone(e + _v(-0.006, 0, -0.018), e + 0.03 * fore + _v(0, 0, -0.008), 0.007, "child"),  # olecranon
    ]
    samples = [((0.0, -f, 0.0), 1.0) for f in (25, 50, 75, 100, 120, 140)] + [((0.0, 15.0, 0.0), 0.3)]
    samples += [((t, 0.0, 0.0), 0.7) for t in (-50, 50)] + [((t, 0.0, 0.0), 1.2) for t in (-90, 90)]
    samples += [(_combine((0, -f, 0), (t, 0, 0)), 0.4) for f in (45, 90, 125) for t in (-60, 60)]
    return Setup(
        "left_elbow", 0.011, (e - 0.06 * up, w - 0.03 * fore), (0.060, 0.105), bones, samples, (e, e + 0.75 * (w - e)),
        (Crease(e, _unit(up + fore), _v(0, 0, 1)),),
    )  # fmt: skip


def _wrist(J) -> Setup:
    e, w, h = J["left_elbow"], J["left_wrist"], J["left_hand"]
    fore, hand = _unit(w - e), _unit(h - w)
    bones = [
        Bone(e, w - 0.014 * fore, 0.010, "parent"),
        Bone(w + 0.014 * hand, h, 0.010, "child"),
        Bone(w + _v(0, 0, -0.010), w + _v(0, 0, 0.010), 0.009, "half"),
    ]
    samples = [((0.0, 0.0, -f), 1.0) for f in (-70, -35, 30, 60, 80)]
    samples += [((0.0, y, 0.0), 0.7) for y in (-30, 25)]
    samples += [((t, 0.0, 0.0), 0.6) for t in (-45, 45)] + [((t, 0.0, 0.0), 1.5) for t in (-90, 90)]
    samples += [(_combine((t, 0, 0), (0, 0, z)), 0.6) for t in (-60, 60) for z in (-60, 50)]
    return Setup(
        "left_wrist", 0.008, (e + 0.09 * fore, w + 0.03 * hand), (0.045, 0.080), bones, samples,
        (e + 0.4 * (w - e), w), (Crease(w, _unit(fore + hand), _v(0, -1, 0)),),
    )  # fmt: skip


def _shoulder(J) -> Setup:
    c, s, e = J["left_collar"], J["left_shoulder"], J["left_elbow"]
    arm = _unit(e - s)
    bones = [
        Bone(s + 0.03 * arm, e, 0.012, "child"),
        Bone(s, s, 0.024, "half"),
        Bone(c, s + _v(-0.025, 0.022, 0.0), 0.012, "parent"),  # clavicle to acromion
    ]
    down = [((0.0, 0.0, -a), 2.0) for a in (30, 55, 75, 90)]
    swing = [(_combine((x, 0, 0), (0, 0, -75)), 1.0) for x in (-80, -45, 30)]  # hanging arm swung forward and back
    twist = [(_combine((0, 0, -70), (t, 0, 0)), 1.0) for t in (-60, 60)]
    other = [((0, 0, 40), 0.5), ((0, 0, 80), 0.8), ((0, -45, 0), 1.0), ((0, -90, 0), 1.0), ((0, -120, 0), 1.0)]
    other += [((0, 30, 0), 0.7), ((90, 0, 0), 0.6), ((-90, 0, 0), 0.6), ((45, 0, 0), 0.6), ((-45, 0, 0), 0.6)]
    other += [(_combine((0, -60, 0), (0, 0, -40)), 1.0), (_combine((0, -70, 0), (0, 0, 50)), 0.7)]
    other += [(_combine((0, -90, 0), (t, 0, 0)), 0.5) for t in (-60, 60)]
    armpit = s + _v(-0.012, -0.068, 0.0)
    creases = (
        Crease(armpit, _unit(_v(1, 1, 0)), _unit(_v(1, -1, 0))),  # arm and side
        Crease(s, _v(1, 0, 0), _v(0, 0, 1)),  # arm and chest
    )
    return Setup(
        "left_shoulder", 0.016, (s + _v(-0.03, 0, 0), e - 0.06 * arm), (0.095, 0.165), bones,
        down + swing + twist + other,
        (s, s + 0.6 * (e - s)), creases, relaxed=(-12.0, -3.5, -37.0), core_m=0.03, smooth=1.2,
    )  # fmt: skip


def _collar(J) -> Setup:
    c, s = J["left_collar"], J["left_shoulder"]
    samples = [((0.0, 0.0, a), 1.0) for a in (-15, 15, 30)] + [((0.0, a, 0.0), 1.0) for a in (-25, 25)]
    samples += [((a, 0.0, 0.0), 0.7) for a in (-20, 20)] + [((0.0, -15.0, 20.0), 0.7)]
    bones = [Bone(c + 0.4 * (s - c), s, 0.014, "child")]
    return Setup(
        "left_collar", 0.020, (c + _v(-0.01, 0, 0), s), (0.11, 0.18), bones, samples, relaxed=(0.0, 0.0, -8.0),
        core_m=0.045,
    )  # fmt: skip


def _hip(J) -> Setup:
    h, k = J["left_hip"], J["left_knee"]
    thigh = _unit(k - h)
    bones = [
        Bone(h + _v(0.036, -0.02, -0.01), h + 0.12 * thigh, 0.014, "child"),  # trochanter to shaft
        Bone(h + 0.12 * thigh, k, 0.017, "child"),
        Bone(h, h, 0.026, "half"),
        Bone(h + _v(-0.03, 0.0, -0.03), h + _v(-0.035, -0.075, -0.03), 0.016, "parent"),  # seat bone
        Bone(h + _v(0.03, 0.09, 0.03), h + _v(0.0, 0.10, -0.06), 0.020, "parent"),  # crest of the ilium
    ]
    samples = [((-f, 0.0, 0.0), 1.0) for f in (25, 50, 75, 95, 120)]
    samples += [((25.0, 0.0, 0.0), 2.5), ((12.0, 0.0, 0.0), 1.5)]
    samples += [((0.0, 0.0, a), 0.8) for a in (-20, 20, 45)] + [((0.0, t, 0.0), 1.0) for t in (-25, 25, -45, 45)]
    samples += [((0.0, t, 0.0), 0.15) for t in (90, -90)]
    samples += [(_combine((0, 0, 30), (-80, 0, 0)), 0.6)]
    samples += [(_combine((-85, 0, 0), (0, t, 0)), 0.6) for t in (-35, 35)] + [(_combine((-40, 0, 0), (0, 0, 20)), 0.6)]
    groin = h + _v(0.0, -0.01, 0.0)
    return Setup(
        "left_hip", 0.020, (h + _v(0, 0.02, 0), h + 0.30 * thigh), (0.14, 0.22), bones, samples,
        (h, h + 0.3 * (k - h)),
        (Crease(groin, _v(0, -1, 0), _v(0, 0, 1)),), relaxed=(-4.6, -0.2, 2.4), core_m=0.055, smooth=1.5,
        keep_out=[(_v(0, h[1] - 0.05, 0), _v(-1, 0, 0))],
    )  # fmt: skip


def _knee(J) -> Setup:
    h, k, a = J["left_hip"], J["left_knee"], J["left_ankle"]
    thigh, shank = _unit(k - h), _unit(a - k)
    bones = [
        Bone(h, k - 0.035 * thigh, 0.016, "parent"),
        Bone(k + 0.035 * shank, a, 0.014, "child"),
        Bone(k - _v(0.018, 0, 0), k + _v(0.018, 0, 0), 0.024, "half"),
        Bone(k + _v(-0.012, 0.0, 0.022), k + _v(0.012, 0.0, 0.022), 0.012, "half"),  # kneecap
    ]
    samples = [((f, 0.0, 0.0), 1.0) for f in (75, 100, 120, 140)] + [((f, 0.0, 0.0), 1.8) for f in (-10, 25, 50)]
    samples += [((0.0, t, 0.0), 0.4) for t in (-40, 40, 90, -90)] + [((0.0, 0.0, t), 0.4) for t in (-12, 12)]
    samples += [(_combine((80, 0, 0), (0, t, 0)), 0.4) for t in (-25, 25)]
    return Setup(
        "left_knee", 0.016, (k - 0.09 * thigh, k + 0.17 * shank), (0.085, 0.150), bones, samples,
        (k, k + 0.4 * (a - k)), (Crease(k, _unit(thigh + shank), _v(0, 0, -1)),),
        keep_out=[(_v(0, k[1], 0), _v(-1, 0, 0))],
    )  # fmt: skip


def _ankle(J) -> Setup:
    k, a, f = J["left_knee"], J["left_ankle"], J["left_foot"]
    shank = _unit(a - k)
    bones = [
        Bone(k, a - 0.03 * shank, 0.013, "parent"),
        Bone(a, a, 0.018, "half"),
        Bone(a + _v(0, -0.03, -0.03), f, 0.016, "child"),
    ]
    samples = [((x, 0.0, 0.0), 1.0) for x in (-30, -15, 25, 50)] + [((0.0, y, 0.0), 0.6) for y in (-30, 30)]
    samples += [((0.0, 0.0, z), 0.6) for z in (-20, 25)]
    return Setup(
        "left_ankle", 0.012, (a - 0.10 * shank, a + _v(0, -0.02, 0.02)), (0.070, 0.120), bones, samples,
        (k + 0.4 * (a - k), a), (Crease(a + _v(0, 0.02, 0), _unit(_v(0, -1, 1)), _unit(_v(0, 1, 1))),),
    )  # fmt: skip


def _foot(J) -> Setup:
    a, f = J["left_ankle"], J["left_foot"]
    ahead = _v(0.0, 0.0, 1.0)
    bones = [Bone(a, f - 0.012 * ahead, 0.012, "parent"), Bone(f + 0.015 * ahead, f + 0.05 * ahead, 0.006, "child")]
    samples = [((x, 0.0, 0.0), 1.0) for x in (-60, -30, 25)] + [((0.0, 0.0, z), 0.3) for z in (-15, 15)]
    samples += [((0.0, y, 0.0), 0.3) for y in (-15, 15)]
    return Setup("left_foot", 0.010, (f - _v(0.03, 0, 0), f + _v(0.03, 0, 0)), (0.04, 0.07), bones, samples, firm=0.97)


def _trunk(J) -> list[Setup]:
    out = []
    for name, below, above in (
        ("spine1", "pelvis", "spine2"), ("spine2", "spine1", "spine3"), ("spine3", "spine2", "neck"),
    ):  # fmt: skip
        j = J[name]
        samples = [((x, 0.0, 0.0), 1.0) for x in (-25, 25, 45)] + [((0.0, 35.0, 0.0), 0.8), ((0.0, 0.0, 30.0), 0.8)]
        samples += [((25.0, 25.0, 0.0), 0.5), ((25.0, 0.0, 25.0), 0.5)]
        spine = _v(0, 0, -0.035)
        bones = [Bone(J[below] + spine, J[above] + spine, 0.02, "skin")]
        bones += [Bone(j, j, 0.035, "skin")]
        out.append(Setup(name, 0.028, (j, j), (0.19, 0.28), bones, samples, core_m=np.inf))
    return out


def _neck(J) -> list[Setup]:
    n, h = J["neck"], J["head"]
    up = _unit(h - n)
    samples = [((x, 0.0, 0.0), 1.0) for x in (-40, -20, 25, 45)] + [((0.0, 0.0, 30.0), 0.8)]
    samples += [((0.0, y, 0.0), 1.0) for y in (35, 65)] + [((25.0, 35.0, 0.0), 0.5), ((-20.0, 35.0, 0.0), 0.5)]
    # Plain skinning spreads these turns widely and well; the spine follows it, and only the flesh around is put right.
    spine = [Bone(n - 0.05 * up, h + 0.06 * up, 0.018, "skin")]
    return [
        Setup("neck", 0.016, (n - 0.03 * up, n + 0.04 * up), (0.085, 0.150), spine, samples, firm=0.97),
        Setup("head", 0.014, (n + 0.02 * up, h - 0.01 * up), (0.085, 0.140), spine, samples, firm=0.97),
    ]
