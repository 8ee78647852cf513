"""Keypoint files of other programs, written here from their published descriptions, are read as they were meant."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bodyfit
from bodyfit.cli.main import main
from bodyfit.errors import KeypointFileError, OptionError
from bodyfit.images.frame import Frame, read_image
from bodyfit.io import ClipKeypoints, load_keypoints, save_keypoints
from bodyfit.keypoints import Keypoints2D, convert_keypoints
from bodyfit.skeleton import LAYOUTS

SAMPLES = Path(__file__).resolve().parents[1] / "assets/samples"
SIZE = (640, 480)


def people(layout: str, count: int = 2, seed: int = 0) -> np.ndarray:
    """(P, K, 3) float32 keypoints within the picture; the first of each person is missing."""
    rng = np.random.default_rng(seed)
    xyc = rng.uniform((10, 10, 0.2), (630, 470, 1.0), (count, len(LAYOUTS[layout]), 3)).astype(np.float32)
    xyc[:, 0] = 0
    return xyc


def flat(xyc: np.ndarray, shift: float = 0.0) -> list[float]:
    """x0, y0, c0, ... in a file's pixels; what is missing stays (0, 0, 0)."""
    xyc = xyc.astype(np.float64)
    xyc[xyc[:, 2] > 0, :2] -= shift
    return xyc.ravel().tolist()


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def frame(name: str, size: tuple[int, int] = SIZE) -> Frame:
    return Frame(np.zeros((size[1], size[0], 3), np.uint8), Path(name))


def read(path: Path, name: str = "photos/a.jpg", layout: str | None = None) -> list[Keypoints2D]:
    return load_keypoints(path, layout=layout).detect([frame(name)])[0]


def check(path: Path, layout: str, want: np.ndarray, name: str = "photos/a.jpg") -> None:
    found = read(path, name)
    assert [person.layout for person in found] == [layout] * len(want)
    np.testing.assert_array_equal(np.stack([person.xyc for person in found]), want)


def openpose(xyc: np.ndarray, suffix: str = "_2d") -> dict[str, object]:
    """OpenPose's doc/02_output.md; version 1.1 and before lacked the suffix."""
    return {"version": 1.3, "people": [{f"pose_keypoints{suffix}": flat(one)} for one in xyc]}


class TestOpenPose:
    @pytest.mark.parametrize("layout", ["openpose25", "openpose18"])
    @pytest.mark.parametrize("suffix", ["_2d", ""])
    def test_body(self, tmp_path, layout, suffix):
        want = people(layout)
        write(tmp_path / "a_keypoints.json", openpose(want, suffix))
        check(tmp_path, layout, want)

    def test_hands_and_face(self, tmp_path):
        want = people("openpose137")
        parts = {"pose": slice(0, 25), "hand_left": slice(25, 46), "hand_right": slice(46, 67), "face": slice(67, 137)}
        everyone = [{f"{part}_keypoints_2d": flat(one[rows]) for part, rows in parts.items()} for one in want]
        write(tmp_path / "a_keypoints.json", {"version": 1.3, "people": everyone})
        check(tmp_path, "openpose137", want)

    def test_hands_beside_the_coco_model(self, tmp_path):
        body, hand = people("openpose18", 1)[0], people("openpose137", 1)[0][25:46]
        person = {"pose_keypoints_2d": flat(body), "hand_left_keypoints_2d": flat(hand), "face_keypoints_2d": []}
        write(tmp_path / "a_keypoints.json", {"people": [person]})
        (found,) = read(tmp_path)
        assert found.layout == "openpose137"
        np.testing.assert_array_equal(found.xyc[25:46], hand)
        np.testing.assert_array_equal(convert_keypoints(found.xyc, "openpose137", "openpose18")[0], body)
        assert (found.xyc[[19, 24, 46, 67], 2] == 0).all()

    def test_nobody(self, tmp_path):
        write(tmp_path / "a_keypoints.json", {"version": 1.3, "people": []})
        assert read(tmp_path) == []

    @pytest.mark.parametrize(("scale", "low"), [((640, 480), 0), ((320, 240), -1)])
    def test_scaled_coordinates_are_refused_with_the_option_that_helps(self, tmp_path, scale, low):
        xyc = people("openpose25", 1)
        xyc[..., :2] = xyc[..., :2] / scale + (low, low)
        path = write(tmp_path / "a_keypoints.json", openpose(xyc))
        with pytest.raises(
            KeypointFileError, match=rf"a_keypoints.json: person 0: .*between {low} and 1.*--keypoint_scale 0"
        ):
            read(path)

    def test_keypoints_of_a_larger_picture_are_refused(self, tmp_path):
        xyc = people("openpose25", 1) * np.float32([3, 3, 1])
        path = write(tmp_path / "a_keypoints.json", openpose(xyc))
        with pytest.raises(
            KeypointFileError, match=r"of 24 keypoints of a lie outside of the picture, which is 640x480"
        ):
            read(path)

    def test_a_person_half_out_of_the_picture_is_not(self, tmp_path):
        xyc = people("openpose25", 1)
        xyc[0, 15:, 1] += 480
        write(tmp_path / "a_keypoints.json", openpose(xyc))
        check(tmp_path, "openpose25", xyc)

    def test_alphaposes_files_in_its_likeness(self, tmp_path):
        want = people("openpose18")
        table = {"a.jpg": {"version": "AlphaPose v0.3", **openpose(want)}, "b.jpg": {"people": []}}
        check(write(tmp_path / "alphapose-results.json", table), "openpose18", want)
        bodies = {"version": 0.1, "bodies": [{"joints": flat(one)} for one in want]}
        check(write(tmp_path / "sep/a.json", bodies), "openpose18", want)


