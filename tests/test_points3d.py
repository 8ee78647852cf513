"""Markers of TRC and C3D files: units, axes, names and gaps, and the body that is fitted to them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from moving import motion

import bodyfit
from bodyfit.app.markers import fit_points3d, marker_error_m
from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.cli.main import main
from bodyfit.errors import KeypointFileError, OptionError
from bodyfit.io import load_amass
from bodyfit.io.points3d import BodyPoints, load_points3d
from bodyfit.io.points3d.marker_sets import joint_centres
from bodyfit.skeleton import LAYOUTS, correspondence

HALPE = (
    *("Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip"),
    *("RHip", "LKnee", "RKnee", "LAnkle", "RAnkle", "Head", "Neck", "Hip", "LBigToe", "RBigToe", "LSmallToe"),
    *("RSmallToe", "LHeel", "RHeel"),
)
"""Pose2Sim's names of HALPE_26, in the layout's order."""
FRAMES, FPS = 24, 60.0
Z_UP = np.array(((1.0, 0, 0), (0, 0, -1), (0, 1, 0)))
"""From y up to z up: x stays, y becomes z."""


def trc(
    path: Path, xyz: np.ndarray, names: tuple[str, ...] = HALPE, unit: str = "m", times: np.ndarray | None = None
) -> Path:
    """As Pose2Sim and OpenSim write it."""
    times = np.arange(len(xyz)) / FPS if times is None else times
    facts = f"{FPS:g}\t{FPS:g}\t{len(xyz)}\t{len(names)}\t{unit}\t{FPS:g}\t1\t{len(xyz)}"
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        facts,
        "Frame#\tTime\t" + "".join(f"{name}\t\t\t" for name in names),
        "\t\t" + "".join(f"X{i}\tY{i}\tZ{i}\t" for i in range(1, len(names) + 1)),
        "",
    ]
    for i, (time, points) in enumerate(zip(times, xyz, strict=True)):
        cells = ["" if np.isnan(value) else f"{value:.6f}" for value in points.ravel()]
        lines.append("\t".join([str(i + 1), f"{time:.5f}", *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def moved() -> tuple[bodyfit.BodyModel, bodyfit.BodyParams, np.ndarray]:
    """A body in motion, camera axes, and its HALPE_26 points, y up."""
    model = bodyfit.load_model()
    params = motion(model, frames=FRAMES)
    params = model.params(**{**params, "betas": params.betas[:1].expand(FRAMES, -1)})
    with torch.no_grad():
        tree = pose_tree(model, params.betas, model.full_pose(params)[:, : model.body_joints])
        places = Points(model, correspondence("halpe26")).place(tree, params.betas).positions
    return model, params, (places + params.transl[:, None]).double().numpy() * (1, -1, -1)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(("unit", "per_m"), [("m", 1), ("mm", 1000), ("cm", 100), ("Meters", 1)])
def test_units_are_brought_to_metres(tmp_path, moved, unit, per_m):
    points = load_points3d(trc(tmp_path / "a.trc", per_m * moved[2], unit=unit))
    assert (points.names, points.fps, points.up, points.notes) == (HALPE, pytest.approx(FPS), "y", ())
    np.testing.assert_allclose(points.xyz_m, moved[2], rtol=0, atol=2e-6)
    np.testing.assert_allclose(points.times_s, np.arange(FRAMES) / FPS, rtol=0, atol=2e-5)


@pytest.mark.parametrize("unit", ["m", "", "furlongs"])
def test_a_unit_in_which_no_body_fits_is_not_believed(tmp_path, moved, unit):
    path = trc(tmp_path / "a.trc", 1000 * moved[2], unit=unit)
    points = load_points3d(path)
    np.testing.assert_allclose(points.xyz_m, moved[2], rtol=0, atol=2e-6)
    assert "can only be in mm; taken as such" in points.notes[0]
    assert load_points3d(path, unit="cm").xyz_m[0, 0, 0] == pytest.approx(10 * moved[2][0, 0, 0], abs=1e-4)


def test_the_axis_along_which_the_body_stands_is_up(tmp_path, moved):
    upright = np.broadcast_to(moved[2][:1] * 0, moved[2].shape) + _standing()
    path = trc(tmp_path / "a.trc", upright @ Z_UP.T)
    points = load_points3d(path)
    assert points.up == "z"
    assert "the body stands along z" in points.notes[0]
    np.testing.assert_allclose(points.xyz_m, upright, rtol=0, atol=2e-6)
    np.testing.assert_allclose(load_points3d(path, up="y").xyz_m, upright @ Z_UP.T, rtol=0, atol=2e-6)
    assert load_points3d(trc(tmp_path / "b.trc", upright)).notes == ()


def _standing() -> np.ndarray:
    """(26, 3): the open body at rest, y up."""
    model = bodyfit.load_model()
    params = model.params()
    tree = pose_tree(model, params.betas, model.full_pose(params)[:, : model.body_joints])
    return Points(model, correspondence("halpe26")).place(tree, params.betas).positions[0].detach().double().numpy()


def test_what_is_missing_in_a_table(tmp_path, moved):
    """Empty cells, zeros, NaN, short rows; and files without tabs or times, as some programs write them."""
    xyz = moved[2].copy()
    xyz[3, 4] = np.nan
    xyz[5, 6] = 0
    path = trc(tmp_path / "a.trc", xyz)
    lines = path.read_text().splitlines()
    lines[6] = "\t".join([*lines[6].split("\t")[:-3], "NaN", "NaN", "NaN"])
    lines[7] = "\t".join(lines[7].split("\t")[:-6])
    path.write_text("\r\n".join(lines))
    read = load_points3d(path).xyz_m
    gone = {(3, 4), (5, 6), (0, 25), (1, 24), (1, 25)}
    assert {(int(t), int(p)) for t, p in np.argwhere(np.isnan(read).any(2))} == gone
    spaced = [line.replace("\t", " ") for line in trc(tmp_path / "b.trc", moved[2]).read_text().splitlines()]
    (tmp_path / "b.trc").write_text("\n".join(spaced))
    np.testing.assert_allclose(load_points3d(tmp_path / "b.trc").xyz_m, moved[2], rtol=0, atol=2e-6)
    timeless = trc(tmp_path / "c.trc", moved[2], times=np.zeros(FRAMES))
    assert load_points3d(timeless).fps == FPS


def test_frames_that_a_file_leaves_out_have_no_points(tmp_path, moved):
    kept = np.array([i for i in range(FRAMES) if i not in (5, 6, 7)])
    points = load_points3d(trc(tmp_path / "a.trc", moved[2][kept], times=kept / FPS))
    assert len(points) == FRAMES
    assert np.isnan(points.xyz_m[5:8]).all()
    np.testing.assert_allclose(points.xyz_m[kept], moved[2][kept], rtol=0, atol=2e-6)
    assert "3 frames are left out" in points.notes[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no TRC file"),
        ("\x00\xff" * 50, "no TRC file"),
        ("a\nb\nc\nd\n", "no TRC file"),
        ("P\nDataRate\tUnits\n60\tm\nFrame#\tTime\n1\t0\n", "0 markers in 1 frames"),
        ("P\nDataRate\tUnits\n60\tm\nFrame#\tTime\tRHip\n", "1 markers in 0 frames"),
        ("P\nDataRate\tUnits\n60\tm\nFrame#\tTime\tRHip\t\t\n1\t0\t1\t2\t3\t4\n", "more numbers than 1 markers"),
        ("P\nDataRate\tUnits\nx\tm\nFrame#\tTime\tRHip\t\t\n1\tx\t1\t2\t3\n", "neither ascending times nor a DataRate"),
        ("P\nDataRate\tUnits\n60\tell\nFrame#\tTime\tRHip\t\t\n1\t0\t1\t2\t3\n", r"says no unit of length \(ell\)"),
    ],
)
def test_other_files_are_refused(tmp_path, text, says):
    path = tmp_path / "a.trc"
    path.write_text(text)
    with pytest.raises(KeypointFileError, match=rf"a.trc: .*{says}"):
        load_points3d(path)


def test_wrong_arguments_are_told(tmp_path, moved):
    path = trc(tmp_path / "a.trc", moved[2])
    for options, says in [
        ({"up": "w"}, "up must be x, y or z"),
        ({"unit": "ell"}, "unit must be one of m, mm"),
        ({"subject": "Anna"}, "subject must be one of none"),
    ]:
        with pytest.raises(OptionError, match=says):
            load_points3d(path, **options)
    with pytest.raises(OptionError, match=r"ending must be one of \.trc, \.c3d"):
        load_points3d(tmp_path / "a.bvh")
    with pytest.raises(KeypointFileError, match="does not exist"):
        load_points3d(tmp_path / "gone.trc")


def test_c3d_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c3d", None)
    (tmp_path / "a.c3d").write_bytes(b"\x02\x50")
    with pytest.raises(KeypointFileError, match=r'pip install "bodyfit\[c3d\]"'):
        load_points3d(tmp_path / "a.c3d")


def c3d_file(
    path: Path, xyz: np.ndarray, names: tuple[str, ...] = HALPE, axes: tuple[str, str] | None = ("+X", "+Z")
) -> Path:
    """As Vicon writes it: millimetres, z up; NaN is an invalid point."""
    c3d = pytest.importorskip("c3d")
    writer = c3d.Writer(point_rate=FPS, point_units="mm  ")
    gone = np.isnan(xyz).any(2)
    for points, missing in zip(np.nan_to_num(xyz), gone, strict=True):
        rest = np.where(missing[:, None], (-1.0, -1.0), (0.0, 0.0))
        writer.add_frames([(np.concatenate([points, rest], 1).astype(np.float32), np.zeros((0, 0)))])
    writer.set_point_labels(names)
    if axes:
        writer.set_screen_axis(*axes)
    with path.open("wb") as file:
        writer.write(file)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("axes", [("+X", "+Z"), ("+Y", "+Z"), ("-X", "+Z")])
def test_c3d_says_its_unit_and_axes(tmp_path, moved, axes):
    xyz = moved[2].copy()
    xyz[2, 3] = np.nan
    points = load_points3d(c3d_file(tmp_path / "a.c3d", 1000 * xyz @ Z_UP.T, axes=axes))
    assert (points.names, points.fps, points.unit, points.up, points.notes) == (HALPE, FPS, "mm", "z", ())
    # Whatever lies to the right: about the axis that points up the file is turned so that this is x.
    right = {"+X": (1, 1), "-X": (-1, -1)}.get(axes[0])
    want = xyz * (right[0], 1, right[1]) if right else np.stack([-xyz[..., 2], xyz[..., 1], xyz[..., 0]], 2)
    np.testing.assert_allclose(points.xyz_m, want, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_of_several_subjects_one_is_read(tmp_path, moved):
    both = np.concatenate([moved[2], moved[2][:, :20] + (2, 0, 0)], 1)
    names = (*(f"Bob:{name}" for name in HALPE), *(f"Anna:{name}" for name in HALPE[:20]))
    path = c3d_file(tmp_path / "a.c3d", 1000 * both @ Z_UP.T, names)
    points = load_points3d(path)
    assert points.names == names[:26]
    assert "has the subjects Bob, Anna; Bob is read" in points.notes[0]
    anna = load_points3d(path, subject="Anna")
    np.testing.assert_allclose(anna.xyz_m, moved[2][:, :20] + (2, 0, 0), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_c3d_is_told(tmp_path, moved):
    data = c3d_file(tmp_path / "a.c3d", 1000 * moved[2]).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for i in range(120):
        damaged = bytearray(data[: rng.integers(len(data))] if i % 4 == 0 else data)
        for at in rng.integers(0, max(1, min(len(damaged), 1536)), 4 if damaged else 0):
            damaged[at] = rng.integers(256)
        (tmp_path / "b.c3d").write_bytes(damaged)
        try:
            assert len(load_points3d(tmp_path / "b.c3d")) > 0
        except KeypointFileError as fault:
            refused += str(tmp_path / "b.c3d") in str(fault)
    assert refused > 20
    (tmp_path / "b.c3d").write_bytes(data[: len(data) * 2 // 3])
    assert "ends in the middle of its data" in load_points3d(tmp_path / "b.c3d").notes[0]


# ---------------------------------------------------------------- names


def test_pose2sims_names_are_halpe26(tmp_path, moved):
    names = (*HALPE, "LTHI", "CentreOfMass")
    more = np.concatenate([moved[2], moved[2][:, :2]], 1)
    body = load_points3d(trc(tmp_path / "a.trc", more, names)).keypoints()
    assert (body.layout, body.used, body.unused, body.beside) == ("halpe26", HALPE, ("LTHI", "CentreOfMass"), ())
    np.testing.assert_allclose(body.xyz_m, moved[2], rtol=0, atol=2e-6)
    named = load_points3d(tmp_path / "a.trc").keypoints("coco17")
    np.testing.assert_allclose(named.xyz_m, moved[2][:, :17], rtol=0, atol=2e-6)


def test_a_file_without_a_body_is_refused(tmp_path):
    path = trc(tmp_path / "a.trc", np.ones((3, 2, 3)), ("Box1", "Box2"))
    with pytest.raises(
        KeypointFileError, match="0 of its markers are understood as points of a body; it has Box1, Box2"
    ):
        load_points3d(path).keypoints()


PLUG_IN = (
    "LASI",
    "RASI",
    "LPSI",
    "RPSI",
    "LKNE",
    "RKNE",
    "LANK",
    "RANK",
    "LWRA",
    "LWRB",
    "LSHO",
    "RSHO",
    "LTOE",
    "LTHI",
)


def test_markers_on_the_skin_stand_for_joints(tmp_path):
    """Plug-in Gait: hips from the pelvis, middles of pairs, single markers beside; toes' roots are no toes."""
    xyz = np.random.default_rng(0).normal(size=(4, len(PLUG_IN), 3))
    pelvis = np.array([(0.12, 0, 0.1), (-0.12, 0, 0.1), (0.05, 0.02, -0.06), (-0.05, 0.02, -0.06)])
    xyz[:, :4] = pelvis + np.array((0, 1, 0))
    body = load_points3d(trc(tmp_path / "a.trc", xyz, PLUG_IN), unit="m", up="y").keypoints()
    place = dict(zip(LAYOUTS[body.layout], body.xyz_m.transpose(1, 0, 2), strict=True))
    np.testing.assert_allclose(place["left_wrist"], xyz[:, 8:10].mean(1), rtol=0, atol=2e-6)
    np.testing.assert_allclose(place["right_knee"], xyz[:, 5], rtol=0, atol=2e-6)
    assert set(body.beside) == {
        f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "knee", "ankle")
    }
    assert body.unused == ("LTOE", "LTHI")
    hips = place["left_hip"], place["right_hip"]
    for hip in hips:
        assert (hip[:, 1] < 1 - 0.05).all()  # below the spines
    assert (hips[0] - hips[1])[0] == pytest.approx([2 * (0.33 * 0.24 + 0.0073), 0, 0], abs=1e-5)


