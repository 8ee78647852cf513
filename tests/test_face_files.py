"""Hands and faces in files of other programs: fingers, jaw, eyes, expressions, and ARKit's 52 shapes."""

from __future__ import annotations

import contextlib
import csv
import io

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from gltf_reader import Gltf
from moving import motion
from official_files import write
from scipy.spatial.transform import Rotation

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.cli.main import main
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import flip_yz
from bodyfit.io import export, load_amass, save_amass, save_params
from bodyfit.io.export.arkit import ARKIT_NAMES, arkit_shapes, arkit_weights
from bodyfit.io.export.live_link import LIVE_LINK_COLUMNS, save_live_link
from bodyfit.io.export.rig import rig_of

FPS = 30.0


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_model("open-x", dtype=torch.float64)


def talking(model: BodyModel, frames: int = 4) -> BodyParams:
    """One person over time, upright in camera axes, with fingers, jaw, eyes and expression of their own."""
    generator = torch.Generator().manual_seed(5)

    def draw(columns: int, spread: float) -> torch.Tensor:
        return spread * torch.randn(frames, columns, generator=generator, dtype=torch.float64)

    moved = dict(motion(model, frames))
    for name in ("left_hand_pose", "right_hand_pose"):
        moved[name] = draw(45, 0.3)
    if model.kind.name == "smplx":
        jaw = draw(3, 0.05)
        jaw[:, 0] = torch.linspace(0, 0.35, frames)
        moved |= {"jaw_pose": jaw, "leye_pose": draw(3, 0.2), "reye_pose": draw(3, 0.2)}
        moved["expression"] = draw(model.num_expression_coeffs, 1.0)
    return model.params(**moved)


def face(body: BodyModel, **params: list[float]) -> BodyParams:
    """One body with a face of these parameters."""
    return body.params(**{name: torch.tensor([value], dtype=torch.float64) for name, value in params.items()})


# AMASS.


@pytest.mark.parametrize(("form", "columns"), [("SMPL-X npz", 165), ("SMPL-H pkl", 156)])
def test_smplx_puts_the_columns_of_amass_where_ours_puts_the_body(tmp_path, monkeypatch, form, columns):
    """An independent reader takes them by the order that AMASS documents, fingers about the flat hand."""
    smplx = pytest.importorskip("smplx")
    for ids in smplx.body_models.VERTEX_IDS.values():
        for name in ids:
            monkeypatch.setitem(ids, name, 0)
    path, _ = write(tmp_path, form)
    model = load_model(path, dtype=torch.float64)
    bodies = talking(model)
    save_amass(tmp_path / "a.npz", model, bodies, fps=FPS, axes="y_up")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        held = {key: file[key] for key in file.files}
    poses = torch.from_numpy(held["poses"])
    assert poses.shape == (4, columns)
    parts = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:66]}
    parts |= {"left_hand_pose": poses[:, -90:-45], "right_hand_pose": poses[:, -45:]}
    if columns == 165:
        parts |= {"jaw_pose": poses[:, 66:69], "leye_pose": poses[:, 69:72], "reye_pose": poses[:, 72:75]}
        parts["expression"] = torch.from_numpy(held["expression"])
        assert held["surface_model_type"] == "smplx"
        keys = ("root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand")
        np.testing.assert_array_equal(np.concatenate([held[key] for key in keys], 1), held["poses"])
    with contextlib.redirect_stdout(io.StringIO()):
        reference = smplx.create(
            str(path),
            model_type="smplx" if columns == 165 else "smplh",
            use_pca=False,
            flat_hand_mean=True,
            dtype=torch.float64,
            batch_size=4,
            ext=path.suffix[1:],
        )
    betas = torch.from_numpy(held["betas"])[None].expand(4, -1)
    got = reference(betas=betas, transl=torch.from_numpy(held["trans"]), **parts).vertices.detach().numpy()
    x, y, z = got.transpose(2, 0, 1)  # the file is z up
    np.testing.assert_allclose(np.stack([x, z, -y], 2), model(**bodies).vertices, atol=1e-6)


