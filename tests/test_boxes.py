"""Boxes: their overlap by counting pixels, and who is assigned to whom."""

from __future__ import annotations

import numpy as np
import pytest

from bodyfit.geometry.boxes import assigned_boxes, box_about, box_overlaps


def pixels(box: np.ndarray) -> np.ndarray:
    mask = np.zeros((60, 60), bool)
    x0, y0, x1, y1 = box.astype(int)
    mask[y0:y1, x0:x1] = True
    return mask


def test_overlaps_count_pixels():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 30, (2, 5, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 30, low.shape)], 2).astype(float)
    found = box_overlaps(boxes[0], boxes[1])
    for i, a in enumerate(boxes[0]):
        for j, b in enumerate(boxes[1]):
            both = pixels(a), pixels(b)
            assert found[i, j] == pytest.approx((both[0] & both[1]).sum() / (both[0] | both[1]).sum())
    assert box_overlaps(np.full((1, 4), np.nan), boxes[0]).tolist() == [[0.0] * 5]


def test_each_box_is_assigned_once():
    a = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]], float)
    b = np.array([[4, 0, 14, 10], [0, 0, 9, 10]], float)
    assert sorted(assigned_boxes(a, b, 0.3)) == [(0, 1), (1, 0)]
    assert assigned_boxes(a, b[:0], 0.3) == []
    assert assigned_boxes(a, b, 0.95) == []


def test_box_about_points():
    assert box_about(np.array([[3.0, 4], [1, 9]])).tolist() == [1, 4, 3, 9]
    assert np.isnan(box_about(np.zeros((0, 2)))).all()
