"""Motion files as other programs write them, made by their definitions: joints land where the definitions put them."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pickle
import re
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import trimesh
from conftest import tiny_assets
from fuzz_files import motion_values, other_types
from gltf_reader import Gltf
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.body.model import BodyModel
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.geometry.camera import y_up_from
from bodyfit.io import EXPORTS, MOTION_FORMATS, load_amass, load_motion, load_motions, read_people, save_model
from bodyfit.skeleton import SMPL, SMPLH, SMPLX

T = 6
ROUNDED = 1e-5
"""Metres: files of float32."""


@pytest.fixture(scope="module")
def smpl() -> BodyModel:
    return BodyModel(tiny_assets("smpl"), dtype=torch.float64)


@pytest.fixture(scope="module")
def smplx() -> BodyModel:
    return BodyModel(tiny_assets("smplx"), dtype=torch.float64)


@pytest.fixture
def run(capsys):
    """Run the program within the test: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@cache
def flat(kind: str) -> BodyModel:
    """A tiny body whose hands are about the flat one."""
    return BodyModel(tiny_assets(kind), flat_hand_mean=True, dtype=torch.float64)


@dataclasses.dataclass(frozen=True)
class Walk:
    """Somebody upright who turns and goes, with y up: what every file below is made of."""

    model: BodyModel
    poses: np.ndarray
    """(T, J, 3) axis-angle, fingers whole."""
    pelvis: np.ndarray
    """(T, 3) where the root joint is."""
    betas: np.ndarray
    expression: np.ndarray

    def joints(self, rows=slice(None)) -> np.ndarray:
        """Where all of them are, by the model's layer alone."""
        return self.posed(rows)[1]

    def posed(self, rows=slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and joints."""
        model = self.model
        given = {"global_orient": self.poses[rows, 0], "betas": self.betas[None]}
        at = 1
        for name, count in model.kind.poses:
            given[name] = self.poses[rows, at : at + count].reshape(len(self.poses[rows]), -1)
            at += count
        if model.num_expression_coeffs:
            given["expression"] = self.expression[rows]
        given["transl"] = self.pelvis[rows] - self.rest[0]
        with torch.no_grad():
            out = flat(model.kind.name)(**{name: torch.from_numpy(np.array(value)) for name, value in given.items()})
        return out.vertices.numpy(), out.joints.numpy()

    @property
    def rest(self) -> np.ndarray:
        """Joints of the shaped body at rest; expressions do not move them in this body's file."""
        betas = torch.from_numpy(np.concatenate([self.betas, 0 * self.expression[0]])[None])
        return self.model.rest_joints(betas[:, : self.model.num_betas + self.model.num_expression_coeffs])[0].numpy()

    def root(self, axes: str) -> np.ndarray:
        """The root's axis-angle in other axes."""
        return (Rotation.from_matrix(y_up_from(axes).T) * Rotation.from_rotvec(self.poses[:, 0])).as_rotvec()

    def place(self, axes: str) -> np.ndarray:
        """The root joint's place in other axes."""
        return self.pelvis @ y_up_from(axes)

    def transl(self, axes: str) -> np.ndarray:
        """smplx's: what moves the model once it is turned about its root joint."""
        return self.place(axes) - self.rest[0]

    def pose(self, axes: str, joints: int | None = None) -> np.ndarray:
        """(T, 3 J), the root in other axes."""
        whole = np.concatenate([self.root(axes)[:, None], self.poses[:, 1:joints]], 1)
        return whole.reshape(len(whole), -1)

    def matrices(self, axes: str, joints: int | None = None) -> np.ndarray:
        flat = self.pose(axes, joints).reshape(-1, 3)
        return Rotation.from_rotvec(flat).as_matrix().reshape(len(self.poses), -1, 3, 3)


def walk(model: BodyModel, seed: int = 0, frames: int = T) -> Walk:
    rng = np.random.default_rng(seed)
    poses = 0.3 * rng.standard_normal((frames, len(model.skeleton), 3))
    poses[:, 0] = 0.2 * rng.standard_normal((frames, 3)) + np.linspace(0, 1.5, frames)[:, None] * (0, 1, 0)
    pelvis = np.cumsum(0.2 * rng.standard_normal((frames, 3)), 0) + np.array(
        (0, 0.9, -4)
    )  # before a camera that looks along -z
    faces = rng.standard_normal((frames, model.num_expression_coeffs or 10))
    return Walk(model, poses, pelvis, rng.standard_normal(model.num_betas), faces)


def body_of(walk: Walk, joints: int = 22) -> np.ndarray:
    """What remains where a file has only the body's joints."""
    return dataclasses.replace(walk, poses=np.where(np.arange(walk.poses.shape[1])[:, None] < joints, walk.poses, 0))


def assert_moves(motion, want: Walk, tolerance: float = ROUNDED, rows=slice(None)) -> None:
    got = want.model.joints(motion.params).numpy()
    np.testing.assert_allclose(got, want.joints(rows), atol=tolerance)
    np.testing.assert_allclose(motion.params.betas[0], want.betas, atol=1e-6)


def dumped(path: Path, value) -> Path:
    """As joblib writes, where it is there; its files are pickles else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import joblib
    except ImportError:
        path.write_bytes(pickle.dumps(value))
    else:
        joblib.dump(value, path)
    return path


def f32(array) -> np.ndarray:
    return np.asarray(array, np.float32)


# Weak-perspective cameras: VIBE, PARE.


def orig_cam(walk: Walk, width: int = 1280, height: int = 720) -> np.ndarray:
    """(T, 4) of VIBE: where the model's origin and size would be in the picture of bodyfit's default camera."""
    transl, focal = walk.transl("camera"), np.hypot(width, height)
    sx, sy = 2 * focal / width / transl[:, 2], 2 * focal / height / transl[:, 2]
    return f32(np.stack([sx, sy, transl[:, 0], transl[:, 1]], 1))


def vibe_track(walk: Walk, first: int = 0, **more) -> dict:
    return {
        "pred_cam": f32(np.ones((len(walk.poses), 3))),
        "orig_cam": orig_cam(walk),
        "verts": np.zeros((len(walk.poses), 6890, 3), np.float32),
        "pose": f32(walk.pose("camera")),
        "betas": f32(np.repeat(walk.betas[None], len(walk.poses), 0)),
        "joints2d": None,
        "bboxes": np.ones((len(walk.poses), 4)),
        "frame_ids": np.arange(first, first + len(walk.poses)),
    } | more


def test_vibe_by_track(tmp_path, smpl):
    first, second = walk(smpl), walk(smpl, 1)
    path = dumped(tmp_path / "vibe_output.pkl", {1: vibe_track(first), np.int64(7): vibe_track(second, 40)})
    with pytest.raises(OptionError, match=r"has 2 people: choose one by person \(1, 7\)"):
        load_motion(path, model=smpl)
    found = load_motions(path, smpl, fps=25)
    assert [(motion.person, motion.program, motion.fps, motion.start_s) for motion in found] == [
        ("1", "VIBE", 25.0, 0.0),
        ("7", "VIBE", 25.0, 1.6),
    ]
    for motion, want in zip(found, (first, second), strict=True):
        assert_moves(motion, want)
        assert any("only the size of the body in the picture" in note for note in motion.notes)
    assert_moves(load_motion(path, 7, smpl), second)
    with pytest.raises(OptionError, match="has no person 3; there are 1, 7"):
        load_motion(path, 3, smpl)


def test_pare_with_matrices_in_clips_and_pictures(tmp_path, smpl):
    want = walk(smpl)
    track = vibe_track(want, pose=f32(want.matrices("camera")))
    assert_moves(load_motion(dumped(tmp_path / "pare_output.pkl", {1: track}), model=smpl), want)
    picture = {"pred_pose": f32(want.matrices("camera")), "pred_shape": track["betas"], "orig_cam": track["orig_cam"]}
    picture |= {"pred_cam": track["pred_cam"], "smpl_vertices": np.zeros((T, 6890, 3)), "bboxes": np.ones((T, 4))}
    for path in (dumped(tmp_path / "pare_results/street.pkl", picture), tmp_path / "pare_results"):
        people = load_motions(path, smpl)
        assert len(people) == T
        for row, motion in enumerate(people):
            assert motion.params.batch == 1
            assert_moves(motion, want, rows=slice(row, row + 1))
    assert [motion.person for motion in people[:2]] == ["street_0", "street_1"]


def test_a_crop_alone_places_the_body_as_if_it_were_the_picture(tmp_path, smpl):
    want = walk(smpl)
    track = vibe_track(want)
    del track["orig_cam"]
    track["pred_cam"] = f32([[0.8, 0.1, -0.2]] * T)
    motion = load_motion(dumped(tmp_path / "vibe_output.pkl", {1: track}), model=smpl)
    at = motion.params.transl.numpy() + want.rest[0]
    np.testing.assert_allclose(at[:, 2], -(2 * np.sqrt(2) / 0.8) - want.rest[0, 2], atol=1e-5)


# ROMP, BEV, PHALP.


def romp_frame(walks: list[Walk], row: int, **more) -> dict:
    return {
        "smpl_thetas": f32([w.pose("camera")[row] for w in walks]),
        "smpl_betas": f32([w.betas for w in walks]),
        "cam": f32(np.ones((len(walks), 3))),
        "cam_trans": f32([w.transl("camera")[row] for w in walks]),
        "verts": np.zeros((len(walks), 6890, 3)),
        "center_confs": f32(np.ones(len(walks))),
    } | more


def test_romp_by_track_by_picture_and_by_folder(tmp_path, smpl):
    walks = [walk(smpl), walk(smpl, 1)]
    frames = {f"{row:08d}.png": romp_frame(walks, row) for row in range(T)}
    tracks = {
        np.int32(4 + i): {"frame_id": list(range(T)), "track_ids": [4 + i] * T}
        | {key: [frame[key][i] for frame in frames.values()] for key in ("smpl_thetas", "smpl_betas", "cam_trans")}
        for i in range(2)
    }
    np.savez(tmp_path / "video_results.npz", results=frames, sequence_results=tracks)
    found = load_motions(tmp_path / "video_results.npz", smpl)
    assert [(motion.person, motion.program) for motion in found] == [("4", "ROMP"), ("5", "ROMP")]
    for motion, want in zip(found, walks, strict=True):
        assert_moves(motion, want)
    np.savez(tmp_path / "untracked.npz", results=frames, sequence_results={})
    (tmp_path / "pictures").mkdir()
    for name, frame in frames.items():
        np.savez(tmp_path / "pictures" / name.replace(".png", ".npz"), results=frame)
    for path in (tmp_path / "untracked.npz", tmp_path / "pictures"):
        found = load_motions(path, smpl)
        assert [motion.person for motion in found] == ["0", "1"]
        for motion, want in zip(found, walks, strict=True):
            assert_moves(motion, want)
            assert any("nobody says who is whom" in note for note in motion.notes)
    one = load_motions(tmp_path / "pictures" / "00000002.npz", smpl)
    assert_moves(one[1], walks[1], rows=slice(2, 3))


def test_bev_places_the_middle_of_the_hips_and_says_that_it_drops_the_age(tmp_path, smpl):
    want = walk(smpl)
    hips = want.rest[[SMPL.index("left_hip"), SMPL.index("right_hip")]].mean(0) - want.rest[0]
    middle = want.pelvis + Rotation.from_rotvec(want.poses[:, 0]).apply(hips)
    frames = {}
    for row in range(T):
        trans = f32([middle[row] @ y_up_from("camera")])
        betas = f32([[*want.betas, 0.3]])
        frames[f"{row:08d}.png"] = romp_frame([want], row, cam_trans=trans, smpl_betas=betas)
    np.savez(tmp_path / "video_results.npz", results=frames, sequence_results={})
    motion = load_motion(tmp_path / "video_results.npz", model=smpl)
    assert motion.program == "BEV"
    assert_moves(motion, want)
    assert any("eleventh beta" in note for note in motion.notes)


def phalp_file(path: Path, walks: list[Walk], present) -> Path:
    """present(frame, person): "here", "lost" (carried on as last seen) or "absent"."""
    focal, longer, diagonal = 5000 / 256, 1920, np.hypot(1920, 1080)
    frames = {}
    for row in range(T):
        people = [i for i in range(len(walks)) if present(row, i) != "absent"]
        matrices = [walks[i].matrices("camera")[row] for i in people]
        near = [walks[i].transl("camera")[row] for i in people]
        frames[f"img/{row + 1:06d}.jpg"] = {
            "time": row,
            "shot": 0,
            "frame_path": f"img/{row + 1:06d}.jpg",
            "tid": [10 + i for i in people],
            "tracked_ids": [10 + i for i in people if present(row, i) == "here"],
            "tracked_time": [int(present(row, i) == "lost") for i in people],
            "size": [[1080, 1920] for _ in people],
            "smpl": [
                {"global_orient": f32(m[:1]), "body_pose": f32(m[1:]), "betas": f32(walks[i].betas)}
                for i, m in zip(people, matrices, strict=True)
            ],
            "camera": [f32(t * (1, 1, focal * longer / diagonal)) for t in near],
            "appe": [np.zeros(4096, np.float32) for _ in people],
            "mask": ["" for _ in people],
        }
    return dumped(path, frames)


def test_phalp_follows_tracks_and_brings_its_far_camera_near(tmp_path, smpl):
    walks = [walk(smpl), walk(smpl, 1)]
    gone = {(2, 0): "lost", (0, 1): "absent", (1, 1): "absent"}
    path = phalp_file(tmp_path / "results/demo_walk.pkl", walks, lambda row, i: gone.get((row, i), "here"))
    first, second = load_motions(path, smpl, fps=30)
    assert (first.person, second.person, first.program) == ("10", "11", "PHALP")
    assert_moves(second, walks[1], rows=slice(2, None))
    assert (second.start_s, second.frames.tolist()) == (2 / 30, [2, 3, 4, 5])
    got, want = smpl.joints(first.params).numpy(), walks[0].joints()
    seen = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(got[seen], want[seen], atol=ROUNDED)
    np.testing.assert_allclose(got[2, 0], (want[1, 0] + want[3, 0]) / 2, atol=ROUNDED)  # filled in: straight on
    between = Rotation.from_rotvec(walks[0].poses[[1, 3], 5])
    halfway = between[0] * Rotation.from_rotvec((between[0].inv() * between[1]).as_rotvec() / 2)
    np.testing.assert_allclose(first.params.body_pose[2, 12:15], halfway.as_rotvec(), atol=1e-6)
    assert any("1 frames without person 10 are filled in" in note for note in first.notes)
    assert not any("filled in" in note for note in second.notes)


def test_frames_far_apart_are_no_clip(tmp_path, smpl):
    track = vibe_track(walk(smpl), frame_ids=np.array([0, 1, 2, 3, 4, 10**8]))
    with pytest.raises(AssetError, match=r"v\.pkl: person 1's 6 frames are numbered up to 100000000"):
        load_motion(dumped(tmp_path / "v.pkl", {1: track}), model=smpl)


# World and camera: WHAM, TRAM, GVHMR, PromptHMR.


def elsewhere(walk: Walk) -> Walk:
    """The same steps in another place and direction: the world's, or the camera's."""
    turn = Rotation.from_euler("y", 1.2)
    poses = walk.poses.copy()
    poses[:, 0] = (turn * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    return dataclasses.replace(walk, poses=poses, pelvis=turn.apply(walk.pelvis) + np.array((3, 0.2, 5)))


def both(path, model, world: Walk, camera: Walk) -> None:
    """The world's motion is taken unless the camera's is asked for, and the note says which."""
    first = load_motion(path, model=model)
    assert_moves(first, world)
    assert any("in the world" in note for note in first.notes)
    second = load_motion(path, model=model, trajectory="camera")
    assert_moves(second, camera)
    assert any("before the camera" in note for note in second.notes)


def test_wham(tmp_path, smpl):
    camera = walk(smpl)
    world = elsewhere(camera)
    hips = world.rest[[1, 2]].mean(0) - world.rest[0]
    track = {
        "pose": f32(camera.pose("camera")),
        "trans": f32(camera.transl("camera")),
        "pose_world": f32(world.pose("y_up")),
        "trans_world": f32(world.pelvis + Rotation.from_rotvec(world.poses[:, 0]).apply(hips)),
        "betas": f32(np.repeat(world.betas[None], T, 0)),
        "verts": np.zeros((T, 6890, 3), np.float32),
        "frame_ids": np.arange(T),
    }
    both(dumped(tmp_path / "wham_output.pkl", {0: track}), smpl, world, camera)


def test_tram_with_its_camera_and_without(tmp_path, smpl):
    camera = walk(smpl)
    moves = Rotation.from_rotvec(0.2 * np.random.default_rng(3).standard_normal((T + 4, 3)))
    shifts = np.random.default_rng(4).standard_normal((T + 4, 3))
    frames = np.arange(2, 2 + T)
    turn = y_up_from("camera")
    in_world = moves[frames].apply(camera.place("camera")) + shifts[frames]
    poses = camera.poses.copy()
    root = moves[frames] * Rotation.from_rotvec(camera.root("camera"))
    poses[:, 0] = (Rotation.from_matrix(turn) * root).as_rotvec()
    world = dataclasses.replace(camera, poses=poses, pelvis=in_world @ turn.T)
    (tmp_path / "hps").mkdir()
    value = {
        "pred_cam": torch.ones(T, 3),
        "pred_pose": torch.zeros(T, 144),
        "pred_shape": torch.from_numpy(f32(np.repeat(camera.betas[None], T, 0))),
        "pred_rotmat": torch.from_numpy(f32(camera.matrices("camera"))),
        "pred_trans": torch.from_numpy(f32(camera.transl("camera")))[:, None],
        "frame": torch.from_numpy(frames),
    }
    path = tmp_path / "hps" / "hps_track_0.npy"
    np.save(path, value)  # pyright: ignore[reportArgumentType]
    alone = load_motion(path, model=smpl)
    assert_moves(alone, camera)
    assert any("no camera.npy beside it" in note for note in alone.notes)
    held = {"pred_cam_R": f32(moves.as_matrix()), "pred_cam_T": f32(shifts), "img_focal": np.float32(1000)}
    np.save(tmp_path / "camera.npy", held)  # pyright: ignore[reportArgumentType]
    assert_moves(load_motion(path, model=smpl), world)
    assert_moves(load_motions(tmp_path / "hps", smpl)[0], world)
    assert_moves(load_motion(path, model=smpl, trajectory="camera"), camera)


@pytest.mark.parametrize("zipped", [True, False])
def test_gvhmr(tmp_path, zipped):
    camera = body_of(walk(flat("smplx")))  # files without fingers leave hands at the model's mean
    camera = dataclasses.replace(camera, expression=0 * camera.expression)
    world = elsewhere(camera)

    def params(walk: Walk, axes: str) -> dict[str, torch.Tensor]:
        arrays = {
            "body_pose": walk.pose(axes, 22)[:, 3:],
            "global_orient": walk.root(axes),
            "transl": walk.transl(axes),
        }
        arrays["betas"] = np.repeat(walk.betas[None], T, 0)
        return {key: torch.from_numpy(f32(value)) for key, value in arrays.items()}

    value = {"smpl_params_global": params(world, "y_up"), "smpl_params_incam": params(camera, "camera")}
    value |= {"K_fullimg": torch.eye(3).repeat(T, 1, 1), "net_outputs": {"model_output": {"a": torch.zeros(1, T, 9)}}}
    torch.save(value, tmp_path / "hmr4d_results.pt", _use_new_zipfile_serialization=zipped)
    both(tmp_path / "hmr4d_results.pt", flat("smplx"), world, camera)


def test_prompthmr_with_fingers_and_jaw(tmp_path, smplx):
    camera = dataclasses.replace(walk(smplx), expression=np.zeros((T, 10)))
    world = elsewhere(camera)
    person = {
        "frames": np.arange(T),
        "track_id": 3,
        "bboxes": np.zeros((T, 4)),
        "smplx_cam": {
            "rotmat": f32(camera.matrices("camera")),
            "shape": f32(np.repeat(camera.betas[None], T, 0)),
            "trans": f32(camera.transl("camera")),
        },
        "smplx_world": {
            "pose": f32(world.pose("y_up")),
            "shape": f32(np.repeat(world.betas[None], T, 0)),
            "trans": f32(world.transl("y_up")),
        },
    }
    value = {"camera": {}, "people": {3: person}, "timings": {}, "masks": None, "has_tracks": True}
    both(dumped(tmp_path / "results.pkl", value), smplx, world, camera)


def test_smplcodec(tmp_path, smplx, smpl):
    want = walk(smplx)
    parts = {"bodyPose": want.poses[:, :22], "headPose": want.poses[:, 22:25], "leftHandPose": want.poses[:, 25:40]}
    parts |= {"rightHandPose": want.poses[:, 40:], "bodyTranslation": want.transl("y_up")}
    parts |= {"shapeParameters": want.betas, "expressionParameters": want.expression}
    numbers = {"codecVersion": 2, "smplVersion": 2, "gender": 2, "frameCount": T, "frameRate": 29.97}
    with (tmp_path / "subject-1.smpl").open("wb") as file:
        np.savez(file, **{key: f32(value) for key, value in (parts | numbers).items()})
    motion = load_motion(tmp_path / "subject-1.smpl", model=smplx)
    assert_moves(motion, want)
    assert (motion.fps, motion.gender) == (pytest.approx(29.97), "female")
    np.testing.assert_allclose(motion.params["expression"], want.expression, atol=1e-6)
    want = walk(smpl)
    parts = {"bodyPose": want.poses, "bodyTranslation": want.transl("y_up"), "shapeParameters": want.betas}
    np.savez(tmp_path / "a.npz", codecVersion=2, smplVersion=0, gender=0, **parts)
    assert_moves(load_motion(tmp_path / "a.npz", model=smpl), want)
    np.savez(tmp_path / "b.npz", codecVersion=2, smplVersion=5, gender=0, **parts)
    with pytest.raises(AssetError, match=r"b\.npz: a body of kind 5 of SMPLCodec"):
        load_motion(tmp_path / "b.npz", model=smpl)


# EasyMocap.


def easymocap_person(walk: Walk, row: int, axes: str, poses: np.ndarray, **more) -> dict:
    """The body is turned about the world's origin: x = R v + T with v posed without its root's turn."""
    turn = Rotation.from_rotvec(walk.root(axes)[row])
    place = walk.place(axes)[row] - turn.apply(walk.rest[0])
    person = {
        "id": 2,
        "Rh": turn.as_rotvec()[None],
        "Th": place[None],
        "poses": poses[None],
        "shapes": walk.betas[None],
    }
    return {key: np.asarray(value).tolist() for key, value in (person | more).items()}


@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("axes", ["z_up", "camera"])
def test_easymocap_turns_bodies_about_the_origin(tmp_path, smpl, rootless, axes):
    want, other = walk(smpl), walk(smpl, 1)
    for row in range(T):
        people = []
        for number, person in ((2, want), (0, other)):
            poses = (
                person.poses[row, 1:].ravel()
                if rootless
                else np.concatenate([np.zeros(3), person.poses[row, 1:].ravel()])
            )
            people.append(easymocap_person(person, row, axes, poses, id=number))
        value = people if rootless else {"annots": people}
        (tmp_path / f"{row:06d}.json").write_text(json.dumps(value))
    found = load_motions(tmp_path, smpl)
    assert [motion.person for motion in found] == ["2", "0"]
    assert_moves(found[0], want)
    assert_moves(found[1], other)
    assert_moves(load_motion(tmp_path / "000003.json", 2, smpl), want, rows=slice(3, 4))


def test_easymocap_smplx_takes_its_components_to_a_model_that_has_them(tmp_path, smplx):
    want = walk(smplx)
    hands = 0.5 * np.random.default_rng(5).standard_normal((T, 2, 6))
    whole = [hands[:, i] @ smplx.hand_components[i, :6].numpy() + smplx.hand_means[i].numpy() for i in range(2)]
    poses = want.poses.copy()
    poses[:, 25:40], poses[:, 40:] = (hand.reshape(T, 15, 3) for hand in whole)
    want = dataclasses.replace(want, poses=poses)
    for row in range(T):
        table = np.concatenate([np.zeros(3), poses[row, 1:22].ravel(), hands[row].ravel(), poses[row, 22:25].ravel()])
        person = easymocap_person(want, row, "z_up", table, expression=want.expression[row][None])
        (tmp_path / f"{row:06d}.json").write_text(json.dumps([person]))
    motion = load_motion(tmp_path, model=smplx)
    assert_moves(motion, want)
    opened = load_motion(tmp_path)
    assert opened.params["left_hand_pose"].shape == (T, 45)
    assert not opened.params["left_hand_pose"].any()
    notes = " | ".join(opened.notes)
    for words in (
        "6 components of MANO's",
        "moved is open-x",
        "mean nothing to the open body",
        "expression is left out",
    ):
        assert words in notes


# Data sets: AIST++, EDGE, Motion-X, human_body_prior, AMASS, 3DPW.


@pytest.mark.parametrize("axes", ["y_up", "z_up"])
def test_aist_is_in_the_units_of_its_own_scale(tmp_path, smpl, axes):
    want, scale = unshaped(walk(smpl)), 93.7
    value = {"smpl_poses": want.pose(axes), "smpl_trans": scale * want.transl(axes), "smpl_scaling": np.array([scale])}
    (tmp_path / "gBR.pkl").write_bytes(pickle.dumps(value | {"smpl_loss": 0.1}, 2))
    motion = load_motion(tmp_path / "gBR.pkl", model=smpl)
    assert_moves(motion, want, 1e-9)
    assert (motion.fps, motion.program) == (60.0, "AIST++")
    assert any("z up, which is taken" in note for note in motion.notes) == (axes == "z_up")


def test_the_files_rate_goes_before_the_one_asked_for_and_that_before_the_programs(tmp_path, smpl, capsys):
    """By `load_motion`, by `read_people`, which convert goes by, and in a command."""
    want = unshaped(walk(smpl))
    usual, stated = tmp_path / "aist.pkl", tmp_path / "stated.npz"
    usual.write_bytes(
        pickle.dumps({"smpl_poses": want.pose("y_up"), "smpl_trans": want.transl("y_up"), "smpl_scaling": [1.0]})
    )
    parts = {"root_orient": want.root("z_up"), "pose_body": want.poses[:, 1:22].reshape(T, 63), "betas": want.betas}
    np.savez(stated, trans=want.transl("z_up"), gender="male", mocap_frame_rate=60.0, **parts)
    motion = load_motion(usual, model=smpl)
    assert motion.fps == 60
    assert "the file does not say its frame rate: 60, those of AIST++, a second are taken" in motion.notes
    asked = load_motion(usual, model=smpl, fps=24)
    assert (asked.fps, [note for note in asked.notes if "frame rate" in note]) == (24.0, [])
    for fps in (None, 60, 60.01):  # but for rounding
        assert load_motion(stated, model=smpl, fps=fps).fps == 60
    for load in (load_motion, load_motions):
        with pytest.raises(OptionError, match=r"stated.npz is at 60 frames a second, not at fps=24; leave fps out"):
            load(stated, model=smpl, fps=24)
    (one,) = read_people(usual, model="open", fps=24)
    np.testing.assert_allclose(one.times_s, np.arange(T) / 24)
    (one,) = read_people(stated, model="open", fps=24)  # a rate to write at: the frames keep their times
    assert one.fps == 24
    np.testing.assert_allclose(one.times_s, np.arange(T) / 60)
    assert main(["convert", str(stated), str(tmp_path / "a.bvh"), "--fps", "120", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fps"] == 120
    frames = int(re.search(r"Frames: (\d+)", (tmp_path / "a.bvh").read_text())[1])
    assert frames == 2 * (T - 1) + 1


def unshaped(walk: Walk) -> Walk:
    return dataclasses.replace(walk, betas=0 * walk.betas)


def test_edge_places_the_root_joint_with_z_up(tmp_path, smpl):
    want = unshaped(walk(smpl))
    value = {
        "smpl_poses": f32(want.pose("z_up")),
        "smpl_trans": f32(want.place("z_up")),
        "full_pose": np.zeros((T, 24, 3)),
    }
    (tmp_path / "edge.pkl").write_bytes(pickle.dumps(value))
    motion = load_motion(tmp_path / "edge.pkl", model=smpl)
    assert_moves(motion, want)
    assert (motion.fps, motion.program) == (30.0, "EDGE")


@pytest.mark.parametrize("axes", ["y_up", "camera"])
def test_motionx(tmp_path, smplx, axes):
    want = walk(smplx)
    want = dataclasses.replace(want, poses=np.where(np.isin(np.arange(55), (23, 24))[:, None], 0, want.poses))
    faces = np.pad(want.expression, ((0, 0), (0, 40)), constant_values=0.5)
    fingers, jaw = want.poses[:, 25:].reshape(T, -1), want.poses[:, 22]
    columns = [want.pose(axes, 22), fingers, jaw, faces, np.zeros((T, 100)), want.transl(axes)]
    table = np.concatenate([*columns, np.repeat(want.betas[None], T, 0)], 1)
    assert table.shape == (T, 322)
    np.save(tmp_path / "clip.npy", f32(table))
    motion = load_motion(tmp_path / "clip.npy", model=smplx)
    assert_moves(motion, want)
    np.testing.assert_allclose(motion.params["expression"], want.expression, atol=1e-6)
    notes = " | ".join(motion.notes)
    assert "takes 10 of 50 coefficients of expression" in notes
    assert motion.fps == 30


@pytest.mark.parametrize("whole", [False, True])
def test_human_body_prior(tmp_path, smpl, smplx, whole):
    model = smplx if whole else smpl
    want = walk(model)
    want = dataclasses.replace(want if whole else body_of(want), expression=0 * want.expression)
    parts = {"root_orient": want.root("z_up"), "pose_body": want.poses[:, 1:22].reshape(T, 63), "betas": want.betas}
    if whole:
        parts |= {"pose_hand": want.poses[:, 25:].reshape(T, 90), "pose_jaw": want.poses[:, 22]}
        parts["pose_eye"] = want.poses[:, 23:25].reshape(T, 6)
    np.savez(tmp_path / "hbp.npz", trans=want.transl("z_up"), gender="male", mocap_frame_rate=60.0, **parts)
    for motion in (load_motion(tmp_path / "hbp.npz", model=model), load_amass(tmp_path / "hbp.npz", model)):
        assert_moves(motion, want, 1e-9)
        assert (motion.fps, motion.gender) == (60.0, "male")


@pytest.mark.parametrize("joints", [22, 24, 52, 55])
def test_amass_of_every_width(tmp_path, smpl, smplx, joints):
    model = {22: smpl, 24: smpl, 52: BodyModel(tiny_assets("smplh"), dtype=torch.float64), 55: smplx}[joints]
    want = walk(model)
    want = dataclasses.replace(body_of(want, joints), expression=0 * want.expression)
    arrays = {"poses": want.pose("z_up", joints), "trans": want.transl("z_up"), "betas": want.betas}
    np.savez(tmp_path / "a.npz", mocap_framerate=120.0, gender=np.array(b"female"), **arrays)
    for motion in (load_motion(tmp_path / "a.npz", model=model), load_amass(tmp_path / "a.npz", model)):
        assert_moves(motion, want, 1e-9)
        assert (motion.fps, motion.gender) == (120.0, "female")


def test_fingers_and_betas_beyond_the_models_are_told(tmp_path, smpl):
    wide = dataclasses.replace(
        tiny_assets("smpl"), shapedirs=np.random.default_rng(6).standard_normal((144, 3, 16)) / 50
    )
    path = save_model(wide, tmp_path / "wide.npz")
    poses = np.zeros((4, 156))
    poses[:, 3:66], poses[:, 100] = 0.1, 0.2
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.zeros((4, 3)), betas=np.arange(16.0), mocap_framerate=30.0)
    short = load_amass(tmp_path / "a.npz", smpl)
    assert any("is loaded with 10 betas, the file has 16: 10 to 15 are left out" in note for note in short.notes)
    assert any("left out, for tiny smpl has none: fingers" in note for note in short.notes)
    np.testing.assert_allclose(load_motion(tmp_path / "a.npz", model=path).params.betas[0], np.arange(16.0))
    np.testing.assert_allclose(
        load_amass(tmp_path / "a.npz", bodyfit.load_model(path, num_betas=16)).params.betas[0], np.arange(16.0)
    )


def test_3dpw(tmp_path, smpl):
    walks = [walk(smpl), walk(smpl, 1)]
    value = {
        "sequence": "downtown",
        "poses": [w.pose("y_up") for w in walks],
        "trans": [w.transl("y_up") for w in walks],
        "betas": [np.pad(w.betas, (0, 290)) for w in walks],
        "genders": ["m", "f"],
    }
    (tmp_path / "downtown.pkl").write_bytes(pickle.dumps(value, 2))
    for motion, want, gender in zip(
        load_motions(tmp_path / "downtown.pkl", smpl), walks, ("male", "female"), strict=True
    ):
        assert_moves(motion, want, 1e-9)
        assert motion.gender == gender


# By smplx's names: anything, SMPLify-X, SMPLer-X.


def smplx_arrays(walk: Walk, axes: str, hands: list[np.ndarray]) -> dict:
    return {
        "global_orient": walk.root(axes),
        "body_pose": walk.poses[:, 1:22].reshape(T, 63),
        "jaw_pose": walk.poses[:, 22],
        "leye_pose": walk.poses[:, 23],
        "reye_pose": walk.poses[:, 24],
        "left_hand_pose": hands[0],
        "right_hand_pose": hands[1],
        "betas": walk.betas[None],
        "expression": walk.expression,
    }


def about_mean(walk: Walk) -> list[np.ndarray]:
    whole = walk.poses[:, 25:40].reshape(T, 45), walk.poses[:, 40:].reshape(T, 45)
    return [hand - walk.model.hand_means[i].numpy() for i, hand in enumerate(whole)]


@pytest.mark.parametrize("axes", ["y_up", "z_up", "camera"])
@pytest.mark.parametrize("kind", ["npz", "pkl", "pkl.gz", "pt"])
def test_smplx_names_in_any_axes(tmp_path, smplx, axes, kind):
    want = walk(smplx)
    arrays = smplx_arrays(want, axes, about_mean(want)) | {"transl": want.transl(axes), "fps": 50}
    path = tmp_path / f"motion.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "pt":
        torch.save({key: torch.as_tensor(value) for key, value in arrays.items()}, path)
    else:
        data = pickle.dumps(arrays)
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    motion = load_motion(path, model=smplx)
    assert_moves(motion, want, 1e-9)
    assert motion.fps == 50
    assert any("stands upright" in note for note in motion.notes) == (axes != "y_up")
    lying = load_motion(path, model=smplx, axes="y_up")
    assert not any("stands upright" in note for note in lying.notes)


def test_smplifyx_is_placed_by_its_camera(tmp_path, smplx):
    want = walk(smplx)
    hands = 0.5 * np.random.default_rng(5).standard_normal((T, 2, 12))
    whole = [hands[:, i] @ smplx.hand_components[i, :12].numpy() + smplx.hand_means[i].numpy() for i in range(2)]
    poses = want.poses.copy()
    poses[:, 25:40], poses[:, 40:] = (hand.reshape(T, 15, 3) for hand in whole)
    want = dataclasses.replace(want, poses=poses)
    arrays = smplx_arrays(want, "camera", [hands[:, 0], hands[:, 1]])
    for row in range(T):
        (tmp_path / f"results/{row:04d}").mkdir(parents=True)
        value = {key: f32(table[row : row + 1] if len(table) == T else table) for key, table in arrays.items()}
        value |= {"camera_rotation": f32([np.eye(3)]), "camera_translation": f32(want.transl("camera")[row : row + 1])}
        (tmp_path / f"results/{row:04d}/000.pkl").write_bytes(pickle.dumps(value, 2))
    motion = load_motion(tmp_path / "results", model=smplx)
    assert (motion.program, motion.person, motion.params.batch) == ("SMPLify-X", "0", T)
    assert_moves(motion, want)
    one = load_motion(tmp_path / "results/0002/000.pkl", model=smplx)
    assert_moves(one, want, rows=slice(2, 3))
    value["body_pose"] = f32(np.zeros((1, 32)))
    (tmp_path / "latent.pkl").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(AssetError, match=r"latent\.pkl: body_pose is VPoser's code of 32 numbers and no pose"):
        load_motion(tmp_path / "latent.pkl", model=smplx)


def test_smplerx_goes_from_the_crops_cameras_to_the_pictures(tmp_path, smplx):
    """Every person has a camera of a box's own; the boxes tell where in the picture it is and how large."""
    want, (width, height) = walk(smplx), (640, 480)
    focal, transl = np.hypot(width, height), want.transl("camera")
    arrays = smplx_arrays(want, "camera", about_mean(want))
    (tmp_path / "smplx").mkdir()
    (tmp_path / "meta").mkdir()
    for row in range(T):
        x, y, z = transl[row]
        crop_focal, crop_z = 3000.0, 3000.0 * z / focal  # as large, from afar
        metres = z / focal
        centre = [width / 2 + (x - 0.1) / metres, height / 2 + (y - 0.2) / metres]
        name = f"{row + 1:05}_0"
        value = {
            key: (table[row] if len(table) == T else table[0]).reshape(-1, 3)
            for key, table in arrays.items()
            if "pose" in key
        }
        value |= {"global_orient": want.root("camera")[row][None], "transl": np.array([[0.1, 0.2, crop_z]])}
        value |= {"betas": want.betas[None], "expression": want.expression[row][None]}
        np.savez(tmp_path / "smplx" / f"{name}.npz", **{key: f32(part) for key, part in value.items()})
        meta = {"focal": [crop_focal] * 2, "princpt": centre, "bbox": [0, 0, width, height], "bbox_id": 0}
        (tmp_path / "meta" / f"{name}.json").write_text(json.dumps(meta))
    motion = load_motion(tmp_path / "smplx", model=smplx)
    assert motion.program == "SMPLer-X"
    assert_moves(motion, want, 1e-4)
    for path in (tmp_path / "meta").iterdir():
        path.unlink()
    alone = load_motion(tmp_path / "smplx" / "00003_0.npz", model=smplx)
    assert 0.5 < -float(alone.params.transl[0, 2]) < 10
    assert any("only the size of the body" in note for note in alone.notes)


# What cannot be.


def test_what_is_in_no_layout_says_what_it_holds(tmp_path, smpl):
    np.savez(tmp_path / "a.npz", spam=np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros((4, 5)))
    (tmp_path / "c.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "d").mkdir()
    for name, says in (
        ("a.npz", "it holds spam"),
        ("b.npy", r"it holds an array of shape \(4, 5\)"),
        ("c.pkl", "it holds a list"),
    ):
        with pytest.raises(
            AssetError, match=rf"{name}: neither a body model nor motion in a known layout \({says}.*WHAM"
        ):
            load_motion(tmp_path / name, model=smpl)
    with pytest.raises(AssetError, match="a folder without files of motion"):
        load_motion(tmp_path / "d", model=smpl)
    with pytest.raises(AssetError, match=r"none\.pkl: no such file"):
        load_motion(tmp_path / "none.pkl", model=smpl)
    with pytest.raises(OptionError, match="trajectory must be one of world, camera, got 'moon'"):
        load_motion(tmp_path / "a.npz", model=smpl, trajectory="moon")


BAD_TRACKS = {
    "poses of 23 joints": (
        {"pose": np.zeros((T, 69))},
        r"person 1: pose has shape \(6, 69\), expected rotations of 24",
    ),
    "no rotations": ({"pose": np.full((T, 24, 3, 3), 0.5)}, "pose holds 3x3 matrices that are no rotations"),
    "NaN": ({"pose": np.full((T, 72), np.nan)}, "pose holds NaN or infinity"),
    "words": ({"pose": np.array(["a"])}, "pose is not numeric"),
    "fewer cameras": ({"orig_cam": np.ones((4, 4))}, "orig_cam has 4 rows, and there are 6 frames"),
    "a camera of scale 0": ({"orig_cam": np.zeros((T, 4))}, "is infinitely far off"),
    "half a frame": ({"frame_ids": np.arange(T) / 2}, "frame_ids must number the 6 frames"),
    "betas of some": ({"betas": np.zeros((4, 10))}, "betas has 4 rows, and there are 6 frames"),
    "nobody": ({"pose": np.zeros((0, 72)), "betas": np.zeros((0, 10)), "orig_cam": np.zeros((0, 4))}, "v.pkl: "),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(("changes", "says"), BAD_TRACKS.values(), ids=BAD_TRACKS)
def test_damaged_motion_is_refused_by_name(tmp_path, smpl, changes, says):
    with pytest.raises(AssetError, match=rf"v\.pkl: .*{says}" if "v.pkl" not in says else says):
        load_motion(dumped(tmp_path / "v.pkl", {1: vibe_track(walk(smpl)) | changes}), model=smpl)


def raised(call) -> str | None:
    """The words of the `AssetError` that a call ends with."""
    try:
        call()
    except AssetError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("name", motion_values())
def test_anything_at_any_place_is_read_or_refused_by_name(tmp_path, name):
    """Also a dict where an array should be, a word, no number at all."""
    random, model, path = Random(name), flat("smplx"), tmp_path / "odd.pkl"
    value, refused = motion_values()[name], 0
    path.write_bytes(pickle.dumps(value))
    load_motions(path, model)
    for _ in range(30):
        path.write_bytes(pickle.dumps(other_types(value, random)))
        for trajectory in ("world", "camera"):
            error = raised(lambda which=trajectory: load_motions(path, model, trajectory=which))
            refused += error is not None
            assert error is None or (error.startswith(f"{path}: ") and error.isprintable())
    assert refused > 5


# The command.


def test_convert_writes_each_person_in_every_format(run, tmp_path, smpl):
    """Of the open body, whose joints are where those of the file's poses are."""
    body = bodyfit.load_model("open")
    walks = [walk(smpl), walk(smpl, 1)]
    path = dumped(tmp_path / "vibe_output.pkl", {1: vibe_track(walks[0]), 2: vibe_track(walks[1])})
    wants = [motion.params for motion in load_motions(path, body)]
    joints = [body.joints(params).numpy() for params in wants]
    for suffix in sorted(EXPORTS):
        if suffix in (".usda", ".usdc", ".csv"):  # the same as .usd; of faces alone
            continue
        if suffix == ".usd":
            pytest.importorskip("pxr.Usd")
        frame = ["--frame", 2] if suffix in (".obj", ".ply") else []
        code, out, err = run("convert", path, tmp_path / f"dance{suffix}", "--model", "open", *frame)
        assert (code, err) == (0, ""), suffix
        for i, number in enumerate((1, 2)):
            assert (tmp_path / f"dance_{number}{suffix}").stat().st_size > 500
            assert f"person {number}: {'1 body' if frame else '6 frames at 30 fps'} of open" in out
            if suffix == ".glb":
                reader = Gltf(tmp_path / f"dance_{number}.glb")
                for t in range(T):
                    np.testing.assert_allclose(reader.posed(t)[1], joints[i][t], atol=1e-4)
            if suffix == ".npz":
                back = load_amass(tmp_path / f"dance_{number}.npz", body)
                np.testing.assert_allclose(body.joints(back.params), joints[i], atol=1e-5)
            if suffix == ".ply":
                mesh = trimesh.load(tmp_path / f"dance_{number}.ply", process=False)
                np.testing.assert_allclose(mesh.vertices, body(**wants[i].select([2])).vertices[0], atol=1e-5)
        assert "note: the file does not say its frame rate: 30 a second are taken" in out
    assert not (tmp_path / "dance.glb").exists()
    code, out, err = run("convert", path, tmp_path / "one.bvh", "--person", 2, "--fps", 25, "--json")
    facts = json.loads(out)
    assert (code, err, facts["person"], facts["fps"], facts["program"]) == (0, "", "2", 25, "VIBE")
    assert any("moved is open, bodyfit's own body" in note for note in facts["notes"])
    code, _, err = run("convert", path, tmp_path / "one.bvh", "--person", 5)
    assert (code, "has no person 5; there are 1, 2" in err) == (2, True)


def test_a_person_that_cannot_be_written_costs_one_file(run, tmp_path, smpl):
    path = dumped(tmp_path / "vibe_output.pkl", {1: vibe_track(walk(smpl)), 2: vibe_track(walk(smpl, 1))})
    (tmp_path / "a_1.bvh").mkdir()
    code, out, err = run("convert", path, tmp_path / "a.bvh", "--model", "open")
    assert code == 1
    assert err.startswith("error: person 1: ")
    assert "person 2: 6 frames" in out
    assert (tmp_path / "a_2.bvh").is_file()


def test_info_tells_what_a_file_of_motion_holds(run, tmp_path, smpl):
    path = dumped(tmp_path / "vibe_output.pkl", {1: vibe_track(walk(smpl)), 2: vibe_track(walk(smpl, 1))})
    code, out, err = run("info", path, "--json")
    facts = json.loads(out)
    assert (code, err, facts["kind"], facts["program"]) == (0, "", "motion", "VIBE")
    assert [(one["person"], one["frames"], one["joints"]) for one in facts["people"]] == [("1", T, 24), ("2", T, 24)]


def test_every_layout_is_listed_in_the_docs():
    text = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    for layout in MOTION_FORMATS:
        for name in layout.name.split(", "):
            assert name.partition(" (")[0] in text, name


def test_joints_of_skeletons_agree():
    """Motion-X's order is SMPL-H's with the jaw after it."""
    from bodyfit.io.motions.programs.motionx import _JOINTS

    assert _JOINTS.names[:52] == SMPLH.names
    assert [_JOINTS.names[p] for p in _JOINTS.parents[1:]] == [
        SMPLX.names[SMPLX.parents[SMPLX.index(name)]] for name in _JOINTS.names[1:]
    ]
