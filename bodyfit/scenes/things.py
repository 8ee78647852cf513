"""Things that hide people: tables, boxes and balls on the floor, and what is held in a hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.appearance.dressed import Surface

__all__ = ["Thing", "floor_things", "thing_in_hand"]

_CELL_M = 0.15
"""Sides of boxes have vertices about so far apart, for light and lenses are computed at vertices."""
_ROUND = 20
"""Faces around a ball."""
_TEXELS = 64
_LEG_M = 0.03
_BOARD_M = 0.02
"""Half the thickness of a table's legs and board."""
_CLEAR_M = 0.03
"""Things are no nearer to people than this; a hand's skin may be pressed in by `_PRESSED_M`."""
_PRESSED_M = 0.004
_BEFORE_CAMERA_M = 0.8


@dataclass(frozen=True, eq=False)
class Thing:
    """A table, a box or a ball."""

    kind: str
    """table, box or ball."""
    middle_m: Float[np.ndarray, "3"]
    """In the world, y up; of a table the middle of the space that it takes up."""
    half_m: Float[np.ndarray, "3"]
    """Half of its size along its own axes; the radius three times for a ball."""
    axes: Float[np.ndarray, "3 3"]
    """Rows: its own axes in the world."""
    color: tuple[float, float, float]
    """sRGB in [0, 1]."""
    pattern: int
    """Seeds the texture."""
    holder: int = -1
    """Who holds it; -1 for nobody."""

    def distance(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
        """A lower bound of how far points lie outside, metres; negative inside."""
        own = (points - self.middle_m) @ self.axes.T
        if self.kind == "ball":
            return np.linalg.norm(own, axis=1) - self.half_m[0]
        return (np.abs(own) - self.half_m).max(1)

    def surface(self, R: Float[Tensor, "3 3"], t: Float[Tensor, "3"]) -> Surface:
        """The mesh in camera axes, with its texture."""
        points, faces, uv, coarse = _ball() if self.kind == "ball" else _cuboids(_parts(self.kind, self.half_m))
        placed = points * (self.half_m if self.kind == "ball" else 1.0) @ self.axes + self.middle_m
        vertices = torch.from_numpy(placed).float() @ R.T + t
        return Surface(self.kind, "thing", vertices, faces, uv, faces, _texture(self), coarse)


def thing_in_hand(
    hand: Float[np.ndarray, "H 3"],
    rest: Float[np.ndarray, "N 3"],
    palm: Float[np.ndarray, "3"],
    normal: Float[np.ndarray, "3"],
    along: Float[np.ndarray, "3"],
    holder: int,
    rng: np.random.Generator,
) -> Thing | None:
    """Put a ball or a box into a hand; None where there is no room for it.

    hand, rest: points of the hand and of the rest of the body (world, metres). palm, normal, along: the middle of the
    palm, where it faces, and the direction of the fingers.
    """
    kind = str(rng.choice(["ball", "box"]))
    half = np.full(3, rng.uniform(0.03, 0.12))
    if kind == "box":
        half = np.array([rng.uniform(0.03, 0.1), rng.uniform(0.01, 0.08), rng.uniform(0.03, 0.13)])
    across = np.cross(along, normal)
    across /= np.linalg.norm(across)
    axes = np.stack([across, normal, np.cross(across, normal)])
    color, pattern = _random_color(rng), int(rng.integers(2**31))
    for step in np.arange(0.0, 0.12, 0.004):
        middle = palm + (half[1] + step) * normal
        thing = Thing(kind, middle, half, axes, color, pattern, holder)
        if thing.distance(hand).min() > -_PRESSED_M:
            low = middle[1] - float(np.abs(axes.T) @ half @ np.array([0, 1, 0]))
            return thing if low > 0 and thing.distance(rest).min() > _CLEAR_M / 3 else None
    return None


def floor_things(
    people: list[Float[np.ndarray, "_ 3"]],
    heads_m: list[Float[np.ndarray, "3"]],
    eye_m: Float[np.ndarray, "3"],
    rng: np.random.Generator,
) -> list[Thing]:
    """Stand one to three things among people or between them and the camera, touching nobody and hiding no head."""
    out: list[Thing] = []
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(12):
            thing = _on_floor(heads_m, eye_m, rng)
            reach = math.hypot(thing.half_m[0], thing.half_m[2])
            apart = all(
                np.hypot(*(thing.middle_m - one.middle_m)[[0, 2]]) > reach + math.hypot(one.half_m[0], one.half_m[2])
                for one in out
            )
            if apart and _in_order(thing, reach, people, heads_m, eye_m):
                out.append(thing)
                break
    return out


def _in_order(
    thing: Thing,
    reach: float,
    people: list[Float[np.ndarray, "_ 3"]],
    heads_m: list[Float[np.ndarray, "3"]],
    eye_m: Float[np.ndarray, "3"],
) -> bool:
    """Whether a thing is clear of people, of the camera, and of the lines from there to heads."""
    if thing.distance(eye_m[None]).min() < _BEFORE_CAMERA_M:
        return False
    if any(thing.distance(points).min() < _CLEAR_M for points in people):
        return False
    for head in heads_m:
        sight = eye_m + np.linspace(0, 1, 60)[:, None] * (head - [0, 0.25, 0] - eye_m)
        if thing.distance(sight).min() < 0.1:
            return False
    return True


def _on_floor(heads_m: list[Float[np.ndarray, "3"]], eye_m: Float[np.ndarray, "3"], rng: np.random.Generator) -> Thing:
    """A thing near somebody, more often than not on the camera's side."""
    kind = str(rng.choice(["table", "box", "box", "ball"]))
    if kind == "table":
        size = np.array([rng.uniform(0.7, 1.6), rng.uniform(0.45, 0.78), rng.uniform(0.5, 0.9)])
    elif kind == "box":
        size = rng.uniform(0.2, 0.75, 3)
    else:
        size = np.full(3, rng.uniform(0.15, 0.7))
    person = heads_m[int(rng.integers(len(heads_m)))]
    towards = (eye_m - person)[[0, 2]]
    angle = math.atan2(*towards) + (rng.normal(0, 0.4) if rng.random() < 0.7 else rng.uniform(-math.pi, math.pi))
    away = rng.uniform(0.3, 1.4) + 0.5 * max(size[0], size[2])
    place = person[[0, 2]] + away * np.array([math.sin(angle), math.cos(angle)])
    turn = rng.uniform(-math.pi, math.pi)
    axes = np.array([[math.cos(turn), 0, -math.sin(turn)], [0, 1, 0], [math.sin(turn), 0, math.cos(turn)]])
    middle = np.array([place[0], size[1] / 2, place[1]])
    return Thing(kind, middle, size / 2, axes, _random_color(rng), int(rng.integers(2**31)))


def _random_color(rng: np.random.Generator) -> tuple[float, float, float]:
    """Wood, cardboard, white, or anything."""
    some = [(0.55, 0.38, 0.24), (0.72, 0.58, 0.42), (0.85, 0.84, 0.82), (0.25, 0.2, 0.17)]
    base = (
        np.array(some[int(rng.integers(4))]) if rng.random() < 0.5 else rng.uniform(0.1, 0.85) + rng.normal(0, 0.15, 3)
    )
    base = np.clip(base, 0.03, 0.95)
    r, g, b = np.clip(base * rng.uniform(0.8, 1.15), 0, 1).tolist()
    return r, g, b


def _parts(kind: str, half: Float[np.ndarray, "3"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Middles and halves of the cuboids of a box or a table, about the thing's middle."""
    if kind == "box":
        return [(np.zeros(3), half)]
    parts = [(np.array([0, half[1] - _BOARD_M, 0]), np.array([half[0], _BOARD_M, half[2]]))]
    leg = np.array([_LEG_M, half[1] - _BOARD_M, _LEG_M])
    corners = [np.array([x * (half[0] - _LEG_M), -_BOARD_M, z * (half[2] - _LEG_M)]) for x in (-1, 1) for z in (-1, 1)]
    return parts + [(corner, leg) for corner in corners]


_Mesh = tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Float[np.ndarray, "V 2"], Int[np.ndarray, "K 3"]]
"""Vertices, outward faces, texture coordinates, and few faces for shadows."""


def _cuboids(parts: list[tuple[np.ndarray, np.ndarray]]) -> _Mesh:
    """Cuboids whose sides have vertices of their own, so that edges are sharp."""
    points, faces, uv, coarse, start = [], [], [], [], 0
    for middle, half in parts:
        for axis in range(3):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            n, m = (max(2, math.ceil(2 * half[k] / _CELL_M) + 1) for k in (u, v))
            a, b = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, m), indexing="ij")
            index = np.arange(n * m).reshape(n, m)
            quads = [index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]]
            p, q, r, s = (quad.ravel() for quad in quads)
            outward = np.concatenate([np.stack([p, q, r], 1), np.stack([p, r, s], 1)])
            corner = index[[0, -1, -1, 0], [0, 0, -1, -1]]
            for sign in (1, -1):
                place = np.zeros((n * m, 3))
                place[:, axis], place[:, u], place[:, v] = sign, a.ravel(), b.ravel()
                points.append(middle + half * place)
                order = slice(None) if sign > 0 else slice(None, None, -1)
                faces.append(outward[:, order] + start)
                coarse.append(corner[[[0, 1, 2], [0, 2, 3]]][:, order] + start)
                uv.append(np.stack([a.ravel(), b.ravel()], 1) / 2 + 0.5)
                start += n * m
    return np.concatenate(points), np.concatenate(faces), np.concatenate(uv), np.concatenate(coarse)