class TestCocoAndAlphaPose:
    @pytest.mark.parametrize("layout", ["coco17", "halpe26", "halpe136", "wholebody133", "mpii16"])
    def test_alphapose_names_its_pictures(self, tmp_path, layout):
        want = people(layout)
        results = [
            {"image_id": "a.jpg", "category_id": 1, "keypoints": flat(one, 0.5), "score": 2.9, "box": [0, 0, 1, 1]}
            for one in want
        ]
        other = {"image_id": "b.jpg", "category_id": 1, "keypoints": flat(people(layout, 1, 7)[0], 0.5), "score": 1.1}
        path = write(tmp_path / "alphapose-results.json", [results[0], other, results[1]])
        check(path, layout, want)
        assert read(path)[0].score == 1.0

    def test_results_with_image_ids(self, tmp_path):
        want = people("coco17")
        results = [{"image_id": 397133, "category_id": 1, "keypoints": flat(one, 0.5), "score": 0.5} for one in want]
        path = write(tmp_path / "coco_instances_results.json", results)
        check(path, "coco17", want, "val/000000397133.jpg")
        check(path, "coco17", want, "val/COCO_val2014_000000397133.jpg")
        images = [{"id": 397133, "file_name": "val2017/a.jpg", "width": 640, "height": 480}]
        write(tmp_path / "image_info.json", {"images": images})
        check(tmp_path, "coco17", want)

    def annotations(self, xyv: np.ndarray, **more: object) -> dict[str, object]:
        return {
            "images": [
                {"id": 5, "file_name": "a.jpg", "width": 640, "height": 480},
                {"id": 6, "file_name": "empty.jpg", "width": 640, "height": 480},
            ],
            "annotations": [
                {"id": 90 + i, "image_id": 5, "category_id": 1, "iscrowd": 0, "keypoints": flat(one, 0.5), **more}
                for i, one in enumerate(xyv)
            ],
            "categories": [{"id": 1, "name": "person", "keypoints": list(LAYOUTS["coco17"])}],
        }

    def test_annotations(self, tmp_path):
        xyv = people("coco17")
        xyv[:, 1:, 2] = np.random.default_rng(1).integers(1, 3, xyv[:, 1:, 2].shape)
        content = self.annotations(xyv)
        crowd = {"id": 1, "image_id": 5, "iscrowd": 1, "keypoints": [0.0] * 51, "category_id": 1, "num_keypoints": 0}
        content["annotations"] = [crowd, *content["annotations"]]  # type: ignore[misc]
        path = write(tmp_path / "person_keypoints_val2017.json", content)
        check(path, "coco17", xyv * np.float32([1, 1, 0.5]))
        assert read(path, "empty.jpg") == []

    def test_the_whole_body(self, tmp_path):
        want = people("wholebody133", 1)
        want[..., 2] = 1.0
        rows = {"foot_kpts": (17, 23), "face_kpts": (23, 91), "lefthand_kpts": (91, 112), "righthand_kpts": (112, 133)}
        more = {key: flat(want[0, a:b], 0.5) for key, (a, b) in rows.items()}
        body = want[:, :17].copy()
        body[..., 2] = 2.0
        path = write(tmp_path / "wholebody.json", self.annotations(body, **more))
        check(path, "wholebody133", want)

    def test_another_picture_size_is_refused(self, tmp_path):
        path = write(tmp_path / "person.json", self.annotations(people("coco17")))
        files = load_keypoints(path)
        with pytest.raises(KeypointFileError, match=r"person.json: a.jpg is 640x480 there, but the picture is 64x48;"):
            files.detect([frame("a.jpg", (64, 48))])
        with pytest.raises(KeypointFileError, match="turns it upright"):
            files.detect([frame("a.jpg", SIZE[::-1])])

    def test_another_order_of_as_many_is_not_taken_for_cocos(self, tmp_path):
        content = self.annotations(people("coco17"))
        names = ["nose", "head_bottom", "head_top", *LAYOUTS["coco17"][3:]]  # PoseTrack 2018
        content["categories"] = [{"id": 1, "name": "person", "keypoints": names}]
        path = write(tmp_path / "posetrack.json", content)
        with pytest.raises(
            KeypointFileError, match="keypoint 1 is head_bottom, where coco17 has left_eye; name the layout"
        ):
            load_keypoints(path)
        assert read(path, layout="coco17")[0].layout == "coco17"

    def test_results_of_boxes_are_told(self, tmp_path):
        boxes = [{"image_id": "a.jpg", "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]
        with pytest.raises(
            KeypointFileError, match=r"bbox.json: none of its 1 results has keypoints; is it a file of boxes"
        ):
            read(write(tmp_path / "bbox.json", boxes))


class TestMMPose:
    def instances(self, xyc: np.ndarray) -> list[dict[str, object]]:
        """What `split_instances` of mmpose.structures makes of a picture."""
        files = [np.array(flat(one, 0.5)).reshape(-1, 3) for one in xyc]
        return [
            {
                "keypoints": f[:, :2].tolist(),
                "keypoint_scores": f[:, 2].tolist(),
                "bbox": [[1, 2, 3, 4]],
                "bbox_score": 0.9,
            }
            for f in files
        ]

    @pytest.mark.parametrize("layout", ["coco17", "halpe26", "wholebody133"])
    def test_the_inferencers_predictions(self, tmp_path, layout):
        want = people(layout)
        write(tmp_path / "a.json", self.instances(want))
        check(tmp_path, layout, want)
        assert read(tmp_path)[0].score == pytest.approx(0.9)

    @pytest.mark.parametrize(("data", "layout"), [("h36m", "h36m17"), ("coco", "coco17"), ("halpe", "halpe136")])
    def test_the_demos_name_the_data_set(self, tmp_path, data, layout):
        want = people(layout)
        content = {"meta_info": {"dataset_name": data}, "instance_info": self.instances(want)}
        write(tmp_path / "results_a.json", content)
        check(tmp_path, layout, want)

    def test_an_unknown_data_set_is_refused(self, tmp_path):
        content = {"meta_info": {"dataset_name": "posetrack18"}, "instance_info": self.instances(people("coco17"))}
        with pytest.raises(KeypointFileError, match="data set posetrack18, expected one of coco"):
            load_keypoints(write(tmp_path / "results_a.json", content))

    def test_nobody(self, tmp_path):
        write(tmp_path / "a.json", [])
        assert read(tmp_path) == []

    @pytest.mark.parametrize("demo", [False, True])
    def test_frames_of_a_clip(self, tmp_path, demo):
        """The inferencer counts frames from 0, the demos from 1."""
        want = people("coco17", 3)
        frames = [{"frame_id": i + demo, "instances": self.instances(want[i : i + 1])} for i in range(3)]
        content = {"meta_info": {"dataset_name": "coco"}, "instance_info": frames} if demo else frames
        clip = ClipKeypoints(load_keypoints(write(tmp_path / "results_clip.json", content)), Path("clip.mp4"))
        assert sorted(clip.by_frame) == [0, 1, 2]
        for i in range(3):
            np.testing.assert_array_equal(clip.by_frame[i].people[0].xyc, want[i])

    def test_a_frame_without_a_number_costs_that_frame(self, tmp_path):
        frames = [{"frame_id": i, "instances": self.instances(people("coco17", 1))} for i in ("a", 1, 2)]
        clip = ClipKeypoints(load_keypoints(write(tmp_path / "clip.json", frames)), Path("clip.mp4"))
        assert sorted(clip.by_frame) == [1, 2]
        assert clip.faults == (f"{tmp_path}/clip.json: item 0: expected an object with frame_id and instances",)
        files = load_keypoints(write(tmp_path / "clip.json", frames[:1]))
        with pytest.raises(KeypointFileError, match="item 0: expected an object with frame_id"):
            ClipKeypoints(files, Path("clip.mp4"))

    def test_3d_predictions_are_refused(self, tmp_path):
        instance = {"keypoints": [[1.0, 2.0, 3.0]] * 17, "keypoint_scores": [1.0] * 17}
        with pytest.raises(KeypointFileError, match="keypoint 0 has 3 coordinates, expected x and y"):
            read(write(tmp_path / "a.json", [instance]))


class TestOurOwn:
    def test_keypoints_come_back_with_their_lift(self, tmp_path):
        xyc = people("mediapipe33")
        lift = np.random.default_rng(3).normal(size=xyc.shape).astype(np.float32)
        lift[0, 4] = np.nan
        scale = np.abs(lift[0, :, :2])
        first = Keypoints2D("mediapipe33", xyc[0], lift[0], (100.5, 20.25), 0.75, (1.0, 2.0, 30.5, 40.0))
        first = replace(first, lift_scale_m=scale)
        second = Keypoints2D("mediapipe33", xyc[1])
        save_keypoints(tmp_path / "k.npz", {"a.jpg": [first, second], "b.jpg": []})
        found = read(tmp_path / "k.npz")
        np.testing.assert_array_equal(found[0].xyc, first.xyc)
        np.testing.assert_array_equal(found[0].lift_m, lift[0])
        assert (found[0].lift_centre_px, found[0].score) == ((100.5, 20.25), 0.75)
        assert (found[0].box, found[1].box) == ((1.0, 2.0, 30.5, 40.0), None)
        np.testing.assert_array_equal(found[0].lift_scale_m, scale)
        assert (found[1].lift_m, found[1].lift_scale_m, found[1].lift_centre_px) == (None, None, None)
        np.testing.assert_array_equal(found[1].xyc, second.xyc)
        assert read(tmp_path / "k.npz", "b.jpg") == []

    def test_a_file_of_somebodys_own_needs_little(self, tmp_path):
        want = people("coco17").astype(np.float64)
        want[1, 4] = np.nan
        np.savez(tmp_path / "k.npz", bodyfit_keypoints=1, layout="coco17", image=["a.jpg", "a.jpg"], xyc=want)
        check(tmp_path / "k.npz", "coco17", np.nan_to_num(want).astype(np.float32))

    def test_people_of_two_layouts_do_not_fit_in_one_file(self, tmp_path):
        two = [Keypoints2D(layout, people(layout, 1)[0]) for layout in ("coco17", "lsp14")]
        with pytest.raises(OptionError, match="one layout, got coco17, lsp14"):
            save_keypoints(tmp_path / "k.npz", {"a.jpg": two})

    def test_damage_is_named(self, tmp_path):
        save_keypoints(tmp_path / "k.npz", {"a.jpg": [Keypoints2D("coco17", people("coco17", 1)[0])]})
        with np.load(tmp_path / "k.npz") as file:
            arrays = dict(file)
        np.savez(tmp_path / "short.npz", **{**arrays, "xyc": arrays["xyc"][:, :5]})
        with pytest.raises(KeypointFileError, match=r"short.npz: damaged, xyc has the shape \(1, 5, 3\)"):
            load_keypoints(tmp_path / "short.npz")
        np.savez(tmp_path / "other.npz", weights=np.zeros(3))
        with pytest.raises(KeypointFileError, match=r"other.npz: no keypoints in it"):
            load_keypoints(tmp_path / "other.npz")
        (tmp_path / "cut.npz").write_bytes((tmp_path / "k.npz").read_bytes()[:200])
        with pytest.raises(KeypointFileError, match=r"cut.npz"):
            load_keypoints(tmp_path / "cut.npz")
        np.savez(tmp_path / "objects.npz", **{**arrays, "xyc": np.array([{"a": 1}], dtype=object)})
        with pytest.raises(KeypointFileError, match=r"objects.npz: damaged, xyc is missing or of the wrong kind"):
            load_keypoints(tmp_path / "objects.npz")


GOOD = flat(people("openpose25", 1)[0])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (GOOD[:-1], "74 values are no list of x, y, confidence"),
        (GOOD[:-3], "24 keypoints, expected 16 (mpii16), 17 (coco17), 18 (openpose18), 25 (openpose25), 26 (halpe26)"),
        ([*GOOD[:7], "9", *GOOD[8:]], "value 7 is text, not a number"),
        ([*GOOD[:7], True, *GOOD[8:]], "value 7 is true, not a number"),
        ([*GOOD[:7], [1.0], *GOOD[8:]], "value 7 is a list, not a number"),
        ([*GOOD[:7], 10**400, *GOOD[8:]], "a number is too large"),
        ("1 2 3", "expected a list of numbers, found text"),
    ],
)
def test_a_faulty_person_costs_that_person_only(tmp_path, values, says):
    good = openpose(people("openpose25", 1))
    content = {"people": [{"pose_keypoints_2d": values}, *good["people"]]}  # type: ignore[misc]
    path = write(tmp_path / "a_keypoints.json", content)
    files = load_keypoints(path)
    assert len(files.detect([frame("a.jpg")])[0]) == 1
    (fault,) = files.faults(Path("a.jpg"))
    assert fault.startswith(f"{path}: person 0: ")
    assert says in fault
    alone = load_keypoints(write(tmp_path / "b_keypoints.json", {"people": content["people"][:1]}))
    with pytest.raises(KeypointFileError, match=r"b_keypoints.json: person 0: "):
        alone.detect([frame("b.jpg")])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b'{"people": [', "is no complete JSON"),
        (b"\xff\xfe\x00", "is no complete JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"people": 3}', "no keypoint file that is known"),
        (b'{"a": 1}', "no keypoint file that is known; expected OpenPose"),
        (b"3", "no keypoint file that is known"),
    ],
)
def test_a_faulty_file_costs_its_picture_only(tmp_path, data, says):
    (tmp_path / "b_keypoints.json").write_bytes(data)
    with pytest.raises(KeypointFileError, match=r"b_keypoints.json") as alone:
        load_keypoints(tmp_path / "b_keypoints.json")
    assert says in str(alone.value)
    want = people("openpose25")
    write(tmp_path / "a_keypoints.json", openpose(want))
    check(tmp_path, "openpose25", want)
    with pytest.raises(KeypointFileError, match=r"b_keypoints.json") as beside:
        read(tmp_path, "b.jpg")
    assert says in str(beside.value)


