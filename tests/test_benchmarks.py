"""`bodyfit eval 3dpw FOLDER` and its like: made folders in the data sets' layouts, and the measures in the world."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.cli.main import main
from bodyfit.cli.support.benchmarks import BENCHMARKS
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.benchmarks import run as run_module
from bodyfit.evaluate.benchmarks.folders import shots
from bodyfit.evaluate.benchmarks.protocols import PROTOCOLS
from bodyfit.evaluate.benchmarks.run import BenchmarkConfig, run_benchmark
from bodyfit.evaluate.subjects import subject_of
from bodyfit.evaluate.world_metrics import foot_sliding, in_world, rte, w_mpjpe, wa_mpjpe
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

T = 6
W, H, F = 640, 480, 700.0
K = np.array([[F, 0, W / 2], [0, F, H / 2], [0, 0, 1]])


@pytest.fixture(scope="module")
def models():
    def body(gender: str) -> bodyfit.BodyModel:
        return bodyfit.load_model("open", gender=gender, dtype=torch.float64)

    return body


def motion(model: bodyfit.BodyModel, seed: int, n: int = T) -> bodyfit.BodyParams:
    """A person who moves a little before a camera at the world's origin, 3 m away."""
    rng = np.random.default_rng(seed)
    start, speed = 0.15 * rng.normal(size=69), 0.02 * rng.normal(size=69)
    pose = torch.tensor(start + speed * np.arange(n)[:, None])
    transl = torch.tensor([[0.7 * seed - 0.3 + 0.02 * i, -0.1, 3.0] for i in range(n)], dtype=torch.float64)
    orient = torch.tensor([[np.pi, 0.0, 0.0]], dtype=torch.float64).expand(n, 3)
    return model.params(body_pose=pose, global_orient=orient, transl=transl)


def moving_camera(n: int = T) -> np.ndarray:
    """Extrinsics of a camera that turns and moves."""
    cameras = np.tile(np.eye(4), (n, 1, 1))
    cameras[:, :3, :3] = Rotation.from_euler("y", 0.05 * np.arange(n)[:, None]).as_matrix()
    cameras[:, 0, 3] = 0.1 * np.arange(n)
    return cameras


def projected(model: bodyfit.BodyModel, params: bodyfit.BodyParams, layout: str) -> np.ndarray:
    """Keypoints (n, K, 3) as an exact detector has them; confidence 0 for points that the body lacks."""
    with torch.no_grad():
        points = model.keypoints(params, layout).numpy()
    there = np.isfinite(points).all(2)
    xy = np.nan_to_num(points) @ K.T
    return np.concatenate([xy[..., :2] / np.where(there, xy[..., 2], 1)[..., None], there[..., None]], 2)


def to_world(params: bodyfit.BodyParams, model: bodyfit.BodyModel, cameras: np.ndarray) -> dict[str, np.ndarray]:
    """World parameters that the cameras see as `params`."""
    rest = model.rest_joints(model.coefficients(params))[:, 0].numpy()
    R, t = cameras[:, :3, :3], cameras[:, :3, 3]
    orient = Rotation.from_matrix(R.transpose(0, 2, 1)) * Rotation.from_rotvec(params.global_orient.numpy())
    trans = np.einsum("tji,tj->ti", R, rest + params.transl.numpy() - t) - rest
    return {"orient": orient.as_rotvec(), "trans": trans, "pose": params.body_pose.numpy()}


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((H, W, 3), 90, np.uint8))


