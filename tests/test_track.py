"""A track is one person with one shape through consecutive frames; people keep their numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bodyfit.app.video import even_slots
from bodyfit.body.model import BodyParams
from bodyfit.detect.regions import same_person
from bodyfit.detect.search import similarity as coco
from bodyfit.detect.tracking.clip import watch
from bodyfit.detect.tracking.steady import exchanged, mirror, unsteady
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import Frame
from bodyfit.io import load_result, load_track, save, save_track
from bodyfit.keypoints import KeypointRows, Keypoints2D, Part, closeness
from bodyfit.tracker import Sighting, Tracker, TrackerConfig, similarity, trails


def _track(n: int = 5, first: int = 7) -> Track:
    torch.manual_seed(0)
    betas = torch.randn(1, 10).repeat(n, 1)
    result = FitResult(
        params=BodyParams(betas, torch.randn(n, 69), torch.randn(n, 3), torch.randn(n, 3)),
        camera=Camera.make(n, (640, 480), focal_px=700.0),
        joints=torch.randn(n, 24, 3),
        status=(FitStatus.CONVERGED,) * n,
        objective=torch.rand(n),
        reprojection_error_px=torch.rand(n),
        layout="coco17",
        keypoints=torch.rand(n, 17, 3),
        model_name="open",
        gender="neutral",
        iterations=torch.arange(n),
        flipped=torch.zeros(n, dtype=torch.bool),
    )
    times = (np.arange(n) + first) / 29.97
    return Track(3, np.arange(first, first + n), times, 29.97, np.arange(n) != 2, result)


def test_a_track_is_read_back_exactly(tmp_path):
    track = _track()
    save_track(track, tmp_path / "person3.npz")
    back = load_track(tmp_path / "person3.npz")
    assert (back.id, back.fps) == (track.id, track.fps)
    for name in ("frames", "times_s", "seen"):
        np.testing.assert_array_equal(getattr(back, name), getattr(track, name))
    for name, value in track.result.params.items():
        assert torch.equal(back.result.params[name], value)
    assert torch.equal(back.result.keypoints, track.result.keypoints)
    assert back.result.status == track.result.status


def test_hands_faces_and_irises_are_kept_in_rows_and_scaled():
    rng, rows, people = np.random.default_rng(0), KeypointRows(), []

    def part(points: int, lifted: bool) -> Part:
        xyc, lift = rng.random((2, points, 3)).astype(np.float32)
        return Part(xyc, lift if lifted else None, float(rng.random()))

    for i in range(290):
        hands = {side: part(21, True) for side in ("left", "right") if rng.random() < 0.5}
        person = Keypoints2D("coco17", rng.random((17, 3)).astype(np.float32), hands=hands if i % 5 else None)
        if i > 260:  # a face shows late in the clip
            person = dataclasses.replace(person, face=part(468, False), irises={"left": part(5, False)})
        people.append(person)
        rows.append(person)
    for got, given in zip(rows, people, strict=True):
        assert (got.hands is None, got.face is None, got.irises is None) == (
            given.hands is None,
            given.face is None,
            given.irises is None,
        )
        for one, other in ((got.hands, given.hands), (got.irises, given.irises), ({"": got.face}, {"": given.face})):
            assert (one or {}).keys() == (other or {}).keys()
            for side, kept in (one or {}).items():
                if kept is not None:
                    np.testing.assert_array_equal(kept.xyc, other[side].xyc)
                    assert kept.score == other[side].score
                    assert (kept.lift_m is None) == (other[side].lift_m is None)
                    if kept.lift_m is not None:
                        np.testing.assert_array_equal(kept.lift_m, other[side].lift_m)
    last = people[-1].scaled(3.0)
    np.testing.assert_allclose(last.face.xyc, people[-1].face.xyc * np.float32([3, 3, 1]), rtol=1e-6)
    np.testing.assert_allclose(last.irises["left"].xyc[:, 2], people[-1].irises["left"].xyc[:, 2])
    assert last.hands.keys() == people[-1].hands.keys()
    with pytest.raises(OptionError, match="part"):
        rows.append(dataclasses.replace(people[-1], face=part(68, False)))


def test_keypoints_in_rows_are_the_keypoints():
    rng, rows, people = np.random.default_rng(0), KeypointRows(), []
    for i in range(300):  # more than an array holds
        lift, centre = rng.normal(size=(17, 3)).astype(np.float32), (float(i), 0.25)
        person = Keypoints2D("coco17", rng.random((17, 3)).astype(np.float32), lift, centre, 0.5)
        people.append(person if i % 3 else dataclasses.replace(person, lift_m=None, lift_centre_px=None))
        rows.append(people[-1])
    assert len(rows) == len(list(rows)) == 300
    for got, given in zip([*rows, rows[-1], *rows[126:130]], [*people, people[-1], *people[126:130]], strict=True):
        np.testing.assert_array_equal(got.xyc, given.xyc)
        assert (got.lift_m is None) == (given.lift_m is None)
        if given.lift_m is not None:
            np.testing.assert_array_equal(got.lift_m, given.lift_m)
        assert (got.layout, got.lift_centre_px, got.score) == (given.layout, given.lift_centre_px, given.score)
    with pytest.raises(IndexError):
        rows[300]
    with pytest.raises(OptionError, match="layout"):
        rows.append(Keypoints2D("openpose25", np.zeros((25, 3), np.float32)))


def test_the_fit_in_a_track_can_be_read_alone_and_by_amass_tools(tmp_path):
    track = _track()
    save_track(track, tmp_path / "t.npz")
    assert torch.equal(load_result(tmp_path / "t.npz").joints, track.result.joints)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        assert arrays["poses"].shape == (5, 72)
        assert arrays["trans"].shape == (5, 3)
        assert float(arrays["mocap_framerate"]) == track.fps


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"frames": np.array([7, 8, 10, 11, 12])}, "equal steps"),
        ({"frames": np.array([7, 7, 7, 7, 7])}, "equal steps"),
        ({"times_s": np.zeros(5)}, "times_s must ascend"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
)
def test_what_is_no_track_is_refused(change, text):
    with pytest.raises(OptionError, match=text):
        dataclasses.replace(_track(), **change)


def test_a_person_has_one_shape():
    track = _track()
    track.result.params.betas[1, 0] += 0.1
    with pytest.raises(match="one shape"):
        dataclasses.replace(track)


def test_a_stride_is_a_track():
    track = dataclasses.replace(_track(), frames=np.arange(0, 15, 3))
    assert len(track) == 5


def test_files_that_hold_no_track_are_named(tmp_path):
    track = _track()
    path = tmp_path / "t.npz"
    save(track.result, path, fps=30.0)
    with pytest.raises(AssetError, match=r"t\.npz.*not a track"):
        load_track(path)
    save_track(track, path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    for change, text in (
        ({"frames": arrays["frames"][::-1].copy()}, "ascend"),
        ({"frames": arrays["frames"].astype(float)}, "frames is float64"),
        ({"seen": arrays["seen"][:3]}, "seen"),
        ({"seen": None}, "lacks seen"),
    ):
        np.savez(path, **{k: v for k, v in (arrays | change).items() if v is not None})
        with pytest.raises(AssetError, match=text):
            load_track(path)


# Telling people apart. A stick figure of COCO's keypoints stands for a person.

_FIGURE = np.array(
    [
        *((0, -0.9), (-0.03, -0.93), (0.03, -0.93), (-0.06, -0.9), (0.06, -0.9), (-0.18, -0.7), (0.18, -0.7)),
        *((-0.22, -0.45), (0.22, -0.45), (-0.24, -0.2), (0.24, -0.2), (-0.1, -0.2), (0.1, -0.2)),
        *((-0.1, 0.2), (0.1, 0.2), (-0.1, 0.6), (0.1, 0.6)),
    ]
)


def _person(x: float, y: float = 300.0, *, height: float = 200.0, sure: float = 0.9, noise=None) -> Keypoints2D:
    xy = _FIGURE * height / 1.53 + (x, y)
    if noise is not None:
        xy = xy + noise.normal(0, 0.01 * height, xy.shape)
    return Keypoints2D("coco17", np.concatenate([xy, np.full((17, 1), sure)], 1).astype(np.float32))


def _numbers(places, *, fps: float = 30.0, seed: int = 0, config: TrackerConfig | None = None) -> list[dict[str, int]]:
    """The number that each name gets in each frame; `places` are dicts of name: x, shuffled before the tracker."""
    rng, tracker, given = np.random.default_rng(seed), Tracker(config), []
    for i, frame in enumerate(places):
        names = list(rng.permutation(list(frame))) if frame else []
        people = tuple(_person(frame[name], noise=rng) for name in names)
        given.append(dict(zip(names, tracker.update(Sighting(i, i / fps, people)), strict=True)))
    return given


def _one_each(given: list[dict[str, int]]) -> dict[str, int]:
    """The number of each name, which never changes."""
    of: dict[str, set[int]] = {}
    for frame in given:
        for name, number in frame.items():
            of.setdefault(name, set()).add(number)
    assert all(len(numbers) == 1 for numbers in of.values()), of
    assert len(set.union(*of.values())) == len(of), of
    return {name: min(numbers) for name, numbers in of.items()}


@pytest.mark.parametrize("hidden", [0, 8, 20])
def test_two_who_cross_keep_their_numbers(hidden):
    """They walk through each other at 1.5 heights a second; the farther one is unseen for some frames at the middle."""
    places = []
    for i in range(90):
        frame = {"a": 100 + 10.0 * i, "b": 1005 - 10.0 * i}  # never in the very same place
        if abs(i - 45) < hidden / 2:
            del frame["b"]
        places.append(frame)
    _one_each(_numbers(places))


def test_numbers_do_not_depend_on_the_order_in_which_people_are_found():
    places = [{"a": 100 + 3.0 * i, "b": 320 + 3.0 * i, "c": 700.0} for i in range(40)]
    assert all(len(_one_each(_numbers(places, seed=s))) == 3 for s in range(5))


def test_who_is_hidden_by_a_tree_is_the_same_after_it():
    places = [{"a": 100 + 6.0 * i} if not 30 <= i < 60 else {} for i in range(100)]
    _one_each(_numbers(places))


def test_who_is_away_for_longer_is_somebody_new():
    places = [{"a": 100.0} if i < 30 or i >= 100 else {} for i in range(130)]
    given = _numbers(places, config=TrackerConfig(max_gap_s=2.0))
    assert given[0]["a"] != given[110]["a"]
    assert len(_one_each(_numbers(places, config=TrackerConfig(max_gap_s=3.0)))) == 1


def test_somebody_new_far_away_is_not_taken_for_who_left():
    places = [{"a": 60.0 - 2 * i} if i < 30 else {"b": 1500.0} for i in range(60)]
    _one_each(_numbers(places))


def test_the_frame_rate_and_uneven_times_do_not_matter():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([1 / 60, 1 / 30, 1 / 8], 60))
    tracker, seen = Tracker(), {"a": set(), "b": set()}
    for i, t in enumerate(times):
        numbers = tracker.update(Sighting(i, float(t), (_person(200 + 250 * t), _person(900 - 100 * t))))
        seen["a"].add(numbers[0])
        seen["b"].add(numbers[1])
    assert [len(s) for s in seen.values()] == [1, 1]


def test_time_must_go_on():
    tracker = Tracker()
    tracker.update(Sighting(0, 1.0, ()))
    with pytest.raises(OptionError, match="order of time"):
        tracker.update(Sighting(1, 1.0, ()))


def test_ghosts_are_left_out_and_people_numbered_as_they_appear():
    sightings = []
    for i in range(120):
        people = [_person(900.0, height=120)] if i >= 20 else []
        people += [_person(200.0)]
        people += [_person(1500.0)] if i in (50, 51, 52) else []  # a short mistake
        people += [_person(1700.0)] if i % 9 == 0 else []  # a flickering one
        sightings.append(Sighting(i, i / 30, tuple(people)))
    found = trails(sightings)
    assert [(t.id, t.frames[0], len(t.people)) for t in found] == [(0, 0, 120), (1, 20, 100)]


def test_a_clip_shorter_than_a_ghost_still_has_people():
    assert len(trails([Sighting(i, i / 30, (_person(200.0),)) for i in range(3)])) == 1
    assert len(trails([Sighting(0, 0.0, (_person(200.0),))])) == 1
    assert trails([]) == trails([Sighting(0, 0.0, ())]) == []


def test_settings_that_cannot_be_are_refused():
    for kind in ({"max_gap_s": -1.0}, {"min_similarity": 0.0}, {"min_seen_part": 2.0}):
        with pytest.raises(OptionError):
            TrackerConfig(**kind)


def test_the_trackers_the_tiles_and_cocos_similarity_are_means_of_one_closeness():
    rng = np.random.default_rng(0)
    a = np.concatenate([100 * rng.random((17, 2)), np.full((17, 1), 0.9)], 1).astype(np.float32)
    b = a + np.array([3.0, 4.0, 0.0], np.float32)  # five pixels away
    np.testing.assert_allclose(closeness(a[:, :2], b[:, :2], 5.0), np.exp(-0.5), rtol=1e-5)
    np.testing.assert_allclose(
        closeness(a[:, :2], b[:, :2], np.arange(1.0, 18.0)), np.exp(-12.5 / np.arange(1, 18) ** 2), rtol=1e-4
    )
    one, other = (Keypoints2D("coco17", xyc) for xyc in (a, b))
    assert similarity(one, other, 50.0, spread=0.1) == pytest.approx(np.exp(-0.5), rel=1e-5)
    # COCO's: sigma of the right hip and of the nose, area (0.45 x height)^2, deviation 2 sigma sqrt(area).
    near = coco.closeness(a, b, 100.0)
    assert near[12] == pytest.approx(np.exp(-12.5 / (2 * 0.107 * 45) ** 2), rel=1e-4)
    assert near[0] == pytest.approx(np.exp(-12.5 / (2 * 0.026 * 45) ** 2), rel=1e-4)
    assert coco.oks(a, b, 100.0) == pytest.approx(near.mean())
    size = float(np.ptp(a[:, :2], axis=0).max())
    for away in (0.1 * size, 0.2 * size):  # of means exp(-0.5) and exp(-2), on both sides of 0.3
        assert same_person(a, a + np.array([away, 0, 0], np.float32)) == (away < 0.15 * size)


def test_similarity_is_one_on_itself_and_falls_with_distance():
    a = _person(100.0)
    near, far = (similarity(a, _person(100.0 + d), 200.0) for d in (10.0, 60.0))
    assert similarity(a, a, 200.0) == 1.0
    assert 1 > near > 0.8 > 0.2 > far > 0
    assert similarity(a, _person(100.0, sure=0.1), 200.0) == 1.0  # nothing sure in common: by the boxes


class _Stage:
    """A detector for people whose places are known: `detect` finds all that it may, `follow` whom it is pointed at."""

    def __init__(self, places, *, blind=lambda i, name: False) -> None:
        self.places, self.blind = places, blind
        self.looks: list[int] = []

    def detect(self, frames):
        self.looks += [f.index for f in frames]
        return [[_person(x) for n, x in self.places[f.index].items() if not self.blind(f.index, n)] for f in frames]

    def follow(self, frame, previous):
        def near(one):
            x = float(one.xyc[:, 0].mean())
            found = [at for at in self.places[frame.index].values() if abs(at - x) < 40]
            return _person(found[0]) if found else None

        return [near(one) for one in previous]


def _frames(n: int):
    blank = np.zeros((4, 4, 3), np.uint8)
    return (Frame(blank, index=i, time_s=i / 30) for i in range(n))


def test_people_are_followed_back_to_where_they_came_from():
    """Everyone is looked for in every fifteenth frame only, and yet each is seen in all of his frames."""
    places = [{"a": 100 + 5.0 * i} | ({"b": 1000 - 5.0 * i} if 20 <= i < 50 else {}) for i in range(70)]
    detector = _Stage(places)
    sightings = list(watch(detector, _frames(70), every=15))
    assert [s.frame for s in sightings] == list(range(70))
    assert [len(s.people) for s in sightings] == [len(p) for p in places]
    assert len(detector.looks) <= 8


def test_whom_a_full_look_misses_is_followed_all_the_same():
    places = [{"a": 300.0} for _ in range(60)]
    sightings = watch(_Stage(places, blind=lambda i, name: 10 < i < 35), _frames(60), every=10)
    assert all(len(s.people) == 1 for s in sightings)


def test_what_full_looks_never_confirm_is_a_ghost():
    places = [{"a": 300.0} for _ in range(90)]
    sightings = list(watch(_Stage(places, blind=lambda i, name: i > 0), _frames(90), every=10))
    assert len(sightings[0].people) == 1
    assert len(sightings[-1].people) == 0


def test_two_who_meet_are_told_apart_after():
    places = [{"a": 100 + 10.0 * i, "b": 1000 - 10.0 * i} for i in range(90)]
    found = trails(watch(_Stage(places), _frames(90), every=15))
    assert len(found) == 2
    middles = [[float(p.xyc[:, 0].mean()) for p in t.people] for t in found]
    assert sorted(m[-1] - m[0] > 0 for m in middles) == [False, True]
    assert all(abs(m[-1] - m[0]) > 800 for m in middles)


def test_a_detector_that_cannot_follow_looks_at_each_frame():
    class Still:
        def detect(self, frames):
            return [[_person(100.0)] for _ in frames]

    assert [len(s.people) for s in watch(Still(), _frames(5))] == [1] * 5
    with pytest.raises(OptionError, match="every"):
        list(watch(Still(), _frames(5), every=0))


def test_an_even_clock_fills_what_an_uneven_one_skips():
    slots, fps = even_slots(np.array([0.0, 0.033, 0.067, 0.1, 0.133]), 30.0)
    assert slots.tolist() == [0, 1, 2, 3, 4]
    assert fps == pytest.approx(30, rel=0.03)
    slots, fps = even_slots(np.array([0.0, 0.04, 0.08, 0.20, 0.24]), 20.0)
    assert (slots.tolist(), fps) == ([0, 1, 2, 5, 6], pytest.approx(25))
    slots, _ = even_slots(np.array([0.0, 0.04, 0.045, 0.05, 0.16, 0.2]), 25.0)
    assert (np.diff(slots) > 0).all()


def test_a_pose_that_jumps_is_doubted_and_one_that_moves_is_not():
    person = _person(300.0)
    assert unsteady(_person(330.0), person, 1) < 1  # all of him moves on
    assert unsteady(exchanged(person), person, 1) > 1  # he cannot have turned round in a frame
    assert unsteady(exchanged(person), person, 30) < 1  # in a second he can
    assert unsteady(_person(300.0, noise=np.random.default_rng(0)), person, 1) < 1


def test_a_mirrored_mirror_image_is_as_before():
    person = _person(300.0)
    lifted = Keypoints2D("coco17", person.xyc, np.random.default_rng(0).normal(size=(17, 3)), (300.0, 200.0))
    back = mirror(mirror(lifted, 640), 640)
    np.testing.assert_allclose(back.xyc, lifted.xyc, atol=1e-4)
    np.testing.assert_allclose(back.lift_m, lifted.lift_m)
    assert back.lift_centre_px == lifted.lift_centre_px
    nose = mirror(person, 640).xyc[0]
    np.testing.assert_allclose(nose[:2], (640 - person.xyc[0, 0], person.xyc[0, 1]), atol=1e-4)


def test_hands_go_with_the_sides():
    """In a mirror a left hand is a right one, there and back; where only the sides were mistaken, it stays as it is."""
    rng = np.random.default_rng(0)
    hand = Part(rng.uniform(0, 300, (21, 3)).astype(np.float32), rng.normal(size=(21, 3)).astype(np.float32), 0.9)
    person = dataclasses.replace(_person(300.0), hands={"left": hand})
    (seen,) = mirror(person, 640).hands.items()
    assert seen[0] == "right"
    np.testing.assert_allclose(seen[1].xyc[:, 0], 640 - hand.xyc[:, 0])
    np.testing.assert_allclose(seen[1].lift_m, hand.lift_m * (-1, 1, 1))
    back = mirror(mirror(person, 640), 640).hands["left"]
    np.testing.assert_allclose(back.xyc, hand.xyc, atol=1e-4)
    (mistaken,) = exchanged(person).hands.items()
    assert mistaken[0] == "right"
    np.testing.assert_array_equal(mistaken[1].xyc, hand.xyc)
    assert mistaken[1].score == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [range(20, 23), range(20, 40)])
def test_a_look_that_exchanges_the_sides_is_put_right(wrong):
    class Confused(_Stage):
        def follow(self, frame, previous):
            found = super().follow(frame, previous)
            return [exchanged(one) if one and frame.index in wrong else one for one in found]

    places = [{"a": 1000.0 + 2 * i} for i in range(60)]
    blank = np.zeros((4, 4000, 3), np.uint8)  # wide enough that the mirrored person is nowhere near
    frames = (Frame(blank, index=i, time_s=i / 30) for i in range(60))
    for sighting in watch(Confused(places), frames, every=15):
        (one,) = sighting.people
        assert one.xyc[5, 0] < one.xyc[6, 0]  # the left shoulder stays where it is
        assert one.xyc[5, 2] > 0.5
