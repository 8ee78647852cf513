"""Hands, faces and irises: where they are looked for, whose they are, and that turning a picture turns the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from PIL import Image

import bodyfit
from bodyfit.detect.networks.crops import crop, from_picture, to_picture, turned
from bodyfit.detect.networks.faces import EYE_CORNERS, FaceNetwork
from bodyfit.detect.networks.hands import HandLook, HandNetworks
from bodyfit.detect.parts import Face, FaceFinder, HandFinder, each_once
from bodyfit.detect.regions import Roi
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import read_image
from bodyfit.render import render_bodies
from bodyfit.skeleton import SMPLX, layout_names, mirrored_rows

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
NAMES = layout_names("mediapipe33")
SIDES = ("left", "right")
SIZE_PX, PALM_PX = 320, 60.0


# ---------------------------------------------------------------- rendered hands


class Hand:
    """A hand of the open body before a plain wall, and where its landmarks and the body's are."""

    def __init__(self, side: str, seed: int) -> None:
        model, rng = bodyfit.load_model("open-x", num_pca_comps=6), np.random.default_rng(seed)
        names = layout_names("smpl24")
        pose = torch.zeros(1, model.body_joints - 1, 3)
        pose[0, names.index(f"{side}_elbow") - 1, 1] = -0.9 if side == "left" else 0.9
        turn = roma.rotvec_to_rotmat(torch.tensor([np.pi + (1.2 if seed % 2 else -1.2), 0, 0])).float()
        fingers = torch.tensor(rng.normal(0, 0.5, (1, 6)), dtype=torch.float32)
        params = model.params(
            body_pose=pose.reshape(1, -1),
            global_orient=roma.rotmat_to_rotvec(turn)[None],
            **{f"{side}_hand_pose": fingers},
        )
        with torch.no_grad():
            out = model(**params)
        wrist, knuckle = (out.joints[0, SMPLX.index(f"{side}_{joint}")] for joint in ("wrist", "middle1"))
        palm_m = float(torch.linalg.norm(knuckle - wrist))
        shift = torch.tensor([0, 0, 1.0]) - 0.5 * (wrist + knuckle)
        camera = Camera.make(1, (SIZE_PX, SIZE_PX), focal_px=PALM_PX / palm_m)
        tips = dict(zip(layout_names("openpose137"), model.keypoints(out, "openpose137")[0], strict=True))
        points = [wrist]
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            points += [out.joints[0, SMPLX.index(f"{side}_{finger}{i}")] for i in (1, 2, 3)]
            points += [tips[f"{side}_{finger}_tip"]]
        self.side = side
        self.xyz_m = torch.stack(points).numpy()
        self.xy_px = camera.project((torch.stack(points) + shift)[None])[0].numpy()
        body = camera.project(model.keypoints(out, "mediapipe33") + shift)[0].numpy()
        self.body = np.concatenate([body, np.ones((len(NAMES), 1), np.float32)], 1)
        picture = np.ones((SIZE_PX, SIZE_PX, 3)) * np.linspace(0.35, 0.6, SIZE_PX)[:, None, None]
        layer = render_bodies([(out.vertices[0] + shift, (0.78, 0.58, 0.47))], model.faces, camera)
        layer.over(picture)
        self.image = (255 * picture).round().astype(np.uint8)


@pytest.fixture(scope="module")
def rendered() -> list[Hand]:
    return [Hand(side, seed) for seed in (1, 2) for side in SIDES]


@pytest.fixture(scope="module")
def finder() -> HandFinder:
    return HandFinder()


