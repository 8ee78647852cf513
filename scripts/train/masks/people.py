"""The people of folders of `bodyfit scene`, each with what the landmark network takes for their mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.movenet import trunk_region
from bodyfit.detect.networks.landmarks import Landmarker
from bodyfit.runtime.atomic import write_atomically

__all__ = ["Person", "look_at", "read_people"]

_LEAST_PX = 48
"""Smaller people, by the longer side of their box, are not learnt from."""
_SURE = np.array([0.0, 0.5, 0.9])
"""The confidence of a keypoint that is outside of the picture, hidden and visible."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one scene."""

    picture: Path
    mask: Path
    """Numbers of people, 0 for nobody."""
    look: Path
    """Where the coarse mask is, once `look_at` has been there."""
    number: int
    """In the mask."""
    xyc: Float[np.ndarray, "17 3"]
    others: tuple[Float[np.ndarray, "17 3"], ...]
    """Keypoints of the scene's other people."""

    def load(self) -> tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S"], UInt8[np.ndarray, "S S"]]:
        """Read the picture (RGB), the mask of numbers and the coarse mask."""
        picture, mask, look = (
            cv2.imread(str(self.picture)),
            cv2.imread(str(self.mask), 0),
            cv2.imread(str(self.look), 0),
        )
        if picture is None or mask is None or look is None:
            raise OSError(f"{self.picture}: the picture, {self.mask} or {self.look} cannot be read")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), mask, look


def read_people(folders: Sequence[Path]) -> list[Person]:
    """List the people of folders of scenes, in settled order."""
    people = []
    for folder in folders:
        for path in sorted((folder / "scenes").glob("[0-9]*.json")):
            records = json.loads(path.read_text(encoding="utf-8"))["annotations"]
            points = [_keypoints(record["keypoints"]) for record in records]
            for i, record in enumerate(records):
                number = record["person"] + 1
                if max(record["bbox"][2:]) < _LEAST_PX or record["num_keypoints"] < 5:
                    continue
                people.append(
                    Person(
                        folder / "images" / f"{path.stem}.jpg",
                        folder / "masks" / f"{path.stem}.png",
                        folder / "looks" / f"{path.stem}_{number}.png",
                        number,
                        points[i],
                        tuple(other for k, other in enumerate(points) if k != i),
                    )
                )
    return people


def _keypoints(flat: Sequence[float]) -> Float[np.ndarray, "17 3"]:
    """COCO's keypoints with confidences, pixels counted from the corner."""
    xyv = np.asarray(flat, float).reshape(17, 3)
    return np.concatenate([xyv[:, :2] + 0.5, _SURE[xyv[:, 2:].astype(int)]], 1)


def look_at(people: Sequence[Person], seed: int, tell: Callable[[int], None]) -> None:
    """Write the coarse mask of everybody who has none yet: nothing where the landmark network sees nobody."""
    networks = Landmarker(masks=True)
    for done, person in enumerate(people):
        if person.look.is_file():
            continue
        picture = cv2.cvtColor(cv2.imread(str(person.picture)), cv2.COLOR_BGR2RGB)
        rng = np.random.default_rng([seed, done])
        size = picture.shape[1], picture.shape[0]
        noisy = person.xyc.copy()
        noisy[:, :2] += rng.normal(0, 0.015 * np.ptp(person.xyc[person.xyc[:, 2] > 0, :2], axis=0).max(), (17, 2))
        found = networks.landmarks(picture, trunk_region(noisy))
        alpha = np.zeros(size[::-1], np.uint8) if found is None or found.mask is None else found.mask.full(size)
        with write_atomically(person.look) as temporary:
            temporary.write_bytes(cv2.imencode(".png", alpha)[1].tobytes())
        tell(done + 1)
