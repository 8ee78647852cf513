"""Names of joints and keypoints: complete, unique, and the same person in every layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import REST_JOINTS

from bodyfit.body.model import load_model
from bodyfit.errors import OptionError, ShapeError
from bodyfit.keypoints import convert_keypoints
from bodyfit.skeleton import (
    EDGES,
    LAYOUTS,
    SMPL,
    correspondence,
    keypoint_trust,
    layout_edges,
    layout_names,
    mirrored_rows,
)

PUBLISHED = {
    "smpl24": 24,
    "openpose25": 25,
    "coco17": 17,
    "lsp14": 14,
    "mediapipe33": 33,
    "h36m17": 17,
    "halpe26": 26,
    "mpii16": 16,
    "wholebody133": 133,
    "openpose18": 18,
    "openpose137": 137,
    "halpe136": 136,
}


@pytest.fixture(scope="module")
def model():
    return load_model(dtype=torch.float64)


def other_side(name: str) -> str:
    swap = {"left": "right", "right": "left"}
    return "_".join(swap.get(part, part) for part in name.split("_"))


def test_there_are_the_layouts_that_were_promised():
    assert {name: len(points) for name, points in LAYOUTS.items()} == PUBLISHED


@pytest.mark.parametrize("layout", LAYOUTS)
class TestEachLayout:
    def test_names_are_unique(self, layout):
        names = layout_names(layout)
        assert len(set(names)) == len(names)

    def test_both_sides_are_there(self, layout):
        names = layout_names(layout)
        assert {n for n in names if other_side(n) not in names} == set()

    def test_correspondences_are_means_of_points_that_the_body_has(self, layout, model):
        entries = correspondence(layout)
        assert len(entries) == len(layout_names(layout))
        for name, entry in zip(layout_names(layout), entries, strict=True):
            if not entry:
                assert name.startswith("face_") or name[-1] in "123", name
                continue
            assert {point for point in entry if not model.has_point(point)} == set(), name
            assert sum(entry.values()) == pytest.approx(1)
            assert min(entry.values()) > 0

    def test_the_other_side_corresponds_to_the_other_side(self, layout):
        names, entries = layout_names(layout), correspondence(layout)
        table = dict(zip(names, entries, strict=True))
        rows = mirrored_rows(names)
        assert [rows[row] for row in rows] == list(range(len(names)))
        for name, entry in table.items():
            assert table[names[rows[names.index(name)]]] == {other_side(point): w for point, w in entry.items()}
            assert name.startswith("face_") or names[rows[names.index(name)]] == other_side(name)

    def test_correspondences_are_the_callers_own(self, layout):
        correspondence(layout)[0]["nose"] = 7.0
        assert correspondence(layout)[0].get("nose") != 7.0

    def test_edges_join_keypoints_of_the_layout(self, layout):
        k = len(layout_names(layout))
        edges = layout_edges(layout)
        assert all(0 <= a < k and 0 <= b < k and a != b for a, b in edges)
        assert len({frozenset(edge) for edge in edges}) == len(edges)
        drawn = {layout_names(layout)[i] for edge in edges for i in edge}
        limbs = {f"{s}_{p}" for s in ("left", "right") for p in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")}
        assert limbs <= drawn

    def test_trust_is_a_factor_on_confidence(self, layout):
        trust = keypoint_trust(layout)
        assert len(trust) == len(layout_names(layout))
        assert all(0 < t <= 1 for t in trust)
        table = dict(zip(layout_names(layout), trust, strict=True))
        assert all(table[other_side(n)] == t for n, t in table.items())


# The published orders (REFERENCE.md and the data sets' own papers), by a few rows of each.
@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ("smpl24", {0: "pelvis", 1: "left_hip", 15: "head", 18: "left_elbow", 23: "right_hand"}),
        ("openpose25", {0: "nose", 1: "neck", 2: "right_shoulder", 8: "mid_hip", 11: "right_ankle", 14: "left_ankle"}),
        ("openpose25", {15: "right_eye", 18: "left_ear", 19: "left_big_toe", 21: "left_heel", 24: "right_heel"}),
        (
            "coco17",
            {0: "nose", 1: "left_eye", 4: "right_ear", 5: "left_shoulder", 10: "right_wrist", 16: "right_ankle"},
        ),
        ("lsp14", {0: "right_ankle", 3: "left_hip", 6: "right_wrist", 11: "left_wrist", 12: "neck", 13: "head_top"}),
        ("mediapipe33", {0: "nose", 2: "left_eye", 7: "left_ear", 8: "right_ear", 11: "left_shoulder"}),
        ("mediapipe33", {16: "right_wrist", 17: "left_pinky_knuckle", 23: "left_hip", 28: "right_ankle"}),
        ("mediapipe33", {29: "left_heel", 32: "right_big_toe"}),
        (
            "h36m17",
            {0: "mid_hip", 1: "right_hip", 4: "left_hip", 10: "head_top", 11: "left_shoulder", 16: "right_wrist"},
        ),
        ("halpe26", {0: "nose", 16: "right_ankle", 17: "head_top", 18: "neck", 19: "mid_hip", 20: "left_big_toe"}),
        ("halpe26", {21: "right_big_toe", 22: "left_small_toe", 24: "left_heel", 25: "right_heel"}),
        ("mpii16", {0: "right_ankle", 5: "left_ankle", 6: "mid_hip", 8: "neck", 9: "head_top", 10: "right_wrist"}),
        ("wholebody133", {16: "right_ankle", 17: "left_big_toe", 19: "left_heel", 22: "right_heel", 23: "face_0"}),
        ("openpose18", {0: "nose", 1: "neck", 4: "right_wrist", 8: "right_hip", 10: "right_ankle", 13: "left_ankle"}),
        ("openpose18", {14: "right_eye", 15: "left_eye", 16: "right_ear", 17: "left_ear"}),
        ("openpose137", {24: "right_heel", 25: "left_wrist_root", 29: "left_thumb_tip", 46: "right_wrist_root"}),
        ("openpose137", {67: "face_0", 135: "face_68", 136: "face_69"}),
        ("halpe136", {25: "right_heel", 26: "face_0", 93: "face_67", 94: "left_wrist_root", 115: "right_wrist_root"}),
        ("smpl24", {4: "left_knee", 7: "left_ankle", 10: "left_foot", 12: "neck", 16: "left_shoulder"}),
        ("wholebody133", {90: "face_67", 91: "left_wrist_root", 112: "right_wrist_root", 132: "right_pinky_tip"}),
    ],
)
def test_orders_are_the_published_ones(layout, rows):
    names = layout_names(layout)
    assert {row: names[row] for row in rows} == rows


def test_the_whole_bodys_face_has_its_landmarks_where_the_300w_markup_has_them(model):
    """0 to 16 the jaw from the person's right, 30 the tip of the nose, 36 to 41 the right eye, 48 to 67 the mouth."""
    at = model.keypoints(model(), "wholebody133")[0]
    face = at[23:91]
    known = torch.isfinite(face).all(1)
    assert known[[8, 30, 36, 39, 42, 45, 48, 54]].all()
    outer_right, inner_right, inner_left, outer_left = face[[36, 39, 42, 45], 0].tolist()
    assert outer_right < inner_right < 0 < inner_left < outer_left
    assert face[48, 0] < 0 < face[54, 0]
    assert face[8, 1] < face[48, 1] < face[30, 1] < face[36, 1]
    torch.testing.assert_close(at[91], at[9], msg="left hand's root is the left wrist")
    torch.testing.assert_close(at[112], at[10])


