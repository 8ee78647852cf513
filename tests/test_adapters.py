"""Adapters to detectors of others: on tiny networks made here they find what was drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_onnx import write_simcc

from bodyfit.cli.main import main
from bodyfit.detect import load_detector
from bodyfit.detect.rtmpose import RtmposeDetector
from bodyfit.detect.vitpose import VitposeDetector
from bodyfit.detect.yolo import YoloDetector
from bodyfit.errors import DetectorError, OptionError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

MEAN, STD = np.array((123.675, 116.28, 103.53)), np.array((58.395, 57.12, 57.375))
WALKING = Path(__file__).resolve().parents[1] / "assets/samples/walking.jpg"


class Boxes:
    """A detector that knows where people are."""

    def __init__(self, *boxes: tuple[float, float, float, float], box: bool = True) -> None:
        self.boxes, self.box = boxes, box

    def detect(self, frames):
        """The same people in every picture, by their boxes or by keypoints at the boxes' corners."""
        people = []
        for x0, y0, x1, y1 in self.boxes:
            xyc = np.tile(np.array([[x0, y0, 1], [x1, y1, 1]], np.float32), (9, 1))[:17]
            people.append(Keypoints2D("coco17", xyc, score=0.75, box=(x0, y0, x1, y1) if self.box else None))
        return [people for _ in frames]


def colours(count: int) -> np.ndarray:
    """(K, 3) directions spread over the sphere (Fibonacci's spiral)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * np.pi * (3 - 5**0.5)
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], 1)


def dotted(xy: np.ndarray, size: tuple[int, int]) -> Frame:
    """A picture with a soft dot of colour k at each xy[..., k, :], our pixels."""
    w, h = size
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    picture = np.zeros((h, w, 3))
    for person in xy:
        for (u, v), colour in zip(person, colours(len(person)), strict=True):
            picture += np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 2.5**2))[..., None] * colour
    return Frame(np.clip(np.round(MEAN + 1.5 * STD * picture), 0, 255).astype(np.uint8))


@pytest.fixture
def two_people() -> tuple[np.ndarray, tuple[tuple[float, float, float, float], ...]]:
    """17 dots each of two people, at least 12 px apart, and their boxes."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5)), -1).reshape(-1, 2)[:17] * (22.0, 28.0)
    order = np.random.default_rng(0).permutation(17)
    corners = np.array([(150.0, 120.0), (360.3, 140.7)])
    xy = corners[:, None] + grid[order]
    return xy, tuple((x - 8, y - 8, x + 74, y + 120) for x, y in corners)


