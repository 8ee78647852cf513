"""The default detector: everyone in a picture, found again, checked, with hands, face and mask."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodyfit.detect.movenet import MovenetDetector
from bodyfit.detect.networks.multipose import Multipose, Proposal
from bodyfit.detect.networks.peaks import PeakMaps, PeakPoints, hints_in, people_in
from bodyfit.detect.networks.threads import look_threads, started
from bodyfit.detect.parts import each_once
from bodyfit.detect.search.people import distinct, squares
from bodyfit.detect.search.repair import as_proposed, believable, reconciled
from bodyfit.detect.search.similarity import COCO_ROWS, oks
from bodyfit.errors import OptionError
from bodyfit.images.frame import Frame, read_image
from bodyfit.keypoints import FACE_IBUG68, Keypoints2D, Part, SoftMask
from bodyfit.skeleton import layout_names, mirrored_rows

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
COCO, NAMES = layout_names("coco17"), layout_names("mediapipe33")


@pytest.fixture(scope="module")
def detector() -> MovenetDetector:
    """One with every layer."""
    return MovenetDetector(hands=True, face=True, masks=True)


@pytest.fixture(scope="module")
def walking(detector) -> tuple[Frame, Keypoints2D]:
    frame = read_image(SAMPLES / "walking.jpg")
    (person,) = detector.detect([frame])[0]
    return frame, person


# ---------------------------------------------------------------- people in pictures


def test_a_crowd_of_small_people_is_found_and_nobody_else(detector):
    """Twelve of one woman, 63 to 112 px tall, on a blank picture: twice what the network as published keeps."""
    frame = read_image(SAMPLES / "walking.jpg")
    woman = Image.fromarray(frame.image[70:510, 130:375])
    scene, places = Image.new("RGB", (1000, 400), (120, 130, 125)), []
    for i in range(12):
        height = 70 + 5 * i  # she fills nine tenths of the cut-out
        cut = woman.resize((round(height * woman.width / woman.height), height), Image.Resampling.LANCZOS)
        x, y = 20 + 165 * (i % 6), 30 + 190 * (i // 6)
        scene.paste(cut, (x, y))
        places.append((x, y, x + cut.width, y + cut.height))
    people = detector.detect([Frame(np.array(scene))])[0]
    hips = np.array([p.xyc[[NAMES.index("left_hip"), NAMES.index("right_hip")], :2].mean(0) for p in people])
    for x0, y0, x1, y1 in places:
        assert ((hips > (x0, y0)) & (hips < (x1, y1))).all(1).sum() == 1
    assert len(people) == len(places)
    heights = [p.box[3] - p.box[1] for p in people]
    assert min(heights) > 50
    assert max(heights) < 140


def test_the_box_holds_the_keypoints(walking):
    _, person = walking
    x0, y0, x1, y1 = person.box
    margin = 0.1 * (y1 - y0)
    inside = (person.xyc[:, :2] > (x0 - margin, y0 - margin)) & (person.xyc[:, :2] < (x1 + margin, y1 + margin))
    assert inside.all()


def test_more_looks_agree_with_few(walking):
    frame, person = walking
    (many,) = MovenetDetector(tta=True).detect([frame])[0]
    apart = np.linalg.norm(many.xyc[:, :2] - person.xyc[:, :2], axis=1)
    assert 0 < np.median(apart) < 0.02 * 380


def test_a_limit_keeps_the_largest(detector):
    frame = read_image(SAMPLES / "street_two_people.jpg")
    everyone = detector.detect([frame])[0]
    (one,) = MovenetDetector(max_people=1, masks=True).detect([frame])[0]
    np.testing.assert_array_equal(one.xyc, everyone[0].xyc)
    with pytest.raises(OptionError, match="max_people"):
        MovenetDetector(max_people=0)


def test_the_network_sees_one_person_at_any_scale():
    frame = read_image(SAMPLES / "walking.jpg")
    network, whole = Multipose(), (0, 0, *frame.size)
    near, far = (network.people(frame.image, whole, side)[0] for side in (256, 480))
    assert oks(near.xyc, far.xyc, near.height_px) > 0.8
    assert 1 <= len(network.people(frame.image, whole, 256)) <= 24
    left = network.people(frame.image, (100, 0, 554, 554), 256)[0]  # a part of the picture gives the picture's pixels
    assert oks(near.xyc, left.xyc, near.height_px) > 0.8


def test_a_person_is_read_from_the_maps():
    """One centre, one warm pixel a keypoint, and a warmer one outside of the box, which is somebody else's."""
    h, w, at = 24, 32, np.array((12, 10))
    kind = np.arange(17)
    place = at + np.stack([kind % 5 - 2, kind % 3 - 1], 1)
    maps = PeakMaps(np.zeros((h, w), np.float32), np.zeros((17, h, w), np.float32), np.zeros((24, h, w), np.float32))
    maps.centre[tuple(at)] = 0.8
    maps.heat[kind, place[:, 0], place[:, 1]] = 0.5
    maps.heat[:, 12, 30] = 1.0

    def read(patches):
        n = len(patches)
        expected = np.tile((place - at).reshape(-1).astype(float), (n, 1))
        return PeakPoints(expected, np.full((n, 34), 0.25), np.zeros((n, 2)), np.full((n, 2), 8.0))

    (one,) = people_in(maps, read, 0.05)
    np.testing.assert_allclose(one.xyc[:, :2], (place[:, ::-1] + 0.25) / (w, h))
    np.testing.assert_allclose(one.xyc[:, 2], 0.5)
    assert abs(one.score - 0.4) < 1e-6
    np.testing.assert_allclose(one.box, (6 / w, 8 / h, 14 / w, 16 / h))
    assert people_in(maps, read, 0.9) == []
    np.testing.assert_allclose(hints_in(maps, 0.1), [(10 / w, 12 / h)])