def test_the_same_keypoint_is_at_the_same_place_in_every_layout(model):
    out = model()
    seen: dict[str, torch.Tensor] = {}
    for layout, names in LAYOUTS.items():
        for name, point in zip(names, model.keypoints(out, layout)[0], strict=True):
            if name == "neck":  # OpenPose and H36M mean the middle of the shoulders or SMPL's neck, some 10 cm apart
                assert (point - out.joints[0, SMPL.index("neck")]).norm() < 0.12
            elif layout == "mediapipe33" and name.endswith("_ear"):  # MediaPipe means its root, the others its rim
                assert 0.005 < (point - seen[name]).norm() < 0.025
            elif torch.isfinite(point).all():
                torch.testing.assert_close(point, seen.setdefault(name, point), msg=f"{layout} {name}")


def test_the_tree_is_smpls():
    assert len(SMPL.names) == len(set(SMPL.names)) == len(SMPL.parents) == 24
    assert SMPL.parents[0] == -1
    assert all(0 <= parent < joint for joint, parent in enumerate(SMPL.parents) if joint)
    for name, parent in zip(SMPL.names, SMPL.parents, strict=True):
        if parent >= 0:
            assert SMPL.names[SMPL.parents[SMPL.index(other_side(name))]] == other_side(SMPL.names[parent])
    assert SMPL.names[SMPL.parents[SMPL.index("left_wrist")]] == "left_elbow"
    assert len(REST_JOINTS) == 24
    with pytest.raises(ValueError, match="not in tuple"):
        SMPL.index("tail")


def test_edges_are_between_named_points(model):
    known = {name for names in LAYOUTS.values() for name in names}
    assert {n for edge in EDGES for n in edge if n not in known} == set()
    assert len({frozenset(edge) for edge in EDGES}) == len(EDGES)