def test_a_face_comes_back_from_amass(tmp_path, body):
    bodies = talking(body)
    save_amass(tmp_path / "a.npz", body, bodies, fps=FPS)
    back = load_amass(tmp_path / "a.npz", body)
    want = flip_yz(body(**bodies).vertices)
    np.testing.assert_allclose(body(**back.params).vertices, want, atol=1e-9)
    np.testing.assert_allclose(back.params["expression"], bodies["expression"], atol=1e-12)
    assert back.notes == ()
    times = np.array([0, 0.1, 0.15, 0.3])  # uneven: rows at an even rate, the same faces where they are the same times
    save_amass(tmp_path / "b.npz", body, bodies, fps=20, times_s=times)
    back = load_amass(tmp_path / "b.npz", body)
    assert back.params.batch == 7
    np.testing.assert_allclose(back.params["expression"][[0, 2, 3, 6]], bodies["expression"], atol=1e-9)
    np.testing.assert_allclose(back.params["jaw_pose"][[0, 2, 3, 6]], bodies["jaw_pose"], atol=1e-9)


# Skinned files.


@pytest.mark.parametrize("arkit", [False, True])
def test_a_talking_clip_in_a_glb_is_the_body_at_every_frame(tmp_path, body, arkit):
    bodies = talking(body, 3)
    export(bodies, tmp_path / "a.glb", model=body, fps=FPS, axes="camera", tolerance_m=8e-5, arkit=arkit)
    file = Gltf(tmp_path / "a.glb")
    want = flip_yz(body(**bodies).vertices).numpy()
    for frame in range(3):
        error = np.linalg.norm(file.posed(frame)[0][: len(want[frame])] - want[frame], axis=1)
        assert error.max() < 1e-4
    names = file.json["meshes"][0]["extras"]["targetNames"]
    faces = ARKIT_NAMES if arkit else tuple(f"expression_{k:02d}" for k in range(10))
    assert tuple(names[: len(faces)]) == faces
    assert all(name.startswith("pose_shape_") for name in names[len(faces) :])
    played = {}
    for channel in file.json["animations"][0]["channels"]:
        values = file.array(file.json["animations"][0]["samplers"][channel["sampler"]]["output"])
        played[file.nodes[channel["target"]["node"]]["name"], channel["target"]["path"]] = values
    weights = played["a", "weights"].reshape(3, -1)[:, : len(faces)]
    jaw = Rotation.from_quat(played["jaw", "rotation"]).as_rotvec()
    if arkit:  # the face is moved by the weights alone
        np.testing.assert_allclose(jaw, 0, atol=1e-6)
        np.testing.assert_allclose(weights, arkit_weights(body, bodies), atol=1e-6)
    else:
        np.testing.assert_allclose(jaw, bodies["jaw_pose"], atol=1e-6)
        np.testing.assert_allclose(weights, bodies["expression"], atol=1e-6)
    row = body.skeleton.index("left_index2")
    finger = Rotation.from_quat(played["left_index2", "rotation"]).as_rotvec()
    np.testing.assert_allclose(finger, body.full_pose(bodies)[:, row], atol=1e-6)


@pytest.mark.parametrize("arkit", [False, True])
def test_one_body_in_a_glb_has_a_face_to_move(tmp_path, body, arkit):
    """As it is where its weights are left; with those of another expression, the body's mesh with that."""
    bodies = talking(body, 4).select([2])
    export(bodies, tmp_path / "a.glb", model=body, axes="camera", arkit=arkit)
    file = Gltf(tmp_path / "a.glb")
    n = len(body.v_template)
    want = flip_yz(body(**bodies).vertices[0]).numpy()
    assert np.linalg.norm(file.posed()[0][:n] - want, axis=1).max() < 1e-4
    if not arkit:
        file.json["meshes"][0]["weights"] = [0.0] * 10
        still = dict(bodies) | {"expression": torch.zeros(1, 10)}
        want = flip_yz(body(**still).vertices[0]).numpy()
        # Joints of the jaw and the eyes move a little with the expression, and the four largest weights are the file's.
        assert np.linalg.norm(file.posed()[0][:n] - want, axis=1).max() < 1e-3