ODD = (None, True, -1, 0, 1e308, 10**400, float("nan"), "", "\x1b[31m", [], {}, [[]], [None], {"a": 1}, [1.0] * 51)


def mutated(content: object, rng: np.random.Generator) -> object:
    """The content with something odd in a random place, or with something missing."""
    content = json.loads(json.dumps(content))
    at, path = content, []
    while isinstance(at, (dict, list)) and len(at) and (not path or rng.random() < 0.85):
        keys = list(at) if isinstance(at, dict) else range(len(at))
        path.append((at, keys[rng.integers(len(keys))]))
        at = at[path[-1][1]]
    parent, key = path[-1]
    if rng.random() < 0.2:
        del parent[key]
    else:
        parent[key] = ODD[rng.integers(len(ODD))]
    return content


@pytest.mark.parametrize(
    "kind",
    [
        *("openpose", "whole", "table", "annotations", "results", "mmpose", "demo", "images"),
        *("canvas", "ultralytics", "easymocap"),
    ],
)
def test_whatever_is_in_a_file_is_read_or_refused_as_our_own_error(tmp_path, kind):
    body, whole = people("openpose25"), people("openpose137")
    parts = {"pose": slice(0, 25), "hand_left": slice(25, 46), "hand_right": slice(46, 67), "face": slice(67, 137)}
    coco = TestCocoAndAlphaPose().annotations(people("coco17"), score=1.0)
    content = {
        "openpose": openpose(body),
        "whole": {"people": [{f"{p}_keypoints_2d": flat(one[r]) for p, r in parts.items()} for one in whole]},
        "table": {"a.jpg": openpose(body), "b.jpg": {"bodies": [{"joints": flat(body[0])}]}},
        "annotations": coco,
        "results": coco["annotations"],
        "mmpose": TestMMPose().instances(people("coco17")),
        "demo": {"meta_info": {"dataset_name": "coco"}, "instance_info": TestMMPose().instances(people("coco17"))},
        "images": {"images": coco["images"]},
        "canvas": [openpose(body) | {"canvas_width": 640, "canvas_height": 480}],
        "ultralytics": [
            {
                "class": 0,
                "box": {"x1": 1.0},
                "confidence": 0.5,
                "keypoints": {"x": xyc[:, 0].tolist(), "y": xyc[:, 1].tolist(), "visible": xyc[:, 2].tolist()},
            }
            for xyc in people("coco17")
        ],
        "easymocap": {"filename": "a.jpg", "width": 640, "annots": [{"personID": 1, "keypoints": body[0].tolist()}]},
    }[kind]
    rng, read_well, refused = np.random.default_rng(0), 0, []

    def people_in(where: Path) -> int:
        files = load_keypoints(where)
        refused.extend(fault for entry in files.entries for fault in entry.faults)
        pictures = list(files.match([Path(name) for name in ("a.jpg", "5.jpg", "b.jpg")]).found)
        found = [person for people in files.detect([frame(str(name)) for name in pictures]) for person in people]
        assert all(np.isfinite(person.xyc).all() for person in found)
        return len(found)

    write(tmp_path / "good/b_keypoints.json", openpose(body))
    write(tmp_path / "good/results.json", coco["annotations"])
    for _ in range(60):
        path = write(tmp_path / "good/a.json", mutated(content, rng))
        for where in (path, path.parent):
            with contextlib.suppress(KeypointFileError):
                read_well += people_in(where)
    assert read_well > 50
    assert refused
    assert not any("\x1b" in fault for fault in refused)


