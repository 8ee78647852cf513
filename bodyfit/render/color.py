"""Convert colours between sRGB and linear light, and choose the colours of people and body parts."""

from __future__ import annotations

import colorsys

import numpy as np

__all__ = ["Color", "part_colors", "person_color", "to_linear", "to_srgb"]

Color = tuple[float, float, float]
"""Red, green and blue in [0, 1], sRGB."""

_PALETTE: tuple[Color, ...] = (
    (0.55, 0.76, 0.94),  # sky
    (0.97, 0.68, 0.54),  # apricot
    (0.62, 0.86, 0.66),  # leaf
    (0.90, 0.66, 0.86),  # mauve
    (0.98, 0.86, 0.52),  # straw
    (0.56, 0.84, 0.84),  # lagoon
)


def person_color(index: int) -> Color:
    """Return the colour of the person with this index, the same in every picture."""
    return _PALETTE[index % len(_PALETTE)]


def part_colors(n: int) -> list[Color]:
    """Return n colours for parts of a body, neighbours distinct: hues a golden ratio apart, three brightnesses."""
    return [colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.40 + 0.15 * (k % 2), 0.97 - 0.13 * (k % 3)) for k in range(n)]


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Convert sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Convert linear light in [0, 1] to sRGB values."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
