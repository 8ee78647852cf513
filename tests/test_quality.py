"""Fits that know when they are wrong: who is poor and who is not, why, and where it is said."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from PIL import Image

import bodyfit
from bodyfit import render
from bodyfit.cli.main import main
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.initialise.left_right import SWAPS, exchanges
from bodyfit.fit.quality.status import LANDMARKS, OTHERS
from bodyfit.fit.result import FitStatus
from bodyfit.fit.sequence.fitter import fit_sequence
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import layout_names

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
SIZE, FOCAL = (1000, 1000), 1000.0
N = 12
NAMES = layout_names("coco17")
LEGS = [i for i, name in enumerate(NAMES) if any(part in name for part in ("hip", "knee", "ankle"))]


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


@pytest.fixture(scope="module")
def people(model):
    """People in poses that are near the mean of the prior, upright before the camera, turned all ways."""
    bodies = bodyfit.random_bodies(N, model=model, seed=5)
    yaw = torch.linspace(-3, 3, N)[:, None] * torch.tensor([[0.0, 1, 0]])
    upright = so3_exp(torch.tensor([[np.pi, 0.0, 0.0]])) @ so3_exp(yaw)
    turn = roma.rotmat_to_rotvec(upright)
    transl = torch.tensor([0.0, 0.2, 4.0]) + torch.linspace(0, 1, N)[:, None] * torch.tensor([0.0, 0.0, 2.0])
    return model.params(betas=bodies.betas, body_pose=0.5 * bodies.body_pose, global_orient=turn, transl=transl)


@pytest.fixture(scope="module")
def xyc(model, people):
    """What a good detector sees of them: off by 3 px."""
    camera = Camera.make(N, SIZE, focal_px=FOCAL)
    with torch.no_grad():
        xy = camera.project(model.keypoints(model(**people), "coco17"))
    noise = 3 * torch.randn(xy.shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([xy + noise, torch.ones_like(xy[..., :1])], 2)


@pytest.fixture(scope="module")
def fitter(model):
    return Fitter(layout="coco17", model=model)


@pytest.fixture(scope="module")
def fitted(fitter, xyc):
    return fitter(xyc, image_size=SIZE, focal_px=FOCAL)


def poor(result) -> list[bool]:
    return [status is FitStatus.POOR for status in result.status]


def test_people_who_are_seen_well_are_not_poor(fitted):
    assert sum(poor(fitted)) <= 1
    assert all((why is None) != is_poor for why, is_poor in zip(fitted.reason, poor(fitted), strict=True))


def test_keypoints_of_two_people_are_poor(fitter, xyc):
    """Nobody has one's trunk and the legs of somebody else."""
    mixed = xyc.clone()
    mixed[:, LEGS] = xyc.roll(5, 0)[:, LEGS] + torch.tensor([60.0, -150.0, 0.0])
    result = fitter(mixed, image_size=SIZE, focal_px=FOCAL)
    assert sum(poor(result)) >= 0.9 * N
    assert all(result.reason)
    assert all(status.ok for status in result.status)
    assert torch.isfinite(result.joints).all()


def test_sides_that_the_fit_has_put_right_are_no_reason(fitter, xyc, fitted):
    """A fit is judged by the keypoints as they were fitted, left for right where the fit exchanged them."""
    order = exchanges("coco17")[SWAPS.index("legs")]
    result = fitter(xyc[:, order], image_size=SIZE, focal_px=FOCAL)
    mended = [i for i, swap in enumerate(result.swapped) if swap == "legs"]
    assert len(mended) >= 3  # legs that are side by side look alike either way
    assert [result.status[i] for i in mended] == [fitted.status[i] for i in mended]


def test_noise_of_the_size_of_a_limb_is_poor(fitter, xyc):
    rng = torch.Generator().manual_seed(1)
    ghost = xyc.clone()
    ghost[..., :2] = 500 + 120 * torch.randn(N, 17, 2, generator=rng)
    ghost[..., 2] = 0.4
    assert sum(poor(fitter(ghost, image_size=SIZE, focal_px=FOCAL))) >= 0.9 * N