def test_usds_own_skinning_finds_a_talking_face(tmp_path, body):
    usd, skel, geom, gf = (pytest.importorskip(f"pxr.{name}") for name in ("Usd", "UsdSkel", "UsdGeom", "Gf"))
    bodies = talking(body, 3)
    export(bodies, tmp_path / "a.usdc", model=body, fps=FPS, axes="camera", tolerance_m=8e-5, arkit=True)
    stage = usd.Stage.Open(str(tmp_path / "a.usdc"))
    names = stage.GetPrimAtPath("/body/motion").GetAttribute("blendShapes").Get()
    assert tuple(names[:52]) == ARKIT_NAMES
    assert skel.BakeSkinning(stage.Traverse(), gf.Interval(0, 2))
    points = geom.Mesh(stage.GetPrimAtPath("/body/mesh")).GetPointsAttr()
    want = flip_yz(body(**bodies).vertices).numpy()
    for frame in range(3):
        assert np.linalg.norm(np.array(points.Get(frame)) - want[frame], axis=1).max() < 1e-4


def test_an_independent_reader_of_bvh_finds_fingers_jaw_and_eyes(tmp_path, body):
    bvhio = pytest.importorskip("bvhio")
    bodies = talking(body, 2)
    export(bodies, tmp_path / "a.bvh", model=body, axes="camera", fps=FPS)
    joints = flip_yz(body.joints(dict_without_expression(body, bodies))).numpy()
    tree = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    for frame in range(2):
        tree.loadPose(frame)
        found = {node.Name: np.array(node.PositionWorld) for node, _, _ in tree.layout()}
        got = np.array([found[name] for name in body.skeleton.names])
        assert np.abs(got - joints[frame]).max() < 2e-5


def dict_without_expression(body: BodyModel, bodies: BodyParams) -> BodyParams:
    """A skeleton has the joints of the neutral face."""
    return body.params(**(dict(bodies) | {"expression": torch.zeros(bodies.batch, 10)}))


def test_arkits_shapes_are_the_open_faces(tmp_path, body):
    tiny = BodyModel(tiny_assets("smplx"), dtype=torch.float64)
    with pytest.raises(OptionError, match="ARKit's shapes are those of the open body; tiny smplx has another mesh"):
        export(tiny.params(), tmp_path / "a.glb", model=tiny, arkit=True)
    with pytest.raises(OptionError, match=r"a\.obj: ARKit's shapes are for \.glb and \.usd"):
        export(body.params(), tmp_path / "a.obj", model=body, arkit=True)
    with pytest.raises(OptionError, match=r"a\.csv: open-h has no face to write"):
        export(load_model("open-h").params(), tmp_path / "a.csv", model=load_model("open-h"))
    assert list(tmp_path.iterdir()) == []


# ARKit's shapes and weights.


def test_the_shapes_are_apples_52_and_mirror_images():
    shapes = arkit_shapes()
    assert len(set(ARKIT_NAMES)) == 52
    mirror = np.load(body_file())["mirror"]
    for k, name in enumerate(ARKIT_NAMES):
        offset = shapes.offsets[k]
        assert offset.any() == (name != "tongueOut")  # the open body has no tongue
        assert np.abs(offset).max() < 0.04
        swapped = name.replace("Left", "@").replace("Right", "Left").replace("@", "Right")
        other = shapes.offsets[ARKIT_NAMES.index(swapped)]
        np.testing.assert_allclose(offset[mirror] * [-1, 1, 1], other, atol=2e-5)  # of float16


def body_file():
    from bodyfit.body.files.archive import asset_path

    return asset_path("body", "open.npz")