class TestNames:
    def files(self, folder: Path, *names: str) -> None:
        for i, name in enumerate(names):
            write(folder / f"{name}_keypoints.json", openpose(people("openpose25", 1, seed=i)))

    def seed_of(self, folder: Path, picture: str) -> int:
        """Which of the files it was."""
        (found,) = read(folder, picture)
        return next(i for i in range(9) if (people("openpose25", 1, seed=i)[0] == found.xyc).all())

    def test_the_name_itself_comes_before_its_likes(self, tmp_path):
        self.files(tmp_path, "a", "Big", "a.b", "7")
        assert self.seed_of(tmp_path, "x/a.png") == 0
        assert self.seed_of(tmp_path, "big.jpg") == 1
        assert self.seed_of(tmp_path, "a.b.jpg") == 2
        assert self.seed_of(tmp_path, "0007.jpg") == 3

    def test_folders_tell_pictures_of_the_same_name_apart(self, tmp_path):
        results = [
            {
                "image_id": f"{folder}/a.jpg",
                "category_id": 1,
                "keypoints": flat(people("coco17", 1, seed=i)[0]),
                "score": 1,
            }
            for i, folder in enumerate(("left", "right"))
        ]
        path = write(tmp_path / "results.json", results)
        np.testing.assert_allclose(read(path, "photos/right/a.jpg")[0].xyc[1, 0], people("coco17", 1, 1)[0, 1, 0] + 0.5)
        with pytest.raises(KeypointFileError, match=r"several keypoints for a.jpg: .*left/a.jpg.*right/a.jpg"):
            read(path, "photos/a.jpg")

    def test_what_has_no_partner_is_named(self, tmp_path):
        self.files(tmp_path, "a", "b")
        pictures = [Path("a.jpg"), Path("c.jpg")]
        match = load_keypoints(tmp_path).match(pictures)
        assert list(match.found) == [Path("a.jpg")]
        assert match.missing == (Path("c.jpg"),)
        assert [entry.name for entry in match.unused] == ["b"]
        with pytest.raises(KeypointFileError, match=r"no keypoints for c.jpg in .*, which has a, b"):
            read(tmp_path, "c.jpg")
        with pytest.raises(KeypointFileError, match="has no path"):
            load_keypoints(tmp_path).detect([Frame(np.zeros((4, 4, 3), np.uint8))])


