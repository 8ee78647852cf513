"""One shape from several pictures of one person: the fit, its measurements with intervals, and the command."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import roma
import torch
from gltf_reader import Gltf
from PIL import Image

import bodyfit
from bodyfit import render
from bodyfit.app.same_person import person_of, same_person
from bodyfit.app.shape import PictureFit, detect_people, fit_shape_of, open_input, shape_of
from bodyfit.body.anthropometry.intervals import MeasurementError, measurement_intervals
from bodyfit.cli.main import main
from bodyfit.detect import DETECTORS
from bodyfit.errors import OptionError
from bodyfit.fit.pictures_config import PicturesConfig
from bodyfit.fit.result import FitStatus
from bodyfit.fit.shared_shape import SharedShapeFitter
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import Frame
from bodyfit.io import VideoWriter
from bodyfit.keypoints import Keypoints2D, SoftMask

LAYOUT = "openpose25"
SIZES = ((800, 1000), (600, 600), (1200, 900))
FOCALS = (1100.0, 800.0, 1500.0)


@dataclass(frozen=True)
class Pictured:
    """One person in three pictures of different sizes, from the front, the side and behind."""

    model: bodyfit.BodyModel
    params: bodyfit.BodyParams
    xyc: list[np.ndarray]
    masks: list[np.ndarray]
    height_m: float

    def evidence(self, rows=(0, 1, 2), **more) -> tuple[bodyfit.Evidence, torch.Tensor]:
        """What a fit of some of the pictures is given, and their sizes."""
        sizes = torch.tensor([SIZES[i] for i in rows], dtype=torch.float32)
        evidence = bodyfit.Evidence(
            keypoints=np.stack([self.xyc[i] for i in rows]),
            layout=LAYOUT,
            image_size=(800, 800),
            focal_px=torch.tensor([FOCALS[i] for i in rows]),
            principal_point_px=sizes / 2,
            **more,
        )
        return evidence, sizes

    def people(self) -> list[list[Keypoints2D]]:
        """What a detector finds in the pictures."""
        return [[Keypoints2D(LAYOUT, xyc)] for xyc in self.xyc]

    def people_with_masks(self) -> list[list[Keypoints2D]]:
        """The same, with the silhouettes."""
        masks = [SoftMask(mask, (0, 0)) for mask in self.masks]
        return [[replace(found[0], mask=mask)] for found, mask in zip(self.people(), masks, strict=True)]


@pytest.fixture(scope="module")
def pictured() -> Pictured:
    model = bodyfit.load_model()
    rng = np.random.default_rng(3)
    like = bodyfit.random_bodies(1, model=model, pose="a-pose")
    pose = like.body_pose.repeat(3, 1) + 0.06 * torch.tensor(rng.standard_normal((3, 69)), dtype=torch.float32)
    flip = roma.rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0]))
    yaw = roma.rotvec_to_rotmat(torch.tensor([[0.0, a, 0.0] for a in (0.1, 1.5, 3.0)]))
    betas = torch.tensor([[1.5, 1.2, -0.8, 0.4, 0.6, -0.3, 0.2, 0.1, -0.5, 0.3]])
    params = model.params(
        betas=betas.repeat(3, 1),
        body_pose=pose,
        global_orient=roma.rotmat_to_rotvec(flip @ yaw),
        transl=torch.tensor([[0.0, 0.2, 3.2], [0.1, 0.1, 3.6], [-0.1, 0.2, 4.5]]),
    )
    with torch.no_grad():
        out = model(**params)
    points = model.keypoints(out, LAYOUT)
    xyc, masks = [], []
    for i, (size, focal) in enumerate(zip(SIZES, FOCALS, strict=True)):
        camera = Camera.make(1, size, focal_px=focal)
        drawn = render.draw_maps([(out.vertices[i], (0.5, 0.5, 0.5))], model.faces, camera, which=("silhouette",))
        masks.append(np.where(drawn.person > 0, 255, 0).astype(np.uint8))
        xy = camera.project(points[i : i + 1])[0].numpy()
        xy = xy + rng.standard_normal(xy.shape)
        xyc.append(np.concatenate([xy, np.ones((len(xy), 1))], 1).astype(np.float32))
    return Pictured(model, params, xyc, masks, float(model.measure(betas).height[0]))


@pytest.fixture(scope="module")
def fitted(pictured):
    evidence, sizes = pictured.evidence(height_m=pictured.height_m)
    fitter = SharedShapeFitter(layout=LAYOUT, model=pictured.model)
    return fitter, fitter.fit(evidence, picture_px=sizes)


# ---------------------------------------------------------------- the fit


def test_pictures_share_a_shape_and_nothing_else(pictured, fitted):
    _, result = fitted
    assert [s is FitStatus.CONVERGED for s in result.status] == [True] * 3
    assert bool((result.params.betas == result.params.betas[:1]).all())
    assert result.params.betas.abs().max() > 0.1
    orient = [
        roma.rotvec_geodesic_distance(*pair)
        for pair in zip(result.params.global_orient, pictured.params.global_orient, strict=True)
    ]
    assert max(float(angle) for angle in orient) < 0.25
    assert float(result.reprojection_error_px.max()) < 6
    measured = pictured.model.measure(result.params.betas[:1])
    assert float(measured.height[0]) == pytest.approx(pictured.height_m, abs=0.006)  # the height is linear to 5 mm


def test_the_shape_does_not_depend_on_the_order_of_the_pictures(pictured, fitted):
    fitter, result = fitted
    evidence, sizes = pictured.evidence((2, 0, 1), height_m=pictured.height_m)
    other = fitter.fit(evidence, picture_px=sizes)
    assert torch.allclose(other.params.betas[0], result.params.betas[0], atol=0.03)  # the stopping criterion


def test_more_pictures_make_the_shape_surer(pictured, fitted):
    fitter, result = fitted
    evidence, sizes = pictured.evidence((0,), height_m=pictured.height_m)
    one = fitter.fit(evidence, picture_px=sizes)
    columns = result.variables["betas"]
    trace = [float(r.covariance[0, columns, columns].diagonal().sum()) for r in (one, result)]
    assert trace[1] < trace[0]


def test_a_picture_without_a_body_is_left_out_and_the_others_stay(pictured, fitted):
    fitter = fitted[0]
    evidence, sizes = pictured.evidence(height_m=pictured.height_m)
    evidence.keypoints[1, :, 2] = 0
    less = fitter.fit(evidence, picture_px=sizes)
    assert [s.ok for s in less.status] == [True, False, True]
    assert less.status[1] is FitStatus.UNOBSERVABLE
    assert "fewer than 4 keypoints" in less.reason[1]
    assert bool(torch.isfinite(less.params.betas[[0, 2]]).all())
    two, sizes = pictured.evidence((0, 2), height_m=pictured.height_m)
    assert torch.allclose(fitter.fit(two, picture_px=sizes).params.betas[0], less.params.betas[0], atol=1e-4)


def test_what_differs_between_pictures_of_one_person_is_an_error(pictured, fitted):
    evidence, _ = pictured.evidence(height_m=torch.tensor([1.7, 1.8, 1.7]))
    with pytest.raises(OptionError, match="height_m must be the same for all pictures"):
        fitted[0].fit(evidence)


# ---------------------------------------------------------------- intervals


def test_intervals_agree_with_samples_of_the_covariance(pictured):
    model = pictured.model
    rng = np.random.default_rng(0)
    root = 0.15 * rng.standard_normal((10, 10))
    covariance, betas = torch.tensor(root @ root.T, dtype=torch.float32), pictured.params.betas[0]
    intervals = measurement_intervals(model, betas, covariance, level=0.9)
    draws = betas + torch.tensor(rng.standard_normal((240, 10)) @ root.T, dtype=torch.float32)
    measured = model.measure(draws)
    for name, interval in intervals.items():
        values = getattr(measured, name)
        assert interval.sd == pytest.approx(float(values.std()), rel=0.2), name  # 5 % of sampling, the rest curvature
        inside = ((values > interval.low) & (values < interval.high)).float().mean()
        assert 0.8 < float(inside) < 0.97, name


def test_the_error_of_measurements_adds_to_their_variance(pictured):
    model, betas, none = pictured.model, pictured.params.betas[0], torch.zeros(10, 10)
    exact = measurement_intervals(model, betas, none)
    assert all(interval.low == interval.value == interval.high for interval in exact.values())
    error = MeasurementError(factor=4.0, share={"waist": 0.02})
    wider = measurement_intervals(model, betas, none, error=error)
    assert wider["waist"].sd == pytest.approx(0.02 * wider["waist"].value)
    assert wider["hip"].sd == 0
    unit = torch.eye(10)
    once, twice = (measurement_intervals(model, betas, unit, error=e) for e in (None, MeasurementError(factor=4.0)))
    assert twice["hip"].sd == pytest.approx(2 * once["hip"].sd)


def test_levels_that_are_no_probability_are_errors(pictured):
    with pytest.raises(OptionError, match="level must be a probability"):
        measurement_intervals(pictured.model, pictured.params.betas[0], torch.eye(10), level=90)


# ---------------------------------------------------------------- from pictures


def frames() -> list[Frame]:
    return [Frame(np.full((h, w, 3), 128, np.uint8)) for w, h in SIZES]


def test_the_largest_person_of_a_picture_is_taken(pictured):
    large = pictured.people()[0][0]
    small = replace(large, xyc=large.xyc * np.array([0.5, 0.5, 1], np.float32))
    assert person_of([small, large]) is large
    assert person_of([large, small]) is large
    assert person_of([]) is None


def test_the_person_with_the_colours_of_the_others_is_taken(pictured):
    """Red in the first picture; in the second red is the smaller one, in the third there is none."""
    image = np.full((1000, 1600, 3), 90, np.uint8)
    here = replace(pictured.people()[0][0], xyc=pictured.xyc[0] * np.array([0.7, 0.7, 1], np.float32))
    there = replace(pictured.people()[0][0], xyc=pictured.xyc[0] + np.array([700, 0, 0], np.float32))
    red_here, red_there, none = image.copy(), image.copy(), image.copy()
    red_here[:, :700], red_there[:, 700:] = (200, 30, 30), (200, 30, 30)
    read = [Frame(picture) for picture in (red_there, red_here, none)]
    assert same_person(read, [[there], [there, here], [there, here]]) == [there, here, there]
    assert same_person(read, [[here], [], [there, here]]) == [here, None, there]  # grey: as much like either
    assert same_person(read[1:2], [[there, here]]) == [there]


def test_a_picture_of_nobody_costs_that_picture(pictured):
    people = pictured.people()
    people[1] = []
    found = fit_shape_of(frames(), people, height_m=pictured.height_m, model=pictured.model)
    assert found.status is FitStatus.CONVERGED
    assert found.used == 2
    assert found.pictures[1].reason == "nobody was found in the picture"
    assert found.measurements["height"].value == pytest.approx(pictured.height_m, abs=0.006)
    assert found.measurements["waist"].low < found.measurements["waist"].value < found.measurements["waist"].high
    nobody = fit_shape_of(frames(), [[], [], []], model=pictured.model)
    assert nobody.status is FitStatus.UNOBSERVABLE
    assert nobody.measurements == {}
    assert "nobody was found" in nobody.reason
    with pytest.raises(OptionError, match="there is no body"):
        nobody.a_pose()


def test_without_a_height_there_is_a_note(pictured):
    found = shape_of([PictureFit(f, reason="nobody was found in the picture") for f in frames()], pictured.model)
    assert found.notes == ()
    found = fit_shape_of(frames()[:1], pictured.people()[:1], model=pictured.model)
    assert any("height is not known" in note for note in found.notes)


def test_heights_in_centimetres_are_named_as_such(pictured):
    with pytest.raises(OptionError, match=r"175 cm are 1\.75 m"):
        fit_shape_of(frames(), pictured.people(), height_m=175)


@pytest.fixture(scope="module")
def by_masks(pictured):
    return fit_shape_of(frames(), pictured.people_with_masks(), height_m=pictured.height_m, model=pictured.model)


def test_silhouettes_tell_girths(pictured, by_masks):
    truth = pictured.model.measure(pictured.params.betas[:1])
    alone = fit_shape_of(frames(), pictured.people(), height_m=pictured.height_m, model=pictured.model)
    for name in ("chest", "waist", "hip"):
        value, by_keypoints = (r.measurements[name].value for r in (by_masks, alone))
        off, off_alone = (abs(v - float(getattr(truth, name)[0])) for v in (value, by_keypoints))
        assert off < 0.025, name  # the focal length is a guess: some 10 mm
        assert off < 0.6 * off_alone, name
    assert by_masks.measurements["waist"].sd < 0.5 * alone.measurements["waist"].sd
    assert all(picture.result.mask_notes == (None,) for picture in by_masks.pictures)


def test_loose_clothes_may_lie_outside_the_body(pictured):
    """Masks three centimetres larger than the body: tight clothes would make it stout, loose ones hardly."""
    people = [[replace(p[0], mask=SoftMask(wider(p[0].mask.alpha), (0, 0)))] for p in pictured.people_with_masks()]
    kind = {"height_m": pictured.height_m, "model": pictured.model}
    tight, loose = (
        fit_shape_of(frames(), people, pictures=PicturesConfig.of_clothes(clothes), **kind).measurements["waist"].value
        for clothes in ("tight", "loose")
    )
    assert loose < tight - 0.03
    with pytest.raises(OptionError, match="clothes must be one of tight, loose"):
        PicturesConfig.of_clothes("wet")


def wider(mask: np.ndarray) -> np.ndarray:
    """A mask with a rim of 3 cm at the person, 9 px."""
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (19, 19)))


def test_a_mask_of_somebody_else_is_not_used(pictured, by_masks):
    people = pictured.people_with_masks()
    people[1][0] = replace(people[1][0], mask=SoftMask(np.roll(people[1][0].mask.alpha, 200, 1), (0, 0)))
    found = fit_shape_of(frames(), people, height_m=pictured.height_m, model=pictured.model)
    assert found.pictures[1].result.mask_notes[0] is not None
    assert any("silhouette" in note and "not used" in note for note in found.notes)
    assert found.used == 3
    assert found.measurements["waist"].value == pytest.approx(by_masks.measurements["waist"].value, abs=0.04)


@dataclass
class Crossing:
    """Two people who cross in a clip of 40 frames, one the larger in most frames, and a detector that finds them."""

    clip: Path
    xyc: np.ndarray
    """The keypoints of a standing person."""
    blind: bool = False
    """Whether the first person is found while tracked only."""
    asked: int = 0

    def person(self, number: int, frame: int) -> Keypoints2D:
        """The keypoints of one of the two: 0 walks to the right, 1 to the left and towards the camera."""
        at = frame / 39
        size, x = ((0.4, 30 + 280 * at), (0.25 + 0.2 * at, 310 - 280 * at))[number]
        return Keypoints2D(LAYOUT, self.xyc * np.array([size, size, 1], np.float32) + np.array([x, 0, 0], np.float32))

    def detect(self, frames):
        """Find both, in an order that changes."""
        found = []
        for frame in frames:
            self.asked += 1
            both = [self.person(number, frame.index) for number in (0, 1)]
            found.append(both[1:] if self.blind and self.asked > 20 else both[:: 1 if frame.index % 3 else -1])
        return found


@pytest.fixture
def crossing(pictured, tmp_path):
    clip = tmp_path / "crossing.mp4"
    with VideoWriter(clip, (640, 480), 30.0) as film:
        for _ in range(40):
            film.write(np.full((480, 640, 3), 128, np.uint8))
    return Crossing(clip, pictured.xyc[0])


def test_one_person_is_followed_through_a_clip(pictured, crossing):
    found = bodyfit.fit_shape([crossing.clip], height_m=pictured.height_m, model=pictured.model, detector=crossing)
    numbers = [picture.frame.index for picture in found.pictures]
    assert numbers == [2 * int((k + 0.5) * 20 / 16) for k in range(16)]
    assert person_of([crossing.person(0, 38), crossing.person(1, 38)]).xyc[0, 0] == crossing.person(1, 38).xyc[0, 0]
    for picture in found.pictures:
        np.testing.assert_array_equal(picture.person.xyc, crossing.person(0, picture.frame.index).xyc)
        assert picture.people == 2
    assert found.used == 16
    assert [note for note in found.notes if "several people" in note] == [
        "crossing.mp4 shows several people; the one who is seen largest and longest is followed"
    ]


def test_who_is_found_while_tracked_only_has_the_keypoints_of_the_track(crossing):
    crossing.blind = True
    found = detect_people(open_input(crossing.clip), crossing)
    assert crossing.asked == 20 + 16
    for one in found:
        assert one.person == 1
        np.testing.assert_allclose(one.people[1].xyc, crossing.person(0, one.frame.index).xyc, rtol=1e-6)


def test_the_person_of_a_clip_is_the_one_in_pictures(pictured):
    """The clip's person, the smaller of its frame, has red clothes; in the picture the smaller one has."""
    image = np.full((1000, 1600, 3), 90, np.uint8)
    here = replace(pictured.people()[0][0], xyc=pictured.xyc[0] * np.array([0.7, 0.7, 1], np.float32))
    there = replace(pictured.people()[0][0], xyc=pictured.xyc[0] + np.array([700, 0, 0], np.float32))
    image[:, :700] = (200, 30, 30)
    read, people = [Frame(image)] * 2, [[there, here]] * 2
    assert same_person(read, people, [1, None]) == [here, here]
    assert same_person(read, people) == [there, there]