def named(weights: np.ndarray) -> dict[str, float]:
    """The weights that are not nothing."""
    return {name: float(w) for name, w in zip(ARKIT_NAMES, weights, strict=True) if w > 0.01}


def test_a_neutral_face_has_no_weights_and_an_open_mouth_is_open(body):
    assert not arkit_weights(body, body.params()).any()
    weights = [named(arkit_weights(body, face(body, jaw_pose=[a, 0, 0]))[0]) for a in (0.1, 0.2, 0.39, 0.6)]
    opened = [w["jawOpen"] for w in weights]
    assert opened == sorted(opened)
    assert opened[0] == pytest.approx(0.1 / 0.39, abs=0.05)
    assert opened[2] > 0.97
    assert all(w.keys() == {"jawOpen"} for w in weights)  # nothing else makes up for what it cannot show
    aside = named(arkit_weights(body, face(body, jaw_pose=[0, 0.08, 0]))[0])
    assert max(aside, key=aside.get) == "jawLeft"
    assert "jawRight" not in aside
    smile = face(body, jaw_pose=[0.2, 0, 0], expression=[1.5] + 9 * [0.0])
    both = arkit_weights(body, smile)[0]
    np.testing.assert_allclose(both[ARKIT_NAMES.index("jawOpen")], opened[1], atol=1e-9)


@pytest.mark.parametrize(
    ("look", "names"),
    [
        ([0.0, 0.3, 0.0], ("eyeLookOutLeft", "eyeLookInRight")),
        ([0.0, -0.3, 0.0], ("eyeLookInLeft", "eyeLookOutRight")),
        ([0.2, 0.0, 0.0], ("eyeLookDownLeft", "eyeLookDownRight")),
        ([-0.2, 0.0, 0.0], ("eyeLookUpLeft", "eyeLookUpRight")),
    ],
)
def test_a_look_is_the_eyes_angle(body, look, names):
    bodies = face(body, leye_pose=look, reye_pose=look)
    weights = arkit_weights(body, bodies)[0]
    share = float(np.linalg.norm(look)) / arkit_shapes().look_rad
    assert named(weights) == {name: pytest.approx(share, abs=1e-9) for name in names}
    turned = (body(**bodies).vertices - body(**body.params()).vertices)[0].numpy()
    balls = body.weights[:, [body.skeleton.index(f"{side}_eye_smplhf") for side in ("left", "right")]].sum(1) > 0.5
    shown = np.tensordot(weights, arkit_shapes().offsets, 1)
    # The chord of a turn by 30 degrees against its arc, of a ball of 16 mm.
    assert np.linalg.norm(shown - turned, axis=1)[balls.numpy()].max() < 1e-3


