"""Keypoints of people with known bodies and the gross mistakes of detectors in them, for the calibration of quality."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import bodyfit
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import SMPL, layout_names, mirrored_rows
from scripts.bench.inputs.quality_pictures import Motion
from scripts.bench.inputs.synthetic_people import SIZE, Detector, people
from scripts.build.pose_prior import Clip

MISTAKES = (
    *("none", "no legs", "head and shoulders", "noisy", "exchanged limbs", "turned round", "another's arm"),
    *(
        "another's arms",
        "another's legs",
        "another's half",
        "hallucinated legs",
        "long limb",
        "hands for feet",
        "ghost",
    ),
)
"""What is wrong with the keypoints; "ghost" is of nobody."""
_ARM = ("elbow", "wrist", "pinky", "index", "thumb")
_LEG = ("knee", "ankle", "heel", "toe")
_LOWER = ("hip", *_LEG, "pelvis")
_UPPER_MISSING = (*_LOWER, *_ARM)


@dataclass(frozen=True)
class Composite:
    """Keypoints and the truth."""

    mistake: str
    person: Keypoints2D
    joints: np.ndarray | None
    """(24, 3) metres; None of a ghost."""
    visible: np.ndarray
    """(24,) joints that the keypoints are about."""
    size: tuple[int, int] = SIZE
    """Of the picture."""


def composites(motions: list[Motion], each: int, layout: str, *, seed: int) -> list[Composite]:
    """`each` people for every mistake, without a lift, in pictures of `synthetic_people.SIZE`."""
    clips = [Clip(m.name, _activity(m.name), len(m.pose) / 10, m.pose) for m in motions]
    model, rng = bodyfit.load_model(), np.random.default_rng(seed)
    answer = []
    for mistake in MISTAKES:
        who = people(clips, 2 * each, model, (layout,), detector=Detector(), seed=int(rng.integers(1 << 30)))
        xyc, lifts = who.xyc[layout].double().numpy(), who.lift[layout].double().numpy()
        for k in range(each):
            mine, other = (xyc[k].copy(), lifts[k].copy()), (xyc[each + k], lifts[each + k])
            points, _ = _mistaken(rng, mistake, layout, *mine, *other)
            person = Keypoints2D(layout, points)
            truth = None if mistake == "ghost" else who.joints[k, :24].numpy()
            answer.append(Composite(mistake, person, truth, _about(layout, points)))
    return answer


def spoilt(people: list[Composite], each: int, *, seed: int) -> list[Composite]:
    """What a detector really said of people (mistake "none", with a lift, most joints visible), with mistakes added."""
    rng = np.random.default_rng(seed)
    answer = []
    for mistake in MISTAKES[1:]:
        for _ in range(each):
            mine, other = (people[k] for k in rng.choice(len(people), 2, replace=False))
            theirs = other.person.xyc.copy()
            ratio = _extent(mine.person.xyc) / _extent(theirs)
            theirs[:, :2] = ratio * (theirs[:, :2] - _middle(theirs)) + _middle(mine.person.xyc)
            assert mine.person.lift_m is not None
            assert other.person.lift_m is not None
            layout, lift = mine.person.layout, mine.person.lift_m.copy()
            xyc, lift = _mistaken(rng, mistake, layout, mine.person.xyc.copy(), lift, theirs, other.person.lift_m)
            person = replace(mine.person, xyc=xyc, lift_m=lift)
            truth = None if mistake == "ghost" else mine.joints
            answer.append(Composite(mistake, person, truth, mine.visible & _about(layout, xyc), mine.size))
    return answer


def _mistaken(
    rng: np.random.Generator,
    mistake: str,
    layout: str,
    xyc: np.ndarray,
    lift: np.ndarray,
    other: np.ndarray,
    other_lift: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints and the lift with a mistake in them."""
    names = layout_names(layout)
    side = ("left", "right")[rng.integers(2)]

    def rows(parts: tuple[str, ...], of: str = "") -> list[int]:
        return [i for i, n in enumerate(names) if any(p in n for p in parts) and of in n]

    seen = xyc[:, 2] > 0
    low, high = xyc[seen, :2].min(0), xyc[seen, :2].max(0)
    extent = _extent(xyc)
    if mistake in ("no legs", "head and shoulders"):  # keypoints that are missing
        gone = rows(_LOWER if mistake == "no legs" else _UPPER_MISSING)
        xyc[gone, 2], lift[gone] = 0, np.nan
    elif mistake == "noisy":
        xyc[:, :2] += rng.normal(0, rng.uniform(0.03, 0.1) * extent, (len(xyc), 2))
        xyc[:, 2] *= rng.uniform(0.3, 1)
        lift += rng.normal(0, rng.uniform(0.05, 0.2), lift.shape)
    elif mistake in ("exchanged limbs", "turned round"):
        pairs = np.array(mirrored_rows(names))
        taken = rows(_ARM if rng.random() < 0.5 else _LEG) if mistake == "exchanged limbs" else list(range(len(names)))
        xyc[taken], lift[taken] = xyc[pairs[taken]].copy(), lift[pairs[taken]].copy()
    elif mistake.startswith("another's"):
        what = {"arm": rows(_ARM, side), "arms": rows(_ARM), "legs": rows(_LOWER), "half": rows(("",), side)}
        taken = what[mistake.split()[1]]
        moved = other[taken].copy()
        moved[:, :2] += _middle(xyc) - _middle(other) + rng.normal(0, 0.25 * extent, 2)
        xyc[taken], lift[taken] = moved, other_lift[taken]
    elif mistake == "hallucinated legs":
        taken = rows(_LEG)
        foot = np.array([rng.uniform(low[0], high[0]), high[1]])
        xyc[taken, :2] = foot + rng.normal(0, 0.15 * extent, (len(taken), 2))
        xyc[taken, 2] = rng.uniform(0.15, 0.7, len(taken))
        lift[taken] += rng.normal(0, 0.2, (len(taken), 3))
    elif mistake == "long limb":
        taken = rows(_ARM if rng.random() < 0.5 else _LEG, side)
        root = (
            names.index(f"{side}_shoulder") if any("elbow" in names[i] for i in taken) else names.index(f"{side}_hip")
        )
        xyc[taken, :2] = xyc[root, :2] + rng.uniform(1.5, 3.0) * (xyc[taken, :2] - xyc[root, :2])
    elif mistake == "hands for feet":
        for s in ("left", "right"):
            for a, b in (("wrist", "ankle"), ("elbow", "knee")):
                i, j = names.index(f"{s}_{a}"), names.index(f"{s}_{b}")
                xyc[[i, j]], lift[[i, j]] = xyc[[j, i]].copy(), lift[[j, i]].copy()
    elif mistake == "ghost":
        if rng.random() < 0.5:
            order = rng.permutation(len(names))
            xyc, lift = xyc[order], lift[order]
        else:
            xyc[:, :2] = _middle(xyc) + rng.standard_normal((len(xyc), 2)) * rng.uniform(0.05, 0.4, 2) * extent
            xyc[:, 2] = rng.uniform(0.1, 0.8, len(xyc))
    return xyc, lift