def threedpw(folder: Path, models, *, pictures: bool = False) -> list[bodyfit.BodyParams]:
    """3DPW's folder with one sequence of two people; returns their parameters in camera axes."""
    cameras, bodies = moving_camera(), [(models(g), motion(models(g), s)) for s, g in enumerate(("male", "female"))]
    people = [to_world(params, model, cameras) for model, params in bodies]
    joints = [
        np.einsum("tji,tkj->tki", cameras[:, :3, :3], m.joints(p).numpy() - cameras[:, None, :3, 3]) for m, p in bodies
    ]
    arrays = {
        "sequence": "yard_00",
        "genders": ["m", "f"],
        "betas": [np.zeros(10)] * 2,
        "poses": [np.concatenate([p["orient"], p["pose"]], 1) for p in people],
        "trans": [p["trans"] for p in people],
        "jointPositions": [j.reshape(T, 72) for j in joints],
        "poses2d": [projected(m, p, "openpose18").transpose(0, 2, 1) for m, p in bodies],
        "cam_poses": cameras,
        "cam_intrinsics": K,
        "campose_valid": [np.ones(T, bool), np.array([1, 1, 0, 1, 1, 1], bool)],
    }
    path = folder / "sequenceFiles" / "test" / "yard_00.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(arrays, 2))
    for i in range(T if pictures else 0):
        picture(folder / f"imageFiles/yard_00/image_{i:05d}.jpg")
    return [params for _, params in bodies]


class Exact:
    """A detector that has exact keypoints of the people of each picture, in call order, and a stranger."""

    def __init__(self, people: list[np.ndarray], stranger: bool = True) -> None:
        self.people, self.stranger, self.calls = people, stranger, 0

    def detect(self, frames: list[Frame]) -> list[list[Keypoints2D]]:
        found = []
        for _ in frames:
            own = [Keypoints2D(layout="coco17", xyc=one[self.calls].astype(np.float32)) for one in self.people]
            if self.stranger:
                xyc = own[0].xyc * np.array([0.1, 0.1, 1], np.float32)
                own.insert(0, Keypoints2D(layout="coco17", xyc=xyc))
            found.append(own)
            self.calls += 1
        return found


def measures(table) -> dict[str, Any]:
    return {line.metric: line for line in table.lines}


# ---------------------------------------------------------------- measures in the world


def walk(n: int = 250, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal([0.02, 0, 0.01], 0.01, (n, 3)), 0)
    return path[:, None] + 0.4 * rng.normal(size=(12, 3)) + 0.01 * rng.normal(size=(n, 12, 3))


def test_a_similarity_of_the_whole_motion_is_no_error_in_the_world():
    truth = walk()
    R = Rotation.from_euler("xyz", [0.3, 1.2, -0.7]).as_matrix()
    moved = 1.3 * truth @ R.T + np.array([3.0, -1, 2])
    for measure in (wa_mpjpe, w_mpjpe):
        np.testing.assert_allclose(measure(moved, truth).per_item, 0, atol=1e-9)
    rigid = truth @ R.T + np.array([3.0, -1, 2])
    np.testing.assert_allclose(rte(rigid[:, 0], truth[:, 0]).per_item, 0, atol=1e-9)
    assert rte(moved[:, 0], truth[:, 0]).mean > 1


def test_drift_shows_where_only_the_first_frames_are_aligned():
    truth = walk(100)
    drift = truth + np.linspace(0, 0.5, 100)[:, None, None] * np.array([0, 1.0, 0])
    first, whole = w_mpjpe(drift, truth), wa_mpjpe(drift, truth)
    assert first.mean > 1.5 * whole.mean > 50
    np.testing.assert_allclose(first.per_item[-1], 500, rtol=0.1)
    # Segments start anew: errors of frames 0 and 50 are of one size.
    halves = w_mpjpe(drift, truth, segment=50)
    assert halves.per_item[50] < 0.1 * first.per_item[50]


def test_rte_is_a_share_of_the_true_path():
    truth = np.zeros((101, 3))
    truth[:, 0] = np.linspace(0, 10, 101)
    pred = truth.copy()
    pred[:, 1] = np.where(np.arange(101) % 2, 0.1, -0.1)
    assert rte(pred, truth).mean == pytest.approx(1.0, rel=0.05)
    still = rte(np.zeros((5, 3)), np.zeros((5, 3)))
    assert still.untold.all()