def test_a_wrong_focal_length_is_no_reason(fitter, xyc, fitted):
    """It moves people to and fro and hardly changes their poses."""
    for factor in (0.7, 1.5):
        result = fitter(xyc, image_size=SIZE, focal_px=factor * FOCAL)
        assert sum(poor(result)) <= sum(poor(fitted)) + 1


def test_who_is_poor_does_not_hang_on_company_and_can_be_left_unasked(model, fitter, xyc, fitted):
    mixed = xyc.clone()
    mixed[3, LEGS] = xyc[8, LEGS] + torch.tensor([60.0, -150.0, 0.0])
    mixed[5, :, 2] = 0
    result = fitter(mixed, image_size=SIZE, focal_px=FOCAL)
    assert result.status[3] is FitStatus.POOR
    assert result.status[5] is FitStatus.UNOBSERVABLE
    others = [i for i in range(N) if i not in (3, 5)]
    assert [result.status[i] for i in others] == [fitted.status[i] for i in others]
    unasked = Fitter(layout="coco17", model=model, config=FitConfig(quality=False))
    blind = unasked(mixed, image_size=SIZE, focal_px=FOCAL)
    assert not any(poor(blind))
    torch.testing.assert_close(blind.joints, result.joints, equal_nan=True)


def test_limbs_bent_beyond_their_limits_are_named(fitter, xyc, fitted):
    known, _, present = fitter.checked(Evidence(keypoints=xyc, layout="coco17", image_size=SIZE, focal_px=FOCAL))
    pose = fitted.params.body_pose.clone()
    knee = fitter.model.skeleton.names.index("left_knee") - 1
    pose[0, 3 * knee] = -1.2
    params = fitter.model.params(**{**fitted.params, "body_pose": pose})
    bent = replace(fitted, params=params, status=(FitStatus.CONVERGED,) * N, reason=(None,) * N)
    judged = fitter.quality(bent, fitter.outcome.points(fitter.variables.pack(params)), known, present)
    assert judged.status[0] is FitStatus.POOR
    assert "left knee" in judged.reason[0]
    assert "beyond its limits" in judged.reason[0]


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_measured_points_of_a_child_or_a_giant_are_told(model, people, factor):
    with torch.no_grad():
        points = factor * model.keypoints(model(**people), "coco17")
    result = bodyfit.fit_keypoints(points3d=points, layout="coco17", model=model)
    assert poor(result) == [factor != 1.0] * N
    if factor != 1.0:
        assert all("m tall" in why or "times as far apart" in why for why in result.reason)
        tall = [float(why.split()[2]) for why in result.reason if "m tall" in why]
        assert all(height < 1.5 if factor < 1 else height > 2.0 for height in tall)


def test_the_logit_is_a_sum_of_named_terms(fitter, xyc, fitted):
    """The table is complete, and what it says is what is done."""
    known, _, present = fitter.checked(Evidence(keypoints=xyc, layout="coco17", image_size=SIZE, focal_px=FOCAL))
    features = fitter.quality.features(
        fitted, fitter.outcome.points(fitter.variables.pack(fitted.params)), known, present
    )
    columns = features.columns()
    assert torch.isfinite(columns).all()
    nobody = torch.zeros(N, dtype=torch.bool)
    doubt, parts = fitter.quality.doubt(features, nobody)
    assert (doubt > 0).tolist() == poor(fitted)
    names = [field.name for field in fields(features)]
    for weights, by_landmarks in ((OTHERS, nobody), (LANDMARKS, ~nobody)):
        doubt, parts = fitter.quality.doubt(features, by_landmarks)
        assert list(weights.terms) == names
        for column, part, term in zip(columns.unbind(1), parts.unbind(1), weights.terms.values(), strict=True):
            torch.testing.assert_close(part, term.weight * (column - term.usual))
        torch.testing.assert_close(doubt, weights.bias + parts.sum(1) - weights.poor)


def test_the_worst_part_is_named(fitter):
    weight, z, off = torch.ones(17), torch.ones(17), torch.full((17,), 3.0)
    for name in ("left_wrist", "left_elbow", "right_wrist", "right_elbow"):
        z[NAMES.index(name)], off[NAMES.index(name)] = 12.0, 48.0
    assert fitter.quality.words.misfit(weight, z, off) == "the arms are explained badly: 48 px off"
    z[[NAMES.index("right_wrist"), NAMES.index("right_elbow")]] = 1.0
    assert fitter.quality.words.misfit(weight, z, off) == "the left arm is explained badly: 48 px off"


