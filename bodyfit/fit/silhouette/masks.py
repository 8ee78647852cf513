"""Masks of people as evidence: what users give, checked, as outlines in normalised image coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bodyfit.errors import OptionError, ShapeError
from bodyfit.fit.silhouette.match import Edge
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.keypoints import SoftMask
from bodyfit.raster.outline import PER_STEP, Outline, trace

__all__ = ["MaskEvidence", "MaskInput", "PersonMask", "check_masks", "outline_of"]


@dataclass(frozen=True, eq=False)
class PersonMask:
    """A person's mask in a picture of some size, and where something is before the person."""

    mask: SoftMask
    picture_px: tuple[int, int]
    """Width and height of the picture."""
    unknown: SoftMask | None = None
    """Pixels of which nothing is known, such as those of other people; None for none."""


MaskInput: TypeAlias = Outline | PersonMask | SoftMask | Tensor | np.ndarray | None
"""One person's mask in one picture: an outline, a crop, or the whole picture (H, W) as truth values, bytes (255 = all
of the pixel) or numbers from 0 to 1, NaN where it is unknown; None without one."""

EMPTY = "the mask is empty"
INVERTED = "the mask is inverted: it covers the picture's border and not the keypoints"
ELSEWHERE = "the mask lies elsewhere: most keypoints are outside of it"
EVERYWHERE = "the mask covers the whole picture"
OTHERS = "the mask is of more than this person, or of another"

_LEAST_PX = 40
"""Pixels of the smallest mask that is used."""
_NEAR = 0.03
"""How far outside a mask keypoints of its person may be, in parts of their extent."""
_SURE = 0.3
"""Confidence from which on keypoints tell whether a mask is the person's."""


def outline_of(
    mask: SoftMask | UInt8[np.ndarray, "H W"],
    picture_px: tuple[int, int],
    xyc: Float[np.ndarray, "K 3"] | None = None,
    unknown: SoftMask | None = None,
) -> tuple[Outline | None, str | None]:
    """Trace a person's mask; or return None and why it cannot be used.

    xyc: the person's keypoints, pixels; parts of the mask that none of them lies on are left out where others have
    some. unknown: pixels of which nothing is known, such as those of people before this one.
    """
    soft = mask if isinstance(mask, SoftMask) else SoftMask(mask, (0, 0))
    alpha, (x0, y0) = soft.alpha, soft.corner_px
    inside = alpha >= 128
    if int(inside.sum()) < _LEAST_PX:
        return None, EMPTY
    whole = alpha.shape == picture_px[::-1]
    if whole and float(inside.mean()) > 0.98:
        return None, EVERYWHERE
    if xyc is not None:
        sure = xyc[np.nan_to_num(xyc[:, 2]) >= _SURE, :2]
        at = np.floor(sure).astype(int) - (x0, y0)
        within = ((np.floor(sure) >= 0) & (np.floor(sure) < picture_px)).all(1)  # of the picture
        at = at[within]
        if len(at) >= 4:
            border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
            if whole and border.mean() > 0.5 and _share_on(inside, at, 0) < 0.5:
                return None, INVERTED
            if _share_on(inside, at, round(_NEAR * float(np.ptp(at, 0).max()))) < 0.5:
                return None, ELSEWHERE
        if len(at):
            alpha = np.where(_own_parts(inside, at), alpha, 0).astype(np.uint8)
    blocked = None
    if unknown is not None:
        blocked = _in_box(unknown, (x0, y0), alpha.shape) >= 128
    outline = trace(alpha, (x0, y0), picture_px, blocked)
    return (outline, None) if outline.certain.any() else (None, EMPTY)


def _in_box(mask: SoftMask, corner_px: tuple[int, int], shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """Cut a mask to a box; 0 outside of it."""
    out = np.zeros(shape, np.uint8)
    dx, dy = (a - b for a, b in zip(mask.corner_px, corner_px, strict=True))
    h, w = mask.alpha.shape
    part = mask.alpha[max(-dy, 0) : max(shape[0] - dy, 0), max(-dx, 0) : max(shape[1] - dx, 0)]
    out[max(dy, 0) : max(dy + h, 0), max(dx, 0) : max(dx + w, 0)] = part
    return out


def _share_on(inside: Bool[np.ndarray, "h w"], at: Int[np.ndarray, "N 2"], reach: int) -> float:
    """Compute the share of pixels that lie on a mask or within `reach` pixels of it."""
    import cv2

    near = inside
    if reach > 0:
        near = np.asarray(cv2.dilate(inside.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))) > 0
    good = ((at >= 0) & (at < inside.shape[::-1])).all(1)
    return float(near[at[good, 1], at[good, 0]].sum() / len(at))