def test_feet_slide_where_the_true_ones_stand():
    truth = np.zeros((5, 2, 3))
    truth[:, 1, 0] = 0.5 * np.arange(5)
    pred = truth.copy()
    pred[:, 0, 2] = 0.005 * np.arange(5)
    pred[:, 1, 2] = 7.0 * np.arange(5)  # of a foot in the air: does not count
    score = foot_sliding(pred, truth, fps=30)
    np.testing.assert_allclose(score.per_item, [[5.0, np.nan]] * 4)
    assert score.untold.tolist() == [[False, True]] * 4
    # Published means are over the feet that stand, not over steps: with both standing in one of two steps, of three.
    both = np.zeros((3, 2, 3))
    both[2, 1, 0] = 1.0
    moved = both + np.array([[[0, 0, 0]], [[0, 0.003, 0]], [[0, 0.012, 0]]])
    assert foot_sliding(moved, both, fps=30).mean == pytest.approx((3 + 3 + 9) / 3)
    assert foot_sliding(truth[:, 1:], truth[:, 1:], fps=30).untold.all()
    with pytest.raises(OptionError, match="fps"):
        foot_sliding(pred, truth, fps=0)


def test_frames_without_a_body_fail_and_take_no_part_in_alignments():
    truth = walk(20)
    pred = truth + 0.0
    pred[0] = np.nan
    for score in (wa_mpjpe(pred, truth), w_mpjpe(pred, truth)):
        assert score.failed.tolist() == [True] + [False] * 19
        np.testing.assert_allclose(score.per_item[1:], 0, atol=1e-9)
    mask = np.arange(20) > 0
    assert wa_mpjpe(pred, truth, mask=mask).untold[0]
    with pytest.raises(OptionError, match="segment"):
        w_mpjpe(pred, truth, segment=1)


def test_segments_are_of_frames_that_count():
    truth, mask = walk(40), np.arange(40) % 3 > 0
    drift = truth + np.linspace(0, 0.5, 40)[:, None, None] * np.array([0, 1.0, 0])
    for measure in (wa_mpjpe, w_mpjpe):
        here = measure(drift, truth, segment=10, mask=mask).per_item
        assert np.isnan(here[~mask]).all()
        np.testing.assert_allclose(here[mask], measure(drift[mask], truth[mask], segment=10).per_item)


def test_in_world_undoes_the_cameras():
    points, cameras = walk(T), moving_camera()
    seen = np.einsum("tij,tkj->tki", cameras[:, :3, :3], points) + cameras[:, None, :3, 3]
    np.testing.assert_allclose(in_world(seen, cameras), points, atol=1e-12)


# ---------------------------------------------------------------- data sets


def test_the_command_knows_every_protocol():
    assert tuple(PROTOCOLS) == BENCHMARKS


