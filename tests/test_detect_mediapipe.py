"""The detector by MediaPipe's own wheel, an extra, and our networks against its graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mediapipe", reason='pip install "bodyfit[mediapipe]"')

from bodyfit.detect.blazepose import Blazepose
from bodyfit.detect.mediapipe import MediapipeDetector
from bodyfit.detect.networks.faces import FaceNetwork
from bodyfit.detect.networks.hands import HandNetworks
from bodyfit.detect.networks.landmarks import Landmarker
from bodyfit.detect.networks.mediapipe_graph import Graph, part_of, starting
from bodyfit.detect.regions import Roi
from bodyfit.detect.registry import load_detector
from bodyfit.errors import OptionError
from bodyfit.images.frame import read_image
from bodyfit.keypoints import FACE_IBUG68
from bodyfit.skeleton import layout_names

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
NAMES = layout_names("mediapipe33")
LIMBS = [i for i, n in enumerate(NAMES) if n.split("_")[-1] in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
HAND, FACE = Roi(339.0, 290.0, 76.0, 2.5), Roi(224.0, 105.0, 200.0, 0.1)
"""Of the woman in walking.jpg her left hand, of the woman in astronaut_portrait.jpg the face."""


def graph(calculator: str, outputs: Mapping[str, str], options: Mapping[str, Any] | None = None) -> Callable:
    """A subgraph of MediaPipe's by a region of a picture; returns the messages of its output streams by tag."""
    options = dict(options or {})
    lines = [f'input_stream: "{name}"' for name in ("image", "roi")]
    lines += [f'input_side_packet: "{tag.lower()}"' for tag in options]
    lines += [f'output_stream: "{name}"' for name in outputs.values()]
    lines += ["node {", f'calculator: "{calculator}"', 'input_stream: "IMAGE:image"', 'input_stream: "ROI:roi"']
    lines += [f'input_side_packet: "{tag}:{tag.lower()}"' for tag in options]
    lines += [f'output_stream: "{tag}:{name}"' for tag, name in outputs.items()] + ["}"]
    with starting():
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python import packet_creator

        makers = {bool: packet_creator.create_bool, int: packet_creator.create_int}
        side = {tag.lower(): makers[type(value)](value) for tag, value in options.items()}
        opened = Graph("\n".join(lines), tuple(outputs.values()), side)

    def run(image: np.ndarray, roi: Roi) -> dict[str, Any]:
        h, w = image.shape[:2]
        sides = {"x_center": roi.x / w, "y_center": roi.y / h, "width": roi.size / w, "height": roi.size / h}
        region = packet_creator.create_proto(rect_pb2.NormalizedRect(rotation=roi.angle, **sides))
        packets = opened.run(image=part_of(image, (0, 0, w, h), 1.0)[0], roi=region)
        return {tag: packets[name] for tag, name in outputs.items()}

    return run


def xy_of(packet: Any, image: np.ndarray) -> np.ndarray:
    from mediapipe.python import packet_getter

    size = image.shape[1::-1]
    return np.array([(p.x, p.y) for p in packet_getter.get_proto(packet).landmark]) * size


# ---------------------------------------------------------------- our networks and its graphs


def test_landmarks_are_those_of_mediapipes_graph():
    """Upright, turned, averaged down, beyond the picture's edge: within a tenth of a pixel of the network's input."""
    network, graph = Landmarker(), Blazepose()
    for name, x, y, size, turn in (
        ("walking", 260, 300, 480, 0.0),
        ("walking", 260, 300, 480, 0.3),
        ("walking", 200, 350, 900, -0.5),
        ("standing", 300, 300, 600, 0.1),
    ):
        image = read_image(SAMPLES / f"{name}.jpg").image
        ours, theirs = (n.landmarks(image, Roi(float(x), float(y), float(size), turn)) for n in (network, graph))
        tenth = 0.1 * size / 256
        np.testing.assert_allclose(ours.xy_px, theirs.xy_px, atol=tenth)
        np.testing.assert_allclose(ours.world_m, theirs.world_m, atol=0.002)
        np.testing.assert_allclose(ours.visibility, theirs.visibility, atol=0.002)
        np.testing.assert_allclose(ours.presence, theirs.presence, atol=0.002)
        assert abs(ours.next_roi.size - theirs.next_roi.size) < 2 * tenth


def test_the_mask_is_that_of_mediapipes_graph():
    from mediapipe.python import packet_getter

    image = read_image(SAMPLES / "walking.jpg").image
    run = graph(
        "PoseLandmarkByRoiCpu", {"SEGMENTATION_MASK": "mask"}, {"MODEL_COMPLEXITY": 1, "ENABLE_SEGMENTATION": True}
    )
    for roi in (Roi(260.0, 300.0, 380.0, 0.0), Roi(260.0, 300.0, 380.0, 0.3)):
        theirs = packet_getter.get_image(run(image, roi)["SEGMENTATION_MASK"]).numpy_view().squeeze()
        ours = Landmarker(masks=True).landmarks(image, roi).mask.full(image.shape[1::-1]) / 255
        assert np.abs(ours - theirs).mean() < 0.001
        assert ((ours > 0.5) != (theirs > 0.5)).mean() < 0.001
        assert 0.05 < (ours > 0.5).mean() < 0.2


