"""Every keypoint format: what is missing, and who is nobody; and formats whose coordinates or names need more."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bodyfit.errors import KeypointFileError
from bodyfit.images.frame import Frame
from bodyfit.io import ClipKeypoints, load_keypoints
from bodyfit.io.keypoints.of_clip import files_of_clip
from bodyfit.io.point_names import keypoint_name, layout_of_names
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import LAYOUTS

W, H = 640, 480
Rows = list[Any]
"""[x, y, confidence] of each keypoint, in our pixels, or whatever else stands in a keypoint's place."""


def rows_of(layout: str, seed: int = 0) -> Rows:
    """Keypoints within the picture, all there."""
    xyc = np.random.default_rng(seed).uniform((10, 10, 0.25), (630, 470, 1.0), (len(LAYOUTS[layout]), 3))
    return np.round(xyc, 3).tolist()


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def shifted(rows: Rows, by: float) -> Rows:
    """In a file's pixels; what is no number stays."""
    return [[v - by if i < 2 and isinstance(v, float) else v for i, v in enumerate(row)] for row in rows]


def flat(rows: Rows) -> list[Any]:
    return [value for row in rows for value in row]


def openpose(path: Path, people: list[Rows]) -> Path:
    return write(path / "a_keypoints.json", {"people": [{"pose_keypoints_2d": flat(rows)} for rows in people]})


def table(path: Path, people: list[Rows]) -> Path:
    one = {"people": [{"pose_keypoints_2d": flat(rows)} for rows in people]}
    return write(path / "alphapose-results.json", {"a.jpg": one, "b.jpg": {"people": []}})


def results(path: Path, people: list[Rows]) -> Path:
    items = [{"image_id": "a.jpg", "category_id": 1, "keypoints": flat(shifted(rows, 0.5))} for rows in people]
    return write(path / "results.json", items)


def annotations(path: Path, people: list[Rows]) -> Path:
    graded = [[[*row[:2], row[2] * 2 if isinstance(row[2], float) else row[2]] for row in rows] for rows in people]
    items = [{"id": i, "image_id": 5, "keypoints": flat(shifted(rows, 0.5))} for i, rows in enumerate(graded)]
    images = [{"id": 5, "file_name": "a.jpg", "width": W, "height": H}]
    return write(path / "person_keypoints.json", {"images": images, "annotations": items})


def mmpose(path: Path, people: list[Rows]) -> Path:
    items = [
        {"keypoints": [row[:2] for row in shifted(rows, 0.5)], "keypoint_scores": [row[2] for row in rows]}
        for rows in people
    ]
    return write(path / "a.json", items)


def own(path: Path, people: list[Rows]) -> Path:
    xyc = np.array([[[np.nan if v is None else v for v in row] for row in rows] for rows in people], np.float64)
    layout = {17: "coco17", 26: "halpe26"}[xyc.shape[1]]
    path.mkdir(parents=True, exist_ok=True)
    np.savez(path / "k.npz", bodyfit_keypoints=1, layout=layout, image=["a.jpg"] * len(xyc), xyc=xyc)
    return path / "k.npz"


def ultralytics(path: Path, people: list[Rows], sides: tuple[int, int] = (1, 1)) -> Path:
    def part(value: Any, side: int) -> Any:
        return value / side if isinstance(value, float) else value

    items = []
    for i, rows in enumerate(people):
        x, y, visible = ([part(row[k], (*sides, 1)[k]) for row in rows] for k in range(3))
        items.append(
            {
                "name": "person",
                "class": 0,
                "confidence": 0.9,
                "box": {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0},
                "track_id": i + 4,
                "keypoints": {"x": x, "y": y, "visible": visible},
            }
        )
    return write(path / "a.json", items)


