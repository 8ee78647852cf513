"""Bodies in files of other programs, read back by other libraries or by the formats' definitions."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from conftest import tiny_assets
from gltf_reader import Gltf
from moving import motion

import bodyfit
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError, OutputError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import Camera, flip_yz, y_up_from
from bodyfit.io import EXPORTS, Placing, export, load_amass, read_bodies, save, save_amass, save_params
from bodyfit.io.export.rig import rig_of

FPS = 25.0
FLOAT32 = 2e-6
"""Metres: rounding of a file's float32, a few metres from the origin."""


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_model("open", dtype=torch.float64)


@pytest.fixture(scope="module")
def hands() -> BodyModel:
    return load_model("open-h", dtype=torch.float64)


@pytest.fixture
def tiny_model() -> BodyModel:
    return BodyModel(tiny_assets("smpl"), dtype=torch.float64)


@pytest.fixture
def run(capsys):
    """Run the program within the test: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def fitted(model: BodyModel, bodies: BodyParams) -> FitResult:
    """Bodies as a fit would return them."""
    n = bodies.batch
    return FitResult(
        params=bodies.to(torch.float32),
        camera=Camera.make(n, (640, 480), focal_px=600.0),
        joints=model.joints(bodies).float(),
        status=(FitStatus.CONVERGED,) * n,
        objective=torch.zeros(n),
        reprojection_error_px=torch.zeros(n),
        layout="openpose25",
        keypoints=torch.zeros(n, 25, 3),
        model_name=model.name,
        gender=model.gender,
        iterations=torch.ones(n, dtype=torch.int64),
        flipped=torch.zeros(n, dtype=torch.bool),
    )


def in_file(points_cam: torch.Tensor, up: str = "y", unit: str = "m") -> np.ndarray:
    """Points of camera axes as they must be in a file."""
    x, y, z = flip_yz(points_cam).numpy().transpose(2, 0, 1)
    return np.stack([x, y, z] if up == "y" else [x, -z, y], 2) * (100 if unit == "cm" else 1)


# BVH.


@pytest.mark.parametrize(("up", "unit"), [("y", "m"), ("z", "cm")])
def test_an_independent_reader_of_bvh_finds_the_joints(tmp_path, hands, up, unit):
    bvhio = pytest.importorskip("bvhio")
    bodies = motion(hands)
    export(bodies, tmp_path / "a.bvh", model=hands, axes="camera", fps=FPS, up=up, unit=unit)
    want = in_file(hands.joints(bodies), up, unit)
    tree = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    for frame in range(len(want)):
        tree.loadPose(frame)
        found = {node.Name: np.array(node.PositionWorld) for node, _, _ in tree.layout()}
        assert set(found) >= set(hands.skeleton.names)
        got = np.array([found[name] for name in hands.skeleton.names])
        assert np.abs(got - want[frame]).max() < 2e-5 * (100 if unit == "cm" else 1)  # the reader's float32, six digits
    text = (tmp_path / "a.bvh").read_text().splitlines()
    assert f"Frames: {len(want)}" in text
    assert f"Frame Time: {1 / FPS:.9f}" in text


def test_angles_in_bvh_do_not_jump_by_whole_turns(tmp_path, tiny_model):
    angle = torch.linspace(0, 15, 60, dtype=torch.float64)
    bodies = tiny_model.params(global_orient=torch.stack([0 * angle, 0 * angle, angle], 1))
    export(bodies, tmp_path / "a.bvh", model=tiny_model, fps=FPS)
    lines = (tmp_path / "a.bvh").read_text().split("Frame Time:")[1].splitlines()[1:]
    z = np.array([float(line.split()[3]) for line in lines])
    np.testing.assert_allclose(np.diff(z), np.degrees(15 / 59), atol=1e-4)


# USD.


@pytest.mark.parametrize("suffix", ["usda", "usdc", "usd"])
def test_usds_own_skinning_finds_the_vertices(tmp_path, body, suffix):
    usd, skel, geom, gf = (pytest.importorskip(f"pxr.{name}") for name in ("Usd", "UsdSkel", "UsdGeom", "Gf"))
    bodies = motion(body, 5)
    path = tmp_path / f"a.{suffix}"
    export(bodies, path, model=body, axes="camera", fps=FPS, up="z", unit="cm", tolerance_m=2e-5)
    stage = usd.Stage.Open(str(path))
    assert geom.GetStageUpAxis(stage) == "Z"
    assert geom.GetStageMetersPerUnit(stage) == 0.01
    assert stage.GetTimeCodesPerSecond() == FPS
    skeleton = skel.Skeleton(stage.GetPrimAtPath("/body/skeleton"))
    assert [path.split("/")[-1] for path in skeleton.GetJointsAttr().Get()] == list(body.skeleton.names)
    assert skel.BakeSkinning(stage.Traverse(), gf.Interval(0, 4))
    points = geom.Mesh(stage.GetPrimAtPath("/body/mesh")).GetPointsAttr()
    want = in_file(body(**bodies).vertices, "z", "cm")
    for frame in range(5):
        assert np.linalg.norm(np.array(points.Get(frame)) - want[frame], axis=1).max() < 1e-2  # 0.1 mm


def test_usd_without_its_library_says_what_to_install(tmp_path, monkeypatch, tiny_model):
    monkeypatch.setitem(__import__("sys").modules, "pxr.Gf", None)
    with pytest.raises(OutputError, match=r'a\.usda.*pip install "bodyfit\[usd\]"'):
        export(tiny_model.params(), tmp_path / "a.usda", model=tiny_model)


# Meshes.


@pytest.mark.parametrize("suffix", ["obj", "ply"])
@pytest.mark.parametrize(("up", "unit"), [("y", "m"), ("z", "m"), ("y", "cm")])
def test_a_mesh_is_read_back_by_another_library(tmp_path, body, suffix, up, unit):
    bodies = motion(body, 2)
    path = export(fitted(body, bodies), tmp_path / f"a.{suffix}", model=body, frame=1, up=up, unit=unit)
    mesh = trimesh.load(path, process=False, maintain_order=True)
    want = in_file(body(**bodies).vertices, up, unit)[1]
    scale = 100 if unit == "cm" else 1
    if suffix == "ply":
        np.testing.assert_allclose(mesh.vertices, want, atol=FLOAT32 * scale)
        np.testing.assert_array_equal(mesh.faces, body.faces)
        normals = trimesh.Trimesh(want, mesh.faces, process=False).vertex_normals
        np.testing.assert_allclose(mesh.vertex_normals, normals, atol=1e-3)
    else:  # trimesh takes a seam of the texture apart
        np.testing.assert_allclose(mesh.triangles, want[body.faces], atol=FLOAT32 * scale)
    words = f"{'centimetres' if unit == 'cm' else 'metres'}, {up} up"
    assert words.encode() in path.read_bytes()[:200]


# AMASS.


@pytest.mark.parametrize("up", [None, "y"])
@pytest.mark.parametrize("name", ["open", "open-h"])
def test_a_body_posed_by_the_keys_of_amass_stands_where_ours_does(tmp_path, name, up):
    """The file's numbers go into the model as AMASS's tools put them there, hands about the flat hand."""
    model = load_model(name, dtype=torch.float64)
    bodies = motion(model, 4)
    export(bodies, tmp_path / "a.npz", model=model, axes="camera", fps=FPS, up=up)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        held = {key: torch.from_numpy(file[key]) for key in ("poses", "trans", "betas")}
        assert file["mocap_framerate"] == FPS
        assert file["gender"] == "neutral"
    assert held["poses"].shape == (4, 72 if name == "open" else 156)
    flat = load_model(name, dtype=torch.float64, flat_hand_mean=True)
    poses = held["poses"]
    hand = {} if name == "open" else {"left_hand_pose": poses[:, 66:111], "right_hand_pose": poses[:, 111:]}
    out = flat(
        betas=held["betas"][None],
        global_orient=poses[:, :3],
        body_pose=poses[:, 3 : 72 if name == "open" else 66],
        transl=held["trans"],
        **hand,
    )
    np.testing.assert_allclose(out.vertices, in_file(model(**bodies).vertices, up or "z"), atol=1e-9)


@pytest.mark.parametrize("layout", ["smpl", "smplh", "smplx"])
@pytest.mark.parametrize("name", ["open", "open-h"])
def test_amass_comes_back_on_bodies_of_other_kinds(tmp_path, body, hands, name, layout):
    """What both kinds have is kept: the joints of the body; fingers are where file and body have them."""
    source, target = hands, {"open": body, "open-h": hands}[name]
    bodies = motion(source, 3)
    save_amass(tmp_path / "a.npz", source, bodies, fps=FPS, layout=layout)
    found = load_amass(tmp_path / "a.npz", target)
    assert (found.fps, found.gender) == (FPS, "neutral")
    common = [n for n in source.skeleton.names[:22]]
    rows = [target.skeleton.index(n) for n in common]
    want = in_file(source.joints(bodies))[:, :22]
    got = target.joints(found.params).numpy()[:, rows]
    # The open bodies have one mesh and their joints, which come of it, are the same but for rounding of the regressors.
    np.testing.assert_allclose(got, want, atol=1e-4)
    if name == "open-h" and layout != "smpl":
        np.testing.assert_allclose(found.params["left_hand_pose"], bodies["left_hand_pose"], atol=1e-12)
    elif name == "open-h":
        assert not found.params["left_hand_pose"].any()


def as_amass_reads(model: BodyModel, file, hands: dict | None = None) -> torch.Tensor:
    """Joints by AMASS's keys alone, as programs that know no others put them into the model."""
    poses = torch.from_numpy(file["poses"])
    given = {"betas": file["betas"], "transl": file["trans"], **(hands or {})}
    return model.joints(
        model.params(
            global_orient=poses[:, :3],
            body_pose=poses[:, 3:],
            **{key: torch.as_tensor(value) for key, value in given.items()},
        )
    )


