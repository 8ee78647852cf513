"""Detection on real photographs, and the geometry that tells people apart."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bodyfit.detect import DETECTORS, Detector, load_detector
from bodyfit.detect.networks.landmarks import Landmarks, keypoints_from
from bodyfit.detect.regions import Roi, covers, nested, same_person, tiles
from bodyfit.detect.search.consensus import consensus, mirrored
from bodyfit.errors import OptionError
from bodyfit.images.frame import Frame, read_image
from bodyfit.keypoints import SoftMask
from bodyfit.skeleton import layout_names, mirrored_rows

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
NAMES = layout_names("mediapipe33")
LIMBS = [i for i, n in enumerate(NAMES) if n.split("_")[-1] in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


@pytest.fixture(scope="module")
def found(detector):
    """Each sample's frame and people."""
    frames = {path.stem: read_image(path) for path in sorted(SAMPLES.glob("*.jpg"))}
    people = detector.detect(list(frames.values()))
    return {name: (frame, persons) for (name, frame), persons in zip(frames.items(), people, strict=True)}


def _at(person, name: str) -> np.ndarray:
    return person.xyc[NAMES.index(name)]


# ---------------------------------------------------------------- people in photographs


def test_how_many_people(found):
    counts = {name: len(persons) for name, (_, persons) in found.items()}
    assert counts == {"astronaut_portrait": 1, "crouching": 1, "standing": 1, "street_two_people": 2, "walking": 1}


# Read off the pictures by eye: pixel, and how far off a correct point may be (the eye's own precision).
BY_EYE = {
    "walking": {"nose": (225, 112), "left_wrist": (334, 277), "left_big_toe": (152, 484), "right_ankle": (343, 446)},
    "standing": {"nose": (231, 86), "right_shoulder": (198, 138), "left_shoulder": (275, 137), "left_knee": (258, 326)},
    "crouching": {"nose": (338, 195), "right_wrist": (327, 294), "right_knee": (270, 223), "right_big_toe": (203, 298)},
}


@pytest.mark.parametrize("picture", BY_EYE)
def test_keypoints_lie_on_the_body(found, picture):
    _, (person,) = found[picture]
    for name, xy in BY_EYE[picture].items():
        x, y, confidence = _at(person, name)
        assert math.hypot(x - xy[0], y - xy[1]) < 16, name
        assert confidence > 0.3, name


def test_both_people_in_the_street(found):
    _, (first, second) = found["street_two_people"]
    by_height = sorted((first, second), key=lambda p: float(_at(p, "nose")[1]))
    man, woman = by_height
    assert np.hypot(*(_at(man, "nose")[:2] - (757, 125))) < 20
    assert np.hypot(*(_at(woman, "nose")[:2] - (805, 552))) < 20
    # His two feet stand on the roof, a step apart: single looks swap or merge them.
    ankles = sorted(float(_at(man, f"{side}_ankle")[0]) for side in ("left", "right"))
    assert 635 < ankles[0] < 680
    assert 715 < ankles[1] < 760


def test_unseen_legs_have_no_confidence_and_no_lift(found):
    _, (person,) = found["astronaut_portrait"]
    for side in ("left", "right"):
        for part in ("knee", "ankle", "heel", "big_toe"):
            assert _at(person, f"{side}_{part}")[2] < 0.05
        assert np.isnan(person.lift_m[NAMES.index(f"{side}_ankle")]).all()
    assert _at(person, "nose")[2] > 0.9
    assert np.isfinite(person.lift_m[NAMES.index("left_shoulder")]).all()


def test_lift_has_camera_axes_and_metres(found):
    """Of a man who faces the camera: his left to the right, his head up, his nose nearer than his hips."""
    _, (person,) = found["standing"]
    lift = dict(zip(NAMES, person.lift_m, strict=True))
    assert lift["left_shoulder"][0] > lift["right_shoulder"][0] + 0.2
    assert lift["nose"][1] < lift["left_hip"][1] < lift["left_ankle"][1]
    assert lift["nose"][2] < 0.5 * (lift["left_ear"][2] + lift["right_ear"][2])
    assert 1.2 < lift["left_heel"][1] - lift["nose"][1] < 1.8
    x, y = person.lift_centre_px
    hips = 0.5 * (_at(person, "left_hip") + _at(person, "right_hip"))
    assert math.hypot(x - hips[0], y - hips[1]) < 15


