"""The detector that looks longer: two networks on the same points, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bodyfit.detect import load_detector
from bodyfit.detect.accurate import AccurateDetector
from bodyfit.detect.movenet import region
from bodyfit.detect.networks.single_pose import SinglePose, decoded
from bodyfit.detect.regions import Roi
from bodyfit.detect.search.second_opinion import seconded
from bodyfit.detect.search.similarity import COCO_ROWS, as_coco
from bodyfit.errors import OptionError
from bodyfit.images.frame import Frame, read_image
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names, mirrored_rows
from bodyfit.tracker import height_px

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
COCO, NAMES = layout_names("coco17"), layout_names("mediapipe33")
WRIST, ELBOW = COCO.index("left_wrist"), COCO.index("left_elbow")
SIZE, REACH = (640, 480), 10.0


@pytest.fixture(scope="module")
def walking() -> Frame:
    return read_image(SAMPLES / "walking.jpg")


@pytest.fixture(scope="module")
def detector() -> AccurateDetector:
    found = load_detector("movenet:accurate", masks=True)
    assert isinstance(found, AccurateDetector)
    return found


@pytest.fixture(scope="module")
def person(detector, walking) -> Keypoints2D:
    (found,) = detector.detect([walking])[0]
    return found


@pytest.fixture
def landmarks() -> Keypoints2D:
    """Someone with points all over a picture of 640x480, each of confidence 0.6."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(50, 400, (33, 2))
    xyc = np.concatenate([xy, np.full((33, 1), 0.6)], 1).astype(np.float32)
    return Keypoints2D("mediapipe33", xyc, rng.normal(0, 0.3, (33, 3)).astype(np.float32), (200.0, 200.0))


def opinion(person: Keypoints2D, score: float = 0.5) -> np.ndarray:
    """The same points as a second network would give them."""
    xyc = as_coco(person.xyc).astype(float)
    xyc[:, 2] = score
    return xyc


# ---------------------------------------------------------------- two opinions


def test_points_on_which_both_agree_are_averaged_and_surer_than_either(landmarks):
    second = opinion(landmarks)
    second[:, 0] += 4
    both = seconded(landmarks, second, None, REACH, SIZE)
    np.testing.assert_allclose(both.xyc[COCO_ROWS, 0], landmarks.xyc[COCO_ROWS, 0] + 2, atol=1e-3)
    np.testing.assert_allclose(both.xyc[COCO_ROWS, 2], 1 - 0.4 * 0.5, atol=1e-6)
    others = np.setdiff1d(np.arange(33), COCO_ROWS)
    np.testing.assert_array_equal(both.xyc[others], landmarks.xyc[others])
    np.testing.assert_array_equal(both.lift_m, landmarks.lift_m)


def test_the_third_network_decides_where_two_differ(landmarks):
    second, third = opinion(landmarks, 0.7), opinion(landmarks)
    second[WRIST, :2] += 60
    third[WRIST, :2] += 55
    second[ELBOW, 1] += 60  # there the third network is with the first
    both = seconded(landmarks, second, third, REACH, SIZE)
    wrist, elbow, knuckle = (NAMES.index(f"left_{part}") for part in ("wrist", "elbow", "index_knuckle"))
    np.testing.assert_allclose(both.xyc[wrist], second[WRIST], atol=1e-4)
    assert np.isnan(both.lift_m[[wrist, knuckle]]).all()
    assert both.xyc[knuckle, 2] == 0
    np.testing.assert_array_equal(both.xyc[elbow], landmarks.xyc[elbow])
    assert np.isfinite(both.lift_m[elbow]).all()


def test_what_nobody_confirms_is_kept_with_half_of_its_confidence(landmarks):
    second, third = opinion(landmarks), opinion(landmarks)
    second[WRIST, :2] += 60
    third[WRIST, :2] -= 60
    for other in (third, None):
        both = seconded(landmarks, second, other, REACH, SIZE)
        for part in ("wrist", "thumb_knuckle"):
            row = NAMES.index(f"left_{part}")
            np.testing.assert_array_equal(both.xyc[row, :2], landmarks.xyc[row, :2])
            np.testing.assert_allclose(both.xyc[row, 2], 0.3, atol=1e-6)


def test_a_second_opinion_makes_no_point_beyond_the_picture_surer(landmarks):
    landmarks.xyc[COCO_ROWS[WRIST]] = (650, 200, 0.1)
    second = opinion(landmarks, 0.8)
    second[WRIST, :2] = (652, 200)
    both = seconded(landmarks, second, None, REACH, SIZE)
    np.testing.assert_allclose(both.xyc[COCO_ROWS[WRIST]], (651, 200, 0.1), atol=1e-4)