def _extent(xyc: np.ndarray) -> float:
    return float(np.ptp(xyc[xyc[:, 2] > 0, :2], axis=0).max())


def _middle(xyc: np.ndarray) -> np.ndarray:
    return np.median(xyc[xyc[:, 2] > 0, :2], 0)


def _about(layout: str, xyc: np.ndarray) -> np.ndarray:
    """Joints that the keypoints are about: between the outermost that are there; hands and feet go with their ends."""
    names = {n for n, c in zip(layout_names(layout), xyc[:, 2], strict=True) if c > 0}
    legs, arms = any("knee" in n for n in names), any("wrist" in n for n in names)
    about = []
    for joint in SMPL.names:
        if any(p in joint for p in ("knee", "ankle", "foot")):
            about.append(legs)
        elif any(p in joint for p in ("elbow", "wrist", "hand")):
            about.append(arms)
        elif any(p in joint for p in ("hip", "pelvis", "spine1", "spine2")):
            about.append(legs or any("hip" in n for n in names))
        else:
            about.append(True)
    return np.array(about)


def _activity(name: str) -> str:
    return "_".join(part for part in name.removesuffix(".npz").split("_") if not part.isdigit() and len(part) > 1)


__all__ = ["MISTAKES", "SIZE", "Composite", "composites", "spoilt"]
