"""What readers of binary glTF, three.js in a browser among them, make of a file is what the model makes of a body."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest
import torch
from browser import import_map, served
from conftest import tiny_assets
from gltf_reader import Gltf
from moving import motion

from bodyfit.body.assets import load_assets
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.errors import OptionError, OutputError
from bodyfit.geometry.camera import flip_yz
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.gltf import save_rig_glb
from bodyfit.io.export.rig import rig_of

FRAMES, FPS = 13, 25.0
PAGE = """<!doctype html><link rel="icon" href="data:,">%s<body style="margin:0"><script type="module">
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
const encode = (array) => {
  const bytes = new Uint8Array(array.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
};
window.play = async (file, times, count) => {
  const gltf = await new GLTFLoader().loadAsync(file);
  let mesh;
  gltf.scene.traverse((node) => { if (node.isSkinnedMesh) mesh = node; });
  const mixer = new THREE.AnimationMixer(gltf.scene);
  for (const clip of gltf.animations) mixer.clipAction(clip).play();
  const frames = [], joints = [], point = new THREE.Vector3();
  for (const time of times) {
    mixer.setTime(time);
    gltf.scene.updateMatrixWorld(true);
    mesh.skeleton.update();
    const out = new Float32Array(3 * count);
    for (let i = 0; i < count; i++)  // morph targets, then bones, as the vertex shader has them
      mesh.getVertexPosition(i, point).applyMatrix4(mesh.matrixWorld).toArray(out, 3 * i);
    frames.push(encode(out));
    joints.push(mesh.skeleton.bones.map((bone) => bone.getWorldPosition(new THREE.Vector3()).toArray()));
  }
  return { frames, joints, names: mesh.skeleton.bones.map((bone) => bone.name), clips: gltf.animations.length };
};
window.ready = true;
</script>"""


def plain(assets_of: str | BodyModel) -> BodyModel:
    """The shipped body without pose blend shapes: linear blend skinning alone."""
    assets = dataclasses.replace(load_assets(str(assets_of)), posedirs=None)
    return BodyModel(assets, dtype=torch.float64)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_model("open", dtype=torch.float64)


def upright(model: BodyModel, bodies: BodyParams) -> np.ndarray:
    return flip_yz(model(**bodies).vertices).numpy()


def test_three_js_puts_every_vertex_where_the_model_does(browser, tmp_path, body):
    """Positions are float32 and the tolerance of the morph targets 0.1 mm, half of which it asks of itself here."""
    bodies = motion(body)
    save_rig_glb(tmp_path / "clip.glb", rig_of(body, bodies, fps=FPS, influences=4, tolerance_m=5e-5))
    save_rig_glb(tmp_path / "pose.glb", rig_of(body, bodies.select([5]), influences=4))
    save_rig_glb(tmp_path / "none.glb", rig_of(body, bodies, fps=FPS, pose_shapes="none"))
    (tmp_path / "page.html").write_text(PAGE % import_map())
    rows, n = [0, 5, 11], len(body.v_template)
    times = [i / FPS for i in rows]
    want, want_plain = upright(body, bodies)[rows], upright(plain("open"), bodies)[rows]
    few = ((body.weights > 0).sum(1) <= 4).numpy()
    with served(tmp_path) as url, browser.open(url + "page.html") as page:
        page.wait_for("window.ready")

        def play(name: str, times: list[float]) -> tuple[np.ndarray, dict]:
            out = page.evaluate(f"window.play('{name}.glb', {times}, {n})")
            return np.stack([np.frombuffer(base64.b64decode(f), "<f4").reshape(n, 3) for f in out["frames"]]), out

        got, told = play("clip", times)
        assert np.linalg.norm(got - want, axis=2).max() < 1e-4
        joints = flip_yz(body.joints(bodies)).numpy()[rows]
        assert np.abs(told["joints"] - joints).max() < 1e-5
        assert tuple(told["names"]) == body.skeleton.names
        assert told["clips"] == 1
        got, told = play("pose", [0.0])
        assert np.linalg.norm(got - want[1], axis=2).max() < 1e-4
        assert told["clips"] == 0
        got, _ = play("none", times)
        error = np.linalg.norm(got - want_plain, axis=2)
        assert error[:, few].max() < 1e-4
        assert error[:, ~few].max() < 1e-2  # it takes four weights of the up to eight that these vertices have
        assert page.errors == []


@pytest.mark.parametrize("pose_shapes", ["baked", "none"])
def test_a_clip_is_the_body_at_every_frame(tmp_path, body, pose_shapes):
    bodies = motion(body)
    rig = rig_of(body, bodies, fps=FPS, pose_shapes=pose_shapes, tolerance_m=5e-5)
    save_rig_glb(tmp_path / "clip.glb", rig)
    file = Gltf(tmp_path / "clip.glb")
    want = upright(body if pose_shapes == "baked" else plain("open"), bodies)
    joints = flip_yz(body.joints(bodies)).numpy()
    for i in range(FRAMES):
        vertices, posed = file.posed(i)
        np.testing.assert_allclose(vertices[: len(want[i])], want[i], atol=1e-4 if rig.morphs else 2e-6)
        np.testing.assert_allclose(posed, joints[i], atol=2e-6)  # float32
    np.testing.assert_allclose(file.times(), np.arange(FRAMES) / FPS, atol=1e-6)
    assert (rig.morphs is None) == (pose_shapes == "none")
    assert ("JOINTS_1" in file.primitive["attributes"]) is True


def test_a_looser_tolerance_takes_fewer_morph_targets_and_is_kept(body):
    bodies = motion(body)
    want = upright(body, bodies)
    counts = []
    for tolerance in (4e-3, 1e-3, 2e-4):
        rig = rig_of(body, bodies, fps=FPS, influences=4, tolerance_m=tolerance)
        assert rig.morphs is not None
        assert rig.morphs.error_m <= tolerance
        assert (rig.morphs.weights.min(), rig.morphs.weights.max()) == (0, 1)
        assert np.linalg.norm(_skinned(rig) - want, axis=2).max() < tolerance + 2e-5  # the damping's share
        counts.append(len(rig.morphs.targets))
    assert counts == sorted(set(counts))


def _skinned(rig) -> np.ndarray:
    """A rig's vertices, by the definition of skinning."""
    out = []
    for t, joints in enumerate(rig.posed_joints()):
        world = [np.eye(3)] * len(rig.names)
        for j, parent in enumerate(rig.parents):
            world[j] = (world[parent] if parent >= 0 else np.eye(3)) @ rig.rotations[t, j]
        rest = (
            rig.vertices
            if rig.morphs is None
            else rig.vertices + np.tensordot(rig.morphs.weights[t], rig.morphs.targets, 1)
        )
        moved = [(rest - rig.joints[j]) @ world[j].T + joints[j] for j in range(len(world))]
        out.append(np.einsum("vj,jvc->vc", rig.weights, moved))
    return np.stack(out)


def test_a_clip_of_more_frames_than_morph_targets_are_found_from(tmp_path):
    """The tolerance is kept in all frames, also in those between the sampled ones."""
    model = BodyModel(tiny_assets("smplh"), dtype=torch.float64)
    bodies = motion(model, 300)
    rig = rig_of(model, bodies, fps=30, tolerance_m=1e-4)
    assert rig.morphs is not None
    error = np.linalg.norm(_skinned(rig) - upright(model, bodies), axis=2).max()
    assert error <= rig.morphs.error_m + 1e-6
    assert rig.morphs.error_m <= 1e-4


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("unit", ["m", "cm"])
@pytest.mark.parametrize("axes", ["camera", "y_up", "z_up"])
def test_axes_and_unit_are_as_chosen(tmp_path, axes, up, unit):
    """A rest pose is upright in the file whatever the axes of the bodies, and a posed one is the body's."""
    model = BodyModel(tiny_assets("smpl"), dtype=torch.float64)
    bodies = model.params(
        **{k: v for k, v in motion(model, 4).items()},
    )
    placing = Placing(up, unit)
    scale = 100 if unit == "cm" else 1
    save_rig_glb(tmp_path / "a.glb", rig_of(model, bodies, fps=30, axes=axes, placing=placing, tolerance_m=1e-6))
    file = Gltf(tmp_path / "a.glb")
    points = model(**bodies).vertices.numpy()
    x, y, z = {
        "camera": (points[..., 0], -points[..., 1], -points[..., 2]),
        "y_up": (points[..., 0], points[..., 1], points[..., 2]),
        "z_up": (points[..., 0], points[..., 2], -points[..., 1]),
    }[axes]
    want = scale * np.stack([x, y, z] if up == "y" else [x, -z, y], 2)
    for i in range(4):
        np.testing.assert_allclose(file.posed(i)[0], want[i], atol=1e-5 * scale)
    rest = file.array(file.primitive["attributes"]["POSITION"])
    height = rest[:, 1 if up == "y" else 2]
    assert np.ptp(height) > 1.4 * scale  # the body's height is along the file's up
    assert file.json["asset"]["extras"] == {"axes_and_unit": str(placing)}


@pytest.mark.parametrize("kind", ["smpl", "smplh", "smplx", "star", "mano_right", "flame"])
def test_every_kind_of_body_can_be_written(tmp_path, kind):
    model = BodyModel(tiny_assets(kind), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    def draw(columns: int, rows: int = 3) -> torch.Tensor:
        return 0.3 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)

    given = {name: draw(3 * joints) for name, joints in model.kind.poses}
    given |= {"expression": draw(10)} if model.num_expression_coeffs else {}
    bodies = model.params(**given, global_orient=draw(3), transl=draw(3), betas=draw(10, 1))
    save_rig_glb(tmp_path / "a.glb", rig_of(model, bodies, fps=30, axes="y_up", tolerance_m=1e-6))
    file = Gltf(tmp_path / "a.glb")
    for i in range(3):
        np.testing.assert_allclose(file.posed(i)[0], model(**bodies).vertices[i].numpy(), atol=1e-5)
    assert tuple(file.joint_names) == model.skeleton.names


def test_texture_coordinates_and_faces_are_the_bodys(tmp_path, body):
    save_rig_glb(tmp_path / "a.glb", rig_of(body, motion(body, 2).select([0]), influences=4))
    file = Gltf(tmp_path / "a.glb")
    assert body.uv is not None
    assert body.uv_faces is not None
    corners = file.array(file.primitive["indices"])[:, 0]
    points = file.array(file.primitive["attributes"]["POSITION"])
    faces = body.faces.numpy().ravel()
    np.testing.assert_array_equal(points[corners], points[: len(body.v_template)][faces])
    uv = file.array(file.primitive["attributes"]["TEXCOORD_0"])[corners] * [1, -1] + [0, 1]
    np.testing.assert_allclose(uv, body.uv[body.uv_faces.ravel()], atol=1e-6)
    normals = file.array(file.primitive["attributes"]["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)


def test_a_turn_past_half_a_circle_is_played_the_short_way(tmp_path):
    """The quaternions of neighbouring frames lie on one side, so that a player's interpolation does not spin."""
    model = BodyModel(tiny_assets("smpl"), dtype=torch.float64)
    angle = torch.linspace(2, 8, 40, dtype=torch.float64)
    bodies = model.params(global_orient=torch.stack([0 * angle, angle, 0 * angle], 1))
    save_rig_glb(tmp_path / "a.glb", rig_of(model, bodies, fps=30, axes="y_up", pose_shapes="none"))
    file = Gltf(tmp_path / "a.glb")
    animation = file.json["animations"][0]
    for channel in animation["channels"]:
        if channel["target"]["path"] == "rotation":
            q = file.array(animation["samplers"][channel["sampler"]]["output"])
            assert (q[1:] * q[:-1]).sum(1).min() > 0.99


def test_what_cannot_be_meant_is_refused_and_leaves_no_file(tmp_path):
    model = BodyModel(tiny_assets("smpl"), dtype=torch.float64)
    bodies = motion(model, 3)
    holed = dataclasses.replace(bodies, transl=bodies.transl.clone())
    holed.transl[1] = torch.nan
    shapes = dataclasses.replace(bodies, betas=bodies.betas + torch.arange(3)[:, None])
    for given, options, error, says in (
        (holed, {"fps": 30}, OutputError, r"bodies 1 of 3 hold NaN"),
        (holed.select([1]), {}, OutputError, "the body holds NaN"),
        (bodies.select([]), {}, OutputError, "no body"),
        (bodies, {}, OptionError, "give the frame rate"),
        (bodies, {"fps": float("nan")}, OptionError, "give the frame rate"),
        (shapes, {"fps": 30}, OptionError, "of different shapes"),
        (bodies, {"fps": 30, "axes": "x_up"}, OptionError, "axes must be one of camera, y_up, z_up"),
        (bodies, {"fps": 30, "pose_shapes": "all"}, OptionError, "pose_shapes must be one of"),
        (bodies, {"fps": 30, "tolerance_m": 0.0}, OptionError, "tolerance_m"),
    ):
        with pytest.raises(error, match=says):
            rig_of(model, given, **options)
    with pytest.raises(OptionError, match="up must be y or z"):
        Placing("x")
    with pytest.raises(OptionError, match="unit must be one of m, cm"):
        Placing(unit="mm")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.glb: cannot be written"):
        save_rig_glb(tmp_path / "file" / "a.glb", rig_of(model, bodies.select([0])))
