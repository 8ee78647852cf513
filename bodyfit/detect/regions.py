"""Where in a picture to look for people, and whether two findings are the same person; plain geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from bodyfit.geometry.boxes import box_about, box_overlaps
from bodyfit.keypoints import closeness

__all__ = ["Box", "Roi", "covers", "nested", "same_person", "tiles"]

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 lie outside."""


@dataclass(frozen=True)
class Roi:
    """A turned square about a person, a hand, a face or an eye."""

    x: float
    """Centre, pixels: for a person the middle of the hips."""
    y: float
    """Centre, pixels."""
    size: float
    """Side, pixels."""
    angle: float
    """Clockwise turn in the picture that makes an upright square this one, radians."""

    @classmethod
    def from_body_circle(cls, centre_px: tuple[float, float], edge_px: tuple[float, float]) -> Roi:
        """The square that MediaPipe's landmark network expects: 1.25 times the circle that holds the person.

        `edge_px` is the point of the circle above the head (its "alignment points").
        """
        dx, dy = edge_px[0] - centre_px[0], edge_px[1] - centre_px[1]
        angle = math.pi / 2 - math.atan2(-dy, dx)
        return cls(*centre_px, 2.5 * math.hypot(dx, dy), (angle + math.pi) % (2 * math.pi) - math.pi)

    def box(self, image_size: tuple[int, int]) -> Box:
        """The part of the picture that an upright box about the turned square covers; it may be empty."""
        half = self.size / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle))) + 2
        w, h = image_size
        x0, y0 = max(0, math.floor(self.x - half)), max(0, math.floor(self.y - half))
        return x0, y0, min(w, math.ceil(self.x + half)), min(h, math.ceil(self.y + half))

    def close_to(self, other: Roi) -> bool:
        """Whether the two would show a network about the same."""
        shift = math.hypot(self.x - other.x, self.y - other.y)
        return shift < 0.15 * min(self.size, other.size) and 0.65 < self.size / other.size < 1.55


def tiles(image_size: tuple[int, int], *, smallest_px: int = 256) -> list[Box]:
    """The whole picture, then squares that overlap by half, of the shorter side or 0.6 of it and of half that.

    A detector that sees its input at 224x224 finds people of a fifth of it and more; the tiles make the small larger.
    """
    w, h = image_size
    boxes: list[Box] = [(0, 0, w, h)]
    side = float(min(w, h)) if max(w, h) > 1.3 * min(w, h) else 0.6 * min(w, h)
    for _ in range(2):
        if side < smallest_px:
            break
        across, down = (np.linspace(0, n - side, math.ceil((n - side) / (side / 2) - 1e-6) + 1) for n in (w, h))
        boxes += [(int(x), int(y), int(x + side), int(y + side)) for y in down for x in across]
        side /= 2
    return boxes


def covers(xyc: Float[np.ndarray, "K 3"], box: Box) -> bool:
    """Whether a tile lies within the box about a person's keypoints, so that it shows little else."""
    (x0, y0), (x1, y1) = xyc[:, :2].min(0), xyc[:, :2].max(0)
    return bool(x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3])


def same_person(a: Float[np.ndarray, "K 3"], b: Float[np.ndarray, "K 3"]) -> bool:
    """Whether two sets of keypoints of one layout lie on each other, by a similarity like COCO's for keypoints."""
    both = _sure(a) & _sure(b)
    if both.sum() < 4:
        return _overlap(a, b) > 0.5
    spread = 0.1 * min(_height(a), _height(b))
    return bool(closeness(a[both, :2], b[both, :2], spread).mean() > 0.3)


def nested(small: Float[np.ndarray, "K 3"], large: Float[np.ndarray, "K 3"]) -> bool:
    """Whether one set of keypoints is a ghost on the body of another: inside it, and at most half as large or two
    thirds as sure. Someone who stands wholly behind another is lost by that.
    """
    sure = _sure(large)
    lo, hi = large[sure, :2].min(0, initial=np.inf), large[sure, :2].max(0, initial=-np.inf)
    points = small[_sure(small), :2]
    inside = ((points >= lo) & (points <= hi)).all(1)
    lesser = _height(small) < 0.5 * _height(large) or small[:, 2].mean() < 0.67 * large[:, 2].mean()
    return len(points) > 0 and bool(inside.mean() > 0.8 and lesser)


def _sure(xyc: Float[np.ndarray, "K 3"]) -> Bool[np.ndarray, "K"]:
    return xyc[:, 2] > 0.3


def _height(xyc: Float[np.ndarray, "K 3"]) -> float:
    """The longer side of the box about all keypoints, pixels; at least 1."""
    return float(max(1.0, np.ptp(xyc[:, :2], axis=0).max()))


def _overlap(a: Float[np.ndarray, "K 3"], b: Float[np.ndarray, "K 3"]) -> float:
    """Intersection over union of the boxes about all keypoints."""
    return float(box_overlaps(box_about(a[:, :2])[None], box_about(b[:, :2])[None])[0, 0])