class TestRtmpose:
    @pytest.mark.parametrize("batch", ["n", 1])
    def test_it_finds_each_keypoint_of_each_person(self, tmp_path, two_people, batch):
        xy, boxes = two_people
        path = write_simcc(tmp_path / "pose.onnx", colours(17), batch=batch)
        detector = RtmposeDetector(path, boxes=Boxes(*boxes))
        (people,) = detector.detect([dotted(xy, (600, 420))])
        assert [person.layout for person in people] == ["coco17", "coco17"]
        found = np.stack([person.xyc for person in people])
        # A pixel of the crop is 1.25 of the box's height over 128 pixels of the picture.
        np.testing.assert_allclose(found[..., :2], xy, atol=1.25 * 128 / 128)
        assert np.abs((found[..., :2] - xy).mean((0, 1))).max() < 0.5  # and no shift of all
        assert (found[..., 2] > 0.5).all()
        assert [person.score for person in people] == [0.75, 0.75]
        assert people[1].box == pytest.approx(boxes[1])

    def test_a_larger_network_sees_more_exactly(self, tmp_path, two_people):
        xy, boxes = two_people
        frame, off = dotted(xy, (600, 420)), {}
        for scale in (0.5, 4):
            size = int(96 * scale), int(128 * scale)
            path = write_simcc(tmp_path / f"pose{scale}.onnx", colours(17), size=size)
            (people,) = RtmposeDetector(path, boxes=Boxes(*boxes)).detect([frame])
            off[scale] = np.abs(np.stack([person.xyc for person in people])[..., :2] - xy).mean()
        assert off[4] < 0.3 < off[0.5]

    def test_the_layout_is_that_of_as_many_keypoints(self, tmp_path):
        frame = dotted(np.zeros((0, 1, 2)), (200, 200))
        for count, layout in ((26, "halpe26"), (133, "wholebody133")):
            path = write_simcc(tmp_path / "pose.onnx", colours(count))
            ((person,),) = load_detector_on(path, (50.0, 50.0, 100.0, 150.0)).detect([frame])
            assert person.layout == layout
        path = write_simcc(tmp_path / "pose.onnx", colours(5))
        with pytest.raises(DetectorError, match=r"pose.onnx gives 5 keypoints, expected 16 \(mpii16\), 17 \(coco17\)"):
            load_detector_on(path, (50.0, 50.0, 100.0, 150.0)).detect([frame])

    def test_nobody_and_several_pictures(self, tmp_path):
        path = write_simcc(tmp_path / "pose.onnx", colours(17))
        frames = [dotted(np.zeros((0, 1, 2)), size) for size in ((80, 60), (50, 90))]
        assert RtmposeDetector(path, boxes=Boxes()).detect(frames) == [[], []]
        assert RtmposeDetector(path, boxes=Boxes((0.0, 0.0, 9.0, 9.0))).detect([]) == []
        lens = RtmposeDetector(path, boxes=Boxes((0.0, 0.0, 9.0, 9.0), (9.0, 9.0, 9.0, 9.0)), max_people=1)
        assert [len(people) for people in lens.detect(frames)] == [1, 1]

    def test_boxes_are_made_of_keypoints_where_there_are_none(self, tmp_path, two_people):
        xy, boxes = two_people
        path = write_simcc(tmp_path / "pose.onnx", colours(17), size=(192, 256))
        (people,) = RtmposeDetector(path, boxes=Boxes(*boxes, box=False)).detect([dotted(xy, (600, 420))])
        np.testing.assert_allclose(np.stack([person.xyc for person in people])[..., :2], xy, atol=1.0)

    def test_files_that_are_no_network_are_told(self, tmp_path):
        with pytest.raises(DetectorError, match=r"nothing.onnx is no file; .*detector='rtmpose:PATH"):
            RtmposeDetector(tmp_path / "nothing.onnx")
        (tmp_path / "text.onnx").write_text("<html>")
        with pytest.raises(DetectorError, match=r"text.onnx: onnxruntime cannot load it"):
            RtmposeDetector(tmp_path / "text.onnx")
        write_simcc(tmp_path / "half.onnx", colours(17), outputs=1)
        with pytest.raises(DetectorError, match=r"half.onnx: not an RTMPose network"):
            RtmposeDetector(tmp_path / "half.onnx")
        with pytest.raises(DetectorError, match=r"takes the path of an \.onnx file or one of lightweight, balanced"):
            RtmposeDetector("huge")

    def test_without_a_file_and_without_rtmlib_it_says_what_to_do(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "rtmlib", None)
        with pytest.raises(DetectorError, match=r"pip install 'bodyfit\[rtmpose\]'.*detector='rtmpose:PATH"):
            load_detector("rtmpose")

    def test_offline_it_says_what_to_do(self, monkeypatch, tmp_path):
        rtmlib, tools, file = ModuleType("rtmlib"), ModuleType("rtmlib.tools"), ModuleType("rtmlib.tools.file")
        mode = SimpleNamespace(MODE={"balanced": {"pose": "https://example.org/pose.zip"}})
        monkeypatch.setattr(rtmlib, "BodyWithFeet", mode, raising=False)
        path = write_simcc(tmp_path / "pose.onnx", colours(26))
        given = {"https://example.org/pose.zip": str(path)}
        monkeypatch.setattr(file, "download_checkpoint", given.__getitem__, raising=False)
        for module in (rtmlib, tools, file):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        assert load_detector("rtmpose:balanced").detect([]) == []
        given.clear()
        with pytest.raises(DetectorError, match=r"cannot fetch its weights from https://example.org.*offline, .*PATH"):
            load_detector("rtmpose")