def test_whom_only_a_hint_shows_both_networks_must_see_well():
    xyc = np.column_stack([np.linspace(0, 50, 17), np.linspace(0, 100, 17), np.full(17, 0.5)])
    person = Proposal(xyc, (0.0, 0.0, 50.0, 100.0), 0.3, 1.5)
    hinted = replace(person, hinted=True)
    assert believable(person, 0.0, 0.0)
    assert believable(hinted, 0.7, 0.85)
    assert not believable(hinted, 0.7, 0.75)
    assert not believable(hinted, 0.5, 0.85)
    assert believable(replace(hinted, score=0.4), 0.7, 0.75)


# ---------------------------------------------------------------- threads


def test_what_is_found_does_not_depend_on_the_number_of_threads(monkeypatch):
    """Two people in the street and one of them again, small: the same to the last bit, and so when followed."""
    street = read_image(SAMPLES / "street_two_people.jpg")
    image = street.image.copy()
    small = np.asarray(Image.fromarray(image[200:]).reduce(4))
    image[: small.shape[0], : small.shape[1]] = small
    frames, found = [Frame(image), street], {}
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        detector = MovenetDetector(masks=True)
        people = [*detector.detect(frames), *detector.detect(frames[:1])]
        assert len(people[0]) >= 2
        found[threads] = [one for some in (*people, detector.follow(street, people[1])) for one in some]
    assert len(found["1"]) == len(found["3"])
    for one, three in zip(found["1"], found["3"], strict=True):
        np.testing.assert_array_equal(one.xyc, three.xyc)
        np.testing.assert_array_equal(one.lift_m, three.lift_m)
        np.testing.assert_array_equal(one.mask.alpha, three.mask.alpha)
        assert (one.box, one.score, one.lift_centre_px) == (three.box, three.score, three.lift_centre_px)