def test_3dpw_by_the_keypoints_of_its_files(tmp_path, models, capsys, monkeypatch):
    threedpw(tmp_path / "3DPW", models)
    words = ["eval", "3dpw", str(tmp_path / "3DPW"), "--truth-model", "open", "--pred-model", "open"]
    words += ["--detector", "file", "-o", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    lines = {line["metric"]: line for line in facts["lines"]}
    assert facts["people"] == 2
    assert "pelvis" in facts["protocol"]["root"]
    # Eleven frames count, of exact points: far better than any guess, and the root is aligned.
    assert lines["mpjpe"]["counted"] == 11
    assert max(lines[name]["mean"] for name in ("pa_mpjpe", "mpjpe")) < 130
    assert lines["mpjpe"]["mean"] / 2 < lines["pve"]["mean"] < 2 * lines["mpjpe"]["mean"]
    assert lines["acceleration_error"]["counted"] == 4 + 1  # the second person's third frame does not count

    def forbidden(*_arguments):
        raise AssertionError("a stored shot was fitted again")

    monkeypatch.setattr(run_module, "fitted_frames", forbidden)
    assert main(words) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["lines"] == facts["lines"]


def test_3dpw_in_pictures_takes_who_is_meant(tmp_path, models, monkeypatch):
    bodies = threedpw(tmp_path, models, pictures=True)
    exact = [projected(models(g), p, "coco17") for g, p in zip(("male", "female"), bodies, strict=True)]
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact(exact[::-1]))
    told: list[str] = []
    model = bodyfit.load_model("open")
    table = run_benchmark("3dpw", tmp_path, model, tell=told.append)
    lines = measures(table)
    assert lines["mpjpe"].counted == 11
    assert lines["mpjpe"].failed == 0
    assert lines["mpjpe"].mean < 120
    assert told == ["yard_00: 1 of 1, 11 bodies"]
    (tmp_path / "imageFiles/yard_00/image_00001.jpg").unlink()
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact(exact))
    told.clear()
    lost = run_benchmark("3dpw", tmp_path, model, tell=told.append)
    assert (lost.left_out, lost.people) == (1, 0)
    assert "image_00001.jpg" in told[0]


def emdb(folder: Path, models, *, part: str) -> bodyfit.BodyParams:
    """EMDB's folder with one sequence; returns its parameters in camera axes."""
    model, cameras = models("female"), moving_camera(12)
    params = motion(model, 0, 12)
    world = to_world(params, model, cameras)
    arrays = {
        "gender": "female",
        "name": "P0_09_yard",
        "emdb1": part == "emdb1",
        "emdb2": part == "emdb2",
        "good_frames_mask": np.ones(12, bool),
        "camera": {"intrinsics": K, "extrinsics": cameras, "width": W, "height": H},
        "smpl": {
            "poses_root": world["orient"],
            "poses_body": world["pose"],
            "trans": world["trans"],
            "betas": np.zeros(10),
        },
    }
    own = folder / "P0" / "09_yard"
    for i in range(12):
        picture(own / "images" / f"{i:05d}.jpg")
    (own / "P0_09_yard_data.pkl").write_bytes(pickle.dumps(arrays, 2))
    return params


def test_emdb_as_motions_in_the_world(tmp_path, models, monkeypatch):
    params = emdb(tmp_path, models, part="emdb2")
    exact = projected(models("female"), params, "coco17")
    exact[3] = 0  # nobody is detected: the motion goes on
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact], stranger=False))
    config = BenchmarkConfig(motions=True)
    table = run_benchmark("emdb2", tmp_path, bodyfit.load_model("open"), truth=models, config=config)
    lines = measures(table)
    assert set(lines) >= {"pa_mpjpe", "wa_mpjpe", "w_mpjpe", "rte", "jitter", "foot_sliding"}
    assert lines["wa_mpjpe"].counted == 12
    assert lines["wa_mpjpe"].mean < 170
    assert "motion" in table.protocol["camera"]
    with pytest.raises(AssetError, match="emdb1"):
        shots("emdb", tmp_path, models=models)


