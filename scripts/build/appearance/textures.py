"""Pictures of pieces and skins: cropped, shrunk, colours spread under transparency, folds and shade baked in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

_QUALITY = 86
_SKIN_HUE_DEG = 54.0
"""Least hue angle in CIELAB that skin is given: measured skin lies between 45 and 75, whatever its lightness."""
_SKIN_LIGHTNESS = 31.0
"""Least mean lightness (CIELAB) of a skin."""
_IRIS_CHROMA = 0.65
_FLUSH = 6.0
"""Redness above the skin's own (CIELAB's a) from which on it is halved: knees and elbows came flushed."""
_FOLDS = 0.55
"""How much of the shading that a normal map has under a light from above is baked in."""


def save(path: Path, image: np.ndarray) -> None:
    """Write RGB or RGBA bytes as WebP; the same bytes for the same picture."""
    Image.fromarray(image).save(path, "WEBP", quality=_QUALITY, method=6, exact=True)


def read(path: Path) -> np.ndarray:
    """RGB or RGBA bytes of a PNG; alpha is dropped where all of it is opaque."""
    with Image.open(path) as file:
        has_alpha = file.mode in ("RGBA", "LA") or "transparency" in file.info
        image = np.array(file.convert("RGBA" if has_alpha else "RGB"))
    return image if image.shape[2] == 3 or image[..., 3].min() < 250 else image[..., :3]


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """At most `side` pixels wide and high; colours are weighted by alpha."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    if image.shape[2] == 3:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    alpha = image[..., 3:].astype(np.float32)
    layers = np.concatenate([image[..., :3] * alpha, alpha], 2)
    small = cv2.resize(layers, size, interpolation=cv2.INTER_AREA)
    colour = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
    return np.concatenate([colour, small[..., 3:]], 2).round().clip(0, 255).astype(np.uint8)


def spread(image: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Fill what is not covered (H, W) with the colours around it, coarser the farther away."""
    weight = covered.astype(np.float32)
    colour = image[..., :3].astype(np.float32) * weight[..., None]
    out, filled = colour.copy(), weight.copy()
    height, width = weight.shape
    while min(colour.shape[:2]) > 1:
        half = (max(colour.shape[1] // 2, 1), max(colour.shape[0] // 2, 1))
        colour, weight = (cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (colour, weight))
        up, up_weight = (cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR) for x in (colour, weight))
        room = 1 - filled
        near = np.minimum(up_weight / 0.05, 1) * room
        out += near[..., None] * up / np.maximum(up_weight, 1e-6)[..., None]
        filled += near
    done = image.copy()
    done[..., :3] = np.where(covered[..., None], image[..., :3], (out / np.maximum(filled, 1e-6)[..., None]).round())
    return done


def island(shape: tuple[int, int], uv: np.ndarray, uv_faces: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels under the triangles of texture coordinates, and those next to them."""
    height, width = shape
    mask = np.zeros((height, width), np.uint8)
    at = uv[uv_faces] * [width, -height] + [0, height] - 0.5
    for triangle in np.round(at * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, triangle, 1, shift=4)
    return cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0


def crop(image: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a picture that a piece uses, its surroundings filled, and the piece's texture coordinates there."""
    height, width = image.shape[:2]
    covered = island((height, width), uv, uv_faces)
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    y0, y1 = max(rows[0] - 2, 0), min(rows[-1] + 3, height)
    x0, x1 = max(columns[0] - 2, 0), min(columns[-1] + 3, width)
    part = image[y0:y1, x0:x1]
    solid = covered[y0:y1, x0:x1]
    if part.shape[2] == 4:
        solid = solid & (part[..., 3] > 8)
    at = (uv * [width, -height] + [0, height] - [x0, y0]) / [x1 - x0, y1 - y0]
    return spread(part, solid), at * [1, -1] + [0, 1]


def with_folds(image: np.ndarray, occlusion: Path | None, normal: Path | None) -> np.ndarray:
    """Bake the shade of folds into colours: ambient occlusion, and light from above on the normal map."""
    shade = np.ones(image.shape[:2], np.float32)
    if occlusion is not None:
        ao = read(occlusion)[..., :3].mean(2) / 255
        shade *= 0.35 + 0.65 * cv2.resize(ao.astype(np.float32), image.shape[1::-1])
    if normal is not None:
        n = read(normal)[..., :3].astype(np.float32) / 127.5 - 1
        n = cv2.resize(n, image.shape[1::-1])
        lit = (0.6 * n[..., 1] + 0.8 * n[..., 2]) / np.maximum(np.linalg.norm(n, axis=2), 1e-3) / 0.8
        shade *= 1 + _FOLDS * (np.clip(lit, 0.3, 1.6) - 1)
    out = image.copy()
    out[..., :3] = (image[..., :3] * np.minimum(shade, 1.15)[..., None]).round().clip(0, 255)
    return out


def muted_iris(image: np.ndarray) -> np.ndarray:
    """Irises less saturated, and brown ones brown and not red."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 1:] *= _IRIS_CHROMA
    reddish = np.clip((lab[..., 1] - 0.7 * lab[..., 2]) / 6, 0, 1) * (lab[..., 1] > 4)
    lab[..., 2] += reddish * (1.1 * lab[..., 1] - lab[..., 2])
    return (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8)


def corrected_skin(image: np.ndarray) -> np.ndarray:
    """Turn skins that are too red towards the hue of people's skin, and lift those that are darker than any."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean = np.median(lab[: int(0.7 * len(lab)), : int(0.6 * lab.shape[1])].reshape(-1, 3), 0)
    chroma, hue = np.hypot(mean[1], mean[2]), np.degrees(np.arctan2(mean[2], mean[1]))
    wanted = np.radians(max(hue, _SKIN_HUE_DEG))
    new = np.array([max(mean[0], _SKIN_LIGHTNESS), min(chroma, 24) * np.cos(wanted), min(chroma, 24) * np.sin(wanted)])
    near = np.exp(-0.5 * ((lab[..., :1] - mean[0]) / 14) ** 2)  # lips, nails and palms keep more of their own
    tint = 0.35 + 0.65 * near
    lab[..., 0:1] *= 1 + (new[0] / mean[0] - 1) * near
    lab[..., 1:] += tint * (new - mean)[1:]
    body = lab[:, : int(0.6 * lab.shape[1])]  # the face is on the other side
    body[..., 1] -= 0.5 * np.maximum(body[..., 1] - new[1] - _FLUSH, 0)
    return (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8)