@pytest.mark.parametrize("name", ["open", "open-x"])
def test_programs_that_read_amass_see_fits_and_random_bodies_stand(tmp_path, name):
    """z up, in the camera's place: x to the right, y away from it; and ours read the same people."""
    model = load_model(name, dtype=torch.float64)
    bodies = motion(model, 4)
    save(fitted(model, bodies), tmp_path / "person0.npz", fps=FPS)
    want = model.joints(bodies).numpy() @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of camera axes
    with np.load(tmp_path / "person0.npz", allow_pickle=False) as file:
        extra = {k: file[k] for k in (*dict(model.kind.poses), "expression") if k in file.files and k != "body_pose"}
        found = as_amass_reads(model, file, extra)
        assert (str(file["up_axis"]), str(file["axes"])) == ("z", "camera")
        np.testing.assert_array_equal(file["global_orient"], bodies.global_orient.float())
    np.testing.assert_allclose(found, want, atol=2e-5)
    head, foot = (found[:, model.skeleton.index(joint)] for joint in ("head", "left_foot"))
    assert (head - foot)[:, 2].min() > 1  # metres up
    got = load_amass(tmp_path / "person0.npz", model)
    np.testing.assert_allclose(model.joints(got.params), in_file(model.joints(bodies)), atol=2e-5)
    assert got.fps == FPS
    random = bodyfit.random_bodies(3, model=load_model(name), seed=0)
    save_params(random, tmp_path / "bodies.npz", model=load_model(name))
    with np.load(tmp_path / "bodies.npz", allow_pickle=False) as file:
        assert (str(file["up_axis"]), str(file["axes"]), str(file["model_name"])) == ("z", "y_up", name)
        extra = {k: file[k] for k in (*dict(model.kind.poses), "expression") if k in file.files and k != "body_pose"}
        found = as_amass_reads(model, file, extra)
    upright = load_model(name).joints(random).numpy()
    np.testing.assert_allclose(found @ y_up_from("z_up").T, upright, atol=2e-5)
    got = load_amass(tmp_path / "bodies.npz", load_model(name))
    np.testing.assert_allclose(load_model(name).joints(got.params), upright, atol=2e-5)
    back = read_bodies(tmp_path / "bodies.npz")
    assert (back.model.name, back.axes) == (name, "y_up")
    assert torch.equal(back.params.global_orient, random.global_orient)