def test_rich_before_each_camera(tmp_path, models, monkeypatch):
    model = models("male")
    params = motion(model, 0, 2)
    motion_of_camera = moving_camera(2)[1:]
    world = to_world(params, model, np.tile(motion_of_camera, (2, 1, 1)))
    for i in range(2):
        body = {"betas": np.zeros((1, 10)), "body_pose": world["pose"][i : i + 1, :63]}
        body |= {"global_orient": world["orient"][i : i + 1], "transl": world["trans"][i : i + 1]}
        path = tmp_path / "test_body" / "Yard_007_talk" / f"{i + 5:05d}" / "007.pkl"
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(body, 2))
        picture(tmp_path / "test" / "Yard_007_talk" / "cam_02" / f"{i + 5:05d}_02.jpeg")
    (tmp_path / "gender.json").write_text(json.dumps({"7": "male"}))
    xml = tmp_path / "scan_calibration" / "Yard" / "calibration" / "002.xml"
    xml.parent.mkdir(parents=True)
    storage = cv2.FileStorage(str(xml), cv2.FILE_STORAGE_WRITE)
    storage.write("CameraMatrix", motion_of_camera[0, :3])
    storage.write("Intrinsics", K)
    storage.release()
    (shot,) = shots("rich", tmp_path, models=models)
    (person,) = shot.read()
    pose = params.body_pose.clone()
    pose[:, 63:] = 0
    expected = model.joints(model.params(**{**params, "body_pose": pose})).numpy()[:, :22]
    np.testing.assert_allclose(person.joints3d, expected, atol=1e-6)
    exact = projected(model, params, "coco17")
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact]))
    lines = measures(run_benchmark("rich", tmp_path, bodyfit.load_model("open"), truth=models))
    assert lines["pa_mpjpe"].counted == 2
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact]))
    by_hand = MadeFits(monkeypatch, models).table("rich", tmp_path, {"pelvis": 44.0, "left_wrist": 22.0}, truth=models)
    assert by_hand["mpjpe"].mean == pytest.approx(2 + 1)  # of 22 joints, about the middle of the hips
    (tmp_path / "gender.json").write_text("{}")
    with pytest.raises(AssetError, match="subject 007"):
        shot.read()
    xml.write_text("<no calibration>")
    (tmp_path / "gender.json").write_text(json.dumps({"7": "male"}))
    with pytest.raises(AssetError, match=r"002\.xml"):
        shot.read()


def test_agora_counts_strangers_and_who_is_missed(tmp_path, models, monkeypatch):
    model = models("neutral")
    first, second = (motion(model, seed, 1) for seed in (0, 1))
    joints = [model.joints(p).numpy()[0] for p in (first, second, first)]
    scale = 3840 / W
    points = [scale * ((j @ K.T)[:, :2] / j[:, 2:]) for j in joints]
    np.savez(
        tmp_path / "validation_0.npz",
        imgPath=np.array(["a.png", "a.png", "b.png"]),
        gender=np.array(["neutral"] * 3),
        isValid=np.array([True, True, True]),
        occlusion=np.array([90.0, 0.0, 20.0]),
        gt_joints_3d=np.stack(joints),
        gt_joints_2d=np.stack(points),
    )
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
    exact = [np.repeat(projected(model, p, "coco17"), 2, 0) for p in (first, second)]
    for one in exact:
        one[1] *= np.array([0.05, 0.05, 1])  # in the second picture whom the truth has is not found
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact(exact, stranger=False))
    lines = measures(run_benchmark("agora", tmp_path, bodyfit.load_model("open")))
    # Two of three are found; in the second picture two detections are of nobody: precision 1/2, recall 2/3.
    assert lines["f1"].mean == pytest.approx(4 / 7)
    assert lines["mpjpe"].failed == 1
    assert lines["nmje"].mean == pytest.approx(lines["mpjpe"].mean / (4 / 7))
    arrays = dict(np.load(tmp_path / "validation_0.npz"))
    np.savez(tmp_path / "validation_0.npz", **(arrays | {"occlusion": np.array([91.0, 0.0, 20.0])}))
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact(exact, stranger=False))
    lines = MadeFits(monkeypatch).table("agora", tmp_path, {"pelvis": 44.0, "left_wrist": 22.0})
    # 22 joints about the pelvis; who is hidden to 91 % does not count, and is nobody's mistake either.
    assert lines["mpjpe"].mean == pytest.approx((20 * 44 + np.hypot(22 - 44, 0)) / 22)
    assert lines["mpjpe"].failed + lines["mpjpe"].counted == 2


