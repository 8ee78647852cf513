"""Colour the pictures of pieces: dyes that keep folds and prints, hair of any colour, skins of any tone."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from bodyfit.appearance.catalogue import picture
from bodyfit.appearance.outfit import RGB, Dye, Outfit

__all__ = ["hat_texture", "iris_texture", "piece_texture", "skin_texture"]

_MIDDLE = 112
"""What the shade image has where a piece is as bright as usual: brighter parts have room up to 255."""
_CONTRAST = {"upper": 1.0, "lower": 0.9, "whole": 1.0, "shoes": 0.8, "hair": 0.75, "brows": 0.4}
"""Exponent of the shade: below 1, folds and strands are softer than they came."""
_BROAD, _EVENED = 0.06, 0.8
"""How broad, in parts of the picture, and how much of hair's shading is evened out."""
_HAT_COLOR: RGB = (0.13, 0.12, 0.12)
_BROWS_DARKER = 0.75


def piece_texture(kind: str, name: str, outfit: Outfit) -> UInt8[np.ndarray, "H W C"]:
    """Colour a piece of an outfit by its dye, or hair and brows by the outfit's colour of hair."""
    if kind == "hair":
        return _tinted(kind, name, Dye(outfit.hair_color))
    if kind == "brows":
        r, g, b = outfit.hair_color
        return _tinted(kind, name, Dye((_BROWS_DARKER * r, _BROWS_DARKER * g, _BROWS_DARKER * b)))
    dye = outfit.dyes.get(kind)
    return picture(name) if dye is None else _tinted(kind, name, dye)


def iris_texture(name: str) -> UInt8[np.ndarray, "H W 3"]:
    """The eyes' picture."""
    return picture(name)


@lru_cache(maxsize=16)
def hat_texture(dye: Dye | None) -> UInt8[np.ndarray, "4 4 3"]:
    """Plain felt."""
    color = np.array(_HAT_COLOR if dye is None else dye.color)
    return np.full((4, 4, 3), np.round(255 * color), np.uint8)


@lru_cache(maxsize=32)
def skin_texture(name: str, tone: float | int) -> UInt8[np.ndarray, "H W 3"]:
    """A skin made lighter (positive) or darker, in CIELAB's lightness, by a gamma curve.

    sRGB's transfer curve is close to lightness, so that an exponent moves the skin's own lightness to the one that is
    asked for and keeps black and white.
    """
    image = picture(name)
    if tone == 0:
        return image
    own = _lightness(name)
    target = min(max(own + tone / 100, 0.05), 0.95)
    exponent = math.log(target) / math.log(own)
    return cv2.LUT(image, np.round(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8))


@lru_cache(maxsize=64)
def _lightness(name: str) -> float:
    """A skin's usual green, 0 to 1."""
    return float(np.median(picture(name)[..., 1])) / 255


@lru_cache(maxsize=48)
def _shade(kind: str, name: str) -> UInt8[np.ndarray, "H W"]:
    """How bright each texel is against the piece's median, `_MIDDLE` where it is as bright."""
    image = picture(name)
    luminance = cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32)
    opaque = luminance[image[..., 3] > 128] if image.shape[2] == 4 else luminance
    usual = max(float(np.median(opaque)), 4.0)
    relative = luminance / (_broad(luminance, image, usual) if kind == "hair" else usual)
    return np.round(np.minimum(_MIDDLE * relative ** _CONTRAST[kind], 255)).astype(np.uint8)


def _broad(
    luminance: Float32[np.ndarray, "H W"], image: UInt8[np.ndarray, "H W C"], usual: float
) -> Float32[np.ndarray, "H W"]:
    """Hair's own shading from roots to ends, to be divided out: dyed fair, hair would end in black."""
    weight = (image[..., 3].astype(np.float32) if image.shape[2] == 4 else np.full_like(luminance, 255)) + 1e-3
    sigma = _BROAD * max(luminance.shape)
    mean = cv2.GaussianBlur(luminance * weight, (0, 0), sigma) / cv2.GaussianBlur(weight, (0, 0), sigma)
    return usual ** (1 - _EVENED) * np.maximum(mean, 2.0) ** _EVENED


@lru_cache(maxsize=24)
def _tinted(kind: str, name: str, dye: Dye) -> UInt8[np.ndarray, "H W C"]:
    """The piece in the dye's colours, as bright and dark as its own picture is; transparency is kept."""
    shade, image = _shade(kind, name), picture(name)
    layers = [shade] * 3 + ([image[..., 3]] if image.shape[2] == 4 else [])
    merged = cv2.merge(layers)
    out = cv2.LUT(merged, _table(dye.color, len(layers)))
    if dye.pattern != "plain":
        mask = _pattern(dye, *shade.shape)
        out = np.where(mask[..., None], cv2.LUT(merged, _table(dye.second, len(layers))), out)
    return out


def _table(color: RGB, channels: int) -> UInt8[np.ndarray, "1 256 C"]:
    """What each level of shade becomes in each channel; a fourth stays as it is."""
    levels = np.arange(256) / _MIDDLE
    table = np.clip(255 * levels[:, None] * np.array(color), 0, 255).round().astype(np.uint8)
    return np.c_[table, np.arange(256, dtype=np.uint8)][None, :, :channels]


def _pattern(dye: Dye, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """Where the dye's second colour is."""
    step = max(height, width) / dye.repeats
    y, x = np.arange(height)[:, None] / step, np.arange(width) / step
    if dye.pattern == "stripes":
        mask = y % 1 < 0.4
    elif dye.pattern == "columns":
        mask = x % 1 < 0.25
    elif dye.pattern == "checks":
        mask = (y % 1 < 0.3) ^ (x % 1 < 0.3)
    elif dye.pattern == "dots":
        row = np.floor(y)
        across = (x + 0.5 * (row % 2)) % 1 - 0.5
        mask = across**2 + (y % 1 - 0.5) ** 2 < 0.07
    else:  # blocks: the lower part in the second colour
        mask = np.arange(height)[:, None] > 0.6 * height
    return np.broadcast_to(mask, (height, width))
