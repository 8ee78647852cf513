"""Frame times go into every format as they are, on one clock for all people of a clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from gltf_reader import Gltf
from scipy.spatial.transform import Rotation

from bodyfit.app.video import even_slots
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.cli.main import main
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import Camera
from bodyfit.io import export, load_amass, load_result, load_track, read_bodies, save_amass, save_track
from bodyfit.io.export.bvh import MIN_HOLD_S
from bodyfit.timeline import between, clock_rate, even_times, is_even, lerp_rows, slerp_rows

GAP = np.r_[np.arange(12), np.arange(32, 44)] / 10.0
"""10 frames a second, and two seconds missing."""
SLOWER = np.r_[np.arange(20) / 30, 20 / 30 + np.arange(40) / 15]
"""A telephone in the dusk: from 30 frames a second to 15, which are more."""
ROUNDED = np.round(np.arange(90) / 29.97, 3)
"""As Matroska has them."""
SPEED_M, TURN = np.array([0.3, -0.1, 0.2]), 0.3
"""Metres and radians a second of a body that moves and turns evenly: between frames it is where it must be, too."""


@pytest.fixture
def model() -> BodyModel:
    return BodyModel(tiny_assets("smpl"), dtype=torch.float64)


def moving(model: BodyModel, times_s: np.ndarray) -> BodyParams:
    """Somebody who moves and turns evenly, in camera axes."""
    t = torch.from_numpy(times_s)
    pose = torch.zeros(len(t), 23, 3, dtype=torch.float64)
    pose[:, 2, 1] = TURN * t
    return model.params(
        body_pose=pose.flatten(1),
        global_orient=torch.stack([torch.full_like(t, np.pi), 0 * t, 0 * t], 1),
        transl=torch.tensor([0.0, 0.2, 4.0]) + t[:, None] * torch.from_numpy(SPEED_M),
    )


def track_of(model: BodyModel, times_s: np.ndarray, *, fps: float, origin_s: float = 0.0, number: int = 0) -> Track:
    """The same as a clip's track."""
    bodies, n = moving(model, times_s).to(torch.float32), len(times_s)
    result = FitResult(
        params=bodies,
        camera=Camera.make(n, (640, 480), focal_px=700.0),
        joints=model.joints(moving(model, times_s)).float(),
        status=(FitStatus.CONVERGED,) * n,
        objective=torch.zeros(n),
        reprojection_error_px=torch.zeros(n),
        layout="coco17",
        keypoints=torch.zeros(n, 17, 3),
        model_name="open",
        gender="neutral",
        iterations=torch.ones(n, dtype=torch.int64),
        flipped=torch.zeros(n, dtype=torch.bool),
    )
    return Track(number, np.arange(n), times_s, fps, np.ones(n, bool), result, origin_s)


def bvh_rows(path: Path) -> tuple[float, np.ndarray]:
    """Seconds a frame, and the numbers of each."""
    head, _, rows = path.read_text().partition("Frame Time: ")
    step, _, rows = rows.partition("\n")
    values = np.array([[float(x) for x in row.split()] for row in rows.splitlines()])
    assert f"Frames: {len(values)}" in head
    return float(step), values


# The clock.


def test_even_is_what_adds_no_error_up():
    assert is_even(np.arange(1000) / 25, 25.0)
    assert is_even(ROUNDED + 7, 29.97)
    assert not is_even(ROUNDED, 29.5)  # half a second a minute
    assert not is_even(np.arange(1000) / 25, 25.01)
    for times in (GAP, SLOWER):
        assert not any(is_even(times, fps) for fps in (10.0, 15.0, 30.0))


@pytest.mark.parametrize(
    ("times", "said", "rate"),
    [
        (ROUNDED, 29.97, 29.97),
        (np.arange(300) / 30, 29.8, 30.0),  # the file's mean is off by its last frame
        (GAP, 5.4545, 10.0),
        (SLOWER, 18.0, 30.0),
        (np.delete(np.arange(100) / 25, [7, 30, 31]), 24.0, 25.0),
        (np.cumsum([0, 0.033, 0.034, 0.033, 0.2, 0.034, 0.033]), 20.0, 30.0),
        (np.array([0.5]), 25.0, 25.0),
    ],
)
def test_the_clock_runs_at_the_rate_of_the_faster_parts(times, said, rate):
    assert clock_rate(times, said) == pytest.approx(rate, rel=2e-3)
    slots, fps = even_slots(times, said)
    assert fps == pytest.approx(rate, rel=2e-3)
    assert (np.diff(slots) > 0).all()
    np.testing.assert_allclose(slots / fps, times - times[0], atol=0.51 / fps)