def picture_file(path: Path, model: bodyfit.BodyModel, params: bodyfit.BodyParams, *, square: bool) -> None:
    """The customary file of people in pictures, 17 of 24 rows filled; `square`: centre and scale in place of `part`."""
    points = model.keypoints(params, "h36m17").detach().numpy()
    rows = [14, 2, 1, 0, 3, 4, 5, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6]
    S, part = np.zeros((len(points), 24, 4)), np.zeros((len(points), 24, 3))
    S[:, rows, :3], S[:, rows, 3] = points - points[:, :1], 1
    part[:, rows] = projected(model, params, "h36m17")
    xy = part[:, rows, :2]
    box = {"center": (xy.min(1) + xy.max(1)) / 2, "scale": (xy.max(1) - xy.min(1)).max(1) / 200}
    names = [f"pictures/S9.60457274_{i}.jpg" for i in range(len(points))]
    np.savez(path, imgname=np.array(names), S=S, **(box if square else {"part": part}))
    for name in names:
        picture(path.parent / name)


PICTURE_FILES = [("h36m", "h36m_valid_protocol2.npz"), ("mpi-inf-3dhp", "mpi_inf_3dhp_valid.npz")]


@pytest.mark.parametrize(("dataset", "file"), PICTURE_FILES)
def test_pictures_with_points_in_customary_preprocessing(tmp_path, models, monkeypatch, dataset, file):
    model = models("neutral")
    params = motion(model, 0, 2)
    picture_file(tmp_path / file, model, params, square=dataset == "h36m")
    exact = projected(model, params, "coco17")
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact]))
    table = run_benchmark(dataset, tmp_path, bodyfit.load_model("open"))
    lines = measures(table)
    assert lines["pa_mpjpe"].counted == 2
    assert lines["pa_mpjpe"].mean < 130
    assert ("auc@0-150mm" in lines) == (dataset == "mpi-inf-3dhp")


# ---------------------------------------------------------------- protocols, by numbers made by hand


class MadeFits:
    """Bodies that are the truth, but for named points that lie to the right of it by so many millimetres."""

    def __init__(self, monkeypatch, models=None) -> None:
        self.models, self.person, self.rows = models, None, np.arange(0)
        self.offsets_mm: dict[str, float | np.ndarray] = {}
        for name in ("fitted_frames", "fitted_motion"):
            monkeypatch.setattr(run_module, name, self.fitted)
        monkeypatch.setattr(run_module, "points_of", self.points)

    def fitted(self, person, found, model):
        self.person, self.rows = person, found.rows
        return model.params()

    def points(self, _model, _params, wanted):
        truth = subject_of(self.person, wanted, models=self.models, source="made").points[self.rows]
        for name, offset in self.offsets_mm.items():
            by_frame = np.broadcast_to(offset, (100,))[self.rows]
            truth[:, wanted.joints.points.index(name), 0] += by_frame / 1000
        return truth, None, "made"

    def table(self, dataset, folder, offsets_mm, **options):
        self.offsets_mm = offsets_mm
        return measures(run_benchmark(dataset, folder, bodyfit.load_model("open"), **options))