def test_a_clip_of_nobody_stands_for_frames_spread_over_it(tmp_path):
    clip = tmp_path / "turn.mp4"
    with VideoWriter(clip, (64, 48), 10.0) as film:
        for i in range(40):
            film.write(np.full((48, 64, 3), 5 * i, np.uint8))

    class Blind:
        def detect(self, frames):
            return [[] for _ in frames]

    found = detect_people(open_input(clip), Blind())
    assert [one.frame.index for one in found] == [int((k + 0.5) * 40 / 16) for k in range(16)]
    assert all(one.frame.path == clip and one.person is None for one in found)
    frame = found[0].frame
    assert open_input(frame) is frame


# ---------------------------------------------------------------- the command


@pytest.fixture
def pictures(pictured, tmp_path, monkeypatch):
    """Files of the three pictures, and a detector that knows them by their sizes."""

    class Knows:
        def detect(self, frames):
            by_size = dict(zip(SIZES, pictured.people_with_masks(), strict=True))
            return [by_size.get(frame.size, []) for frame in frames]

    monkeypatch.setitem(DETECTORS, "knows", Knows)
    paths = []
    for name, (w, h) in zip(("front", "side", "back"), SIZES, strict=True):
        paths.append(tmp_path / f"{name}.png")
        Image.new("RGB", (w, h), (90, 120, 90)).save(paths[-1])
    return paths


