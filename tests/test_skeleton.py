"""Names of joints and keypoints: complete, unique, and the same person in every layout."""

from __future__ import annotations

import pytest
import torch
from conftest import REST_JOINTS

from bodyfit.body.model import load_model
from bodyfit.errors import OptionError
from bodyfit.skeleton import EDGES, LAYOUTS, SMPL, correspondence, keypoint_trust, layout_edges, layout_names

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
                assert layout == "wholebody133", name
                continue
            assert {point for point in entry if not model.has_point(point)} == set(), name
            assert sum(entry.values()) == pytest.approx(1)
            assert min(entry.values()) > 0

    def test_the_other_side_corresponds_to_the_other_side(self, layout):
        names, entries = layout_names(layout), correspondence(layout)
        table = dict(zip(names, entries, strict=True))
        for name, entry in table.items():
            if name.startswith("face_"):  # numbered and not named
                continue
            assert table[other_side(name)] == {other_side(point): w for point, w in entry.items()}

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