def test_hips_turn_with_the_pelvis():
    xyz = np.random.default_rng(1).normal(size=(5, 4, 3))
    R = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    R *= np.linalg.det(R)
    t = np.array([1.0, -2, 3])
    one, other = (
        {name: place for name, place, _, _ in joint_centres(PLUG_IN[:4], points)} for points in (xyz, xyz @ R.T + t)
    )
    for side in ("left_hip", "right_hip"):
        np.testing.assert_allclose(other[side], one[side] @ R.T + t, rtol=0, atol=1e-12)


def test_inside_and_outside_markers_give_the_middle():
    names = ("r_knee_study", "r_mknee_study", "RHJC_study", "r_calc_study")
    xyz = np.random.default_rng(0).normal(size=(2, 4, 3))
    found = {name: (place, beside) for name, place, _, beside in joint_centres(names, xyz)}
    np.testing.assert_array_equal(found["right_knee"][0], xyz[:, :2].mean(1))
    np.testing.assert_array_equal(found["right_hip"][0], xyz[:, 2])
    assert not any(beside for _, beside in found.values())


# ---------------------------------------------------------------- the fit


def test_the_body_moves_as_its_points_do(moved):
    """Exact points of the open body: what is left is the pull of the priors."""
    model, params, xyz = moved
    xyz = xyz.copy()
    xyz[:2] = np.nan  # begins later
    xyz[10:13] = np.nan  # a gap
    xyz[15:, 9] = np.nan  # a lost wrist
    body = BodyPoints("halpe26", xyz, (), (), ())
    track = fit_points3d(body, fps=FPS, model=model)
    assert (track.frames[0], len(track), track.fps) == (2, FRAMES - 2, FPS)
    assert np.flatnonzero(~track.seen).tolist() == [8, 9, 10]
    assert [track.result.status[i].value for i in (8, 9, 10)] == ["filled"] * 3
    joints = model.joints(params)[2:]
    off = (track.result.joints - joints).norm(dim=2).numpy()[:, [1, 2, 4, 5, 7, 8, 16, 17, 18, 19]]
    assert off[track.seen].mean() < 0.012
    assert off.max() < 0.06
    assert np.nanmax(marker_error_m(body, track, model)) < 0.02
    assert float((track.result.params.betas - track.result.params.betas[:1]).abs().max()) == 0