def test_a_mirrored_picture_gives_the_mirrored_person(detector, found):
    frame, (person,) = found["walking"]
    (other,) = detector.detect([Frame(np.ascontiguousarray(frame.image[:, ::-1]))])[0]
    swap = [NAMES.index(n.replace("left", "?").replace("right", "left").replace("?", "right")) for n in NAMES]
    back = other.xyc[swap]
    back[:, 0] = frame.size[0] - back[:, 0]
    # The networks are not symmetric; 5 % of the height is about what two looks at one picture differ by.
    apart = np.linalg.norm(back[LIMBS, :2] - person.xyc[LIMBS, :2], axis=1)
    assert np.median(apart) < 0.02 * 380
    assert apart.max() < 0.08 * 380


def test_a_large_photograph_gives_the_same_points(detector, found):
    """Four times the pixels, as a phone has them: what is averaged down must not shift by half a pixel of the input."""
    frame, (person,) = found["standing"]
    large = np.ascontiguousarray(frame.image.repeat(7, 0).repeat(7, 1))
    (same,) = detector.detect([Frame(large)])[0]
    apart = np.linalg.norm(same.xyc[LIMBS, :2] / 7 - person.xyc[LIMBS, :2], axis=1)
    assert np.median(apart) < 0.01 * 360


@pytest.mark.parametrize("shape", [(480, 640), (64, 64), (1, 1), (3, 2000), (2000, 3)])
def test_nobody_in_empty_pictures(detector, shape):
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert detector.detect([Frame(noise), Frame(np.zeros((*shape, 3), np.uint8))]) == [[], []]


def test_no_frames(detector):
    assert detector.detect([]) == []


def test_detection_does_not_depend_on_what_came_before(detector, found):
    frame, (person,) = found["standing"]
    detector.detect([found["crouching"][0]])
    (again,) = detector.detect([frame])[0]
    assert np.array_equal(again.xyc, person.xyc)