def test_paths_that_lead_nowhere_are_told(tmp_path):
    with pytest.raises(KeypointFileError, match=r"nothing.json does not exist"):
        load_keypoints(tmp_path / "nothing.json")
    with pytest.raises(KeypointFileError, match=r"has no keypoint files \(json, npz, txt, csv\)"):
        load_keypoints(tmp_path)
    with pytest.raises(OptionError, match="layout must be one of"):
        load_keypoints(tmp_path, layout="coco19")


def test_the_layout_may_be_said(tmp_path):
    results = [{"image_id": "a.jpg", "category_id": 1, "keypoints": flat(people("lsp14", 1)[0], 0.5), "score": 1.0}]
    path = write(tmp_path / "results.json", results)
    with pytest.raises(KeypointFileError, match=r"result 0 .*14 keypoints, expected 16 \(mpii16\), 17 .*layout="):
        read(path)
    assert read(path, layout="lsp14")[0].layout == "lsp14"
    with pytest.raises(KeypointFileError, match="14 keypoints, but the layout coco17 that was asked for has 17"):
        read(path, layout="coco17")


# The command, on pictures whose keypoints the detector made.


@pytest.fixture(scope="module")
def street() -> tuple[Frame, list[Keypoints2D]]:
    from bodyfit.detect import load_detector

    street = read_image(SAMPLES / "street_two_people.jpg")
    return street, load_detector().detect([street])[0]