def quarter_turn(image: np.ndarray, xyc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and points of it, both turned by 90 degrees counterclockwise."""
    turned_points = xyc.copy()
    turned_points[:, :2] = np.stack([xyc[:, 1], image.shape[1] - xyc[:, 0]], 1)
    return np.ascontiguousarray(np.rot90(image)), turned_points


def in_mirror(image: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and a body's landmarks as a mirror shows them: what was left is right."""
    swapped = body[mirrored_rows(NAMES)] * np.float32([-1, 1, 1]) + np.float32([image.shape[1], 0, 0])
    return np.ascontiguousarray(image[:, ::-1]), swapped


def test_rendered_hands_are_found_and_lifted(rendered, finder):
    """Fists with one finger out, from both sides: 2D errors and the lift's are what the network's own are."""
    for hand in rendered:
        found = finder.hands(hand.image, hand.body)[hand.side]
        assert np.linalg.norm(found.xyc[:, :2] - hand.xy_px, axis=1).mean() < 0.15 * PALM_PX  # 0.05 to 0.08
        assert pa_mpjpe(found.lift_m[None], hand.xyz_m[None]).per_item[0] < 22  # mm; 15 to 17
        assert found.score > 0.5
        assert found.xyc[:, 2].min() == 1.0
        # Metres, with the picture's axes: as large as a hand, and turned as it is.
        about = found.lift_m - found.lift_m.mean(0)
        truth = hand.xyz_m - hand.xyz_m.mean(0)
        assert 0.7 < np.linalg.norm(about) / np.linalg.norm(truth) < 1.3
        assert (about * truth).sum() > 0.8 * np.linalg.norm(about) * np.linalg.norm(truth)


def test_a_mirror_exchanges_left_and_right_hands(rendered, finder):
    for hand in rendered:
        found = finder.hands(hand.image, hand.body)
        other = finder.hands(*in_mirror(hand.image, hand.body))
        (side,) = other
        assert side != hand.side
        back = other[side].xyc[:, :2] * (-1, 1) + (SIZE_PX, 0)
        # The network is not symmetric, nor is its region; a twelfth of the palm is what two looks differ by.
        assert np.linalg.norm(back - found[hand.side].xyc[:, :2], axis=1).mean() < PALM_PX / 12
        assert other[side].score > 0.5


def test_crossed_hands_go_by_the_wrists_and_exchanged_ones_are_doubted(rendered, finder):
    """Each hand in the half of the picture where, of who faces the camera, the other one would be, or would not."""
    left, right = rendered[0], rendered[1]
    for order in ((left, right), (right, left)):
        image = np.concatenate([hand.image for hand in order], 1)
        body = np.zeros((len(NAMES), 3), np.float32)
        for x, hand in zip((0, SIZE_PX), order, strict=True):
            rows = [row for row, name in enumerate(NAMES) if name.startswith(hand.side)]
            body[rows] = hand.body[rows] + np.float32([x, 0, 0])
        found = finder.hands(image, body)
        for x, hand in zip((0, SIZE_PX), order, strict=True):
            apart = found[hand.side].xyc[:, :2] - hand.xy_px - (x, 0)
            assert np.linalg.norm(apart, axis=1).mean() < 0.15 * PALM_PX
        wrong = finder.hands(image, body[mirrored_rows(NAMES)])  # a body whose arms a detector has exchanged
        assert all(hand.score < 0.5 for hand in wrong.values())


def test_hands_that_two_people_hold_stay_theirs(rendered, finder):
    """Side by side each has one's own; whose wrist is hidden, and guessed at the other's hand, does not get that."""
    left, right = rendered[0], rendered[1]
    image = np.concatenate([right.image, left.image], 1)
    moved = left.body + np.float32([SIZE_PX, 0, 0])
    people = [{right.side: right.body}, {left.side: moved}]
    bodies = []
    for shown in people:
        body = np.zeros((len(NAMES), 3), np.float32)
        for side, points in shown.items():
            rows = [row for row, name in enumerate(NAMES) if name.startswith(side)]
            body[rows] = points[rows]
        bodies.append(body)
    kept = each_once([finder.hands(image, body) for body in bodies])
    assert [set(hands) for hands in kept] == [{"right"}, {"left"}]
    guess = bodies[1] * np.float32([1, 1, 0.5]) + np.float32([2, 2, 0])
    for order in ((bodies[1], guess), (guess, bodies[1])):
        kept = each_once([finder.hands(image, body) for body in order])
        assert [bool(hands) for hands in kept] == [body is bodies[1] for body in order]


def test_a_turned_picture_gives_the_turned_hand(rendered, finder):
    hand = rendered[0]
    upright = finder.hands(hand.image, hand.body)[hand.side]
    image, body = quarter_turn(hand.image, hand.body)
    found = finder.hands(image, body)[hand.side]
    expected = quarter_turn(hand.image, upright.xyc)[1]
    # A pixel's corner and not its middle is the centre of the turn in the networks' sampling: half a pixel.
    assert np.abs(found.xyc[:, :2] - expected[:, :2]).max() < 1.5
    np.testing.assert_allclose(found.lift_m, upright.lift_m[:, [1, 0, 2]] * (1, -1, 1), atol=0.006)


def test_small_hidden_and_absent_hands_are_left_out(rendered, finder):
    hand = rendered[0]
    assert set(finder.hands(hand.image, hand.body)) == {hand.side}
    third = np.array(Image.fromarray(hand.image).resize((SIZE_PX // 3, SIZE_PX // 3)))
    assert finder.hands(third, hand.body * np.float32([1 / 3, 1 / 3, 1])) == {}  # a palm of 20 px
    assert finder.hands(hand.image, hand.body * np.float32([1, 1, 0.2])) == {}  # the body hardly sees the wrist
    assert finder.hands(np.full_like(hand.image, 90), hand.body) == {}
    assert finder.hands(hand.image, hand.body + np.float32([5000, 0, 0])) == {}  # beyond the picture's edge


def test_points_beyond_the_edge_have_no_confidence(rendered, finder):
    hand = rendered[0]
    edge = int(np.quantile(hand.xy_px[:, 0], 0.8))
    part = finder.hands(np.ascontiguousarray(hand.image[:, :edge]), hand.body)[hand.side]
    outside = part.xyc[:, 0] > edge
    np.testing.assert_array_equal(part.xyc[:, 2] == 0, outside)
    assert 1 < outside.sum() < 12


def test_the_region_follows_the_palm():
    """Hands are looked at upright: whatever the turn of the picture, the wrist lies below the fingers."""
    points = np.zeros((21, 2))
    points[[5, 9, 13, 17]] = [[-20, -50], [0, -55], [20, -50], [35, -40]]
    for angle in (0.0, 1.0, 2.5, -2.0):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        look = HandLook(points @ turn.T + (300, 200), np.zeros((21, 3)), 1.0, 0.5, Roi(300.0, 200.0, 100.0, 0.0))
        roi = look.next_roi
        assert abs(np.angle(np.exp(1j * (roi.angle - angle)))) < 0.1
        inside = (points @ turn.T + (300, 200) - (roi.x, roi.y)) @ turn / roi.size
        assert np.abs(inside).max() < 0.5
        assert roi.size == pytest.approx(110, rel=0.1)


# ---------------------------------------------------------------- a face


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, np.ndarray]:
    """A picture and the body's landmarks of the woman in it."""
    frame = read_image(SAMPLES / "astronaut_portrait.jpg")
    (person,) = bodyfit.load_detector().detect([frame])[0]
    return frame.image, person.xyc


@pytest.fixture(scope="module")
def faces() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(scope="module")
def face(portrait, faces) -> Face:
    return faces.face(*portrait)


def test_irises_lie_within_the_lids_and_are_round(face):
    xy = face.mesh.xyc[:, :2]
    assert set(face.irises) == set(SIDES)
    for side, iris in face.irises.items():
        middle, edge = iris.xyc[0, :2], iris.xyc[1:, :2]
        outer, inner = xy[list(EYE_CORNERS[side])]
        along = (middle - outer) @ (inner - outer) / ((inner - outer) ** 2).sum()
        assert 0.25 < along < 0.75
        radii = np.linalg.norm(edge - middle, axis=1)
        # An iris is 11.7 mm across, an eye from corner to corner about 30.
        assert 0.25 < 2 * radii.mean() / np.linalg.norm(outer - inner) < 0.55
        assert radii.max() < 1.4 * radii.min()
        right, up, left, down = edge - middle
        assert right[0] > 0 > left[0]
        assert down[1] > 0 > up[1]
    assert face.irises["left"].xyc[0, 0] > face.irises["right"].xyc[0, 0]  # she faces the camera


def test_a_turned_or_enlarged_picture_gives_the_turned_or_enlarged_face(portrait, faces, face):
    image, body = portrait
    for change in (quarter_turn, lambda image, xyc: (image.repeat(3, 0).repeat(3, 1), xyc * np.float32([3, 3, 1]))):
        again = faces.face(*change(image, body))
        expected = change(image, face.mesh.xyc)[1][:, :2]
        width = np.ptp(expected, axis=0).max()
        assert np.linalg.norm(again.mesh.xyc[:, :2] - expected, axis=1).mean() < 0.01 * width
        for side in SIDES:
            iris = change(image, face.irises[side].xyc)[1][0, :2]
            assert np.linalg.norm(again.irises[side].xyc[0, :2] - iris) < 0.015 * width


def test_a_mirrored_face_is_the_mirrored_one(portrait, faces, face):
    image, body = portrait
    again = faces.face(*in_mirror(image, body))
    for side, other in zip(SIDES, SIDES[::-1], strict=True):
        back = again.irises[side].xyc[0, :2] * (-1, 1) + (image.shape[1], 0)
        assert np.linalg.norm(back - face.irises[other].xyc[0, :2]) < 2.5  # of a face of 110 px


def test_small_eyes_have_no_irises_and_what_is_no_face_is_none(portrait, faces):
    image, body = portrait
    half = np.array(Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2)))
    small = faces.face(half, body * np.float32([0.5, 0.5, 1]))
    assert small.mesh.xyc.shape == (468, 3)
    assert small.irises == {}
    assert faces.face(np.full_like(image, 120), body) is None
    assert faces.face(image, body + np.float32([0, 250, 0])) is None  # her chest
    assert faces.face(image, body * np.float32([1, 1, 0.1])) is None


def test_a_rendered_head_is_seen_from_all_sides_and_a_hidden_eye_is_left_out(faces):
    """From profile to three quarters; the truth is the body's own points of the face."""
    model = bodyfit.load_model("open-x")
    for yaw in (-1.2, 0.0, 0.5):
        turn = roma.rotvec_to_rotmat(torch.tensor([[np.pi, 0.0, 0.0], [0.0, yaw, 0.0]])).float()
        with torch.no_grad():
            out = model(**model.params(global_orient=roma.rotmat_to_rotvec(turn[0] @ turn[1])[None]))
        points = model.keypoints(out, "mediapipe33")
        shift = torch.tensor([0, 0, 1.0]) - points[0, : NAMES.index("mouth_right")].mean(0)
        camera = Camera.make(1, (300, 300), focal_px=1000.0)
        picture = np.full((300, 300, 3), 0.5)
        render_bodies([(out.vertices[0] + shift, (0.78, 0.58, 0.47))], model.faces, camera).over(picture)
        body = np.concatenate([camera.project(points + shift)[0].numpy(), np.ones((33, 1), np.float32)], 1)
        face = faces.face((255 * picture).round().astype(np.uint8), body)
        nose, eyes = face.mesh.xyc[4, :2], {side: face.mesh.xyc[list(EYE_CORNERS[side]), :2].mean(0) for side in SIDES}
        assert np.linalg.norm(nose - body[NAMES.index("nose"), :2]) < 10  # of a head of 150 px
        for side in SIDES:
            assert np.linalg.norm(eyes[side] - body[NAMES.index(f"{side}_eye"), :2]) < 10
        assert set(face.irises) == ({"left"} if yaw < -1 else set(SIDES))  # its nose points to the picture's left


def test_the_detector_gives_face_and_irises_by_side(portrait):
    frame = read_image(SAMPLES / "astronaut_portrait.jpg")
    (person,) = bodyfit.load_detector(face=True).detect([frame])[0]
    for side in SIDES:
        eye = person.xyc[NAMES.index(f"{side}_eye"), :2]
        assert np.linalg.norm(person.irises[side].xyc[0, :2] - eye) < 8
    (plain,) = bodyfit.load_detector().detect([frame])[0]
    assert plain.irises is None


# ---------------------------------------------------------------- regions of a picture


def test_a_crop_shows_what_its_region_holds():
    """The picture's red and green are its pixels' places, so a crop's are the places that `to_picture` says."""
    y, x = np.mgrid[:200, :200]
    image = np.stack([x, y, 0 * x], 2).astype(np.uint8)
    roi, side = Roi(100.0, 90.0, 60.0, 0.7), 64
    seen = 255 * crop(image, roi, side)[0]
    pixels = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    np.testing.assert_allclose(seen[..., :2].reshape(-1, 2), to_picture(pixels / side, roi), atol=0.6)
    back = to_picture(pixels / side, roi) @ from_picture(roi, side)[:, :2].T + from_picture(roi, side)[:, 2]
    np.testing.assert_allclose(back, pixels, atol=1e-9)
    assert crop(image, Roi(-100.0, 90.0, 60.0, 0.0), side) is None


def test_a_lift_turns_with_its_region():
    lift = np.random.default_rng(0).normal(size=(21, 3))
    roi = Roi(0.0, 0.0, 1.0, 0.4)
    np.testing.assert_allclose(turned(lift, roi)[:, :2], to_picture(lift[:, :2] + 0.5, roi), atol=1e-12)
    np.testing.assert_array_equal(turned(lift, roi)[:, 2], lift[:, 2])
    np.testing.assert_allclose(turned(turned(lift, roi), replace(roi, angle=-0.4)), lift, atol=1e-12)


def test_no_hand_and_no_face_in_noise():
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    roi = Roi(150.0, 150.0, 200.0, 0.3)
    assert HandNetworks().look(noise, roi) is None
    assert FaceNetwork().look(noise, roi) is None