def test_points_that_show_no_body_are_refused(moved):
    few = np.full((3, 26, 3), np.nan)
    few[:, :3] = 0.5
    with pytest.raises(OptionError, match="no frame has 4 points of a body"):
        fit_points3d(BodyPoints("halpe26", few, (), (), ()), fps=FPS, model=moved[0])
    with pytest.raises(OptionError, match="fps must be the frames a second"):
        fit_points3d(BodyPoints("halpe26", few, (), (), ()), model=moved[0])


def test_the_command_makes_motion_of_markers(tmp_path, moved, capsys):
    model, params, xyz = moved
    names = (*HALPE, "Box1")
    source = trc(tmp_path / "walk.trc", np.concatenate([xyz, xyz[:, :1]], 1) * 1000, names, unit="mm")
    assert main(["convert", str(source), str(tmp_path / "walk.npz")]) == 0
    output = capsys.readouterr()
    assert "1 markers are no points of the body and unused: Box1" in output.err
    assert "26 of 27 markers, in mm, y up; the body is off by" in output.err
    assert f"{FRAMES} frames at 60 fps of open" in output.out
    again = load_amass(tmp_path / "walk.npz", model)
    want = (model.joints(params) * torch.tensor((1.0, -1, -1))).numpy()
    off = np.linalg.norm(model.joints(again.params).numpy() - want, axis=2)[:, [1, 2, 4, 5, 7, 8, 16, 17]]
    assert off.mean() < 0.012
    assert main(["convert", str(source), str(tmp_path / "walk.bvh"), "--axes", "camera"]) == 2
    assert "y up or z up" in capsys.readouterr().err
    (tmp_path / "box.trc").write_text("no markers")
    assert main(["convert", str(tmp_path / "box.trc"), str(tmp_path / "box.bvh")]) == 2
    assert "no TRC file" in capsys.readouterr().err
    assert not (tmp_path / "box.bvh").exists()