def test_3dpw_and_emdb_by_hand(tmp_path, models, monkeypatch):
    threedpw(tmp_path / "3DPW", models)
    fits, config = MadeFits(monkeypatch, models), BenchmarkConfig(detector=None)
    # 24 joints about the pelvis: where it is off, all others are.
    lines = fits.table("3dpw", tmp_path / "3DPW", {"pelvis": 48.0}, config=config)
    assert lines["mpjpe"].mean == pytest.approx(48 * 23 / 24)
    lines = fits.table("3dpw", tmp_path / "3DPW", {"left_wrist": np.arange(100.0) ** 2}, config=config)
    # x = t^2 mm has the second difference 2 mm. Of the second person frame 2 does not count: one window of three.
    assert lines["acceleration_error"].mean == pytest.approx(0.002 * 30**2 / 24)
    assert lines["acceleration_error"].counted == 4 + 1
    every = BenchmarkConfig(detector=None, every=2)
    assert "acceleration_error" not in fits.table("3dpw", tmp_path / "3DPW", {}, config=every)
    # The 14 points of a regressor, about its first row, which is no joint of them.
    vertices = len(models("male").v_template)
    rows = np.zeros((17, vertices))
    rows[np.arange(17), np.arange(17) * (vertices // 17)] = 1
    by_regressor = BenchmarkConfig(detector=None, regressor=rows)
    for name, mm in (("pelvis", 10.0), ("head_top", 10 / 14)):
        lines = fits.table("3dpw", tmp_path / "3DPW", {name: 10.0}, truth=models, config=by_regressor)
        assert lines["mpjpe"].mean == pytest.approx(mm)
    params = emdb(tmp_path / "EMDB", models, part="emdb1")
    exact = projected(models("female"), params, "coco17")
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact], stranger=False))
    # EMDB aligns the middle of the hips.
    lines = fits.table("emdb", tmp_path / "EMDB", {"pelvis": 48.0, "left_wrist": 24.0}, truth=models)
    assert lines["mpjpe"].mean == pytest.approx(48 / 24 + 24 / 24)


def test_jitter_of_emdb2_is_that_in_the_world(tmp_path, models, monkeypatch):
    params = emdb(tmp_path, models, part="emdb2")
    exact = projected(models("female"), params, "coco17")
    monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact], stranger=False))
    lines = MadeFits(monkeypatch, models).table("emdb2", tmp_path, {}, truth=models)
    assert [lines[name].mean for name in ("wa_mpjpe", "w_mpjpe", "rte")] == pytest.approx([0, 0, 0], abs=1e-6)
    cameras, joints = moving_camera(12), models("female").joints(params).numpy()
    world = np.einsum("tji,tkj->tki", cameras[:, :3, :3], joints - cameras[:, None, :3, 3])
    third = world[3:] - 3 * world[2:-1] + 3 * world[1:-2] - world[:-3]
    assert lines["jitter"].mean == pytest.approx(np.linalg.norm(30**3 * third, axis=2).mean(), rel=1e-6)


@pytest.mark.parametrize(("dataset", "file"), PICTURE_FILES)
def test_h36m_and_3dhp_by_hand(tmp_path, models, monkeypatch, dataset, file):
    model = models("neutral")
    params = motion(model, 0, 2)
    picture_file(tmp_path / file, model, params, square=dataset == "h36m")
    fits = MadeFits(monkeypatch)

    def table(offsets_mm):
        exact = projected(model, params, "coco17")
        monkeypatch.setattr(run_module, "load_detector", lambda _name: Exact([exact]))
        return fits.table(dataset, tmp_path, offsets_mm)

    # 14 points about the pelvis, which is none of them; or 17, and it is one. The top of the head counts.
    n = 14 if dataset == "h36m" else 17
    assert table({"head_top": 10.0})["mpjpe"].mean == pytest.approx(10 / n)
    assert table({"pelvis": 10.0})["mpjpe"].mean == pytest.approx(10.0 if n == 14 else 160 / 17)
    if dataset == "mpi-inf-3dhp":
        wrist, spine = table({"left_wrist": 200.0}), table({"spine2": 200.0})
        assert spine["mpjpe"].mean == wrist["mpjpe"].mean == pytest.approx(200 / 17)
        # The spine is none of the 14 points whose share within 150 mm counts.
        for name in ("pck@150mm", "auc@0-150mm"):
            assert spine[name].mean == pytest.approx(100)
            assert wrist[name].mean == pytest.approx(100 * 13 / 14)


def test_other_folders_are_refused_by_name(tmp_path, capsys):
    for dataset in PROTOCOLS:
        assert main(["eval", dataset, str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert str(tmp_path) in error
        assert len(error.strip().splitlines()) == 1
    with pytest.raises(OptionError, match="every"):
        BenchmarkConfig(every=2, motions=True)
    with pytest.raises(OptionError, match="data sets are"):
        shots("coco", tmp_path)