def test_rows_between_rows_are_where_an_even_motion_has_them():
    at = even_times(GAP, 10.0, 0.0)
    assert len(at) == 44
    rows, part = between(GAP, at, 10.0)
    np.testing.assert_array_equal(rows[part == 0], np.arange(24))
    axis = np.array([1.0, -2.0, 0.5]) / np.sqrt(5.25)
    rotvecs = GAP[:, None, None] * axis * np.array([[0.3], [1.2]])
    want = Rotation.from_rotvec((at[:, None, None] * axis * np.array([[0.3], [1.2]])).reshape(-1, 3))
    matrices = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().reshape(-1, 2, 3, 3)
    got = Rotation.from_matrix(slerp_rows(matrices, rows, part).reshape(-1, 3, 3))
    assert (got.inv() * want).magnitude().max() < 1e-12
    got = Rotation.from_rotvec(slerp_rows(rotvecs, rows, part).reshape(-1, 3))
    assert (got.inv() * want).magnitude().max() < 1e-12
    np.testing.assert_allclose(lerp_rows(GAP[:, None] * SPEED_M, rows, part), at[:, None] * SPEED_M, atol=1e-12)
    # Rows that need no other are as they are, to the bit; outside, the first and the last are held.
    np.testing.assert_array_equal(slerp_rows(matrices, rows, part)[part == 0], matrices)
    rows, part = between(GAP, np.array([-3.0, 99.0]), 10.0)
    assert (rows.tolist(), part.tolist()) == ([0, 23], [0.0, 0.0])


# Every format.


@pytest.mark.parametrize(
    "times", [GAP, SLOWER, 0.6 + np.arange(10) / 10, 0.6 + GAP], ids=["gap", "dusk", "late", "both"]
)
@pytest.mark.parametrize("suffix", [".glb", ".bvh", ".npz", ".usda"])
def test_a_body_is_at_each_time_where_it_was(tmp_path, model, times, suffix):
    """Held before its first frame; in between where an even motion has it."""
    if suffix == ".usda":
        pytest.importorskip("pxr.Usd")
    path = tmp_path / f"a{suffix}"
    bodies, fps = moving(model, times), clock_rate(times, 0.0)
    export(
        bodies,
        path,
        model=model,
        axes="camera",
        up="y",
        fps=fps,
        times_s=times,
        **({"pose_shapes": "none"} if suffix in (".glb", ".usda") else {}),
    )
    found = {".glb": _of_glb, ".bvh": _of_bvh, ".npz": _of_amass, ".usda": _of_usd}[suffix](path, model)
    for at in np.r_[times, np.linspace(times[0], times[-1], 7)]:
        root, angle = found(float(at))
        start = model.joints(moving(model, np.zeros(1)))[0, 0].numpy()
        want = (start + at * SPEED_M) * (1, -1, -1)  # y up
        np.testing.assert_allclose(root, want, atol=1e-5)
        assert angle == pytest.approx(TURN * at, abs=1e-4)
    if suffix in (".glb", ".usda"):
        return
    if suffix == ".npz":
        assert float(np.load(path)["start_s"]) == pytest.approx(times[0])
        assert float(np.load(path)["mocap_framerate"]) == pytest.approx(fps)
    else:
        held, _ = found(times[0] / 2)
        np.testing.assert_allclose(held, found(float(times[0]))[0], atol=1e-6)


def _between(times: np.ndarray, values: np.ndarray, at: float) -> np.ndarray:
    """Linear, as players do where angles grow evenly; held at both ends."""
    return np.array([np.interp(at, times, column) for column in values.T])


