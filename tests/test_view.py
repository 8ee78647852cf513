"""The live viewer: its controls move the mesh as the model says, and a browser shows it."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from roma import rotvec_to_rotmat
from scipy.spatial.transform import Rotation
from shown_results import result_of, standing, write_clip, write_picture

import bodyfit
from bodyfit.app.results.find import Person
from bodyfit.app.results.folder import read_results
from bodyfit.cli.main import main
from bodyfit.errors import OptionError
from bodyfit.fit.result import FitStatus
from bodyfit.io import VideoWriter, save
from bodyfit.viewer.edits import PersonEdits

viser = pytest.importorskip("viser")

from bodyfit.viewer.server import Viewer  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
    """A clip of twelve frames from 3 on, and a picture of two people, in this order."""
    out = tmp_path_factory.mktemp("view") / "out"
    write_picture(out, model, people=2, name="photo")
    write_clip(out, model, name="clip")
    return read_results(out)


@pytest.fixture
def viewer(results):
    started = Viewer(results, port=8765)
    yield started
    started.stop()


def vertices(model, params, **changed) -> np.ndarray:
    with torch.no_grad():
        return model(**{**params, **changed}).vertices[0].numpy()


# ---------------------------------------------------------------- the state behind the sliders


def test_fingers_jaw_and_expression_move_what_they_should(tmp_path):
    """Other joints keep their angles, also where hands were coefficients of components."""
    body = bodyfit.load_model("open-x")
    hands = {f"{side}_hand_pose": torch.full((1, 6), value) for side, value in (("left", 0.4), ("right", -0.3))}
    params = body.params(global_orient=torch.tensor([[3.0, 0, 0]]), transl=torch.tensor([[0, 0, 3.0]]), **hands)
    result = result_of(body, params, name="open-x")
    edits = PersonEdits(Person(0, tmp_path / "person0.npz", result, np.zeros(1, int), np.ones(1, bool), fps=0.0), body)
    assert np.array_equal(edits.vertices(0).numpy(), vertices(body, params))
    for joint, part in (("left_index2", "left_index"), ("jaw", "jaw")):
        edits.reset()
        edits.turn(joint, (0.3, 0.1, 0.0))
        moved = np.linalg.norm(edits.vertices(0).numpy() - vertices(body, params), axis=1)
        near = body.weights[:, [k for k, name in enumerate(body.skeleton.names) if part in name]].sum(1) > 0
        assert moved.max() > 3e-3
        assert moved[~near.numpy()].max() < 1e-3  # pose shapes reach a little beyond
        fitted, changed = (body.full_pose(body.params(**p))[0].numpy() for p in (params, edits.params(0)))
        row = body.skeleton.index(joint)
        np.testing.assert_allclose(np.delete(changed, row, 0), np.delete(fitted, row, 0), atol=1e-6)
        turn = Rotation.from_rotvec(fitted[row]).inv() * Rotation.from_rotvec(changed[row])
        np.testing.assert_allclose(turn.as_rotvec(), (0.3, 0.1, 0.0), atol=1e-5)
    edits.reset()
    edits.set_expression(0, 1.5)
    want = vertices(body, params, expression=torch.tensor([[1.5] + 9 * [0.0]]))
    np.testing.assert_allclose(edits.vertices(0), want, atol=1e-6)


def test_without_edits_the_mesh_is_the_fits(results, model):
    person = results.scenes[1].people[1]
    edits = PersonEdits(person, model)
    assert np.array_equal(edits.vertices(0).numpy(), vertices(model, person.result.params))


def test_a_turn_is_in_the_joints_own_axes(results, model):
    """R = R_fit exp(turn), for the root too; other joints keep their numbers to the last bit."""
    person = results.scenes[1].people[0]
    edits, turn = PersonEdits(person, model), torch.tensor([0.3, -0.2, 0.5])
    edits.turn("left_elbow", turn)
    edits.turn("pelvis", (0.0, 0.4, 0.0))
    fitted, params = person.result.params, edits.params(0)
    joint = slice(3 * (model.skeleton.index("left_elbow") - 1), 3 * model.skeleton.index("left_elbow"))
    for found, was, by in (
        (params.body_pose[0, joint], fitted.body_pose[0, joint], turn),
        (params.global_orient[0], fitted.global_orient[0], torch.tensor([0.0, 0.4, 0.0])),
    ):
        # float32 angles near half a turn lose a digit
        torch.testing.assert_close(
            rotvec_to_rotmat(found), rotvec_to_rotmat(was) @ rotvec_to_rotmat(by), atol=1e-5, rtol=0
        )
    kept = torch.ones(69, dtype=torch.bool)
    kept[joint] = False
    assert torch.equal(params.body_pose[0, kept], fitted.body_pose[0, kept])
    edits.reset()
    assert torch.equal(edits.params(0).body_pose, fitted.body_pose)
    with pytest.raises(OptionError, match="left_elbow"):
        edits.turn("tail", turn)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_the_mesh_that_is_downloaded_is_the_one_that_is_seen(results, model, suffix):
    import trimesh

    edits = PersonEdits(results.scenes[1].people[0], model)
    edits.set_beta(0, 2.5)
    loaded = trimesh.load(io.BytesIO(edits.mesh_file(0, suffix)), file_type=suffix[1:], force="mesh", process=False)
    want = edits.vertices(0).numpy() * (1, -1, -1)
    np.testing.assert_allclose(np.ptp(loaded.vertices, axis=0), np.ptp(want, axis=0), atol=1e-5)
    with pytest.raises(OptionError, match="glb"):
        edits.mesh_file(0, ".exe")


# ---------------------------------------------------------------- the sliders


def test_a_beta_slider_moves_the_mesh_to_the_models(viewer, model):
    viewer.picture.value = "photo"
    fitted = viewer.scenes[1].people[1].result.params
    before = [np.array(mesh.vertices) for mesh in viewer.meshes]
    np.testing.assert_array_equal(before[1], vertices(model, fitted))
    viewer.who.value = "1"
    assert viewer.betas[3].value == pytest.approx(float(fitted.betas[0, 3]))
    viewer.betas[3].value = -1.75
    betas = fitted.betas.clone()
    betas[0, 3] = -1.75
    np.testing.assert_array_equal(viewer.meshes[1].vertices, vertices(model, fitted, betas=betas))
    np.testing.assert_array_equal(viewer.meshes[0].vertices, before[0])  # the other person stays
    assert np.abs(viewer.meshes[1].vertices - before[1]).max() > 1e-3
    viewer.who.value = "0"  # the sliders show the other person and change nobody
    np.testing.assert_array_equal(viewer.meshes[0].vertices, before[0])
    viewer.who.value = "1"
    assert viewer.betas[3].value == pytest.approx(-1.75)


def test_sliders_of_a_face_open_the_mouth_and_change_the_expression(tmp_path):
    body = bodyfit.load_model("open-x")
    params = body.params(global_orient=torch.tensor([[3.0, 0, 0]]), transl=torch.tensor([[0, 0, 3.0]]))
    save(result_of(body, params, name="open-x"), tmp_path / "photo" / "person0.npz")
    viewer = Viewer(read_results(tmp_path), port=8770)
    try:
        assert len(viewer.expression) == 10
        viewer.joint.value = "jaw"
        viewer.angles[0].value = 20.0
        viewer.expression[1].value = 2.0
        shown = np.asarray(viewer.meshes[0].vertices)
        change = {"jaw_pose": torch.tensor([[np.deg2rad(20.0), 0, 0]]).float()}
        change["expression"] = torch.tensor([[0, 2.0, *(8 * [0])]])
        np.testing.assert_allclose(shown, vertices(body, params, **change), atol=1e-5)
        viewer.joint.value = "right_index1"
        assert viewer.angles[0].value == 0
    finally:
        viewer.stop()


def test_a_turn_slider_moves_what_hangs_on_the_joint(viewer, model):
    viewer.picture.value = "photo"
    before = np.array(viewer.meshes[0].vertices)
    viewer.joint.value = "left_elbow"
    viewer.angles[2].value = 60.0
    moved = np.abs(viewer.meshes[0].vertices - before).max(1) > 1e-3
    below = [model.skeleton.index(f"left_{name}") for name in ("elbow", "wrist", "hand")]
    weight = model.weights[:, below].sum(1).numpy()
    assert moved[weight > 0.5].all()
    elsewhere = model.weights[:, [model.skeleton.index(n) for n in ("head", "right_wrist", "left_knee")]].sum(1).numpy()
    assert not moved[elsewhere > 0.9].any()
    viewer.joint.value = "right_knee"
    assert viewer.angles[2].value == 0
    viewer.joint.value = "left_elbow"
    assert viewer.angles[2].value == pytest.approx(60.0, abs=1e-4)


def test_time_and_visibility(viewer, model):
    assert viewer.picture.value == "clip"
    params = viewer.scenes[0].people[0].result.params
    for frame in (3, 9, 14):
        viewer.time.value = frame
        np.testing.assert_array_equal(viewer.meshes[0].vertices, vertices(model, params.select([frame - 3])))
    viewer.betas[0].value = 2.0  # one shape in every frame
    viewer.time.value = 5
    betas = params.betas[:1].clone()
    betas[0, 0] = 2.0
    np.testing.assert_array_equal(viewer.meshes[0].vertices, vertices(model, params.select([2]), betas=betas))
    viewer.shown[0].value = False
    assert not viewer.meshes[0].visible
    viewer.shown[0].value = True
    assert viewer.meshes[0].visible
    viewer.play.value = True
    deadline = time.monotonic() + 20
    while viewer.time.value == 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    viewer.play.value = False
    assert viewer.time.value != 5


def test_the_photograph_lies_where_the_camera_sees_it(viewer):
    """At any depth its corners project to those of the picture."""
    viewer.picture.value = "photo"
    camera = viewer.scenes[1].people[0].result.camera
    for depth in (1.0, 7.5):
        viewer.photograph_depth.value = depth
        far = viewer.backdrop.edges()[:, 1]
        pixels = camera.select([0]).project(torch.from_numpy(far[None]).float())[0].numpy()
        np.testing.assert_allclose(pixels, [(0, 0), (320, 0), (320, 240), (0, 240)], atol=1e-3)
        np.testing.assert_allclose(viewer.backdrop.photograph.position, (0, 0, depth), atol=1e-6)
    with pytest.raises(OptionError, match="camera, front"):
        viewer.look("behind")


def test_the_clips_own_frames_stand_behind_the_bodies(model, tmp_path):
    """Frame k of the film is grey 20 k; the photograph in the viewer follows the time line."""
    out = tmp_path / "out"
    write_clip(out, model, frames=6, first=2)
    with VideoWriter(tmp_path / "clip.mp4", (320, 240), 30.0) as film:
        for k in range(9):
            film.write(np.full((240, 320, 3), 20 * k, np.uint8))
    viewer = Viewer(read_results(out), port=8765)
    try:
        for frame in (2, 6, 7, 3):
            viewer.time.value = frame
            deadline = time.monotonic() + 30
            while abs(viewer.backdrop.photograph.image.mean() - 20 * frame) > 4 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert viewer.backdrop.photograph.image.mean() == pytest.approx(20 * frame, abs=4)  # lossy, limited range
        assert viewer._film is not None
        assert viewer._film.fault is None
        assert viewer._film.picture(8) is None  # nobody is in it
    finally:
        viewer.stop()


def test_who_has_no_body_is_left_out_and_what_is_missing_is_said(model, tmp_path):
    out = tmp_path / "out"
    write_picture(out, model, people=2)
    failed = replace(
        result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(1, 69))), status=(FitStatus.UNOBSERVABLE,)
    )
    bodyfit.save(failed, out / "photo" / "person0.npz")
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    viewer = Viewer(read_results(out), port=8765)
    try:
        assert [edits.person.number for edits in viewer.edits] == [1]
        assert "photo.jpg" in viewer.notes.content
    finally:
        viewer.stop()
    bodyfit.save(failed, out / "photo" / "person1.npz")
    with pytest.raises(OptionError, match="nobody in it has a body"):
        Viewer(read_results(out), port=8765)


def test_a_poor_body_is_striped_and_labelled(model, tmp_path):
    out = tmp_path / "out"
    write_picture(out, model, people=2)
    fit = result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(1, 69)))
    bodyfit.save(replace(fit, status=(FitStatus.POOR,), reason=("why",)), out / "photo" / "person0.npz")
    viewer = Viewer(read_results(out), port=8765)
    try:
        poor = next(i for i, edits in enumerate(viewer.edits) if edits.person.number == 0)
        whole = len(model.faces)
        assert [len(mesh.faces) == whole for mesh in viewer.meshes] == [i != poor for i in range(2)]
        assert 0.4 * whole < len(viewer.meshes[poor].faces) < 0.6 * whole
        assert list(viewer.labels) == [poor]
        assert viewer.labels[poor].text == "person 0: poor"
        assert viewer.labels[poor].position[1] == viewer.meshes[poor].vertices[:, 1].min()
        viewer.shown[poor].value = False
        assert not viewer.labels[poor].visible
    finally:
        viewer.stop()


# ---------------------------------------------------------------- in the browser


def test_a_browser_shows_the_body_over_its_photograph(browser, viewer):
    viewer.picture.value = "photo"
    with browser.open(viewer.url, size=(640, 320)) as page:
        page.until(lambda: len(viewer.server.get_clients()) == 1, "the viewer to connect")
        viewer.look("camera")

        def blue() -> float:
            picture = page.screenshot()[60:260, 180:330].astype(int)
            return ((picture[..., 2] - picture[..., 0]) > 40).mean()

        page.until(lambda: blue() > 0.03, "the blue body")
        viewer.shown[0].value = False
        page.until(lambda: blue() < 0.005, "the blue body to go")
        assert page.errors == []
        assert all(address.startswith((viewer.url, "ws://")) for address in page.requests), "no network"


# ---------------------------------------------------------------- the command


def test_the_command_serves_until_ctrl_c(results, capsys, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")

    def interrupt(self) -> None:
        import urllib.request

        assert urllib.request.urlopen(self.url, timeout=30).status == 200
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "wait", interrupt)
    for options, opens in (([], 1), (["--no-open"], 0)):
        opened.clear()
        assert main(["view", str(results.folder), "--port", "8790", *options]) == 0
        out = capsys.readouterr().out
        assert out.startswith("http://localhost:87")
        assert out.count("\n") == 1
        assert len(opened) == opens
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["view", str(results.folder), "--port", "8790"]) == 0
    assert len(opened) == (0 if sys.platform.startswith("linux") else 1)


def test_wrong_use_is_told_in_one_line(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    for arguments, says in (
        ([str(tmp_path)], "no results"),
        ([str(results.folder), "--port", "70000"], "--port"),
        ([str(results.folder)], "bodyfit[view]"),
    ):
        assert main(["view", *arguments]) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert says in err
