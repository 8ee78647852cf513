"""The lift of landmarks by what a picture shows: how it reads maps, and how it is trained."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from bodyfit.detect import load_detector
from bodyfit.detect.movenet import region
from bodyfit.detect.networks.landmarks import Landmarker, same_person
from bodyfit.detect.networks.lift import CHANNELS, LANDMARKS, MAPS, POOLED, SPOTS, features_at
from bodyfit.detect.regions import Roi
from bodyfit.detect.search.consensus import mirrored
from bodyfit.detect.search.similarity import as_coco
from bodyfit.images.frame import read_image
from bodyfit.skeleton import layout_names, mirrored_rows
from scripts.train import picture_evidence
from scripts.train.picture import looks
from scripts.train.picture.drawn import DrawnPerson
from scripts.train.picture.network import JOINTS, LiftNetwork, joints_of


def test_maps_are_read_bilinearly():
    xy = np.random.default_rng(0).uniform(0.2, 0.8, (39, 2))
    maps = {}
    for (name, channels), side in zip(MAPS.items(), (64, 32, 16, 16, 8), strict=True):
        middles = (np.arange(side, dtype=np.float32) + 0.5) / side
        plane = 2 * middles[None, :] + 5 * middles[:, None]
        maps[name] = np.broadcast_to(plane, (1, channels, side, side))
    found = features_at(maps, xy)
    assert found.shape == (SPOTS, CHANNELS)
    np.testing.assert_allclose(found[0], 2 * xy[0, 0] + 5 * xy[0, 1], atol=1e-5)  # the nose
    trunk = xy[[11, 12, 23, 24]].mean(0)
    np.testing.assert_allclose(found[-1], 2 * trunk[0] + 5 * trunk[1], atol=1e-5)


@pytest.fixture(scope="module")
def walking():
    return read_image(Path(__file__).parents[1] / "assets" / "samples" / "walking.jpg")


def test_a_look_lifts_by_the_picture_and_leaves_the_landmarks_as_they_are(walking):
    (person, *_) = load_detector("movenet:quick").detect([walking])[0]
    about = region(as_coco(person.xyc))
    plain, lifted = (Landmarker(lift=lift).landmarks(walking.image, about) for lift in (False, True))
    assert plain is not None
    assert lifted is not None
    np.testing.assert_array_equal(lifted.xy_px, plain.xy_px)
    assert lifted.world_m.shape == plain.world_m.shape
    np.testing.assert_allclose(lifted.world_m[[23, 24]].mean(0), 0, atol=0.08)  # about the middle of the hips
    moved = np.linalg.norm(lifted.world_m - plain.world_m, axis=1)
    assert 0.005 < np.median(moved) < 0.3
    # The other look, at the mirrored picture, shows the same person.
    width = walking.image.shape[1]
    other = Landmarker(lift=True).landmarks(
        walking.image[:, ::-1], Roi(width - about.x, about.y, about.size, -about.angle)
    )
    assert other is not None
    apart = np.linalg.norm(mirrored(other, float(width)).world_m - lifted.world_m, axis=1)
    assert np.median(apart) < 0.12


def test_the_lift_of_the_heavy_network_is_by_the_full_one(walking):
    (person, *_) = load_detector("movenet:quick").detect([walking])[0]
    about = region(as_coco(person.xyc))
    full, heavy = (Landmarker(size, lift=True).landmarks(walking.image, about) for size in ("full", "heavy"))
    assert full is not None
    assert heavy is not None
    np.testing.assert_array_equal(heavy.world_m, full.world_m)
    assert np.abs(heavy.xy_px - full.xy_px).max() > 0.1


def test_a_lift_of_limbs_that_lie_elsewhere_is_not_taken():
    xy = np.random.default_rng(0).uniform(0, 200, (33, 2))
    other = xy[mirrored_rows(layout_names("mediapipe33"))]  # taken for facing the other way
    assert same_person(xy, xy + 3.0, 200.0)
    assert not same_person(xy, other, 200.0)


def test_the_detectors_give_the_lift_by_the_picture(walking):
    (person, *_) = load_detector("movenet:quick").detect([walking])[0]
    look = Landmarker(lift=True).landmarks(
        walking.image, Roi(*person.lift_centre_px, region(as_coco(person.xyc)).size, 0.0)
    )
    assert look is not None
    shared = np.isfinite(person.lift_m).all(1)
    apart = np.linalg.norm(person.lift_m - look.world_m, axis=1)[shared]
    assert np.median(apart) < 0.05


def _person(seed: int = 0) -> DrawnPerson:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 0.3, (33, 3)).astype(np.float32) + np.array([0, 0, 4], np.float32)
    root = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    root *= np.linalg.det(root)
    parts = (rng.normal(size=(rows, 3)).astype(np.float32) for rows in (JOINTS, JOINTS, JOINTS - 1))
    joints, rest, pose = parts
    return DrawnPerson(np.array(300.0), points, joints, rest, root.astype(np.float32), 0.5 * pose)


def test_a_mirrored_person_is_the_mirror_image_of_a_person():
    person = _person()
    again = looks._mirrored(looks._mirrored(person))
    for name in ("points", "joints", "rest", "root", "pose"):
        np.testing.assert_array_equal(getattr(again, name), getattr(person, name))
    joints = [
        joints_of(*(torch.from_numpy(getattr(one, name)[None]) for name in ("root", "pose", "rest")))[0].numpy()
        for one in (person, looks._mirrored(person))
    ]
    swapped = joints[0][looks._SWAP_JOINTS] * (-1, 1, 1)
    np.testing.assert_allclose(joints[1], swapped, atol=1e-5)


def test_a_region_s_axes_look_at_it_and_turn_with_it():
    roi, focal_px = Roi(200.0, 120.0, 150.0, 0.3), 300.0
    R = looks._region_axes(roi, focal_px, 288)
    ahead = np.array([(200 - 144) / focal_px, (120 - 144) / focal_px, 1.0])
    np.testing.assert_allclose(R @ ahead, (0, 0, np.linalg.norm(ahead)), atol=1e-12)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    # The region's own downward direction in the picture is its y, up to the small turn of the ray.
    down = R @ (-np.sin(0.3), np.cos(0.3), 0.0)
    assert down[1] > 0.97


def test_disturbed_pictures_are_pictures_of_the_same_size():
    picture = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    for seed in range(20):
        changed = looks.disturbed(picture, np.random.default_rng(seed))
        assert changed.shape == picture.shape
        assert changed.dtype == np.uint8


def _arguments(work: Path, **settings) -> argparse.Namespace:
    usual = {"steps": 6, "batch": 8, "rate": 1e-3, "width": 16, "every": 3, "seed": 0}
    return argparse.Namespace(work=work, **{**usual, **settings})


@pytest.fixture(scope="module")
def data() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    sizes = {"geometry": (LANDMARKS, 8), "features": (SPOTS, CHANNELS), "pooled": (POOLED,), "points": (LANDMARKS, 3)}
    sizes |= {"joints": (JOINTS, 3), "rest": (JOINTS, 3), "pose": (JOINTS - 1, 3)}
    arrays = {name: 0.3 * torch.randn(320, *size, generator=rng) for name, size in sizes.items()}
    return {**arrays, "features": arrays["features"].half(), "root": torch.eye(3).expand(320, 3, 3).clone()}


def test_training_that_was_broken_off_goes_on_as_if_it_had_not_been(data, tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = picture_evidence.Trainer(_arguments(tmp_path / "whole"), data)
    whole.run()
    first = picture_evidence.Trainer(_arguments(tmp_path / "parts"), data)
    first.run(until=3)
    second = picture_evidence.Trainer(_arguments(tmp_path / "parts"), data)
    assert second.step == 3
    second.run()
    for name, value in whole.mean.items():
        torch.testing.assert_close(second.mean[name], value, rtol=0, atol=0, msg=name)


def test_training_learns_what_features_tell_of_depth(data, tmp_path):
    depth = torch.randn(320, 1, generator=torch.Generator().manual_seed(1))
    points = data["geometry"][:, :, 5:8].clone()
    points = points - 0.5 * (points[:, 23:24] + points[:, 24:25])
    points[:, 13:17, 2] += 0.5 * depth
    shown = {"features": depth[..., None].expand(-1, SPOTS, CHANNELS).half(), "points": points}
    trainer = picture_evidence.Trainer(_arguments(tmp_path, steps=60, every=60, batch=64, rate=0.03), {**data, **shown})
    before = trainer.errors()["ours_mm"]
    trainer.run()
    assert trainer.errors()["ours_mm"] < 0.7 * before


def test_an_untrained_network_gives_the_landmark_network_s_lift():
    network = LiftNetwork(width=16).eval()
    geometry = torch.randn(2, LANDMARKS, 8)
    lift, scale = network(geometry, torch.randn(2, SPOTS, CHANNELS), torch.randn(2, POOLED))
    world = geometry[:, :, 5:8]
    torch.testing.assert_close(lift, world - world[:, [23, 24]].mean(1, keepdim=True))
    assert bool((scale > 0).all())