def test_clips_have_poor_frames_and_poor_people(model, xyc):
    """One person who stands still, whose legs are another's from the fourth frame on."""
    track_xyc = xyc[:1].repeat(12, 1, 1)
    track_xyc[..., :2] += torch.randn(12, 17, 2, generator=torch.Generator().manual_seed(2))
    fit = {"layout": "coco17", "image_size": SIZE, "fps": 10.0, "focal_px": FOCAL, "model": model}
    still = fit_sequence(track_xyc, **fit)
    assert not any(poor(still))
    mixed = track_xyc.clone()
    mixed[4:, LEGS] = xyc[6, LEGS] + torch.tensor([100.0, -200.0, 0.0])
    result = fit_sequence(mixed, **fit)
    assert sum(poor(result)[4:]) >= 6
    track = Track(0, np.arange(12), np.arange(12) / 10, 10.0, np.ones(12, bool), result)
    assert track.poor
    assert track.reason in result.reason
    assert not replace(track, result=still).poor


def test_the_samples_are_good(model):
    for path in sorted(SAMPLES.glob("*.jpg")):
        for result in bodyfit.fit_image(path, model=model):
            assert result.status[0] is not FitStatus.POOR, (path.name, result.reason)


# ---------------------------------------------------------------- drawing


@pytest.fixture(scope="module")
def two(model):
    """Two bodies beside each other, and a grey picture."""
    params = model.params(
        global_orient=torch.tensor([[np.pi, 0, 0]]).float().repeat(2, 1),
        transl=torch.tensor([[-0.8, 0.2, 4.0], [0.8, 0.2, 4.0]]),
    )
    with torch.no_grad():
        vertices = model(**params).vertices
    image = np.full((480, 640, 3), 90, np.uint8)
    return image, [(v, (0.9, 0.2, 0.2)) for v in vertices], Camera.make(1, (640, 480), focal_px=600.0)


def test_poor_bodies_are_hatched_and_others_are_not(model, two):
    image, bodies, camera = two
    plain = render.overlay(image, bodies, model.faces, camera, shadows=False)
    marked = render.overlay(image, bodies, model.faces, camera, shadows=False, poor=[1])
    person = render.draw_maps(bodies, model.faces, camera, which=("silhouette",)).person
    assert np.array_equal(marked[:, :300], plain[:, :300])
    there = person == 2
    kept = np.abs(marked.astype(int) - plain)[there].max(1) < 3
    bare = np.abs(marked.astype(int) - image)[there].max(1) < 0.3 * np.abs(plain.astype(int) - image)[there].max(1)
    dark = marked[there].max(1) < 60
    assert 0.15 < kept.mean() < 0.6  # stripes
    assert bare.mean() > 0.2  # and the photograph between them
    assert dark.mean() > 0.02  # and an outline
    away = ~there & (person == 0)
    assert (
        np.abs(marked.astype(int) - plain)[away].max() == 0
        or (np.abs(marked.astype(int) - plain)[away].max(1) > 0).mean() < 0.02
    )


def test_the_view_from_the_side_is_hatched_too(model, two):
    _, bodies, _ = two
    plain = render.side_view(bodies[0][0], model.faces)
    marked = render.side_view(bodies[0][0], model.faces, poor=True)
    changed = (plain != marked).any(2).mean()
    assert 0.02 < changed < 0.5


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def good_and_poor(tmp_path_factory, xyc):
    """Two grey pictures with keypoint files: somebody and a mixture of two in the one, a mixture in the other."""
    folder = tmp_path_factory.mktemp("poor")
    mixed = xyc[0].clone()
    mixed[LEGS] = xyc[6, LEGS] + torch.tensor([100.0, -200.0, 0.0])
    rows = [{"image_id": 1, "category_id": 1, "keypoints": _coco(xyc[0]), "score": 0.9}]
    rows += [{"image_id": image, "category_id": 1, "keypoints": _coco(mixed), "score": 0.8} for image in (1, 2)]
    for name in ("both", "alone"):
        Image.new("RGB", SIZE, (128, 128, 128)).save(folder / f"{name}.png")
    pictures = [{"id": 1, "file_name": "both.png"}, {"id": 2, "file_name": "alone.png"}]
    annotations = [{**row, "id": i, "num_keypoints": 17} for i, row in enumerate(rows)]
    (folder / "coco.json").write_text(json.dumps({"images": pictures, "annotations": annotations}))
    return folder