def load_detector_on(path: Path, box: tuple[float, float, float, float]) -> RtmposeDetector:
    return RtmposeDetector(path, boxes=Boxes(box))


class TestVitpose:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory) -> Path:
        """A tiny ViTPose of random weights, as `save_pretrained` writes it."""
        transformers = pytest.importorskip("transformers")
        from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

        torch.manual_seed(0)
        backbone = transformers.VitPoseBackboneConfig(
            image_size=[64, 48], patch_size=[16, 16], hidden_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=False)
        folder = tmp_path_factory.mktemp("vitpose")
        transformers.VitPoseForPoseEstimation(config).save_pretrained(folder)
        VitPoseImageProcessorPil(size={"height": 64, "width": 48}).save_pretrained(folder)
        return folder

    def test_its_keypoints_move_with_the_person(self, folder):
        """Random weights know no people, but the same crop gives the same keypoints wherever it lies."""
        picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
        moved = np.roll(picture, (30, -50), (0, 1))
        box, there = (150.0, 100.0, 222.0, 196.0), (100.0, 130.0, 172.0, 226.0)
        ((a,),) = VitposeDetector(folder, boxes=Boxes(box)).detect([Frame(picture)])
        ((b,),) = VitposeDetector(folder, boxes=Boxes(there)).detect([Frame(moved)])
        assert a.layout == "coco17"
        known = a.xyc[:, 2] > 0
        assert known.any()
        # The crops' sampling points are rounded to float32, and noise is as steep as a picture can be.
        np.testing.assert_allclose(b.xyc[:, 2], a.xyc[:, 2], rtol=5e-3)
        np.testing.assert_allclose(b.xyc[known, :2], a.xyc[known, :2] + (-50, 30), atol=0.1)
        (both,) = VitposeDetector(folder, boxes=Boxes(there, box)).detect([Frame(picture)])
        np.testing.assert_allclose(both[1].xyc, a.xyc, rtol=1e-4)
        assert load_detector(f"vitpose:{folder}").detect([]) == []

    def test_its_heat_maps_mean_the_picture_that_went_in(self, folder, monkeypatch):
        """A network that finds the brightest place gives back where it was drawn: the way in and out fit together."""
        detector = VitposeDetector(folder, boxes=Boxes((60.0, 40.0, 204.0, 232.0)))
        at = np.random.default_rng(2).uniform((80, 60), (184, 212), (17, 2))

        class Brightest(torch.nn.Module):
            def __init__(self, model):
                super().__init__()
                self.config, self.device = model.config, torch.device("cpu")

            def forward(self, pixel_values):
                maps = torch.nn.functional.interpolate(pixel_values.mean(1, keepdim=True), size=(64, 48))
                return SimpleNamespace(heatmaps=torch.relu(maps).repeat(1, 17, 1, 1))

        detector._model = Brightest(detector._model)
        x, y = np.meshgrid(np.arange(300) + 0.5, np.arange(260) + 0.5)
        for u, v in at[:5]:
            spot = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 8.0**2))
            ((person,),) = detector.detect([Frame(np.repeat(spot[..., None], 3, 2).astype(np.uint8))])
            np.testing.assert_allclose(person.xyc[0, :2], (u, v), atol=1.0)  # of 3.75 px a pixel of the heat map

    def test_nobody(self, folder):
        assert VitposeDetector(folder, boxes=Boxes()).detect([Frame(np.zeros((9, 9, 3), np.uint8))]) == [[]]

    def test_a_missing_folder_is_told(self, tmp_path, monkeypatch):
        pytest.importorskip("transformers")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(
            DetectorError, match=r"cannot be loaded .*offline, give a folder .*detector='vitpose:FOLDER'"
        ):
            VitposeDetector(tmp_path / "nothing")

    def test_without_transformers_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(DetectorError, match=r"pip install 'bodyfit\[vitpose\]'"):
            load_detector("vitpose")