def test_the_command_writes_measurements_mesh_and_page(pictured, pictures, tmp_path, capsys):
    nobody = tmp_path / "wall.png"
    Image.new("RGB", (300, 300)).save(nobody)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    out = tmp_path / "out"
    arguments = [*pictures, nobody, broken, "--height", f"{pictured.height_m:.3f}", "--detector", "knows", "-o", out]
    assert main(["shape", *map(str, arguments)]) == 1
    said = capsys.readouterr()
    assert "wall: left out: nobody was found in the picture" in said.err
    assert "broken.jpg" in said.err
    assert "3 of 4 pictures, 90 % intervals" in said.out
    record = json.loads((out / "measurements.json").read_text())
    assert [p["used"] for p in record["pictures"]] == [True, True, True, False]
    waist = record["measurements"]["waist"]
    assert waist["low"] < waist["value"] < waist["high"]
    assert record["measurements"]["mass"]["unit"] == "kg"
    rows = (out / "measurements.csv").read_text().splitlines()
    assert rows[0] == "measurement,unit,value,low,high,sd"
    assert len(rows) == 1 + len(record["measurements"])
    corners = np.array(
        [line.split()[1:] for line in (out / "body.obj").read_text().splitlines() if line[:2] == "v "], float
    )
    assert corners[:, 1].min() == pytest.approx(0, abs=1e-3)
    assert np.ptp(corners[:, 1]) == pytest.approx(record["measurements"]["height"]["value"], abs=2e-3)
    assert np.ptp(corners[:, 0]) < 0.85 * np.ptp(corners[:, 1])  # the arms are 45 degrees down
    assert len(Gltf(out / "body.glb").json["meshes"]) == 1
    with np.load(out / "body.npz", allow_pickle=False) as body:
        assert body["betas"][0] == pytest.approx(record["betas"], abs=1e-5)
    with Image.open(out / "side" / "silhouettes.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    alone = (pixels.max(2) - pixels.min(2) > 60).sum()  # orange and blue, where mask and body disagree
    assert alone < 0.15 * (pictured.masks[1] > 0).sum()
    page = (out / "report.html").read_text()
    assert "White: the edge of the mask" in page
    assert "shoulder breadth" in page
    assert "data:image/jpeg" in page
    fit = bodyfit.load_result(out / "front" / "person0.npz")
    assert fit.params.betas[0].tolist() == pytest.approx(record["betas"], abs=1e-6)


def test_the_command_in_json(pictured, pictures, tmp_path, capsys):
    arguments = [pictures[0], "--mass", 70, "--detector", "knows", "--json", "-o", tmp_path / "out"]
    assert main(["shape", *map(str, arguments)]) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["shape"]["used"] == 1
    assert set(summary["shape"]["measurements"]["hip"]) == {"unit", "value", "low", "high", "sd"}
    assert "the height is not known" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["front.png", "--height", "175"], "--height must be in metres"),
        (["front.png", "--mass", "7000"], "--mass must be in kilograms"),
        (["missing.png"], "missing.png"),
        (["front.png", "--focal-px", "-3"], "focal length"),
    ],
)
def test_wrong_use_is_told_in_a_line(pictures, arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["shape", *arguments, "--detector", "knows", "-o", "out"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "measurements.json").exists()


def test_pictures_of_nobody_give_no_shape(pictures, tmp_path, capsys):
    nobody = tmp_path / "wall.png"
    Image.new("RGB", (300, 300)).save(nobody)
    out = tmp_path / "out"
    assert main(["shape", str(nobody), "--detector", "knows", "-o", str(out)]) == 1
    assert "no shape: no body can be placed: nobody was found in the picture" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["summary.json"]
