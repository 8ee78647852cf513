"""Keypoints on the skin that 2D detectors find: face, feet and hands.

The face is picked on MakeHuman's mesh, whose numbering is fixed; the rest follows from the rig.
"""

import numpy as np

from scripts.build.open_body.rig import regress_point
from scripts.build.open_body.source import Source

# Vertices of base.obj, of the left side where there are two.
PICKED = {
    "nose": (5054,),
    "chin": (5171,),
    "head_top": (881,),
    "left_eye": (14598, 14625, 14634, 14643, 14652, 14661),  # the front of the eyeball, where the pupil is
    "left_eye_inner": (6847, 6850, 11486),
    "left_eye_outer": (6799, 6802, 11470, 11471),
    "mouth_left": (10404, 7182, 7185),
    "left_ear": (12213, 12077, 12306),  # the tragus
}
# Keypoint: the bone at whose end it lies.
ENDS = {
    "left_big_toe": "toe1-2.L",
    "left_small_toe": "toe5-3.L",
    "left_thumb_tip": "finger1-3.L",
    "left_index_tip": "finger2-3.L",
    "left_middle_tip": "finger3-3.L",
    "left_ring_tip": "finger4-3.L",
    "left_pinky_tip": "finger5-3.L",
}
# Keypoint: the bones before and after the joint.
KNUCKLES = {
    "left_thumb_knuckle": ("finger1-1.L", "finger1-2.L"),
    "left_index_knuckle": ("metacarpal1.L", "finger2-1.L"),
    "left_middle_knuckle": ("metacarpal2.L", "finger3-1.L"),
    "left_ring_knuckle": ("metacarpal3.L", "finger4-1.L"),
    "left_pinky_knuckle": ("metacarpal4.L", "finger5-1.L"),
}
VERTICES_AT_AN_END = 8
VERTICES_AT_A_HEEL = 4
VERTICES_AROUND_A_KNUCKLE = 16
# MakeHuman bends its fingers at the web; knuckles lie a centimetre nearer the wrist, halfway from wrist to fingertip.
KNUCKLE_SETBACK = 0.15


def keypoint_rows(source: Source, skin: np.ndarray, heads: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names (K,) and rows (K, V) that sum to one, from posed skin (S, V, 3) and bone heads (S, B, 3)."""
    rows = {n: _mean_of(source, np.flatnonzero(np.isin(source.base_index, p))) for n, p in PICKED.items()}
    mean = skin.mean(0)
    rows |= {name: _mean_of(source, _end(source, mean, heads.mean(0), bone)) for name, bone in ENDS.items()}
    rows["left_heel"] = _mean_of(source, _heel(source, mean, heads.mean(0)))
    for name, bones in KNUCKLES.items():
        before, after = (source.bones.index(b) for b in bones)
        near = np.flatnonzero(np.asarray(source.weights[:, [before, after]].sum(1)).ravel() > 0.3)
        setback = KNUCKLE_SETBACK if bones[0].startswith("metacarpal") else 0.0
        centre = heads[:, after] + setback * (heads[:, before] - heads[:, after])
        rows[name] = regress_point(skin, centre, near, None, VERTICES_AROUND_A_KNUCKLE, reach=0.0)
    for name in [n for n in rows if "left" in n]:
        rows[name.replace("left", "right")] = rows[name][source.mirror]
    return list(rows), np.stack(list(rows.values()))


def _end(source: Source, mean: np.ndarray, heads: np.ndarray, name: str) -> np.ndarray:
    """The tip of a finger or toe: what lies farthest along its last segment, near that segment's axis."""
    bone = source.bones.index(name)
    last = np.flatnonzero(source.weights[:, [bone]].toarray()[:, 0] > 0.3)
    offset = mean[last] - mean[last].mean(0)
    axis = mean[last].mean(0) - heads[source.parents[bone]]
    axis /= np.linalg.norm(axis)
    along = offset @ axis
    aside = np.linalg.norm(offset - along[:, None] * axis, axis=1)
    return last[np.argsort(aside - along, kind="stable")[:VERTICES_AT_AN_END]]


def _heel(source: Source, mean: np.ndarray, heads: np.ndarray) -> np.ndarray:
    ankle, toe = source.bones.index("foot.L"), source.bones.index("toe2-1.L")
    low = mean[:, 1] < mean[:, 1].min() + 0.4 * (heads[ankle, 1] - mean[:, 1].min())
    hind = np.flatnonzero(low & (source.weights[:, [ankle]].toarray()[:, 0] > 0.3))
    foot = (heads[toe] - heads[ankle]) * [1, 0, 1]
    return hind[np.argsort(mean[hind] @ foot, kind="stable")[:VERTICES_AT_A_HEEL]]


def _mean_of(source: Source, vertices: np.ndarray) -> np.ndarray:
    assert len(vertices)
    row = np.zeros(len(source.base_index))
    row[vertices] = 1.0 / len(vertices)
    return row