def _of_glb(path: Path, model: BodyModel):
    gltf = Gltf(path)
    times = gltf.times().astype(float)
    (animation,) = gltf.json["animations"]
    rows = {}
    for channel in animation["channels"]:
        values = gltf.array(animation["samplers"][channel["sampler"]]["output"]).astype(float)
        rows[channel["target"]["node"], channel["target"]["path"]] = values
    spine = Rotation.from_quat(rows[model.skeleton.index("spine1"), "rotation"]).as_rotvec()
    return lambda at: (_between(times, rows[0, "translation"], at), _between(times, _unwound(spine), at)[0])


def _of_bvh(path: Path, model: BodyModel):
    step, rows = bvh_rows(path)
    times = step * np.arange(len(rows))
    names = [line.split()[1] for line in path.read_text().splitlines() if line.split()[:1] in (["ROOT"], ["JOINT"])]
    column = 3 + 3 * names.index("spine1")
    angles = np.radians(rows[:, column + 1 : column + 2])  # Z, Y, X
    return lambda at: (_between(times, rows[:, :3], at), _between(times, angles, at)[0])


def _of_amass(path: Path, model: BodyModel):
    arrays = np.load(path)
    times = float(arrays["start_s"]) + np.arange(len(arrays["poses"])) / float(arrays["mocap_framerate"])
    spine = arrays["poses"].reshape(len(times), -1, 3)[:, model.skeleton.index("spine1")]
    root = arrays["trans"] + model.joints(model.params())[0, 0].numpy()
    return lambda at: (_between(times, root, at), _between(times, _unwound(spine), at)[0])


def _of_usd(path: Path, model: BodyModel):
    from pxr import Usd, UsdSkel

    stage = Usd.Stage.Open(str(path))
    motion = UsdSkel.Animation(stage.GetPrimAtPath("/body/motion"))
    rate = stage.GetTimeCodesPerSecond()
    assert stage.GetStartTimeCode() == 0
    spine = model.skeleton.index("spine1")

    def found(at: float):
        assert stage  # its prims live as long as it does
        root = np.array(motion.GetTranslationsAttr().Get(rate * at))[0]
        turn = motion.GetRotationsAttr().Get(rate * at)[spine]
        quaternion = Rotation.from_quat([*turn.GetImaginary(), turn.GetReal()])
        return root, _unwound(np.array([quaternion.as_rotvec()]))[0, 0]

    return found


def _unwound(rotvecs: np.ndarray) -> np.ndarray:
    """The angle about y; camera axes are upside down, so the same joint angle."""
    return np.unwrap(rotvecs[:, 1:2], axis=0)


def test_who_comes_very_late_is_not_held_for_a_hundred_thousand_frames(tmp_path, model):
    times = MIN_HOLD_S + 60 + np.arange(5) / 25
    export(moving(model, times), tmp_path / "a.bvh", model=model, axes="camera", fps=25, times_s=times)
    assert len(bvh_rows(tmp_path / "a.bvh")[1]) == 5


def test_times_that_cannot_be_are_refused(tmp_path, model):
    bodies = moving(model, np.arange(3.0))
    for times, error in (
        (np.zeros(3), OptionError),
        (np.array([0.0, np.nan, 1.0]), OptionError),
        (np.arange(2.0), ShapeError),
    ):
        with pytest.raises(error, match="times_s"):
            export(bodies, tmp_path / "a.glb", model=model, times_s=times)
    assert list(tmp_path.iterdir()) == []


# Tracks.


