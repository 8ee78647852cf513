"""Keypoints on the skin that 2D detectors find: face, feet and hands. Picked once on MakeHuman's mesh, whose numbering is fixed."""

import numpy as np
from open_body_rig import regress_point
from open_body_source import Source

# Vertices of base.obj, of the left side where there are two.
PICKED = {
    "nose": (5054,),
    "chin": (5171,),
    "head_top": (881,),
    "left_eye": (14598, 14625, 14634, 14643, 14652, 14661),  # around the front of the eyeball, where the pupil is
    "left_eye_inner": (6847, 6850, 11486),
    "left_eye_outer": (6799, 6802, 11470, 11471),
    "mouth_left": (10404, 7182, 7185),
    "left_ear": (12213, 12077, 12306),  # the tragus
}
# Keypoint: the bone at whose end it lies.
ENDS = {
    "left_big_toe": "toe1-2.L", "left_small_toe": "toe5-3.L", "left_thumb_tip": "finger1-3.L", "left_index_tip": "finger2-3.L",
    "left_middle_tip": "finger3-3.L", "left_ring_tip": "finger4-3.L", "left_pinky_tip": "finger5-3.L",
}  # fmt: skip
# Keypoint: the bones before and after the joint.
KNUCKLES = {
    "left_thumb_knuckle": ("finger1-1.L", "finger1-2.L"), "left_index_knuckle": ("metacarpal1.L", "finger2-1.L"),
    "left_middle_knuckle": ("metacarpal2.L", "finger3-1.L"), "left_ring_knuckle": ("metacarpal3.L", "finger4-1.L"),
    "left_pinky_knuckle": ("metacarpal4.L", "finger5-1.L"),
}  # fmt: skip
VERTICES_AT_AN_END = 8
VERTICES_AROUND_A_KNUCKLE = 16
# MakeHuman bends its fingers at the web; knuckles are about a centimetre nearer the wrist (halfway from wrist to fingertip).
KNUCKLE_SETBACK = 0.15


def keypoint_rows(source: Source, skin: np.ndarray, heads: np.ndarray, tails: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names (K,) and rows (K, V) that sum to one, from posed skin (S, V, 3) and bone ends (S, B, 3)."""
    bone = {name: b for b, name in enumerate(source.bones)}
    mean = skin.mean(0)
    rows = {name: _mean_of(source, np.flatnonzero(np.isin(source.base_index, picked))) for name, picked in PICKED.items()}
    for name, end in ENDS.items():
        way = (tails - heads)[:, bone[end]].mean(0)
        rows[name] = _mean_of(source, _farthest(mean, source.weights[:, bone[end]].toarray()[:, 0] > 0.3, way))
    foot = (heads[:, bone["toe2-1.L"]] - heads[:, bone["foot.L"]]).mean(0) * [1, 0, 1]
    low = mean[:, 1] < mean[:, 1].min() + 0.4 * (heads[:, bone["foot.L"], 1].mean() - mean[:, 1].min())
    rows["left_heel"] = _mean_of(source, _farthest(mean, low & (source.weights[:, bone["foot.L"]].toarray()[:, 0] > 0.3), -foot))
    for name, (before, after) in KNUCKLES.items():
        near = np.flatnonzero(source.weights[:, [bone[before], bone[after]]].sum(1).A1 > 0.3)
        setback = KNUCKLE_SETBACK if before.startswith("metacarpal") else 0.0
        centre = heads[:, bone[after]] + setback * (heads[:, bone[before]] - heads[:, bone[after]])
        rows[name] = regress_point(skin, centre, near, None, VERTICES_AROUND_A_KNUCKLE, reach=0.0)
    for name in [n for n in rows if "left" in n]:
        rows[name.replace("left", "right")] = rows[name][source.mirror]
    return list(rows), np.stack(list(rows.values()))


def _mean_of(source: Source, vertices: np.ndarray) -> np.ndarray:
    assert len(vertices)
    row = np.zeros(len(source.base_index))
    row[vertices] = 1.0 / len(vertices)
    return row


def _farthest(points: np.ndarray, allowed: np.ndarray, way: np.ndarray) -> np.ndarray:
    allowed = np.flatnonzero(allowed)
    return allowed[np.argsort(-(points[allowed] @ way), kind="stable")[:VERTICES_AT_AN_END]]
