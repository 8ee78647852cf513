"""Poses of the seated and of people bent backwards, and what stands before people, for `quality_pictures.py`.

Covers are masks of the picture: boxes, a balloon, a desk, a wheelchair's wheels and footrest.
"""

from __future__ import annotations

import cv2
import numpy as np
import roma
import torch

from bodyfit.skeleton import SMPL

__all__ = ["WORDS", "bent_back", "covers", "is_bent_back", "seated"]

WORDS = {"seated": "reactidle|drink|wash_windows|laugh|traffic"}
"""Clips that poses of a kind are made from, by words in their names."""
_SPINE = tuple(SMPL.index(f"spine{k}") - 1 for k in (1, 2, 3))
_LIMBS = tuple(i for i, name in enumerate(SMPL.names) if "hip" in name or "knee" in name or "ankle" in name)
_HIDDEN = (0.35, 0.7)
"""The part of a body's joints that a balloon or a wall hides."""
_WHEEL_M = 0.3
"""Radius of a wheelchair's wheel."""


def seated(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """A body pose (23, 3) with its legs replaced by those of somebody who sits."""
    pose = pose.copy()
    spread, flexed, bent = rng.uniform(0, 20), rng.uniform(70, 105), rng.uniform(55, 110)
    for side, sign in (("left", 1), ("right", -1)):
        hip = _turn(1, sign * (spread + rng.normal(0, 5))) @ _turn(0, -(flexed + rng.normal(0, 6)))
        pose[SMPL.index(f"{side}_hip") - 1] = roma.rotmat_to_rotvec(hip).numpy()
        pose[SMPL.index(f"{side}_knee") - 1] = np.deg2rad([bent + rng.normal(0, 8), 0, 0])
        pose[SMPL.index(f"{side}_ankle") - 1] = np.deg2rad([rng.normal(0, 8), 0, 0])
    return pose


def is_bent_back(pose: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Which poses (T, 23, 3) bend the trunk 20 degrees backwards, or hang upside down by the root (T, 3), y up."""
    first, second, third = (roma.rotvec_to_rotmat(torch.tensor(pose[:, k])) for k in _SPINE)
    spine = first @ second @ third
    back = torch.atan2(spine[:, 2, 1], spine[:, 1, 1]) < -np.deg2rad(20)
    return (back | (roma.rotvec_to_rotmat(torch.tensor(root))[:, 1, 1] < 0.2)).numpy()


def bent_back(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """A body pose (23, 3) with trunk and hips bent farther backwards, as in a bridge, in three of five."""
    pose = pose.copy()
    if rng.random() < 0.6:
        more = rng.uniform(10, 30)
        for k in (*_SPINE, SMPL.index("neck") - 1):
            pose[k] = roma.rotmat_to_rotvec(_turn(0, -more) @ roma.rotvec_to_rotmat(torch.tensor(pose[k]))).numpy()
        for side in ("left", "right"):
            k = SMPL.index(f"{side}_hip") - 1
            pose[k] = roma.rotmat_to_rotvec(_turn(0, more) @ roma.rotvec_to_rotmat(torch.tensor(pose[k]))).numpy()
    return pose


def _turn(axis: int, degrees: float) -> torch.Tensor:
    return roma.rotvec_to_rotmat(torch.deg2rad(degrees * torch.eye(3, dtype=torch.float64)[axis]))


def covers(
    rng: np.random.Generator, kind: str, xy: np.ndarray, px_per_m: float, size: tuple[int, int]
) -> list[np.ndarray]:
    """Masks (H, W) of what stands before the person of the joints `xy` (24, 2) in a picture of (width, height)."""
    if kind == "boxed":
        return _boxes(rng, xy, size)
    if kind == "behind":
        return [_balloon(rng, xy, size)]
    if kind == "seated":
        return _furniture(rng, xy, px_per_m, size)
    return []


def _boxes(rng: np.random.Generator, xy: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    low, high = xy.min(0), xy.max(0)
    boxes = []
    for _ in range(rng.integers(1, 3)):
        extent = rng.uniform(0.25, 0.7, 2) * (high - low + 20)
        corner = low + rng.uniform(-0.15, 0.9, 2) * (high - low)
        boxes.append(_box(corner, corner + extent, size))
    return boxes


def _balloon(rng: np.random.Generator, xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An ellipse or a box before half of a person."""
    extent, mask = np.ptp(xy, axis=0).max(), np.zeros(size[::-1], bool)
    for _ in range(30):
        middle = xy[rng.integers(24)] + rng.normal(0, 0.1 * extent, 2)
        half = rng.uniform(0.2, 0.5, 2) * extent
        mask = _box(middle - half, middle + half, size)
        if rng.random() < 0.6:
            mask = _ellipse(middle, half, size)
        if _HIDDEN[0] < hidden(mask, xy).mean() < _HIDDEN[1]:
            break
    return mask


def _furniture(rng: np.random.Generator, xy: np.ndarray, px_per_m: float, size: tuple[int, int]) -> list[np.ndarray]:
    """A desk before the lap, a wheelchair, or nothing."""
    pelvis, chest = xy[SMPL.index("pelvis")], xy[SMPL.index("spine3")]
    knee, feet = (xy[[i for i, n in enumerate(SMPL.names) if part in n], 1] for part in ("knee", "foot"))
    what = rng.random()
    if what < 0.4:
        top = pelvis[1] + rng.uniform(-0.4, 0.7) * (chest[1] - pelvis[1])
        bottom = size[1] if rng.random() < 0.6 else knee.max() + 0.08 * px_per_m  # shins show below a desk's top
        return [_box(np.array([0, top]), np.array([size[0], bottom]), size)]
    if what > 0.75:
        return []
    masks = []
    if rng.random() < 0.75:
        top = knee.max() + rng.uniform(0.02, 0.25) * px_per_m
        legs, margin = xy[list(_LIMBS), 0], 0.15 * px_per_m
        low, high = (legs.min() - margin, top), (legs.max() + margin, feet.max() + 1.5 * margin)
        masks.append(_box(np.array(low), np.array(high), size))
    radius = _WHEEL_M * px_per_m * np.array([rng.uniform(0.2, 1), 1])
    for side in ("left", "right"):
        middle = xy[SMPL.index(f"{side}_hip")] + np.array([rng.normal(0, 0.05), 0.12]) * px_per_m
        ring = _ellipse(middle, radius, size) & ~_ellipse(middle, 0.82 * radius, size)
        masks.append(ring)
    return masks


def hidden(mask: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Which points lie in the picture and under a mask."""
    height, width = mask.shape
    inside = (xy >= 0).all(1) & (xy < (width, height)).all(1)
    x, y = xy.clip(0, (width - 1, height - 1)).astype(int).T
    return inside & mask[y, x]


def _box(low: np.ndarray, high: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size[::-1], bool)
    (x0, y0), (x1, y1) = (corner.clip(0, size).astype(int) for corner in (low, high))
    mask[y0:y1, x0:x1] = True
    return mask


def _ellipse(middle: np.ndarray, half: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size[::-1], np.uint8)
    center = (int(middle[0]), int(middle[1]))
    cv2.ellipse(mask, center, (max(int(half[0]), 1), max(int(half[1]), 1)), 0.0, 0, 360, (1.0,), -1)
    return mask > 0