def _own_parts(inside: Bool[np.ndarray, "h w"], at: Int[np.ndarray, "N 2"]) -> Bool[np.ndarray, "h w"]:
    """Select the parts of a mask that keypoints lie on, without specks; all where there is one part."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    if count <= 2:
        return inside
    good = at[((at >= 0) & (at < inside.shape[::-1])).all(1)]
    own = np.zeros(count, bool)
    own[np.asarray(labels)[good[:, 1], good[:, 0]].tolist()] = True
    own[0] = False
    if not own.any():
        own[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())] = True
    return own[np.asarray(labels, np.int64)]


@dataclass(frozen=True)
class MaskEvidence:
    """Checked masks of B people in C views."""

    edges: tuple[tuple[Edge | None, ...], ...]
    """Outlines in normalised image coordinates, by person and view; None without one."""
    notes: tuple[str | None, ...]
    """Why a person's mask is not used; None where it is, or where there is none."""

    def __len__(self) -> int:
        return len(self.edges)

    def select(self, rows: Tensor) -> MaskEvidence:
        """Select people by index or mask."""
        index = (rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows).tolist()
        return MaskEvidence(tuple(self.edges[i] for i in index), tuple(self.notes[i] for i in index))

    @property
    def present(self) -> list[bool]:
        """Tell who has a mask in any view."""
        return [any(edge is not None for edge in views) for views in self.edges]


def check_masks(
    masks: Any,
    camera: Camera,
    cameras: Sequence[CalibratedCamera] | None,
    xyc: Float[Tensor, "B CK 3"],
) -> MaskEvidence:
    """Check the masks of B people (`Evidence.masks`) and trace them. Raises `ShapeError` and `OptionError`."""
    batch, n_c = len(xyc), 1 if cameras is None else len(cameras)
    if len(masks) != batch:
        raise ShapeError(f"masks must have one entry a person, {batch}, got {len(masks)}; None for whom there is none")
    if not camera.has_picture:
        raise OptionError("masks are of a picture: give its image_size, or cameras")
    points = xyc.unflatten(1, (n_c, -1)).cpu().double().numpy()
    edges, notes = [], []
    for b in range(batch):
        views = [masks[b]] if cameras is None else _views_of(masks[b], n_c)
        found, reasons = [], []
        for c, one in enumerate(views):
            calibrated = None if cameras is None else cameras[c]
            size = camera.image_size if calibrated is None else _size_of(one, camera.image_size)
            outline, reason = _outline(one, size, points[b, c])
            reasons.append(reason)
            found.append(None if outline is None else _edge(outline, camera, b, calibrated))
        edges.append(tuple(found))
        notes.append(next((reason for reason in reasons if reason), None))
    return MaskEvidence(tuple(edges), tuple(notes))


def _views_of(masks: Any, n_c: int) -> list[Any]:
    """List a person's masks by camera. Raises `ShapeError`."""
    if masks is None:
        return [None] * n_c
    if isinstance(masks, Outline | SoftMask | PersonMask) or len(masks) != n_c:
        raise ShapeError(f"masks must have one entry a camera, {n_c}; None where there is none")
    return list(masks)


def _size_of(mask: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the picture of a mask by a calibrated camera, whose own size is not known."""
    shape = getattr(mask, "shape", ())
    return (int(shape[1]), int(shape[0])) if len(shape) == 2 else default


def _outline(
    mask: Any, picture_px: tuple[int, int], xyc: Float[np.ndarray, "K 3"]
) -> tuple[Outline | None, str | None]:
    """Trace one mask of any form. Raises `ShapeError` and `OptionError`."""
    if mask is None or isinstance(mask, Outline):
        return mask, None
    if isinstance(mask, PersonMask):
        return outline_of(mask.mask, mask.picture_px, xyc, mask.unknown)
    if isinstance(mask, SoftMask):
        return outline_of(mask, picture_px, xyc)
    values = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if values.ndim != 2 or values.shape != picture_px[::-1]:
        raise ShapeError(
            f"a mask must be as large as the picture, ({picture_px[1]}, {picture_px[0]}), got {values.shape}"
        )
    unknown = None
    if values.dtype == np.bool_:
        values = 255 * values.astype(np.uint8)
    elif values.dtype != np.uint8:
        values = values.astype(np.float64)
        blank = np.isnan(values)
        unknown = SoftMask(255 * blank.astype(np.uint8), (0, 0)) if blank.any() else None
        values = np.where(blank, 0.0, values)
        if values.size and (values.min() < 0 or values.max() > 1):
            raise OptionError("a mask of numbers must lie between 0 and 1, NaN where unknown; or give bytes, or bools")
        values = np.round(255 * values).astype(np.uint8)
    return outline_of(values, picture_px, xyc, unknown)


def _edge(outline: Outline, camera: Camera, person: int, calibrated: CalibratedCamera | None) -> Edge:
    """Convert an outline to normalised image coordinates."""
    if calibrated is not None:
        focal = calibrated.focal_px
        uv = calibrated.normalised(outline.xy_px)
        normal = calibrated.normalised(outline.xy_px + outline.normal) - uv
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    else:
        focal = float(camera.focal_px[person])
        centre = camera.principal_point_px[person].cpu().double().numpy()
        uv, normal = (outline.xy_px - centre) / focal, outline.normal
    return Edge(uv, normal, outline.certain, outline.step_px / PER_STEP / focal, 1 / focal)