class TestYolo:
    @pytest.fixture
    def ultralytics(self, monkeypatch) -> ModuleType:
        """A stand-in with the parts of Ultralytics' interface that the adapter uses; it finds two people."""
        seen: dict[str, object] = {}
        xyc = np.random.default_rng(1).uniform(10, 90, (2, 17, 3)).astype(np.float32)
        xyc[..., 2] = 0.75
        xyc[0, 3] = 0, 0, 0.4
        boxes = np.array([[5, 5, 30, 40], [0, 0, 95, 95]], np.float32)

        class Boxed(SimpleNamespace):
            def __len__(self):
                return len(boxes)

        class YOLO:
            task = "pose"

            def __init__(self, name):
                if name == "missing.pt":
                    raise FileNotFoundError(name)
                self.task = "pose" if "pose" in name else "detect"
                seen["name"] = name

            def __call__(self, image, verbose):
                seen["image"] = image
                found = Boxed(xyxy=torch.tensor(boxes), conf=torch.tensor([0.9, 0.5]))
                return [SimpleNamespace(keypoints=SimpleNamespace(data=torch.tensor(xyc)), boxes=found)]

        module = ModuleType("ultralytics")
        module.YOLO, module.seen, module.xyc = YOLO, seen, xyc  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ultralytics", module)
        return module

    def test_people_come_in_our_pixels_the_largest_first(self, ultralytics):
        with pytest.warns(UserWarning, match="AGPL-3.0"):
            detector = load_detector("yolo:my-pose.pt", max_people=2)
        picture = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
        (people,) = detector.detect([Frame(picture)])
        assert ultralytics.seen["name"] == "my-pose.pt"
        np.testing.assert_array_equal(ultralytics.seen["image"], picture[..., ::-1])
        assert [person.score for person in people] == pytest.approx([0.5, 0.9])
        np.testing.assert_allclose(people[0].xyc, ultralytics.xyc[1] + (0.5, 0.5, 0), rtol=1e-6)
        assert (people[1].xyc[3] == 0).all()
        assert people[1].box == (5, 5, 30, 40)

    @pytest.mark.filterwarnings("ignore:Ultralytics")
    def test_a_model_of_another_task_and_a_missing_one_are_told(self, ultralytics):
        with pytest.raises(DetectorError, match="is for detect, not for pose"):
            YoloDetector("yolo11n.pt")
        with pytest.raises(DetectorError, match=r"missing.pt cannot be loaded .*detector='yolo:PATH"):
            YoloDetector("missing.pt")

    def test_without_ultralytics_it_says_what_to_install_and_its_licence(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ultralytics", None)
        with pytest.raises(DetectorError, match=r"pip install ultralytics. Mind: .*AGPL-3.0"):
            load_detector("yolo")


def test_only_those_that_take_an_argument_get_one():
    with pytest.raises(OptionError, match="mediapipe has no option argument"):
        load_detector("mediapipe:model.onnx")


def test_the_command_takes_a_path_after_the_name(tmp_path, capsys):
    path = tmp_path / "nothing.onnx"
    assert main(["fit", str(WALKING), "--detector", f"rtmpose:{path}", "-o", str(tmp_path / "out")]) == 2
    assert f"{path} is no file" in capsys.readouterr().err
    assert main(["fit", str(WALKING), "--detector", "openpose:x", "-o", str(tmp_path / "out")]) == 2
    assert "must be one of movenet, mediapipe, rtmpose, vitpose, yolo" in capsys.readouterr().err