def test_an_unknown_layout_lists_those_there_are():
    for ask in (layout_names, correspondence, keypoint_trust, layout_edges):
        with pytest.raises(OptionError, match=r"layout must be one of smpl24, coco17, .*got 'coco18'"):
            ask("coco18")


def seen(layout: str, *, people: int = 2) -> np.ndarray:
    """Keypoints of somebody, all of them known."""
    rng = np.random.default_rng(len(LAYOUTS[layout]))
    return rng.uniform(0.1, 0.9, (people, len(LAYOUTS[layout]), 3))


@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
class TestConversion:
    def test_what_is_not_lost_comes_back(self, source, target):
        xyc = seen(source)
        there, lost = convert_keypoints(xyc, source, target)
        assert there.shape == (2, len(LAYOUTS[target]), 3)
        back, _ = convert_keypoints(there, target, source)
        known = np.array([name not in lost for name in LAYOUTS[source]])
        assert known.any()
        assert (back[:, known, 2] > 0).all()
        points = correspondence(source) + correspondence(target)
        once = np.array(
            [not (p and max(points[: len(known)].count(p), points[len(known) :].count(p)) > 1) for p in points]
        )
        same = known & once[: len(known)]  # of a wrist that the hand's layout has twice either may come back
        np.testing.assert_array_equal(back[:, same], xyc[:, same])

    def test_a_keypoint_stays_the_same_point_of_the_body(self, source, target, model):
        body = model()
        at = torch.cat([model.keypoints(body, source)[..., :2], torch.ones(1, len(LAYOUTS[source]), 1)], 2).numpy()
        there, _ = convert_keypoints(at, source, target)
        known = there[..., 2] > 0
        want = model.keypoints(body, target)[..., :2].numpy()
        np.testing.assert_allclose(there[known][:, :2], want[known], atol=1e-12)


def test_to_itself_nothing_changes():
    for layout in LAYOUTS:
        xyc = seen(layout)
        there, lost = convert_keypoints(xyc, layout, layout)
        assert lost == ()
        np.testing.assert_array_equal(there, xyc)


def test_the_mirrored_face_is_the_300w_markups():
    names = LAYOUTS["wholebody133"]
    rows = mirrored_rows(names)
    pairs = {0: 16, 8: 8, 17: 26, 27: 27, 30: 30, 31: 35, 36: 45, 37: 44, 39: 42, 40: 47, 41: 46, 48: 54, 51: 51}
    pairs |= {55: 59, 57: 57, 60: 64, 62: 62, 65: 67, 66: 66}
    assert {i: rows[23 + i] - 23 for i in pairs} == pairs


def test_what_is_lost_is_named():
    _, lost = convert_keypoints(seen("openpose25"), "openpose25", "coco17")
    assert lost == ("neck", "mid_hip", "left_big_toe", "left_small_toe", "left_heel", *LAYOUTS["openpose25"][22:])
    assert convert_keypoints(seen("coco17"), "coco17", "openpose25")[1] == ()


def test_a_middle_is_made_of_its_parts_where_they_are_known():
    xyc = seen("coco17", people=1)[0]
    row = LAYOUTS["coco17"].index
    there, _ = convert_keypoints(xyc, "coco17", "openpose25")
    hips = xyc[[row("left_hip"), row("right_hip")]]
    np.testing.assert_allclose(there[8], [*hips[:, :2].mean(0), hips[:, 2].min()])
    shoulders = xyc[[row("left_shoulder"), row("right_shoulder")]]
    np.testing.assert_allclose(there[1, :2], shoulders[:, :2].mean(0))
    assert (convert_keypoints(xyc, "coco17", "halpe26")[0][18] == 0).all()  # whose neck is not between the shoulders
    for missing in (0.0, np.nan):
        xyc[row("left_hip"), 2] = missing
        assert (convert_keypoints(xyc, "coco17", "openpose25")[0][8] == 0).all()


def test_openposes_neck_is_no_other_neck():
    there, lost = convert_keypoints(seen("openpose25"), "openpose25", "smpl24")
    assert "neck" in lost
    assert (there[:, LAYOUTS["smpl24"].index("neck")] == 0).all()


def test_keypoints_of_another_layout_are_refused():
    with pytest.raises(ShapeError, match=r"xyc must be .*25, 3.*layout openpose25 has 25"):
        convert_keypoints(seen("coco17"), "openpose25", "coco17")
    with pytest.raises(OptionError, match="layout must be one of"):
        convert_keypoints(seen("coco17"), "coco17", "coco25")