@lru_cache(maxsize=1)
def _ball() -> _Mesh:
    """A ball of radius 1."""
    rings = _ROUND // 2
    theta, phi = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, _ROUND + 1)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    points = np.stack([np.sin(t) * np.cos(p), np.cos(t), np.sin(t) * np.sin(p)], -1).reshape(-1, 3)
    index = np.arange(len(points)).reshape(rings + 1, _ROUND + 1)
    a, b, c, d = (k.ravel() for k in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    area = np.linalg.norm(
        np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]), axis=1
    )
    faces = faces[area > 1e-9]
    return points, faces, np.stack([p.ravel() / (2 * np.pi), 1 - t.ravel() / np.pi], 1), faces


def _texture(thing: Thing) -> UInt8[np.ndarray, "64 64 3"]:
    """Grain, stripes or patches of the thing's colour."""
    rng = np.random.default_rng(thing.pattern)
    y, x = np.mgrid[:_TEXELS, :_TEXELS] / _TEXELS
    shade = 1 + 0.06 * rng.standard_normal((_TEXELS, _TEXELS))
    style = int(rng.integers(3))
    if style == 0:  # wood
        shade *= 1 + 0.12 * np.sin(2 * np.pi * (rng.uniform(3, 9) * x + 0.3 * np.sin(2 * np.pi * y)))
    picture = shade[..., None] * np.array(thing.color)
    if style == 1:
        stripe = (x * int(rng.integers(2, 7))) % 1 < rng.uniform(0.15, 0.5)
        picture = np.where(
            stripe[..., None], shade[..., None] * (rng.uniform(0.1, 0.9) + rng.normal(0, 0.08, 3)), picture
        )
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