def test_sides_are_treated_alike(landmarks):
    second, third = opinion(landmarks), opinion(landmarks, 0.9)
    second[WRIST, :2] += 60
    third[WRIST, :2] += 58
    swap, coco = mirrored_rows(NAMES), mirrored_rows(COCO)
    both = seconded(landmarks, second, third, REACH, SIZE)
    other = Keypoints2D("mediapipe33", landmarks.xyc[swap], landmarks.lift_m[swap], landmarks.lift_centre_px)
    mirrored = seconded(other, second[coco], third[coco], REACH, SIZE)
    np.testing.assert_array_equal(mirrored.xyc[swap], both.xyc)
    np.testing.assert_array_equal(mirrored.lift_m[swap], both.lift_m)


# ---------------------------------------------------------------- Thunder


def test_keypoints_are_read_to_a_part_of_a_pixel_and_of_the_person_in_the_middle():
    """Two people's heat: the one whose centre lies nearer to the middle of the maps is read."""
    rng = np.random.default_rng(1)
    centre, heat = np.full((64, 64), 1e-3, np.float32), np.full((17, 64, 64), 1e-3, np.float32)
    expected, offset = np.zeros((34, 64, 64), np.float32), np.zeros((34, 64, 64), np.float32)
    truth = {}
    for at, sure in ((30, 0.5), (8, 0.7)):
        centre[at, at] = sure
        truth[at] = np.stack([rng.uniform(at - 7, at + 7, 17), rng.uniform(at - 7, at + 7, 17)], 1)  # y, x
        expected[:, at, at] = (truth[at] + rng.normal(0, 0.7, (17, 2)) - at).ravel()
        for k, (y, x) in enumerate(truth[at]):
            heat[k, int(y), int(x)] = 0.8
            offset[2 * k : 2 * k + 2, int(y), int(x)] = y - int(y), x - int(x)
    found = decoded(centre, heat, expected, offset)
    np.testing.assert_allclose(found[:, :2], truth[30][:, ::-1] / 64, atol=1e-6)
    np.testing.assert_allclose(found[:, 2], 0.8, atol=1e-6)


def test_thunder_sees_the_mirrored_person_mirrored(walking, person):
    network, roi, width = SinglePose(), region(as_coco(person.xyc)), walking.size[0]
    roi = Roi(roi.x, roi.y, 0.85 * roi.size, roi.angle)
    plain = network.keypoints(walking.image, roi)
    mirrored = network.keypoints(walking.image[:, ::-1], Roi(width - roi.x, roi.y, roi.size, -roi.angle))
    back = mirrored[mirrored_rows(COCO)] * (-1, 1, 1) + (width, 0, 0)
    sure = (plain[:, 2] > 0.4) & (back[:, 2] > 0.4)
    assert sure.sum() >= 12
    assert np.linalg.norm(plain[sure, :2] - back[sure, :2], axis=1).max() < 0.04 * height_px(person)
    assert network.keypoints(walking.image, Roi(-500.0, -500.0, 100.0, 0.0)) is None


# ---------------------------------------------------------------- the detector


def test_it_finds_who_the_default_detector_finds(walking, person):
    (other,) = load_detector("movenet", masks=True).detect([walking])[0]
    both = (person.xyc[:, 2] > 0.5) & (other.xyc[:, 2] > 0.5)
    assert both.sum() > 25
    apart = np.linalg.norm(person.xyc[both, :2] - other.xyc[both, :2], axis=1)
    assert np.median(apart) < 0.02 * height_px(other)
    across = (person.lift_m - other.lift_m)[both, :2]  # of depth the two networks have views of their own
    assert np.median(np.linalg.norm(across, axis=1)) < 0.05
    masks = [one.mask.full(walking.size) > 127 for one in (person, other)]
    assert (masks[0] & masks[1]).sum() > 0.9 * (masks[0] | masks[1]).sum()


def test_it_follows_people(detector, walking, person):
    (again,) = detector.follow(walking, [person])
    sure = (person.xyc[:, 2] > 0.5) & (again.xyc[:, 2] > 0.5)
    assert sure.sum() > 25
    assert np.median(np.linalg.norm(again.xyc[sure, :2] - person.xyc[sure, :2], axis=1)) < 0.02 * height_px(person)
    assert detector.follow(Frame(np.zeros_like(walking.image)), [person]) == [None]


def test_its_name_is_one_of_three():
    with pytest.raises(OptionError, match="movenet:accurate, got movenet:best"):
        load_detector("movenet:best")