def test_loading_and_detecting_write_nothing():
    code = (
        "from bodyfit.detect import load_detector; from bodyfit.images.frame import read_image;"
        f"load_detector().detect([read_image({str(SAMPLES / 'walking.jpg')!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], env=os.environ
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_detector_lists_those_there_are():
    with pytest.raises(OptionError, match="mediapipe"):
        load_detector("magic")
    assert "mediapipe" in DETECTORS


# ---------------------------------------------------------------- geometry


def _person(x: float, y: float, height: float, *, seed: int = 0) -> np.ndarray:
    """Keypoints spread over a box of the given height about a point."""
    points = np.random.default_rng(seed).uniform(-0.5, 0.5, (33, 2)) * (0.4 * height, height) + (x, y)
    return np.concatenate([points, np.ones((33, 1))], 1)


def test_same_person_is_symmetric_and_tells_neighbours_apart():
    one = _person(100, 200, 300)
    assert same_person(one, one + np.array([8.0, 0, 0]))
    neighbour = one + np.array([120.0, 0, 0])
    assert not same_person(one, neighbour)
    assert not same_person(neighbour, one)
    unsure = one * (1, 1, 0.1)
    assert same_person(one, unsure)  # by their boxes
    assert not same_person(unsure, unsure + np.array([400.0, 0, 0]))


def test_a_ghost_on_a_body_is_nested_and_a_neighbour_is_not():
    body = _person(300, 300, 500)
    assert nested(_person(300, 250, 120), body)
    assert not nested(_person(300, 300, 400), body)
    assert not nested(_person(700, 300, 120), body)


def test_tiles_cover_the_picture_and_stay_inside():
    for size in ((1768, 994), (554, 554), (3000, 4000), (100, 80), (1, 1)):
        boxes = tiles(size)
        assert boxes[0] == (0, 0, *size)
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= size[0]
            assert 0 <= y0 < y1 <= size[1]
        assert len(boxes) <= 60
    assert len(tiles((200, 200))) == 1


def test_a_tile_on_a_person_shows_nothing_new():
    body = _person(300, 300, 500)
    assert covers(body, (280, 250, 320, 350))
    assert not covers(body, (280, 250, 900, 350))


def test_roi_from_its_circle():
    upright = Roi.from_body_circle((100.0, 200.0), (100.0, 120.0))
    assert (upright.x, upright.y, upright.size) == (100, 200, pytest.approx(200))
    assert upright.angle == pytest.approx(0)
    lying = Roi.from_body_circle((100.0, 200.0), (180.0, 200.0))  # the head to the right: a quarter turn clockwise
    assert lying.angle == pytest.approx(math.pi / 2)
    assert upright.close_to(replace(upright, x=110.0))
    assert not upright.close_to(replace(upright, x=160.0))
    assert not upright.close_to(replace(upright, size=450.0))


def _look(seed: int = 0, **changes) -> Landmarks:
    rng = np.random.default_rng(seed)
    roi = Roi(200.0, 200.0, 300.0, 0.2)
    look = Landmarks(
        rng.uniform(50, 350, (33, 2)),
        rng.uniform(size=33),
        rng.uniform(size=33),
        rng.standard_normal((33, 3)),
        roi,
        roi,
    )
    return replace(look, **changes)


def test_mirroring_twice_is_nothing():
    look = _look()
    twice = mirrored(mirrored(look, 640.0), 640.0)
    # The sums with 640 round in the last of 16 digits.
    np.testing.assert_allclose(twice.xy_px, look.xy_px, atol=1e-12)
    np.testing.assert_array_equal(twice.world_m, look.world_m)
    assert (twice.roi.x, twice.roi.angle) == (pytest.approx(look.roi.x), look.roi.angle)


def test_consensus_outvotes_a_look_that_swaps_the_feet():
    look = _look()
    feet = [NAMES.index("left_ankle"), NAMES.index("right_ankle")]
    swapped = look.xy_px.copy()
    swapped[feet] = swapped[feet[::-1]]
    mean, agreement = consensus([replace(look, xy_px=swapped), look, replace(look, xy_px=look.xy_px + 1.0)])
    np.testing.assert_allclose(mean.xy_px[feet], look.xy_px[feet] + 0.5, atol=1e-9)
    np.testing.assert_allclose(agreement[feet], 2 / 3)
    assert agreement[0] == 1


def test_scales_of_lifts_are_averaged_over_the_looks_that_give_some():
    one, two = (np.random.default_rng(seed).uniform(0.01, 0.1, (33, 2)) for seed in (0, 1))
    swap = mirrored_rows(NAMES)
    np.testing.assert_array_equal(mirrored(_look(world_scale_m=one), 640.0).world_scale_m, one[swap])
    mean, _ = consensus([_look(world_scale_m=one), _look(), _look(world_scale_m=two)])
    np.testing.assert_allclose(mean.world_scale_m, 0.5 * (one + two), rtol=1e-12)
    assert consensus([_look(), _look()])[0].world_scale_m is None


def test_the_mask_of_several_looks_is_their_mean():
    rng = np.random.default_rng(0)
    masks = [
        SoftMask(rng.integers(0, 256, shape).astype(np.uint8), corner)
        for shape, corner in (((30, 20), (5, 7)), ((12, 40), (0, 20)), ((9, 9), (50, 60)))
    ]
    mean, _ = consensus([_look(mask=mask) for mask in masks])
    assert mean.mask is not None
    whole = np.mean([mask.full((80, 90)) for mask in masks], axis=0)
    np.testing.assert_allclose(mean.mask.full((80, 90)), whole, atol=0.5 + 1e-9)  # rounded
    assert consensus([_look(), _look()])[0].mask is None


def test_one_look_agrees_with_itself():
    look = _look()
    mean, agreement = consensus([look])
    np.testing.assert_allclose(mean.xy_px, look.xy_px)
    assert (agreement == 1).all()


def test_confidence_fades_outside_the_picture():
    ones = np.ones(33)
    xy = np.full((33, 2), 100.0)
    xy[1], xy[2], xy[3] = (-7.5, 100), (-30, 100), (100, 1000)  # the region is 300: half confidence 7.5 px outside
    person = keypoints_from(_look(xy_px=xy, visibility=ones, presence=ones), (400, 300), 0.9, ones)
    np.testing.assert_allclose(person.xyc[:4, 2], [1, 0.5, 0, 0], atol=1e-6)
    unsure = keypoints_from(_look(xy_px=xy, visibility=ones, presence=0.4 * ones), (400, 300), 0.9, ones)
    assert np.isnan(unsure.lift_m).all()


def test_the_quick_detector_finds_the_same_large_person():
    frame = read_image(SAMPLES / "walking.jpg")
    (slow,), (quick,) = (load_detector(name).detect([frame])[0] for name in ("movenet", "movenet:quick"))
    both = (slow.xyc[:, 2] > 0.5) & (quick.xyc[:, 2] > 0.5)
    assert both.sum() > 20
    apart = np.linalg.norm(slow.xyc[both, :2] - quick.xyc[both, :2], axis=1)
    # The spread of single looks, about a hundredth of the person's height (418 px).
    assert np.mean(apart) < 8
    with pytest.raises(OptionError, match="movenet:quick"):
        load_detector("movenet:nonsense")
