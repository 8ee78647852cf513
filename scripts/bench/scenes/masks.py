"""How right masks of people in real pictures are: the detector's, MediaPipe's selfie mask and a trained network's.

    python -m scripts.bench.scenes.masks [--video two_people.mp4] [--demo Pose2Sim] [--network person_mask.onnx]

The truth is in scripts/bench/inputs/traced_people.json: outlines of people traced by eye at three times the size, and
moved by GrabCut within one per cent of the picture, in the pictures of assets/samples, two frames of the video that
these come from, and five frames of Pose2Sim's demonstrations (the folder Pose2Sim of its wheel): four people in
twelve poses, no more. IoU of masks at one half; of the selfie mask, which is of everybody, the better of the whole
picture and the person's box with a margin. The network (scripts/train/segmenter.py) is given the detector's keypoints,
with its mask and without. The selfie mask needs `pip install "bodyfit[mediapipe]"` and --selfie.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from bodyfit.body.assets import asset_path
from bodyfit.detect import load_detector
from bodyfit.detect.networks.session import Network
from bodyfit.detect.search.similarity import as_coco
from bodyfit.images.frame import Frame
from bodyfit.images.similarity import mask_iou
from bodyfit.keypoints import Keypoints2D
from scripts.bench.records import harness
from scripts.train.masks.inputs import around, network_input, to_mask

TRACED = Path(__file__).resolve().parents[1] / "inputs" / "traced_people.json"
_SHIFT = 4
"""Bits of a pixel that outlines are filled by."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A person in a picture, and their true mask."""

    name: str
    image: np.ndarray
    """RGB."""
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 about the mask, outer."""
        y, x = np.nonzero(self.mask)
        return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def traced_people(video: Path | None, demo: Path | None) -> list[Traced]:
    """The people of the pictures that are there."""
    people, pictures = [], {}
    for one in json.loads(TRACED.read_text(encoding="utf-8")):
        file, frame = one["file"], one.get("frame")
        root = asset_path("samples", ".") if frame is None else demo if file.startswith("Demo") else video
        if root is None:
            continue
        path = Path(root) if root == video else Path(root) / file
        if (file, frame) not in pictures:
            pictures[file, frame] = cv2.imread(str(path)) if frame is None else _frame(path, frame)
        image = pictures[file, frame]
        mask = np.zeros(image.shape[:2], np.uint8)
        for ring in one["rings_px"]:
            part = np.zeros_like(mask)
            points = np.round((np.reshape(ring, (-1, 2)) - 0.5) * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(part, [points], 1, shift=_SHIFT)
            mask ^= part
        people.append(Traced(one["name"], cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask > 0))
    return people


def _frame(path: Path, number: int) -> np.ndarray:
    """One frame of a video, counted from 0."""
    video, picture = cv2.VideoCapture(str(path)), None
    for _ in range(number + 1):
        picture = video.read()[1]
    if picture is None:
        raise SystemExit(f"{path}: no frame {number}")
    return picture


def nearest(people: list[Keypoints2D], truth: Traced) -> int | None:
    """Who of the detected people has the most of their sure keypoints on the mask; None for nobody."""
    height, width = truth.mask.shape
    shares = []
    for person in people:
        x, y, sure = person.xyc.T
        inside = (sure > 0.3) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
        on = truth.mask[y[inside].astype(int), x[inside].astype(int)]
        shares.append(float(on.sum()) / max(int(inside.sum()), 1))
    return int(np.argmax(shares)) if max(shares, default=0) > 0.3 else None


def by_network(network: Network, truth: Traced, people: list[Keypoints2D], number: int, *, coarse: bool) -> np.ndarray:
    """The mask of one of the detected people by a trained network."""
    points = [as_coco(one.xyc) for one in people]
    roi = around(points[number])
    if roi is None:
        return np.zeros_like(truth.mask)
    others = [xyc for k, xyc in enumerate(points) if k != number]
    rough = people[number].mask if coarse else None
    inputs = network_input(truth.image, roi, points[number], others, rough)
    (logits,) = network.run(["masks"], {"input": inputs[None]})
    size = truth.mask.shape[1], truth.mask.shape[0]
    return to_mask(logits[0, 0], roi, size).full(size) >= 128


def selfie() -> Callable[[Traced], float]:
    """MediaPipe's selfie network."""
    import mediapipe  # pyright: ignore[reportMissingImports]

    network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def score(truth: Traced) -> float:
        x0, y0, x1, y1 = truth.box
        margin = int(0.15 * max(x1 - x0, y1 - y0))
        part = np.s_[max(y0 - margin, 0) : y1 + margin, max(x0 - margin, 0) : x1 + margin]
        scores = []
        for window in (np.s_[:, :], part):
            mask = np.zeros_like(truth.mask)
            mask[window] = network.process(np.ascontiguousarray(truth.image[window])).segmentation_mask > 0.5
            scores.append(mask_iou(mask, truth.mask))
        return max(scores)

    return score


def main() -> None:
    """Measure, and print a line a person."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="the demonstration video of the package sports2d")
    parser.add_argument("--demo", type=Path, help="the folder Pose2Sim of the package of that name")
    parser.add_argument("--network", type=Path, help="person_mask.onnx of scripts/train/segmenter.py")
    parser.add_argument("--selfie", action="store_true", help="measure MediaPipe's selfie mask, too")
    harness.add_json_option(parser)
    args = parser.parse_args()
    detector = load_detector("movenet", masks=True)
    network = Network(args.network, threads=1) if args.network else None
    of_selfie = selfie() if args.selfie else None
    scores: dict[str, dict[str, float]] = {}
    for truth in traced_people(args.video, args.demo):
        people = detector.detect([Frame(truth.image)])[0]
        number = nearest(people, truth)
        row = {"detector": 0.0}
        if number is not None and (mask := people[number].mask) is not None:
            row["detector"] = mask_iou(mask.full((truth.mask.shape[1], truth.mask.shape[0])) >= 128, truth.mask)
        if of_selfie is not None:
            row["selfie"] = of_selfie(truth)
        if network is not None:
            for name, coarse in (("network", False), ("network and detector", True)):
                found = None if number is None else by_network(network, truth, people, number, coarse=coarse)
                row[name] = 0.0 if found is None else mask_iou(found, truth.mask)
        scores[truth.name] = row
    table = Table("", *next(iter(scores.values())))
    for name, row in scores.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    means = {name: float(np.mean([row[name] for row in scores.values()])) for name in next(iter(scores.values()))}
    table.add_row("mean", *(f"{value:.3f}" for value in means.values()))
    Console().print(table)
    harness.write_json(args, {"people": len(scores), "mean_iou": means, "iou": scores})


if __name__ == "__main__":
    main()
