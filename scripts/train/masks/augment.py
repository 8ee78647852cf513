"""Samples to train on: regions about people, moved, recoloured, put before other things and partly covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32

from bodyfit.detect.networks.crops import from_picture
from bodyfit.detect.regions import Roi
from scripts.train.masks.inputs import SIDE, around, limbs_map
from scripts.train.masks.people import Person

__all__ = ["Sampler"]

_SHIFT, _TURN_RAD = 0.06, 0.35
_NOISE = 0.02
"""Of keypoints, parts of the region's side."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a person's region shows, S x S."""

    pixels: Float32[np.ndarray, "S S 3"]
    """0 to 255."""
    own: Float32[np.ndarray, "S S"]
    anybody: Float32[np.ndarray, "S S"]
    coarse: Float32[np.ndarray, "S S"]


class Sampler:
    """Makes samples of people; sample i of a seed is always the same."""

    def __init__(self, people: Sequence[Person], photographs: Path | None, seed: int) -> None:
        self._people, self._seed = people, seed
        found = sorted(photographs.rglob("*")) if photographs is not None else []
        self._photographs = [path for path in found if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]

    def sample(
        self, number: int, *, plain: bool = False
    ) -> tuple[Float32[np.ndarray, "6 S S"], Float32[np.ndarray, "2 S S"]]:
        """Input and target (the person, anybody) of one sample; with `plain` as drawn, for validation."""
        rng = np.random.default_rng([self._seed, 5, number])
        person = self._people[number % len(self._people) if plain else int(rng.integers(len(self._people)))]
        matrix = _matrix(person, rng, plain=plain)
        layer = _layer(person, matrix)
        own, others = _noisy(person.xyc, matrix, rng, plain), [_noisy(o, matrix, rng, plain) for o in person.others]
        if not plain:
            layer, others = self._composed(layer, others, rng)
            layer = _seen_by_a_camera(layer, rng)
            layer = replace(layer, coarse=_worse(layer.coarse, rng))
        identity = np.eye(2, 3)
        channels = [limbs_map([own], identity), limbs_map(others, identity), layer.coarse]
        inputs = np.concatenate([layer.pixels.transpose(2, 0, 1) / np.float32(255), np.stack(channels)])
        target = np.stack([layer.own, np.maximum(layer.own, layer.anybody)])
        mirror = slice(None, None, -1 if not plain and rng.random() < 0.5 else 1)
        return np.ascontiguousarray(inputs[..., mirror]), np.ascontiguousarray(target[..., mirror])

    def _composed(
        self, layer: _Layer, others: list[Float[np.ndarray, "17 3"]], rng: np.random.Generator
    ) -> tuple[_Layer, list[Float[np.ndarray, "17 3"]]]:
        """Put the people before another background, or somebody or something before them."""
        if rng.random() < 0.5:
            background, anybody, there = self._background(rng)
            alpha = layer.anybody[..., None]
            front = _recoloured(layer.pixels, rng) if rng.random() < 0.6 else layer.pixels
            layer = replace(
                layer,
                pixels=alpha * front + (1 - alpha) * background,
                anybody=np.maximum(layer.anybody, anybody * (1 - layer.anybody)),
            )
            others = [*others, *there]
        if rng.random() < 0.25:
            other = self._people[int(rng.integers(len(self._people)))]
            matrix = _matrix(other, rng)
            matrix[:, 2] += rng.normal(0, 0.3 * SIDE, 2)
            front = _layer(other, matrix)
            alpha = front.own
            pixels = alpha[..., None] * _recoloured(front.pixels, rng) + (1 - alpha[..., None]) * layer.pixels
            layer = replace(layer, pixels=pixels, own=layer.own * (1 - alpha), anybody=np.maximum(layer.anybody, alpha))
            others = [*others, _noisy(other.xyc, matrix, rng)]
        if rng.random() < 0.3:
            alpha = _thing(rng)
            texture = self._background(rng)[0] if rng.random() < 0.7 else np.float32(rng.uniform(0, 255, 3))
            pixels = alpha[..., None] * texture + (1 - alpha[..., None]) * layer.pixels
            layer = replace(layer, pixels=pixels, own=layer.own * (1 - alpha), anybody=layer.anybody * (1 - alpha))
        return layer, others

    def _background(
        self, rng: np.random.Generator
    ) -> tuple[Float32[np.ndarray, "S S 3"], Float32[np.ndarray, "S S"], list[Float[np.ndarray, "17 3"]]]:
        """Part of a photograph, or of another scene with its people: their mask and keypoints as well."""
        if self._photographs and rng.random() < 0.6:
            path = self._photographs[int(rng.integers(len(self._photographs)))]
            image = cv2.imread(str(path))
            if image is None:
                raise OSError(f"{path}: not a readable picture")
            part = int(min(image.shape[:2]) * rng.uniform(0.3, 1.0))
            y, x = (int(rng.integers(n - part + 1)) for n in image.shape[:2])
            square = cv2.resize(image[y : y + part, x : x + part], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            return _recoloured(square[..., ::-1].astype(np.float32), rng), np.zeros((SIDE, SIDE), np.float32), []
        other = self._people[int(rng.integers(len(self._people)))]
        matrix = _matrix(other, rng)
        matrix[:, 2] += rng.normal(0, 0.4 * SIDE, 2)
        layer = _layer(other, matrix)
        there = [_noisy(xyc, matrix, rng) for xyc in (other.xyc, *other.others)]
        return _recoloured(layer.pixels, rng), layer.anybody, there


def _matrix(person: Person, rng: np.random.Generator, *, plain: bool = False) -> Float[np.ndarray, "2 3"]:
    """From the scene's pixels to the input's: about the person, or near enough."""
    roi = around(person.xyc) or Roi(*person.xyc[:, :2].mean(0), 64.0, 0.0)
    if plain:
        return from_picture(roi, SIDE)
    turn = rng.normal(0, _TURN_RAD) if rng.random() < 0.5 else 0.0
    if rng.random() < 0.03:
        turn += rng.choice([np.pi / 2, np.pi, -np.pi / 2])
    dx, dy = rng.normal(0, _SHIFT * roi.size, 2)
    return from_picture(Roi(roi.x + dx, roi.y + dy, roi.size * np.exp(rng.normal(0, 0.13)), turn), SIDE)


def _layer(person: Person, matrix: Float[np.ndarray, "2 3"]) -> _Layer:
    """Sample a person's scene. What is enlarged is smooth, as it is in photographs."""
    picture, mask, look = person.load()
    size = (SIDE, SIDE)
    pixels = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    own, anybody = (255 * (mask == person.number)).astype(np.uint8), (255 * (mask > 0)).astype(np.uint8)
    maps = [
        cv2.warpAffine(m, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32) / 255 for m in (own, anybody, look)
    ]
    return _Layer(pixels.astype(np.float32), *maps)