def as_version_1(path: Path) -> None:
    """What version 0.1.0 wrote: poses and trans in the axes of the bodies, and no word of any."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays["poses"][:, :3], arrays["trans"] = arrays["global_orient"], arrays["transl"]
    for key in ("global_orient", "transl", "up_axis", "axes"):
        del arrays[key]
    np.savez(path, **arrays | {"bodyfit_format": np.array(1)})


def test_files_of_version_0_1_0_are_read_as_they_were_meant(run, tmp_path, body):
    bodies = motion(body, 3)
    result = fitted(body, bodies)
    save(result, tmp_path / "person0.npz", fps=FPS)
    new = load_amass(tmp_path / "person0.npz", body)
    as_version_1(tmp_path / "person0.npz")
    old = load_amass(tmp_path / "person0.npz", body)
    np.testing.assert_allclose(body.joints(old.params), body.joints(new.params), atol=1e-5)
    back = bodyfit.load_result(tmp_path / "person0.npz")
    assert torch.equal(back.params.global_orient, result.params.global_orient)
    assert torch.equal(back.params.transl, result.params.transl)
    random = bodyfit.random_bodies(3, model=load_model("open"), seed=0)
    save_params(random, tmp_path / "bodies.npz", "neutral", model=load_model("open"))
    as_version_1(tmp_path / "bodies.npz")
    want = load_model("open").joints(random)
    got = load_amass(tmp_path / "bodies.npz", load_model("open"))
    np.testing.assert_allclose(load_model("open").joints(got.params), want, atol=1e-5)
    again = read_bodies(tmp_path / "bodies.npz", model="open")
    assert torch.equal(again.params.betas, random.betas)
    code, out, err = run("convert", tmp_path / "person0.npz", tmp_path / "a.bvh")
    assert (code, err) == (0, "")
    assert "3 frames at 25 fps of open" in out


def test_parameters_without_a_model_say_that_they_are_y_up(tmp_path, body):
    bodies = motion(body, 2)
    save_params(bodies, tmp_path / "a.npz", fps=FPS)
    with np.load(tmp_path / "a.npz") as file:
        assert str(file["up_axis"]) == "y"
        np.testing.assert_array_equal(file["poses"][:, :3], bodies.global_orient)
    found = load_amass(tmp_path / "a.npz", body)
    np.testing.assert_allclose(body.joints(found.params), body.joints(bodies), atol=1e-9)


def write_amass(path: Path, **changes) -> Path:
    arrays = {
        "poses": np.full((3, 156), 0.1),
        "trans": np.ones((3, 3)),
        "betas": np.ones(16),
        "gender": np.array(b"female"),
        "mocap_framerate": np.array(120.0),
        "dmpls": np.zeros((3, 8)),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_a_file_as_amass_writes_it_moves_our_bodies(tmp_path, body, hands):
    path = write_amass(tmp_path / "clip_poses.npz")
    for model in (body, hands):
        found = load_amass(path, model)
        assert (found.fps, found.gender) == (120.0, "female")
        assert not found.params.betas.any()  # SMPL+H's betas are of another shape space
        np.testing.assert_allclose(found.params.body_pose[:, :63], 0.1)
        pelvis = model.joints(found.params)[:, 0].numpy()
        rest = model.rest_joints(torch.zeros(1, 10, dtype=torch.float64))[0, 0].numpy()
        np.testing.assert_allclose(pelvis, np.tile((1 + rest) @ y_up_from("z_up").T, (3, 1)), atol=1e-12)
        still = load_amass(path, model, up="y")
        np.testing.assert_allclose(still.params.transl, 1, atol=1e-12)
        np.testing.assert_allclose(still.params.global_orient, 0.1, atol=1e-12)
    fingers = hands.full_pose(load_amass(path, hands).params)[:, 22:]
    np.testing.assert_allclose(fingers, 0.1, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"poses": None}, "lacks poses"),
        ({"poses": np.zeros((3, 150))}, r"poses \(3, 150\)"),
        ({"poses": np.zeros((4, 156))}, r"poses \(4, 156\) and trans \(3, 3\)"),
        ({"poses": np.zeros(156)}, "expected 2 axes"),
        ({"poses": np.full((3, 156), np.nan)}, "NaN"),
        ({"poses": np.zeros((0, 156)), "trans": np.zeros((0, 3))}, "empty"),
        ({"trans": np.array(["a"])}, "trans is no array of numbers"),
        ({"mocap_framerate": np.array([{}], dtype=object)}, "mocap_framerate is no array of numbers"),
    ],
)
def test_damaged_motion_is_refused_by_name(tmp_path, tiny_model, changes, says):
    path = write_amass(tmp_path / "clip.npz", **changes)
    with pytest.raises(AssetError, match=rf"clip\.npz: .*{says}"):
        load_amass(path, tiny_model)


def test_amass_refuses_what_it_cannot_hold(tmp_path, tiny_model):
    bodies = tiny_model.params()
    hand = BodyModel(tiny_assets("mano_right"))
    for model, given, options, says in (
        (tiny_model, bodies, {"placing": Placing("z", "cm")}, "in metres"),
        (tiny_model, bodies, {"layout": "flame"}, "layouts are smpl, smplh, smplx"),
        (hand, hand.params(), {"layout": "smplh"}, "no whole body"),
    ):
        with pytest.raises(OptionError, match=says):
            save_amass(tmp_path / "a.npz", model, given, **options)
    with pytest.raises(OptionError, match="up must be y or z"):
        load_amass(write_amass(tmp_path / "a.npz"), tiny_model, up="x")
    with pytest.raises(OptionError, match="no whole body"):
        load_amass(tmp_path / "a.npz", hand)
    with pytest.raises(AssetError, match=r"none\.npz: no such file"):
        load_amass(tmp_path / "none.npz", tiny_model)


# All formats.


@pytest.mark.parametrize("suffix", sorted(EXPORTS))
def test_every_format_refuses_a_failed_fit_and_a_place_that_cannot_be_written(tmp_path, tiny_model, suffix):
    if suffix.startswith(".usd"):
        pytest.importorskip("pxr.Usd")
    if suffix == ".csv":
        tiny_model = load_model("open-x")
    bodies = tiny_model.params()
    failed = dataclasses.replace(bodies, transl=bodies.transl + torch.nan)
    with pytest.raises(OutputError, match="NaN"):
        export(failed, tmp_path / f"a{suffix}", model=tiny_model)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=rf"a\{suffix}: cannot be written"):
        export(bodies, tmp_path / "file" / f"a{suffix}", model=tiny_model)
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(OutputError, match=rf"a\{suffix}: cannot be written: Permission denied"):
            export(bodies, tmp_path / "locked" / f"a{suffix}", model=tiny_model)
    assert {p.name for p in tmp_path.iterdir()} <= {"file", "locked"}
    export(bodies, tmp_path / "new" / f"a{suffix.upper()}", model=tiny_model)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"a{suffix.upper()}"]


def test_export_refuses_what_cannot_be_meant(tmp_path, tiny_model):
    bodies = motion(tiny_model, 3)
    for name, options, says in (
        ("a.fbx", {}, "ending must be one of .glb"),
        ("a", {}, "got none"),
        ("a.obj", {"fps": FPS}, "a mesh is of one body, there are 3"),
        ("a.obj", {"frame": 3}, "there are 3 bodies, numbered from 0; there is no 3"),
        ("a.glb", {}, "give the frame rate"),
        ("a.bvh", {"pose_shapes": "baked", "fps": FPS}, "has no skin"),
        ("a.glb", {"fps": FPS, "model": None}, "give model=load_model"),
        ("a.glb", {"fps": FPS, "up": "x"}, "up must be y or z"),
    ):
        with pytest.raises(OptionError, match=says):
            export(bodies, tmp_path / name, **{"model": tiny_model, **options})
    assert list(tmp_path.iterdir()) == []


def test_convert_takes_fits_parameters_and_motion(run, tmp_path, body):
    """The clip of a fit goes to a GLB with its frame rate; parameters and motion need a model's name."""
    bodies = motion(body, 4)
    save(fitted(body, bodies), tmp_path / "fit.npz", fps=FPS)
    code, out, err = run("convert", tmp_path / "fit.npz", tmp_path / "clip.glb")
    assert (code, err) == (0, "")
    assert "4 frames at 25 fps of open, neutral" in out
    assert "metres, y up" in out
    want = in_file(body(**bodies).vertices)
    file = Gltf(tmp_path / "clip.glb")
    for frame in range(4):
        assert np.linalg.norm(file.posed(frame)[0][: len(want[0])] - want[frame], axis=1).max() < 1e-3
    code, out, _ = run("convert", tmp_path / "fit.npz", tmp_path / "amass.npz", "--json")
    facts = json.loads(out)
    assert (code, facts["bodies"], facts["fps"], facts["placing"]) == (0, 4, 25, "metres, z up")
    code, out, err = run("convert", tmp_path / "amass.npz", tmp_path / "two.ply", "--frame", 2, "--unit", "cm")
    assert (code, err) == (0, "")
    got = trimesh.load(tmp_path / "two.ply", process=False).vertices
    np.testing.assert_allclose(got, 100 * want[2], atol=1e-3)  # of a float32 fit, centimetres
    save_params(body.params(betas=torch.eye(3, 10)), tmp_path / "three.npz")
    code, _, err = run("convert", tmp_path / "three.npz", tmp_path / "three.glb", "--model", "open", "--fps", 30)
    assert code == 2
    assert "of different shapes" in err
    code, out, err = run("convert", tmp_path / "three.npz", tmp_path / "one.obj", "--model", "open", "--frame", 1)
    assert (code, err) == (0, "")
    one = read_bodies(tmp_path / "three.npz", model="open")
    assert (one.axes, one.fps, one.params.batch) == ("y_up", 0.0, 3)


def test_a_model_can_be_converted_to_its_body_at_rest(run, tmp_path, body):
    code, out, err = run("convert", "open", tmp_path / "rest.glb", "--up", "z")
    assert (code, err) == (0, "")
    assert "1 body of open" in out
    vertices = Gltf(tmp_path / "rest.glb").posed()[0][: len(body.v_template)]
    x, y, z = body().vertices[0].numpy().T
    np.testing.assert_allclose(vertices, np.stack([x, -z, y], 1), atol=FLOAT32)


def test_the_front_door_exports(tmp_path, body):
    result = fitted(body, motion(body, 2))
    path = bodyfit.export(result, tmp_path / "person.glb", frame=0)
    rig = rig_of(body, motion(body, 2).select([0]), influences=4)
    got = Gltf(path)
    np.testing.assert_allclose(got.posed()[1], rig.posed_joints()[0], atol=FLOAT32)
    assert tuple(got.joint_names) == body.skeleton.names