def test_weights_show_the_face_within_a_millimetre(body):
    """Of smiles, blinks and open mouths made of the shapes as far as the expression has them."""
    shapes = arkit_shapes()
    for made in ({"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
                 {"eyeBlinkLeft": 0.9, "eyeBlinkRight": 0.9}, {"mouthFunnel": 0.6, "mouthPucker": 0.4}):  # fmt: skip
        target = sum(w * shapes.offsets[ARKIT_NAMES.index(name)] for name, w in made.items()).ravel()
        directions = body.shapedirs[body.num_betas :].numpy()
        expression = np.linalg.lstsq(directions.T, target, rcond=None)[0].tolist()
        bodies = face(body, expression=expression, jaw_pose=[0.1, 0, 0])
        weights = arkit_weights(body, bodies)[0]
        assert 0 <= weights.min() <= weights.max() <= 1
        for name in made:
            assert weights[ARKIT_NAMES.index(name)] > 0.3 * made[name], name
        moved = (body(**bodies).vertices - body(**body.params()).vertices)[0].numpy()[shapes.moved]
        error = np.linalg.norm(np.tensordot(weights, shapes.offsets, 1)[shapes.moved] - moved, axis=1)
        assert error.mean() < 0.5e-3
        assert error.mean() < 0.3 * np.linalg.norm(moved, axis=1).mean()


def test_weights_are_continuous(body):
    """A small change of the face changes no weight much, whichever bounds bind."""
    bodies = talking(body, 4)
    for name, step in (("expression", 1e-4), ("jaw_pose", 1e-5)):
        near = body.params(**(dict(bodies) | {name: bodies[name] + step}))
        assert np.abs(arkit_weights(body, near) - arkit_weights(body, bodies)).max() < 1e-2


# Live Link Face.


def test_a_face_as_live_link_face_records_it(tmp_path, body):
    bodies = talking(body, 4)
    times = np.array([0.0, 0.5, 59.99999, 3601.25])
    save_live_link(tmp_path / "a.csv", body, bodies, fps=30, times_s=times)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == LIVE_LINK_COLUMNS
    assert [rows[0][k] for k in (0, 1, 2, 16, 19, 53, 54, 62)] == [
        *("Timecode", "BlendShapeCount", "EyeBlinkLeft", "JawForward", "JawOpen", "TongueOut", "HeadYaw"),
        "RightEyeRoll",
    ]
    assert [row[0] for row in rows[1:]] == [
        *("00:00:00:00.000", "00:00:00:15.000", "00:01:00:00.000", "01:00:01:07.500")
    ]
    assert {row[1] for row in rows[1:]} == {"61"}
    values = np.array([row[2:] for row in rows[1:]], float)
    assert values.shape == (4, 61)
    np.testing.assert_allclose(values[:, :52], arkit_weights(body, bodies), atol=1e-6)
    want = Rotation.from_rotvec(bodies["leye_pose"]).as_matrix()
    got = Rotation.from_euler("YXZ", values[:, 55:58]).as_matrix()
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_head_that_faces_the_camera_has_no_angles(tmp_path, body):
    """Yaw is to the person's left, pitch down, from straight at the camera on."""
    upright = torch.tensor([[np.pi, 0, 0]])
    neck = torch.zeros(1, 63, dtype=torch.float64)
    for turn, angles in (
        ((0, 0, 0), (0, 0, 0)),
        ((0, 0.4, 0), (0.4, 0, 0)),
        ((0.3, 0, 0), (0, 0.3, 0)),
    ):
        neck[:, 3 * 14 : 3 * 15] = torch.tensor(turn)  # of the joint "head"
        save_live_link(tmp_path / "a.csv", body, body.params(global_orient=upright, body_pose=neck))
        values = (tmp_path / "a.csv").read_text().splitlines()[1].split(",")
        np.testing.assert_allclose([float(v) for v in values[54:57]], angles, atol=1e-5)


def test_convert_writes_faces(tmp_path, capsys, body):
    bodies = talking(body, 3)
    save_params(bodies, tmp_path / "bodies.npz", fps=FPS, model=body)
    assert main(["convert", str(tmp_path / "bodies.npz"), str(tmp_path / "face.csv")]) == 0
    assert len((tmp_path / "face.csv").read_text().splitlines()) == 4
    assert "weights and radians" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "bodies.npz"), str(tmp_path / "cm.csv"), "--unit", "cm"]) == 2
    assert "no unit of length" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "bodies.npz"), str(tmp_path / "talk.glb"), "--arkit", "--frame", "1"]) == 0
    assert "jawOpen" in Gltf(tmp_path / "talk.glb").json["meshes"][0]["extras"]["targetNames"]
    assert main(["convert", str(tmp_path / "bodies.npz"), str(tmp_path / "talk.bvh"), "--arkit"]) == 2
    assert "ARKit's shapes are for .glb and .usd" in capsys.readouterr().err


def test_plain_skinning_has_the_expression_too(body):
    rig = rig_of(body, talking(body, 2), fps=FPS, pose_shapes="none")
    assert rig.morphs is not None
    assert rig.morphs.names == tuple(f"expression_{k:02d}" for k in range(10))