@pytest.mark.parametrize("times", [GAP, SLOWER, 0.6 + np.arange(10) / 10])
def test_a_track_comes_back_and_programs_that_read_amass_see_an_even_motion(tmp_path, model, times):
    """At `mocap_framerate`, which is the one rate that they know."""
    track = track_of(model, times, fps=clock_rate(times, 0.0))
    save_track(track, tmp_path / "a.npz")
    back = load_track(tmp_path / "a.npz")
    for name, value in track.result.params.items():
        assert torch.equal(back.result.params[name], value)
        assert torch.equal(load_result(tmp_path / "a.npz").params[name], value)
    np.testing.assert_array_equal(back.times_s, times)
    assert (back.fps, back.origin_s) == (track.fps, 0.0)
    arrays = np.load(tmp_path / "a.npz")
    at = float(arrays["start_s"]) + np.arange(len(arrays["poses"])) / float(arrays["mocap_framerate"])
    assert at[-1] == pytest.approx(times[-1], abs=0.51 / track.fps)
    place = (0, 0.2, 4) + np.minimum(at, times[-1])[:, None] * SPEED_M
    rest = (track.result.joints - track.result.params.transl[:, None])[0, 0].numpy()
    # z up, as the file says; the camera's x, depth and height are its x, y and z.
    z_up = (place + rest)[:, [0, 2, 1]] * (1, 1, -1) - rest
    np.testing.assert_allclose(arrays["trans"], z_up, atol=1e-5)
    assert ("frame_poses" in arrays) == (not track.even)
    motion = load_amass(tmp_path / "a.npz", model)
    np.testing.assert_allclose(model.joints(motion.params)[:, 0], (place + rest) * (1, -1, -1), atol=1e-5)
    assert (motion.fps, motion.start_s, motion.notes) == (track.fps, arrays["start_s"], ())


def test_all_people_of_a_part_of_a_clip_count_from_its_start(tmp_path, model):
    track = track_of(model, 12.6 + np.arange(10) / 10, fps=10.0, origin_s=12.0, number=1)
    save_track(track, tmp_path / "a.npz")
    back = load_track(tmp_path / "a.npz")
    assert back.origin_s == pytest.approx(12.0)
    np.testing.assert_allclose(back.clock_s, 0.6 + np.arange(10) / 10, atol=1e-9)
    export(track, tmp_path / "a.glb", model=model, pose_shapes="none")
    assert Gltf(tmp_path / "a.glb").times()[0] == pytest.approx(0.6, abs=1e-6)
    export(track, tmp_path / "a.bvh", model=model)
    assert len(bvh_rows(tmp_path / "a.bvh")[1]) == 16
    with pytest.raises(OptionError, match="origin_s"):
        track_of(model, 1.0 + np.arange(3) / 10, fps=10.0, origin_s=2.0)


def test_what_is_converted_keeps_its_clock(tmp_path, capsys):
    """From a track, and from AMASS's layout that we wrote."""
    from bodyfit.body.model import load_model

    body = load_model("open")
    track = track_of(body, 0.6 + GAP, fps=10.0)
    save_track(track, tmp_path / "person1.npz")
    np.testing.assert_allclose(read_bodies(tmp_path / "person1.npz").times_s, 0.6 + GAP)
    assert main(["convert", str(tmp_path / "person1.npz"), str(tmp_path / "a.bvh")]) == 0
    assert "uneven in time and are interpolated at 10 a second" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "person1.npz"), str(tmp_path / "b.npz"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["start_s"] == pytest.approx(0.6)
    assert "uneven" in said["note"]
    assert load_amass(tmp_path / "b.npz", body).start_s == pytest.approx(0.6)
    assert main(["convert", str(tmp_path / "b.npz"), str(tmp_path / "c.bvh")]) == 0
    assert capsys.readouterr().err == ""
    _, direct = bvh_rows(tmp_path / "a.bvh")
    _, again = bvh_rows(tmp_path / "c.bvh")
    assert direct.shape == again.shape == (50, direct.shape[1])
    np.testing.assert_allclose(again, direct, atol=2e-3)
    assert main(["convert", str(tmp_path / "person1.npz"), str(tmp_path / "d.bvh"), "--fps", "20"]) == 0
    step, rows = bvh_rows(tmp_path / "d.bvh")
    assert (step, len(rows)) == (0.05, 99)
    np.testing.assert_allclose(rows[::2, :3], direct[:, :3], atol=1e-5)


def test_a_file_that_says_nothing_begins_at_nought(tmp_path, model):
    save_amass(tmp_path / "a.npz", model, moving(model, np.arange(4) / 10), fps=10)
    arrays = dict(np.load(tmp_path / "a.npz"))
    del arrays["start_s"]
    np.savez(tmp_path / "b.npz", **arrays)
    assert load_amass(tmp_path / "b.npz", model).start_s == 0.0