@pytest.mark.parametrize("turn", [0.0, -0.6])
def test_hands_are_those_of_mediapipes_graphs(turn):
    from mediapipe.python import packet_getter

    image, network = read_image(SAMPLES / "walking.jpg").image, HandNetworks()
    rough = Roi(HAND.x, HAND.y, 1.4 * HAND.size, HAND.angle + turn)
    rect = packet_getter.get_proto(
        graph("HandRecropByRoiCpu", {"HAND_ROI_FROM_RECROP": "region"})(image, rough)["HAND_ROI_FROM_RECROP"]
    )
    h, w = image.shape[:2]
    region = network.region(image, rough)
    theirs = (rect.x_center * w, rect.y_center * h, rect.width * w, rect.height * h)
    np.testing.assert_allclose((region.x, region.y, region.size, region.size), theirs, atol=0.1)
    assert abs(np.angle(np.exp(1j * (region.angle - rect.rotation)))) < 0.01
    names = {"LANDMARKS": "points", "WORLD_LANDMARKS": "world", "HANDEDNESS": "side"}
    packets = graph("HandLandmarkCpu", names, {"MODEL_COMPLEXITY": 1})(image, region)
    look = network.look(image, region)
    np.testing.assert_allclose(look.xy_px, xy_of(packets["LANDMARKS"], image), atol=0.1)
    world = np.array([(p.x, p.y, p.z) for p in packet_getter.get_proto(packets["WORLD_LANDMARKS"]).landmark])
    np.testing.assert_allclose(look.lift_m, world, atol=0.001)
    label = packet_getter.get_proto(packets["HANDEDNESS"]).classification[0]
    # Its labels are those of a mirrored picture: "Left" is the right hand of who faces an ordinary camera.
    assert abs(look.right - (label.score if label.label == "Left" else 1 - label.score)) < 0.01


def test_a_face_is_that_of_mediapipes_graph_and_irises_those_of_its_other_network():
    image, network = read_image(SAMPLES / "astronaut_portrait.jpg").image, FaceNetwork()
    plain, refined = (graph("FaceLandmarkCpu", {"LANDMARKS": "points"}, {"WITH_ATTENTION": a}) for a in (False, True))
    look = network.look(image, FACE)
    np.testing.assert_allclose(look.xy_px, xy_of(plain(image, FACE)["LANDMARKS"], image), atol=0.1)
    theirs = xy_of(refined(image, look.next_roi)["LANDMARKS"], image)[468:]
    (person,) = load_detector(face=True).detect([read_image(SAMPLES / "astronaut_portrait.jpg")])[0]
    for side, points in (("right", theirs[:5]), ("left", theirs[5:])):
        assert np.abs(person.irises[side].xyc[:, :2] - points).max() < 1.5  # of an iris of 8 px


def test_the_68_points_are_of_mediapipes_own_features():
    import mediapipe.python.solutions.face_mesh_connections as published

    spans = {"FACE_OVAL": (0, 17), "RIGHT_EYEBROW": (17, 22), "LEFT_EYEBROW": (22, 27), "NOSE": (27, 36)}
    spans |= {"RIGHT_EYE": (36, 42), "LEFT_EYE": (42, 48), "LIPS": (48, 68)}
    for name, (a, b) in spans.items():
        members = {i for edge in getattr(published, f"FACEMESH_{name}") for i in edge}
        assert set(FACE_IBUG68[a:b]) <= members, name
    assert len(set(FACE_IBUG68)) == 68


# ---------------------------------------------------------------- the detector


@pytest.mark.parametrize("picture", ["walking", "standing"])
def test_the_default_detector_agrees_with_mediapipes_own_solution(picture):
    """The networks are the same, so limbs of a plain single person may differ by the averaged looks only.

    The lift, which the default makes by the picture, tells the same pose.
    """
    from mediapipe.python.solutions.pose import Pose

    frame = read_image(SAMPLES / f"{picture}.jpg")
    (person,) = load_detector().detect([frame])[0]
    with Pose(static_image_mode=True, model_complexity=1) as pose:
        answer = pose.process(frame.image)
    theirs = np.array([(p.x * frame.size[0], p.y * frame.size[1]) for p in answer.pose_landmarks.landmark])
    lift = np.array([(p.x, p.y, p.z) for p in answer.pose_world_landmarks.landmark])
    height = np.ptp(theirs[:, 1])
    apart = np.linalg.norm(theirs - person.xyc[:, :2], axis=1)[LIMBS]
    assert np.median(apart) < 0.02 * height
    assert apart.max() < 0.06 * height
    assert person.lift_m is not None
    assert np.median(np.linalg.norm(lift - person.lift_m, axis=1)[LIMBS]) < 0.12  # metres


def test_whole_picture_only_and_a_limit():
    frame = read_image(SAMPLES / "street_two_people.jpg")
    persons = MediapipeDetector().detect([frame])[0]
    (one,) = MediapipeDetector(max_people=1).detect([frame])[0]
    assert np.array_equal(one.xyc, persons[0].xyc)
    assert len(MediapipeDetector(tiled=False).detect([frame])[0]) == 1
    with pytest.raises(OptionError, match="max_people"):
        MediapipeDetector(max_people=0)


def test_a_mirrored_part_of_a_picture_is_copied_as_it_is():
    from mediapipe.python import packet_getter

    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)[:, ::-1]
    packet, scale = part_of(image, (3, 4, 60, 41), 256.0)
    np.testing.assert_array_equal(packet_getter.get_image_frame(packet).numpy_view(), image[4:41, 3:60])
    assert scale == (1.0, 1.0)
