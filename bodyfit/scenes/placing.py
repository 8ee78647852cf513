"""Where people stand: facing each other, in company or apart, never through each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

__all__ = ["GAP_M", "place_people", "turned"]

GAP_M = 0.05
"""People's skins are at least so far apart: clothes need room."""
_EVERY = 3
"""Of so many vertices one is tested: they are about 2 cm apart."""
_FARTHER = 1.07
"""By how much the place of a person who would touch somebody moves away."""
_KINDS = ("facing", "together", "apart")


@dataclass(frozen=True, eq=False)
class _Standing:
    """A person who has a place."""

    points: Float[np.ndarray, "N 3"]
    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]

    @classmethod
    def of(cls, points: Float[np.ndarray, "N 3"]) -> _Standing:
        return cls(points, points.min(0), points.max(0))

    @cached_property
    def tree(self) -> KDTree:
        """A search tree of the points."""
        return KDTree(self.points)

    def clear_of(self, points: Float[np.ndarray, "N 3"]) -> bool:
        """Whether all points are farther away than the gap, and on no side of the skin but the outer one.

        Surfaces of which no two points are near each other do not cross, and people are too big to be inside another.
        """
        near = np.all((points > self.low - GAP_M) & (points < self.high + GAP_M), axis=1)
        if not near.any():
            return True
        distance, _ = self.tree.query(points[near], distance_upper_bound=GAP_M)
        return not bool(np.isfinite(distance).any())


def place_people(
    bodies: list[Float[np.ndarray, "_ 3"]], rng: np.random.Generator
) -> tuple[list[Float[np.ndarray, "2"]], list[float]]:
    """Choose places (x, z) and headings about the vertical, of bodies that stand at the origin and look along +z.

    Who would touch somebody moves farther away from the middle until they do not.
    """
    kind = str(rng.choice(_KINDS))
    count = len(bodies)
    places, yaws = _facing(count, rng) if kind == "facing" else _apart(count, rng)
    if kind == "together":
        places, yaws = _together(count, rng)
    middle = np.mean(places, 0)
    standing: list[_Standing] = []
    for i, body in enumerate(bodies):
        points = body[::_EVERY]
        while True:
            moved = turned(points, places[i], yaws[i])
            if all(one.clear_of(moved) for one in standing):
                break
            away = places[i] - middle
            if np.linalg.norm(away) < 0.05:
                angle = rng.uniform(0, 2 * math.pi)
                away = 0.05 * np.array([math.sin(angle), math.cos(angle)])
            places[i] = middle + _FARTHER * away
        standing.append(_Standing.of(moved))
    return places, yaws


def turned(points: Float[np.ndarray, "N 3"], place: Float[np.ndarray, "2"], yaw: float) -> Float[np.ndarray, "N 3"]:
    """Turn points about the vertical at the origin, then move them to a place on the floor."""
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, z = points.T
    return np.stack([c * x + s * z + place[0], y, c * z - s * x + place[1]], 1)


def _facing(count: int, rng: np.random.Generator) -> tuple[list[Float[np.ndarray, "2"]], list[float]]:
    """A circle of people who look at its middle."""
    start = rng.uniform(0, 2 * math.pi)
    radius = rng.uniform(0.3, 0.8) * max(1.0, count / 3)
    places, yaws = [], []
    for i in range(count):
        angle = start + 2 * math.pi * i / count + rng.normal(0, 0.15)
        places.append(radius * rng.uniform(0.9, 1.2) * np.array([math.sin(angle), math.cos(angle)]))
        yaws.append(angle + math.pi + rng.normal(0, 0.25))
    return places, yaws


def _together(count: int, rng: np.random.Generator) -> tuple[list[Float[np.ndarray, "2"]], list[float]]:
    """People side by side, in rows of up to four, who go the same way."""
    way = rng.uniform(-math.pi, math.pi)
    right, forward = np.array([math.cos(way), -math.sin(way)]), np.array([math.sin(way), math.cos(way)])
    apart = rng.uniform(0.5, 0.9)
    places, yaws = [], []
    for i in range(count):
        column, row = i % 4 - min(count - 1, 3) / 2, i // 4
        places.append(apart * column * right + (rng.normal(0, 0.15) - 0.9 * row) * forward)
        yaws.append(way + rng.normal(0, 0.2))
    return places, yaws


def _apart(count: int, rng: np.random.Generator) -> tuple[list[Float[np.ndarray, "2"]], list[float]]:
    """People here and there, who look anywhere."""
    places = [rng.uniform(-0.6, 0.6, 2) * math.sqrt(count) for _ in range(count)]
    return places, [rng.uniform(-math.pi, math.pi) for _ in range(count)]
