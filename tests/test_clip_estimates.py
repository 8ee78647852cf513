"""Bodies that another program estimated in a clip or in many pictures: whose they are, and what a bad file costs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.app.batch.run import run_batch
from bodyfit.app.batch.stages import fitted
from bodyfit.app.estimates import read_estimates
from bodyfit.app.estimates.clips import estimates_of_clip, matched_trails
from bodyfit.app.pipeline import Lens
from bodyfit.app.video import Watched, fit_watched
from bodyfit.body.params import BodyParams
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.geometry.camera import default_focal_px
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.io import load_keypoints
from bodyfit.io.estimated_points import estimated_points
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names
from bodyfit.tracker import Trail

SIZE, LAYOUT, T = (800, 600), "openpose25", 8
FOCAL_PX = default_focal_px(SIZE)
CLIP = Path("walk.mp4")


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


@pytest.fixture(scope="module")
def two(model) -> list[BodyParams]:
    """Two people who walk past each other, one behind the other. Errors below are in millimetres (`pa_mpjpe`)."""
    rng, people = torch.Generator().manual_seed(5), []
    for start, depth in ((-1.0, 4.0), (1.0, 5.5)):
        along = torch.linspace(start, -start, T)
        pose = 0.2 * torch.randn(1, 69, generator=rng) + 0.02 * torch.randn(T, 69, generator=rng)
        turn = torch.tensor([[3.0, 0.2, 0.0]]).expand(T, 3)
        transl = torch.stack([along, torch.zeros(T), torch.full((T,), depth)], 1)
        people.append(model.params(body_pose=pose, global_orient=turn, transl=transl))
    return people


def trail(model, person: BodyParams, number: int) -> Trail:
    """The trail of a person whose keypoints are known exactly."""
    points = model.keypoints(person, LAYOUT)
    xy = FOCAL_PX * points[..., :2] / points[..., 2:] + torch.tensor(SIZE) / 2
    known = torch.isfinite(xy).all(2, keepdim=True).float()
    xyc = torch.cat([torch.nan_to_num(xy), known], 2).numpy()
    found = Trail(number)
    for frame, one in enumerate(xyc):
        found.add(frame, frame / 30, Keypoints2D(LAYOUT, one))
    return found


def turned(person: BodyParams, sd: float = 0.12) -> BodyParams:
    """The same bodies with joints turned at random."""
    noise = so3_exp(sd * torch.randn(T, 23, 3, generator=torch.Generator().manual_seed(1)))
    pose = so3_log(so3_exp(person.body_pose.unflatten(1, (-1, 3))) @ noise).flatten(1)
    return BodyParams(**{**person, "body_pose": pose})


def gvhmr(path: Path, person: BodyParams) -> Path:
    """A file of one person as GVHMR writes it."""
    camera = {name: person[name] for name in ("global_orient", "transl")} | {"body_pose": person.body_pose[:, :63]}
    camera["betas"] = torch.zeros(len(camera["transl"]), 10)
    torch.save({"smpl_params_global": camera, "smpl_params_incam": camera}, path)
    return path


def named(path: Path, person: BodyParams, rows: list[int]) -> Path:
    np.savez(path, **{name: person[name][rows].numpy() for name in ("global_orient", "body_pose", "transl")})
    return path


# ---------------------------------------------------------------- whose they are


def test_people_of_files_are_those_of_the_trails_also_where_they_cross(model, two, tmp_path):
    files = [gvhmr(tmp_path / f"{i}.pt", person) for i, person in enumerate(two)]
    trails = [trail(model, two[1], 7), trail(model, two[0], 3)]
    found, notes = matched_trails(estimates_of_clip(files, CLIP, model), trails, model, SIZE)
    assert not notes
    for number, person in ((7, two[1]), (3, two[0])):
        torch.testing.assert_close(found[number].body_pose[:, :63], person.body_pose[:, :63], atol=1e-4, rtol=0)
        torch.testing.assert_close(so3_exp(found[number].global_orient), so3_exp(person.global_orient))


def test_a_missing_and_a_damaged_file_cost_their_frames(model, two, tmp_path):
    for frame in range(T):
        named(tmp_path / f"walk_{frame:06d}.npz", two[0], [frame])
    (tmp_path / "walk_000002.npz").unlink()
    (tmp_path / "walk_000005.npz").write_bytes(b"PK\3\4 cut short")
    read = estimates_of_clip([tmp_path], CLIP, model)
    found, notes = matched_trails(read, [trail(model, two[0], 0)], model, SIZE)
    has = torch.isfinite(found[0].body_pose).all(1).tolist()
    assert has == [frame not in (2, 5) for frame in range(T)]
    assert notes[0] == "person 0: no estimate in 2 of 8 frames"
    assert "walk_000005.npz" in notes[1]
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(AssetError, match="none of 7 estimates can be read"):
        estimates_of_clip([tmp_path], CLIP, model)


def test_several_clips_have_files_or_folders_of_their_names(model, two, tmp_path):
    gvhmr(tmp_path / "walk.pt", two[0])
    (tmp_path / "run").mkdir()
    named(tmp_path / "run" / "000004.npz", two[1], [4])
    assert len(estimates_of_clip([tmp_path], CLIP, model, only=False).frames) == T
    assert estimates_of_clip([tmp_path], Path("run.mp4"), model, only=False).frames.tolist() == [4]
    with pytest.raises(OptionError, match=r"no estimates of jump\.mp4"):
        estimates_of_clip([tmp_path], Path("jump.mp4"), model, only=False)


# ---------------------------------------------------------------- what the fit makes of them


def test_tracks_are_nearer_to_the_truth_with_estimates(model, two, tmp_path):
    person = two[0]
    files = [gvhmr(tmp_path / "walk.pt", turned(person))]
    watched = Watched(
        CLIP, SIZE, 30.0, np.arange(T), np.arange(T) / 30, [trail(model, person, 0)], skipped=0, cut_short=False
    )
    bodies, _ = matched_trails(estimates_of_clip(files, CLIP, model), watched.trails, model, SIZE)
    truth, errors = model.joints(person), []
    for given in (None, bodies):
        (track,) = fit_watched(watched, model=model, estimates=given)
        errors.append(pa_mpjpe(track.result.joints, truth).mean)
    own = pa_mpjpe(model.joints(turned(person)), truth).mean
    assert errors[1] < 0.8 * errors[0]
    assert errors[1] < own + 1


# ---------------------------------------------------------------- joints of other bodies


def test_joints_of_nlf_and_of_sam_3d_body_become_bodies(model, two, tmp_path):
    person = two[0].select([0])
    joints = 1000 * model.joints(person)
    torch.save({"joints3d": [joints], "vertices3d": [torch.zeros(1, 6890, 3)]}, tmp_path / "nlf.pt")
    mhr, place = np.zeros((70, 3), np.float32), np.array([0.1, 0.2, 3.0], np.float32)
    names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    names += tuple(f"{s}_{p}" for p in ("shoulder", "elbow", "hip", "knee", "ankle") for s in ("left", "right"))
    names += tuple(f"{s}_{p}" for s in ("left", "right") for p in ("big_toe", "small_toe", "heel"))
    rows = dict(enumerate(names)) | {41: "right_wrist", 62: "left_wrist", 69: "neck"}
    points = model.keypoints(person, LAYOUT)[0].numpy()
    for row, name in rows.items():
        mhr[row] = points[layout_names(LAYOUT).index(name)] - place
    value = [{"pred_keypoints_3d": mhr, "pred_cam_t": place, "pred_vertices": np.zeros((18439, 3), np.float32)}]
    (tmp_path / "sam.pkl").write_bytes(pickle.dumps(value))
    for name, most in (("nlf.pt", 15), ("sam.pkl", 40)):
        read = read_estimates(tmp_path / name, model)
        assert pa_mpjpe(model.joints(read), model.joints(person)).mean < most
        assert (read.transl - person.transl).norm() < 0.1
    (picture,) = estimated_points(tmp_path / "sam.pkl")
    torch.testing.assert_close(torch.from_numpy(picture.points_m[0, 0]).float(), torch.from_numpy(points[0]))


def test_nlfs_pose_is_taken_with_its_twists(model, two, tmp_path):
    """Joints do not tell how a forearm is twisted; the pose beside them does."""
    people = BodyParams(**{name: torch.cat([two[0][name][:1], two[1][name][:1]]) for name in two[0]})
    pose = torch.cat([people.global_orient, people.body_pose], 1)
    value = {"joints3d": [1000 * model.joints(people), torch.zeros(0, 24, 3)], "vertices3d": [torch.zeros(2, 6890, 3)]}
    for columns, name in ((72, "smpl.pt"), (165, "smplx.pt")):
        own = torch.nn.functional.pad(pose[:, :66], (0, columns - 66))
        torch.save(value | {"pose": [own, torch.zeros(0, columns)]}, tmp_path / name)
        read = estimates_of_clip([tmp_path / name], CLIP, model)
        assert read.frames.tolist() == [0, 0]
        torch.testing.assert_close(read.bodies.body_pose[:, :63], people.body_pose[:, :63])
        torch.testing.assert_close(read.bodies.global_orient, people.global_orient)
        torch.testing.assert_close(read.bodies.transl, people.transl, atol=1e-4, rtol=0)
    torch.save(value | {"pose": [pose[:, :60], torch.zeros(0, 72)]}, tmp_path / "short.pt")
    with pytest.raises(AssetError, match=r"short\.pt.*pose has shape \(2, 60\)"):
        estimated_points(tmp_path / "short.pt")
    torch.save(value | {"pose": [pose]}, tmp_path / "fewer.pt")
    with pytest.raises(AssetError, match=r"fewer\.pt.*of 1 pictures, and joints3d of 2"):
        estimated_points(tmp_path / "fewer.pt")


def test_joints_of_a_clip_are_read_by_frame(model, two, tmp_path):
    joints = [1000 * model.joints(person) for person in two]
    frames = [torch.stack([joints[1][t], joints[0][t]]) if t != 3 else torch.zeros(0, 24, 3) for t in range(T)]
    torch.save({"joints3d": frames}, tmp_path / "walk.pt")
    read = estimates_of_clip([tmp_path / "walk.pt"], CLIP, model)
    trails = [trail(model, person, number) for number, person in enumerate(two)]
    found, notes = matched_trails(read, trails, model, SIZE)
    assert notes == [f"person {number}: no estimate in 1 of 8 frames" for number in (0, 1)]
    with_one = [t for t in range(T) if t != 3]
    for number, person in enumerate(two):
        assert torch.isnan(found[number].body_pose[3]).all()
        own, true = (model.joints(one.select(with_one)) for one in (found[number], person))
        assert pa_mpjpe(own, true).mean < 15
    with pytest.raises(AssetError, match="estimates of 8 pictures, not of one"):
        read_estimates(tmp_path / "walk.pt", model)


def test_joints_of_other_numbers_and_gem_x_are_refused_by_name(model, tmp_path):
    torch.save({"joints3d": [torch.zeros(1, 17, 3)]}, tmp_path / "a.pt")
    with pytest.raises(AssetError, match=r"a\.pt.*expected SMPL's 24"):
        read_estimates(tmp_path / "a.pt", model)
    torch.save({"body_params_incam": {"body_pose": torch.zeros(3, 228)}}, tmp_path / "b.pt")
    with pytest.raises(AssetError, match=r"b\.pt.*GEM-X's own body"):
        read_estimates(tmp_path / "b.pt", model)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps([{"pred_keypoints_3d": np.zeros((3, 3)), "pred_cam_t": np.zeros(3)}]))
    with pytest.raises(AssetError, match=r"c\.pkl: person 0: pred_keypoints_3d has shape"):
        read_estimates(tmp_path / "c.pkl", model)


# ---------------------------------------------------------------- the commands


def written(folder: Path, name: str, people: list[Keypoints2D]) -> None:
    """Keypoints as OpenPose writes them."""
    folder.mkdir(exist_ok=True)
    value = {"version": 1.3, "people": [{"pose_keypoints_2d": person.xyc.ravel().tolist()} for person in people]}
    (folder / f"{name}_keypoints.json").write_text(json.dumps(value))


def test_a_clip_is_fitted_with_estimates(model, two, tmp_path, capsys):
    frames = [Image.new("RGB", SIZE, "gray") for _ in range(T)]
    for number, frame in enumerate(frames):  # equal frames of an animated picture become one
        frame.putpixel((number, 0), (255, 0, 0))
    frames[0].save(tmp_path / "walk.gif", save_all=True, append_images=frames[1:], duration=100)
    still = two[0].select([T // 2] * T)
    for number, person in enumerate(trail(model, still, 0).people):
        written(tmp_path / "keypoints", f"walk_{number:012d}", [person])
    words = ["video", str(tmp_path / "walk.gif"), "--keypoints", str(tmp_path / "keypoints"), "--no-film", "--json"]
    words += ["--focal-px", str(FOCAL_PX), "-o", str(tmp_path / "out")]
    gvhmr(tmp_path / "init.pt", turned(still))
    assert main([*words, "--init", str(tmp_path / "init.pt")]) in (0, 1)
    (clip,) = json.loads(capsys.readouterr().out)["inputs"]
    assert clip["people"][0]["frames"] == T
    track = bodyfit.load_track(tmp_path / "out" / "walk" / "person0.npz")
    own = pa_mpjpe(model.joints(turned(still)), model.joints(still)).mean
    assert pa_mpjpe(track.result.joints, model.joints(still)).mean < own
    assert main([*words, "--init", str(tmp_path / "none.pt")]) == 2
    assert "none.pt: no such file" in capsys.readouterr().err


def here(items, looking, fitting):
    """Look and fit in this process."""
    look = looking()
    return fitted(((item, look(item)) for item in items), fitting())


def test_in_a_batch_a_bad_estimate_costs_one_picture(model, two, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "init").mkdir()
    people = trail(model, two[0], 0).people
    for number, name in enumerate(("good", "none", "bad")):
        Image.new("RGB", SIZE, "gray").save(tmp_path / "photos" / f"{name}.png")
        written(tmp_path / "keypoints", name, [people[number]])
    named(tmp_path / "init" / "good.npz", two[0], [0])
    (tmp_path / "init" / "bad.npz").write_bytes(b"PK\3\4 cut short")
    how = {"keypoints": load_keypoints(tmp_path / "keypoints"), "lens": Lens(focal_px=FOCAL_PX), "model": model}
    run_batch([tmp_path / "photos"], tmp_path / "out", estimates=tmp_path / "init", engine=here, **how)
    lines = [json.loads(line) for line in (tmp_path / "out" / "status.jsonl").read_text().splitlines()]
    entries = {Path(line["item"]).stem: line for line in lines}
    assert entries["bad"]["status"] == "failed"
    assert "bad.npz" in entries["bad"]["why"]
    assert entries["none"]["note"] == "no estimate is named as none.png"
    assert "note" not in entries["good"]
    good = bodyfit.load_result(tmp_path / "out" / "photos" / "good.png.npz")
    assert pa_mpjpe(good.joints, model.joints(two[0].select([0]))).mean < 15
    with pytest.raises(OptionError, match="nowhere: no such file"):
        run_batch([tmp_path / "photos"], tmp_path / "other", estimates=tmp_path / "nowhere", engine=here, **how)