def test_as_many_threads_as_omp_num_threads_allows(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert look_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert look_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # a list for nested loops: nothing sensible for one
    assert 1 <= look_threads() <= 8


def test_calls_that_run_side_by_side_answer_as_called():
    """Each waits for the next, so that they end in the opposite order; a call that fails does so where it is asked."""
    ended = [threading.Event() for _ in range(4)]

    def call(i: int) -> int:
        assert i == 3 or ended[i + 1].wait(30)
        ended[i].set()
        return i * i

    with started([partial(call, i) for i in range(4)], 4) as answers:
        assert [answer() for answer in answers] == [0, 1, 4, 9]
    with started([partial(int, "1"), partial(int, "one")], 2) as answers:
        assert answers[0]() == 1
        with pytest.raises(ValueError, match="one"):
            answers[1]()


def test_one_thread_makes_only_the_calls_that_are_asked_for():
    made = []
    with started([partial(made.append, i) for i in range(3)], 1) as answers:
        answers[1]()
    assert made == [1]


# ---------------------------------------------------------------- following


def test_following_moves_with_the_person(detector, walking):
    """The picture shifted by 12 and 7 px: the same keypoints, shifted, for the very same pixels are looked at."""
    frame, person = walking
    moved = np.roll(frame.image, (7, 12), (0, 1))
    here, there = detector.follow(frame, [person])[0], detector.follow(Frame(moved), [person])[0]
    apart = there.xyc[COCO_ROWS, :2] - here.xyc[COCO_ROWS, :2] - (12, 7)
    assert np.median(np.linalg.norm(apart, axis=1)) < 4  # the region stayed, so the network saw another crop
    assert there.lift_m is not None


def test_following_says_who_is_gone_and_keeps_the_order(detector, walking):
    frame, person = walking
    elsewhere = replace(person, xyc=person.xyc * np.float32([0.2, 0.2, 1]))
    blank = Frame(np.full_like(frame.image, 90))
    assert detector.follow(blank, [person, person]) == [None, None]
    first, second = detector.follow(frame, [elsewhere, person])
    assert first is None
    assert second is not None
    coco = Keypoints2D("coco17", person.xyc[COCO_ROWS])  # another detector's layout
    assert detector.follow(frame, [coco])[0] is not None
    assert detector.follow(frame, []) == []


# ---------------------------------------------------------------- hands, face, mask


def test_left_and_right_hands_are_exchanged_by_a_mirror(detector, walking):
    frame, person = walking
    assert set(person.hands) == {"left", "right"}
    for side, hand in person.hands.items():
        wrist = person.xyc[NAMES.index(f"{side}_wrist"), :2]
        assert np.linalg.norm(hand.xyc[0, :2] - wrist) < 20  # of 380 px height
        assert hand.lift_m.shape == (21, 3)
        assert np.ptp(hand.lift_m, axis=0).max() < 0.25  # metres: no hand is longer
    (other,) = detector.detect([Frame(np.ascontiguousarray(frame.image[:, ::-1]))])[0]
    swap = {"left": "right", "right": "left"}
    assert other.hands
    for side, hand in other.hands.items():
        back = frame.size[0] - hand.xyc[:, 0].mean()
        assert abs(back - person.hands[swap[side]].xyc[:, 0].mean()) < 15
        assert abs(back - person.hands[side].xyc[:, 0].mean()) > 50


def test_a_hand_belongs_to_who_shows_it_more_surely():
    points = np.random.default_rng(0).uniform(0, 40, (21, 3)).astype(np.float32)
    sure = Part(np.concatenate([points[:, :2], np.full((21, 1), 0.9, np.float32)], 1))
    less = Part(np.concatenate([points[:, :2] + 3, np.full((21, 1), 0.5, np.float32)], 1))
    away = Part(less.xyc + np.float32([100, 0, 0]))
    kept = each_once([{"left": less, "right": away}, {"right": sure}])
    assert [set(hands) for hands in kept] == [{"right"}, {"right"}]
    assert set(each_once([{"left": sure, "right": less}])[0]) == {"left", "right"}  # folded hands of one person


def test_a_face_has_its_features_where_they_belong(detector):
    frame = read_image(SAMPLES / "astronaut_portrait.jpg")
    (person,) = detector.detect([frame])[0]
    assert person.face.xyc.shape == (468, 3)
    points = person.face.xyc[list(FACE_IBUG68), :2]
    jaw, brows, nose, eyes, lips = (points[a:b] for a, b in ((0, 17), (17, 27), (27, 36), (36, 48), (48, 68)))
    assert brows[:, 1].max() < eyes[:, 1].mean() < nose[6, 1] < lips[:, 1].mean() < jaw[8, 1]
    assert jaw[0, 0] < eyes[:6, 0].mean() < nose[3, 0] < eyes[6:, 0].mean() < jaw[16, 0]  # her right comes first
    assert np.linalg.norm(eyes[6:].mean(0) - person.xyc[NAMES.index("left_eye"), :2]) < 8
    tip = person.xyc[NAMES.index("nose"), :2]
    assert np.linalg.norm(nose[3] - tip) < 12


def test_the_mask_is_the_person(walking):
    frame, person = walking
    mask = person.mask.full(frame.size)
    assert mask.shape == frame.image.shape[:2]
    trunk = person.xyc[[NAMES.index(f"{s}_{p}") for s in ("left", "right") for p in ("shoulder", "hip")], :2]
    x, y = trunk.mean(0).astype(int)
    assert mask[y - 5 : y + 5, x - 5 : x + 5].min() > 200
    assert mask[:30].max() < 60  # sky
    share = (mask > 128).sum() / ((person.box[2] - person.box[0]) * (person.box[3] - person.box[1]))
    assert 0.2 < share < 0.7
    sure = person.xyc[person.xyc[:, 2] > 0.8, :2].astype(int)
    assert (mask[sure[:, 1], sure[:, 0]] > 60).mean() > 0.8


def test_a_mask_lies_where_its_corner_says():
    full = SoftMask(np.full((2, 3), 9, np.uint8), (4, 1)).full((8, 5))
    assert full.shape == (5, 8)
    assert (full[1:3, 4:7] == 9).all()
    assert full.sum() == 9 * 6


def test_layers_are_off_unless_asked_for(walking):
    (plain,) = MovenetDetector().detect([walking[0]])[0]
    assert plain.hands is None
    assert plain.face is None
    assert plain.mask is None


# ---------------------------------------------------------------- proposals


def _proposal(x: float = 200.0, height: float = 300.0, *, score: float = 0.6, **changes) -> Proposal:
    """A standing person's seventeen points."""
    side = {"left": 1, "right": -1}
    level = {"eye": -0.44, "ear": -0.43, "shoulder": -0.3, "elbow": -0.12, "wrist": 0.04, "hip": 0.0, "knee": 0.25}
    wide = {"eye": 0.02, "ear": 0.04, "shoulder": 0.11, "elbow": 0.14, "wrist": 0.15, "hip": 0.07, "knee": 0.08}
    level, wide = level | {"ankle": 0.48}, wide | {"ankle": 0.09}
    points = [(0.0, -0.42)] + [(side[s] * wide[p], level[p]) for s, p in (n.split("_") for n in COCO[1:])]
    xyc = np.concatenate([np.array(points) * height + (x, 250.0), np.full((17, 1), 0.8)], 1)
    box = (x - 0.18 * height, 250 - 0.5 * height, x + 0.18 * height, 250 + 0.5 * height)
    return replace(Proposal(xyc, box, score, 1.0), **changes)


def test_one_person_seen_twice_is_one_and_neighbours_are_two():
    twice = [_proposal(score=0.5), _proposal(203.0, 296.0, score=0.7), _proposal(330.0, score=0.4)]
    one, other = distinct(twice)
    assert (one.score, one.looks, other.score, other.looks) == (0.7, 2, 0.4, 1)


def test_what_a_tiles_edge_left_of_someone_is_dropped():
    whole = _proposal(score=0.4)
    x0, _, x1, y1 = whole.box
    legs = _proposal(200.0, 140.0, score=0.6, box=(x0, 250.0, x1, y1), cut=True)
    assert [p.score for p in distinct([legs, whole])] == [0.4]
    child = _proposal(200.0, 140.0, score=0.5)
    assert len(distinct([child, whole])) == 2  # as sure as the grown-up, and whole


def test_squares_cover_the_picture():
    for size, side in (((1768, 994), 400), ((300, 200), 400), ((1000, 1000), 250)):
        seen = np.zeros(size[::-1], bool)
        for x0, y0, x1, y1 in squares(size, side):
            assert 0 <= x0 < x1 <= size[0]
            assert 0 <= y0 < y1 <= size[1]
            seen[y0:y1, x0:x1] = True
        assert seen.all()


def test_small_doubtful_things_are_not_believed():
    assert believable(_proposal(score=0.35), 0.0, 0.0)
    assert not believable(_proposal(score=0.25, height=40.0), 0.9, 0.9)
    assert believable(_proposal(score=0.25), 0.5, 0.9)
    assert not believable(_proposal(score=0.25), 0.0, 0.9)
    assert believable(_proposal(score=0.17), 0.5, 0.9)
    assert not believable(_proposal(score=0.1), 1.0, 1.0)


def test_a_face_that_both_networks_see_is_believed():
    faint = _proposal(score=0.1)
    assert believable(faint, 0.5, 0.2, 0.9)
    assert not believable(faint, 0.4, 0.9, 0.9)
    assert not believable(faint, 0.5, 0.9, 0.8)
    assert not believable(_proposal(score=0.09), 1.0, 1.0, 1.0)


# ---------------------------------------------------------------- landmarks against the proposal


def _landmarks(proposal: Proposal) -> Keypoints2D:
    """Landmarks that agree with a proposal."""
    person = as_proposed(proposal)
    return replace(person, lift_m=np.zeros((33, 3), np.float32))


def _row(name: str) -> int:
    return NAMES.index(name)


def test_what_agrees_is_left_alone():
    proposal = _proposal()
    person = _landmarks(proposal)
    same = reconciled(person, proposal, [_proposal(330.0)])
    np.testing.assert_array_equal(same.xyc, person.xyc)
    np.testing.assert_array_equal(same.lift_m, person.lift_m)


def test_a_neighbours_wrist_is_given_back():
    proposal, neighbour = _proposal(), _proposal(330.0)
    person = _landmarks(proposal)
    person.xyc[_row("left_wrist")] = neighbour.xyc[COCO.index("right_wrist")]
    mended = reconciled(person, proposal, [neighbour])
    np.testing.assert_allclose(
        mended.xyc[_row("left_wrist"), :2], proposal.xyc[COCO.index("left_wrist"), :2], rtol=1e-6
    )
    assert np.isnan(mended.lift_m[_row("left_wrist")]).all()
    assert np.isfinite(mended.lift_m[_row("right_wrist")]).all()
    alone = reconciled(person, proposal, [])
    assert alone.xyc[_row("left_wrist"), 2] == pytest.approx(person.xyc[_row("left_wrist"), 2] / 3)


def test_feet_on_one_place_are_taken_apart():
    proposal = _proposal()
    person = _landmarks(proposal)
    middle = person.xyc[[_row("left_ankle"), _row("right_ankle")], :2].mean(0)
    person.xyc[[_row("left_ankle"), _row("right_ankle")], :2] = middle
    mended = reconciled(person, proposal, [])
    for side in ("left", "right"):
        want = proposal.xyc[COCO.index(f"{side}_ankle"), :2]
        np.testing.assert_allclose(mended.xyc[_row(f"{side}_ankle"), :2], want, rtol=1e-6)
        assert mended.xyc[_row(f"{side}_heel"), 2] == 0


def test_left_and_right_the_other_way_round_is_doubted():
    proposal = _proposal()
    person = _landmarks(proposal)
    turned = replace(person, xyc=person.xyc[mirrored_rows(NAMES)])
    doubted = reconciled(turned, proposal, [])
    np.testing.assert_array_equal(doubted.xyc[:, :2], turned.xyc[:, :2])
    limb, nose = _row("left_knee"), _row("nose")
    assert doubted.xyc[limb, 2] == pytest.approx(0.5 * turned.xyc[limb, 2])
    assert doubted.xyc[nose, 2] == turned.xyc[nose, 2]