def test_the_command_fits_what_the_files_say(tmp_path, street, capsys):
    picture, found = street
    assert len(found) == 2
    xyc = np.stack([convert_keypoints(person.xyc, "mediapipe33", "openpose25")[0] for person in found])
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("street", "lonely", "faulty"):
        Image.fromarray(picture.image).save(photos / f"{name}.png")
    good, faulty = openpose(xyc), openpose(xyc[:1])
    good["people"].append({"pose_keypoints_2d": [1.0]})  # type: ignore[union-attr]
    write(tmp_path / "openpose/street_keypoints.json", good)
    faulty["people"][0]["pose_keypoints_2d"][3] = "x"  # type: ignore[index]
    write(tmp_path / "openpose/faulty_keypoints.json", faulty)
    write(tmp_path / "openpose/elsewhere_keypoints.json", good)
    code = main(["fit", str(photos), "--keypoints", str(tmp_path / "openpose"), "-o", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert code == 1
    assert "1 of 3 pictures have no keypoints" in err
    assert "lonely.png" in err
    assert "1 entry matches no picture: elsewhere (elsewhere_keypoints.json)" in err
    assert "faulty_keypoints.json: person 0: pose_keypoints_2d: value 3 is text" in err
    assert "street_keypoints.json: person 2: pose_keypoints_2d: 1 values are no list" in err
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    status = {Path(entry["input"]).stem: entry["status"] for entry in summary["inputs"]}
    assert status == {"street": "ok", "lonely": "error", "faulty": "error"}
    saved = [bodyfit.load_result(tmp_path / f"out/street/person{i}.npz") for i in range(2)]
    want = bodyfit.fit_keypoints(
        xyc, layout="openpose25", image_size=picture.size, focal_px=float(saved[0].camera.focal_px[0])
    )
    for i, result in enumerate(saved):
        assert result.layout == "openpose25"
        np.testing.assert_array_equal(result.keypoints[0].numpy(), want.keypoints[i].numpy())
        for name in ("betas", "body_pose", "global_orient", "transl"):
            np.testing.assert_array_equal(result.params[name][0].numpy(), want.params[name][i].numpy(), err_msg=name)
    again = load_keypoints(tmp_path / "out").detect([Frame(picture.image, Path("street.jpg"))])[0]
    np.testing.assert_array_equal(np.stack([person.xyc for person in again]), xyc)


def test_wrong_use_of_the_command_is_told(tmp_path, capsys):
    write(tmp_path / "k/elsewhere_keypoints.json", openpose(people("openpose25")))
    picture = str(SAMPLES / "walking.jpg")
    assert main(["fit", picture, "--keypoints", str(tmp_path / "k"), "-o", str(tmp_path / "out")]) == 2
    assert "has nothing of the pictures walking.jpg; it has elsewhere" in capsys.readouterr().err
    assert main(["fit", picture, "--keypoint-layout", "coco17", "-o", str(tmp_path / "out")]) == 2
    assert "--keypoint-layout is of the files of --keypoints" in capsys.readouterr().err
    wrong = ["fit", picture, "--keypoints", str(tmp_path / "k"), "--detector", "mediapipe", "-o", str(tmp_path / "out")]
    assert main(wrong) == 2
    assert "take the place of a detector" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