def _noisy(
    xyc: Float[np.ndarray, "17 3"], matrix: Float[np.ndarray, "2 3"], rng: np.random.Generator, plain: bool = False
) -> Float[np.ndarray, "17 3"]:
    """Keypoints in the input's pixels, off as a detector's are, some of them not found."""
    xy = xyc[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    sure = xyc[:, 2].copy()
    if not plain:
        xy = xy + rng.normal(0, _NOISE * SIDE * rng.uniform(0.2, 1.0), xy.shape)
        off = rng.random(17) < 0.04
        xy[off] += rng.normal(0, 0.08 * SIDE, (int(off.sum()), 2))
        sure *= np.where(rng.random(17) < 0.05, 0.0, rng.uniform(0.6, 1.1, 17))
    return np.concatenate([xy, np.clip(sure, 0, 1)[:, None]], 1)


def _recoloured(pixels: Float32[np.ndarray, "S S 3"], rng: np.random.Generator) -> Float32[np.ndarray, "S S 3"]:
    """Other gains, contrast and saturation."""
    grey = pixels.mean(2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.2, 1.6))
    gain = np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.3)).astype(np.float32)
    contrast = np.float32(rng.uniform(0.6, 1.3))
    middle = np.float32(pixels.mean())
    return np.clip((middle + (pixels - middle) * contrast) * gain, 0, 255)


def _worse(coarse: Float32[np.ndarray, "S S"], rng: np.random.Generator) -> Float32[np.ndarray, "S S"]:
    """A coarse mask with faults that real ones have, and often none at all, as where the first network saw nobody."""
    if rng.random() < 0.35:
        return np.zeros_like(coarse)
    moved = np.hstack([np.eye(2), rng.normal(0, 0.006 * SIDE, (2, 1))])
    coarse = cv2.warpAffine(coarse, moved, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        coarse = cv2.GaussianBlur(coarse, (0, 0), rng.uniform(0.5, 4.0))
    for _ in range(int(rng.integers(0, 3))):
        part = _thing(rng) * np.float32(rng.uniform(0.3, 1.0))
        coarse = coarse * (1 - part) if rng.random() < 0.6 else np.maximum(coarse, part * (coarse.max() > 0))
    return coarse


def _thing(rng: np.random.Generator) -> Float32[np.ndarray, "S S"]:
    """The mask of something before the person: a box, a plate, a bar or a rag of a few corners."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    at, size = rng.uniform(0.1, 0.9, 2) * SIDE, np.exp(rng.uniform(np.log(0.06), np.log(0.4), 2)) * SIDE
    if rng.random() < 0.3:
        size[int(rng.integers(2))] *= 4
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    corners = at + np.stack([np.cos(angles), np.sin(angles)], 1) * size * rng.uniform(0.6, 1.0, (len(angles), 1))
    kind = rng.random()
    if kind < 0.4:
        box = cv2.boxPoints((at.tolist(), size.tolist(), float(rng.uniform(0, 180))))
        cv2.fillPoly(mask, [np.round(box).astype(np.int32)], 255, cv2.LINE_AA)
    elif kind < 0.6:
        axes = np.maximum(size / 2, 2).astype(int).tolist()
        cv2.ellipse(mask, at.astype(int).tolist(), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    else:
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 255, cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def _seen_by_a_camera(layer: _Layer, rng: np.random.Generator) -> _Layer:
    """Light that falls off, veiling glare, exposure, blur, few pixels, noise and JPEG."""
    pixels = _recoloured(layer.pixels, rng) if rng.random() < 0.7 else layer.pixels
    if rng.random() < 0.4:
        ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
        way = rng.uniform(0, 2 * np.pi)
        fall = np.cos(way) * ramp[:, None] + np.sin(way) * ramp[None]
        pixels = pixels * np.exp(np.float32(rng.normal(0, 0.3)) * fall)[..., None]
    if rng.random() < 0.25:
        veil = np.float32(rng.uniform(0, 0.5))
        pixels = pixels * (1 - veil) + veil * rng.uniform(80, 255, 3).astype(np.float32)
    if rng.random() < 0.5:
        pixels = 255 * (np.clip(pixels, 0, 255) / 255) ** np.float32(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.3:
        small = int(SIDE * rng.uniform(0.25, 0.8))
        pixels = cv2.resize(cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    elif rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 2.0))
    if rng.random() < 0.5:
        pixels = pixels + np.float32(rng.uniform(1, 14)) * rng.standard_normal(pixels.shape, np.float32)
    coded = np.clip(pixels, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        coded = cv2.imdecode(cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])[1], 1)
    return replace(layer, pixels=coded.astype(np.float32))