def _coco(xyc: torch.Tensor) -> list[float]:
    rows = xyc.double().clone()
    rows[:, 2] = 2
    return rows.flatten().tolist()


def fit_command(folder: Path, out: Path, name: str, capsys, *more: str):
    arguments = ["fit", str(folder / f"{name}.png"), "-o", str(out), "--keypoints", str(folder / "coco.json"), *more]
    code = main([*arguments, "--focal-px", str(FOCAL)])
    said = capsys.readouterr()
    return code, json.loads((out / "summary.json").read_text())["inputs"][0], said.out, said.err


def test_a_poor_body_beside_a_good_one_is_told(good_and_poor, tmp_path, capsys):
    code, entry, out, err = fit_command(good_and_poor, tmp_path, "both", capsys)
    assert code == 0
    assert "error" not in err
    assert entry["status"] == "ok"
    by_status = {person["status"]: person for person in entry["people"]}
    assert set(by_status) == {"converged", "poor"}
    assert by_status["poor"]["reason"] in out
    assert by_status["poor"]["files"]
    assert by_status["converged"]["reason"] is None
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path), "-o", str(page)]) == 0
    assert 'class="pill bad">poor<' in page.read_text()
    assert by_status["poor"]["reason"] in page.read_text()


def test_a_picture_of_poor_bodies_alone_ends_with_1(good_and_poor, tmp_path, capsys):
    code, entry, _, err = fit_command(good_and_poor, tmp_path, "alone", capsys)
    assert code == 1
    assert entry["status"] == "poor"
    assert entry["people"][0]["reason"] in entry["message"]
    assert entry["people"][0]["reason"] in err
    assert (tmp_path / "alone" / "person0.npz").is_file()
    assert bodyfit.load_result(tmp_path / "alone" / "person0.npz").reason == (entry["people"][0]["reason"],)


def test_poor_bodies_can_be_dropped_and_are_still_told(good_and_poor, tmp_path, capsys):
    code, entry, out, _ = fit_command(good_and_poor, tmp_path / "a", "both", capsys, "--drop-poor")
    (dropped,) = [person for person in entry["people"] if person["status"] == "poor"]
    assert code == 0
    assert dropped["files"] == []
    assert dropped["reason"] in out
    assert len(list((tmp_path / "a" / "both").glob("person*.npz"))) == 1
    code, entry, _, err = fit_command(good_and_poor, tmp_path / "b", "alone", capsys, "--drop-poor")
    assert code == 1
    assert entry["status"] == "poor"
    assert not (tmp_path / "b" / "alone").exists()
    assert entry["people"][0]["reason"] in err


@pytest.mark.parametrize("keep", [True, False])
def test_batches_tell_too(good_and_poor, tmp_path, capsys, keep):
    more = [] if keep else ["--drop-poor"]
    arguments = ["batch", str(good_and_poor), "-o", str(tmp_path), "--keypoints", str(good_and_poor / "coco.json")]
    code = main([*arguments, "--workers", "1", "--focal-px", str(FOCAL), *more])
    said = capsys.readouterr()
    entries = [json.loads(line) for line in (tmp_path / "status.jsonl").read_text().splitlines()]
    by_name = {Path(entry["item"]).stem: entry for entry in entries}
    assert code == 1
    assert by_name["both"]["status"] == "done"
    assert list(by_name["both"]["poor"]) == ["1"]
    assert by_name["alone"]["status"] == ("poor" if keep else "failed")
    assert by_name["alone"]["poor"]["0"] in said.err
    assert len(bodyfit.load_result(tmp_path / by_name["both"]["file"])) == (2 if keep else 1)
    assert ("with poor bodies only" in said.out) == keep
    again = main([*arguments, "--workers", "1", "--focal-px", str(FOCAL), "--resume", *more])
    assert again == 1