def yolo(path: Path, people: list[Rows], end: str = "") -> Path:
    def text(value: Any, side: int) -> str:
        return "nan" if value is None else str(value / side)

    lines = [
        " ".join(["0 0.5 0.5 0.9 0.9", *(text(v, s) for row in rows for v, s in zip(row, (W, H, 1), strict=True))])
        for rows in people
    ]
    return write(path / "labels/a.txt", "".join(f"{line}{end.format(i)}\n" for i, line in enumerate(lines))).parent


def canvas(path: Path, people: list[Rows]) -> Path:
    half = [[[v / 2 if k < 2 and isinstance(v, float) else v for k, v in enumerate(row)] for row in r] for r in people]
    one = {"people": [{"pose_keypoints_2d": flat(rows), "face_keypoints_2d": None} for rows in half]}
    return write(path / "a.json", [one | {"canvas_width": W // 2, "canvas_height": H // 2}])


def easymocap(path: Path, people: list[Rows]) -> Path:
    annots = [{"personID": i, "bbox": [1, 2, 30, 40, 0.9], "keypoints": rows} for i, rows in enumerate(people)]
    content = {"filename": "images/1/a.jpg", "height": H, "width": W, "annots": annots, "isKeyframe": False}
    return write(path / "annots/1/a.json", content).parent


def deeplabcut(path: Path, people: list[Rows]) -> Path:
    names = [name.replace("_", "") for name in LAYOUTS[{17: "coco17", 26: "halpe26"}[len(people[0])]]]
    n, cells = len(people), [v for rows in people for v in flat(shifted(rows, 0.5))]
    head = [
        ["scorer", "", "", *["DLC"] * 3 * len(names) * n],
        ["individuals", "", "", *(f"p{i}" for i in range(n) for _ in names for _ in "xyl")],
        ["bodyparts", "", "", *(name for _ in range(n) for name in names for _ in "xyl")],
        ["coords", "", "", *["x", "y", "likelihood"] * len(names) * n],
        ["labeled-data", "clip", "a.png", *("" if v is None else str(v) for v in cells)],
    ]
    return write(path / "CollectedData.csv", "\n".join(map(",".join, head)))


WRITERS: dict[str, Callable[[Path, list[Rows]], Path]] = {
    **{"openpose": openpose, "table": table, "results": results, "annotations": annotations, "mmpose": mmpose},
    **{"own": own, "ultralytics": ultralytics, "yolo": yolo, "canvas": canvas, "easymocap": easymocap},
    "deeplabcut": deeplabcut,
}


def read(path: Path, name: str = "a.jpg", layout: str | None = None) -> list[Keypoints2D]:
    files = load_keypoints(path, layout=layout)
    assert not [fault for entry in files.entries for fault in entry.faults]
    return files.detect([Frame(np.zeros((H, W, 3), np.uint8), Path(name))])[0]


# ---------------------------------------------------------------- missing


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "gone",
    [
        [float("nan"), float("nan"), float("nan")],
        [float("nan"), 7.0, 0.9],
        [7.0, 8.0, float("nan")],
        [None, None, None],
        [7.0, 8.0, None],
        [0.0, 0.0, 0.9],
        [-1.0, -1.0, -1.0],
        [7.0, 8.0, -0.25],
        [7.0, float("inf"), 0.9],
    ],
    ids=str,
)
def test_what_is_missing_is_missing_in_every_format(tmp_path, kind, gone):
    rows = rows_of("halpe26")
    if kind in ("results", "annotations", "mmpose", "deeplabcut"):
        gone = [v + 0.5 if k < 2 and isinstance(v, float) else v for k, v in enumerate(gone)]  # in the file as written
    if kind in ("yolo", "deeplabcut"):
        gone = [None if v is not None and not np.isfinite(v) else v for v in gone]
    (found,) = read(WRITERS[kind](tmp_path, [[rows[0], gone, *rows[2:]]]))
    want = np.array([rows[0], [0, 0, 0], *rows[2:]], np.float32)
    assert found.layout == "halpe26"
    np.testing.assert_allclose(found.xyc, want, rtol=0, atol=2e-4)
    assert (found.xyc[1] == 0).all()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_person_without_a_keypoint_is_nobody(tmp_path, kind):
    if kind == "own":
        pytest.skip("comes back as it was saved")
    none = [[0.0, 0.0, 0.0]] * 26
    if kind in ("results", "annotations", "mmpose", "deeplabcut"):
        none = [[0.5, 0.5, 0.0]] * 26
    assert len(read(WRITERS[kind](tmp_path, [rows_of("halpe26"), none]))) == 1


NOBODY: tuple[Any, ...] = ({}, None)


@pytest.mark.parametrize("kind", ["openpose", "table", "results", "annotations", "mmpose", "ultralytics", "easymocap"])
@pytest.mark.parametrize("nobody", [*NOBODY, "no list", "empty list", "null list"], ids=str)
def test_empty_people_are_nobody(tmp_path, kind, nobody):
    """`{}` is what Pose2Sim's association leaves in the place of people of other cameras."""
    path = WRITERS[kind](tmp_path, [rows_of("halpe26"), rows_of("halpe26", 1)])
    file = path if path.is_file() else path / "a.json"
    content = json.loads(file.read_text())
    at = {"openpose": ["people"], "table": ["a.jpg", "people"], "annotations": ["annotations"], "easymocap": ["annots"]}
    people = content
    for key in at.get(kind, []):
        people = people[key]
    if nobody in NOBODY:
        people[0] = nobody
    else:
        key = "pose_keypoints_2d" if kind in ("openpose", "table") else "keypoints"
        people[0][key] = {"no list": {}, "empty list": [], "null list": None}[nobody]
        if nobody == "no list":
            del people[0][key]
    (found,) = read(write(file, content))
    np.testing.assert_allclose(found.xyc, np.float32(rows_of("halpe26", 1)), rtol=0, atol=2e-4)


@pytest.mark.parametrize("content", ["{}", "null", "[]", "[{}]", '{"people": null}', '{"people": [{}, null]}'])
def test_files_of_nobody(tmp_path, content):
    assert read(write(tmp_path / "a_keypoints.json", content)) == []


def test_scores_that_are_no_numbers_are_not_known(tmp_path):
    items = [{"image_id": "a.jpg", "keypoints": flat(rows_of("coco17")), "score": s} for s in (float("nan"), None, 0.5)]
    assert [one.score for one in read(write(tmp_path / "r.json", items))] == [1.0, 1.0, 0.5]


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", ["halpe26", "coco17", "wholebody133", "mediapipe33"])
def test_what_pose2sim_writes_as_openpose_does(tmp_path, layout):
    rows = rows_of(layout)
    (found,) = read(openpose(tmp_path, [rows]))
    assert found.layout == layout
    np.testing.assert_array_equal(found.xyc, np.float32(rows))


def test_a_count_of_several_layouts_is_said(tmp_path):
    path = openpose(tmp_path, [rows_of("coco17")])
    (note,) = load_keypoints(path).notes
    assert note.startswith("17 keypoints a person are taken for coco17; if they are h36m17")
    assert load_keypoints(path, layout="h36m17").notes == ()
    assert load_keypoints(openpose(tmp_path, [rows_of("halpe26")])).notes == ()


def test_a_count_without_a_layout_says_what_to_pass(tmp_path):
    path = openpose(tmp_path, [rows_of("lsp14")])
    with pytest.raises(KeypointFileError, match=r"14 keypoints, expected 16 .*26 \(halpe26\).*layout="):
        load_keypoints(path).detect([Frame(np.zeros((H, W, 3), np.uint8), Path("a.jpg"))])
    assert read(path, layout="lsp14")[0].layout == "lsp14"


# ---------------------------------------------------------------- parts of a picture


def test_ultralytics_may_be_normalised(tmp_path):
    want = [rows_of("coco17", i) for i in range(2)]
    for sides in ((1, 1), (W, H)):
        found = read(ultralytics(tmp_path, want, sides))
        np.testing.assert_allclose([one.xyc for one in found], want, rtol=0, atol=1e-3)
        assert [one.track for one in found] == [4, 5]
        assert found[0].score == pytest.approx(0.9)


def test_ultralytics_frames_of_a_clip(tmp_path):
    frames = [json.loads(ultralytics(tmp_path, [rows_of("coco17", i)]).read_text()) for i in range(3)]
    path = write(tmp_path / "clip.json", [*frames, []])
    clip = ClipKeypoints(load_keypoints(path), Path("clip.mp4"))
    assert [len(clip.by_frame[i].people) for i in range(4)] == [1, 1, 1, 0]


def test_ultralytics_boxes_are_told(tmp_path):
    boxes = [{"name": "person", "class": 0, "confidence": 0.9, "box": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]
    with pytest.raises(KeypointFileError, match="no detection has keypoints; run a pose model"):
        load_keypoints(write(tmp_path / "a.json", boxes))


@pytest.mark.parametrize(
    ("end", "score", "track"), [("", 1.0, None), (" 0.75", 0.75, None), (" {}3", 1.0, 3), (" 0.75 {}3", 0.75, 3)]
)
def test_yolo_lines_may_end_with_a_confidence_and_a_track(tmp_path, end, score, track):
    want = rows_of("coco17")
    (found,) = read(yolo(tmp_path, [want], end.format("")))
    np.testing.assert_allclose(found.xyc, want, rtol=0, atol=1e-3)
    assert (found.score, found.track) == (score, track)


def test_yolo_labels_of_a_data_set(tmp_path):
    """Visibilities 0, 1 and 2 are missing, hidden and visible; two numbers a point have none."""
    rows = rows_of("coco17")
    graded = [[*row[:2], float(i % 3)] for i, row in enumerate(rows)]
    (found,) = read(yolo(tmp_path, [graded]))
    np.testing.assert_array_equal(found.xyc[:, 2], [(i % 3) / 2 for i in range(17)])
    line = " ".join(["0 .5 .5 .9 .9", *(f"{x / W} {y / H}" for x, y, _ in rows)])
    (found,) = read(write(tmp_path / "pairs/a.txt", line))
    np.testing.assert_allclose(found.xyc, [[x, y, 1] for x, y, _ in rows], rtol=0, atol=1e-3)


def test_yolo_files_among_others(tmp_path):
    """The folder of a run holds pictures, and labels in a folder inside; an empty label is a picture without people."""
    labels = yolo(tmp_path, [rows_of("coco17")])
    write(labels / "b.txt", "")
    write(labels / "classes.txt", "person\n")
    write(labels / "notes.csv", "a,b\n1,2\n")
    files = load_keypoints(tmp_path)
    assert {entry.name: (len(entry.people), entry.faults) for entry in files.entries} == {"a": (1, ()), "b": (0, ())}
    with pytest.raises(KeypointFileError, match=r"classes.txt: no keypoint file that is known"):
        load_keypoints(labels / "classes.txt")
    with pytest.raises(KeypointFileError, match="boxes and no keypoints"):
        load_keypoints(write(tmp_path / "boxes.txt", "0 0.5 0.5 0.2 0.2\n"))


def test_yolo_frames_count_from_1(tmp_path):
    for i in (1, 2, 12):
        yolo(tmp_path, [rows_of("coco17", i)]).joinpath("a.txt").rename(tmp_path / f"labels/dance_{i}.txt")
    clip = ClipKeypoints(load_keypoints(tmp_path / "labels"), Path("dance.mp4"))
    assert sorted(clip.by_frame) == [0, 1, 11]


def test_a_canvas_is_brought_to_the_picture(tmp_path):
    """Pixels of a smaller canvas, and parts of one; the canvas must have the picture's shape."""
    want = rows_of("openpose18")
    parts = [[x / W, y / H, c] for x, y, c in want]
    person = {"pose_keypoints_2d": flat(parts), "hand_left_keypoints_2d": None}
    for content in ({"canvas_width": 512, "canvas_height": 384}, {"canvas_width": W, "canvas_height": H}):
        (found,) = read(write(tmp_path / "a.json", [content | {"people": [person]}]))
        assert found.layout == "openpose18"
        np.testing.assert_allclose(found.xyc, want, rtol=0, atol=1e-3)
    (found,) = read(canvas(tmp_path, [want]))
    np.testing.assert_allclose(found.xyc, want, rtol=0, atol=1e-3)
    tall = write(tmp_path / "a.json", [{"canvas_width": 384, "canvas_height": 512, "people": [person]}])
    with pytest.raises(KeypointFileError, match="canvas of 384x512, but the picture is 640x480, which is of another"):
        read(tall)


def test_canvases_of_a_clip(tmp_path):
    frame = {"canvas_width": W, "canvas_height": H}
    frames = [frame | {"people": [{"pose_keypoints_2d": flat(rows_of("openpose18", i))}]} for i in range(3)]
    clip = ClipKeypoints(load_keypoints(write(tmp_path / "pose.json", [*frames, {}])), Path("clip.mp4"))
    assert [len(clip.by_frame[i].people) for i in range(4)] == [1, 1, 1, 0]


def test_canvases_with_hands_and_face(tmp_path):
    """DWPose gives the face without pupils, 68 points, or with them, 70."""
    rows = rows_of("openpose137")
    parts = {"hand_left": slice(25, 46), "hand_right": slice(46, 67), "face": slice(67, 135)}
    person = {f"{part}_keypoints_2d": flat(rows[where]) for part, where in parts.items()}
    person["pose_keypoints_2d"] = flat(rows_of("openpose18"))
    (found,) = read(write(tmp_path / "a.json", [{"people": [person], "canvas_width": W, "canvas_height": H}]))
    assert found.layout == "openpose137"
    np.testing.assert_allclose(found.xyc[25:135], rows[25:135], rtol=0, atol=1e-3)
    assert (found.xyc[135:] == 0).all()


# ---------------------------------------------------------------- names


def test_easymocap_keeps_persons_and_hands(tmp_path):
    rows, hand = rows_of("openpose25"), rows_of("openpose137")[25:46]
    annots = [
        {
            "personID": 3,
            "bbox": [0, 0, 9, 9, 0.5],
            "keypoints": rows,
            "handl2d": hand,
            "face2d": [[1.0, 2.0, 0.5]] * 478,
        },
        {"personID": -1, "bbox": [0, 0, 9, 9, 1.0], "keypoints": rows},
    ]
    content = {"filename": "images/7/000012.jpg", "height": H, "width": W, "annots": annots}
    path = write(tmp_path / "annots/7/000012.json", content)
    first, second = read(path, "images/7/000012.jpg")
    assert [(one.layout, one.track, one.score) for one in (first, second)] == [
        ("openpose137", 3, 0.5),
        ("openpose25", None, 1.0),
    ]
    np.testing.assert_allclose(first.xyc[25:46], hand, rtol=0, atol=1e-3)
    clip = ClipKeypoints(load_keypoints(path.parent), Path("7.mp4"))
    assert sorted(clip.by_frame) == [12]
    with pytest.raises(KeypointFileError, match="is 640x480 there"):
        load_keypoints(path).detect([Frame(np.zeros((4, 4, 3), np.uint8), Path("000012.jpg"))])


def dlc_table(names: list[str], frames: int = 3) -> str:
    head = ["scorer", "bodyparts", "coords"], ["DLC_x"] * 3 * len(names), [n for n in names for _ in "xyl"]
    lines = [
        ",".join([head[0][0], *head[1]]),
        ",".join([head[0][1], *head[2]]),
        ",".join([head[0][2], *["x", "y", "likelihood"] * len(names)]),
    ]
    rows = [[str(i), *(f"{10 + i + k},{20 + k},0.9" for k in range(len(names)))] for i in range(frames)]
    return "\n".join([*lines, *map(",".join, rows)])


def test_deeplabcut_goes_by_names(tmp_path):
    names = ["Nose", "LShoulder", "right_shoulder", "knee_l", "RKnee", "leftElbow", "paw", "LBigToe"]
    write(tmp_path / "danceDLC_resnet50_x_1000.csv", dlc_table(names))
    found = files_of_clip(tmp_path, Path("dance.mp4"))
    files = load_keypoints(found)
    assert "left aside, as no keypoints of openpose25: paw" in files.notes[0]
    clip = ClipKeypoints(files, Path("dance.mp4"))
    assert sorted(clip.by_frame) == [0, 1, 2]
    (person,) = clip.by_frame[2].people
    layout = LAYOUTS["openpose25"]
    assert person.xyc[layout.index("right_knee")].tolist() == pytest.approx([10 + 2 + 4 + 0.5, 20 + 4 + 0.5, 0.9])
    assert (person.xyc[:, 2] > 0).sum() == 7


def test_deeplabcuts_human_network(tmp_path):
    """It numbers sides as MPII does, the right first."""
    pairs = ["ankle1", "knee1", "hip1", "hip2", "knee2", "ankle2", "wrist1", "elbow1", "shoulder1", "shoulder2"]
    path = write(tmp_path / "c.csv", dlc_table([*pairs, "elbow2", "wrist2", "chin", "forehead"], 1))
    (person,) = load_keypoints(path).entries[0].people
    assert person.xyc[LAYOUTS[person.layout].index("right_knee"), 0] == 11.5
    assert person.xyc[LAYOUTS[person.layout].index("left_knee"), 0] == 14.5


def test_deeplabcut_of_mice_and_in_3d_is_told(tmp_path):
    with pytest.raises(KeypointFileError, match=r"0 of its body parts are keypoints of a person \(snout, tail\)"):
        load_keypoints(write(tmp_path / "a.csv", dlc_table(["snout", "tail"])))
    names = ["nose", "left_hip", "right_hip", "left_knee"]
    solid = dlc_table(names).replace("likelihood", "z")
    with pytest.raises(KeypointFileError, match="3D points of DeepLabCut"):
        load_keypoints(write(tmp_path / "b.csv", solid))
    (tmp_path / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(KeypointFileError, match="can hold pickles, which are never opened; give the csv"):
        load_keypoints(tmp_path / "c.h5")


@pytest.mark.parametrize(
    ("name", "point"),
    [
        *[("RBigToe", "right_big_toe"), ("LKnee", "left_knee"), ("Anna:RKNEE", "right_knee"), ("Hip", "mid_hip")],
        *[("left hip", "left_hip"), ("Shoulder_L", "left_shoulder"), ("hip-right", "right_hip"), ("CHip", "mid_hip")],
        *[("Head", "head_top"), ("Neck", "neck"), ("LSmallToe", "left_small_toe"), ("r_calc_study", None)],
        *[
            ("leftEye", "left_eye"),
            ("tail", None),
            ("", None),
            ("toe", None),
            ("LHJC", "left_hip"),
            ("R_HJC", "right_hip"),
        ],
    ],
)
def test_names_of_points(name, point):
    assert keypoint_name(name) == point


def test_the_layout_of_names_is_the_smallest_that_holds_most():
    halpe = [*LAYOUTS["halpe26"], None]
    layout, rows = layout_of_names(halpe)
    assert (layout, rows) == ("halpe26", {i: i for i in range(26)})
    assert layout_of_names(LAYOUTS["coco17"])[0] == "coco17"


@pytest.mark.parametrize("kind", ["yolo", "deeplabcut"])
def test_whatever_is_in_a_table_is_read_or_refused_as_our_own_error(tmp_path, kind):
    path = WRITERS[kind](tmp_path, [rows_of("halpe26"), rows_of("halpe26", 1)])
    file = path if path.is_file() else path / "a.txt"
    text, rng, read_well = file.read_text(), np.random.default_rng(0), 0
    odd = ("", "x", "1e999", "-1", "nan", ",", " ", "\n", "\x1b[31m", "0", "99999999999999999999", '"')
    for _ in range(150):
        a, b = sorted(rng.integers(0, len(text), 2).tolist())
        b = b if rng.random() < 0.1 else min(b, a + 3)
        file.write_text(text[:a] + odd[rng.integers(len(odd))] + text[b:], encoding="utf-8")
        with contextlib.suppress(KeypointFileError):
            (entry,) = load_keypoints(file).entries[:1]
            read_well += len(entry.people)
            assert all(np.isfinite(one.xyc).all() for one in entry.people)
            assert not any("\x1b" in fault for fault in entry.faults)
    assert read_well > 20


# ---------------------------------------------------------------- clips


def test_a_folder_called_after_the_clip_is_found(tmp_path):
    for name in ("H264_json", "other_json"):
        for i in range(3):
            openpose(tmp_path, [rows_of("halpe26", i)]).rename(write(tmp_path / f"{name}/{name[:-5]}_{i:06d}.json", ""))
    assert files_of_clip(tmp_path, Path("h264.mp4")).name == "H264_json"
    clip = ClipKeypoints(load_keypoints(files_of_clip(tmp_path, Path("h264.mp4"))), Path("h264.mp4"))
    assert sorted(clip.by_frame) == [0, 1, 2]
    with pytest.raises(KeypointFileError, match="of its folders give one: H264_json, other_json"):
        load_keypoints(files_of_clip(tmp_path, Path("third.mp4")))
    (tmp_path / "other_json").rename(tmp_path.parent / "elsewhere")
    assert len(load_keypoints(tmp_path).entries) == 3


@pytest.mark.parametrize("name", ["h264", "h264_keypoints", "h264_json"])
def test_names_of_a_clips_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "h265").mkdir()
    assert files_of_clip(tmp_path, Path("h264.mp4")) == tmp_path / name


def frames(folder: Path, count: int = 12) -> Path:
    for i in range(count):
        openpose(folder, [rows_of("coco17", i)]).rename(folder / f"clip_{i:012d}_keypoints.json")
    return folder


def test_one_bad_frame_costs_that_frame(tmp_path):
    bad = frames(tmp_path / "k")
    write(bad / "clip_000000000003_keypoints.json", "{")
    write(bad / "clip_000000000004_keypoints.json", '{"people": [{"pose_keypoints_2d": ["x"]}]}')
    write(bad / "copy/unrelated.json", "{}")
    write(bad / "clip.json", {"people": []})  # of no frame, for all the digits that a name may have
    openpose(tmp_path, [rows_of("coco17")]).rename(bad / "clip_7.json")
    clip = ClipKeypoints(load_keypoints(bad), Path("clip.mp4"))
    assert [len(clip.by_frame[i].people) for i in range(12) if i != 7] == [1, 1, 1, 0, 0, *[1] * 6]
    assert 7 not in clip.by_frame
    text = "\n".join(clip.faults)
    assert len(clip.faults) == 3
    for says in ("keypoints.json: is no complete JSON", "value 0 is text", "two entries are of frame 7"):
        assert says in text


def test_the_digits_of_a_clips_name_are_no_frame(tmp_path):
    folder = tmp_path / "k"
    for name in ("h264_keypoints", "h264_000000000000_keypoints", "h264_000000000001_keypoints"):
        openpose(tmp_path, [rows_of("coco17")]).rename(write(folder / f"{name}.json", ""))
    clip = ClipKeypoints(load_keypoints(folder), Path("h264.mp4"))
    assert sorted(clip.by_frame) == [0, 1]
    assert [entry.name for entry in clip.unused] == ["h264"]
