"""Samples of bodies along the rays of pictures: cast once, packed, and gathered for a pass of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int, Int8, Int16, Int64, UInt8, UInt16
from torch import Tensor

from bodyfit.fields.casting.canonical import PosedBody
from bodyfit.fields.casting.cast import CastConfig, cast_rays
from bodyfit.fields.casting.rays import Rays
from bodyfit.fields.casting.samples import DISTANCE_UNIT_M, PLACE_UNIT_M
from bodyfit.fields.compositional.atlas import SurfaceAtlas

__all__ = ["CAST", "PackedSamples", "SampleBatch", "Window", "cast_body", "gather"]

CAST = CastConfig(voxel_m=0.02, step_m=0.015, band_m=0.06, depth_m=0.025)
"""How a body is cast for feature images of 64 pixels."""
_INSIDE_M = 0.01
_AFTER = 2
"""A ray ends at this many samples so deep under the skin: what lies behind cannot be seen."""

Window = tuple[int, int, int, int]
"""Rows and columns of a feature image: top, bottom, left, right; the ends are left out."""


@dataclass(frozen=True, eq=False)
class PackedSamples:
    """Samples of one body along the rays of one feature image, in order along each ray; 25 bytes each."""

    ptr: Int64[np.ndarray, "R1"]
    """Ray r has the samples `ptr[r]` to `ptr[r + 1]` - 1; rays go row by row."""
    level: UInt16[np.ndarray, "N"]
    """Number of the step along the ray."""
    anchor: UInt16[np.ndarray, "N 4"]
    """Anchors."""
    weight: UInt8[np.ndarray, "N 4"]
    """Their shares, of sum 255."""
    normal: Int8[np.ndarray, "N 3"]
    """Unit normal of the body in camera axes times 127."""
    distance: Int16[np.ndarray, "N"]
    """Signed distance to the body in units of 0.02 mm, positive outside."""
    place: UInt16[np.ndarray, "N 3"]
    """Canonical place above the lowest, in units of 0.05 mm."""
    step_m: float
    """Length of a step in the body's own space."""

    def __len__(self) -> int:
        return len(self.level)

    def within(self, reach_m: Float[np.ndarray, "A"]) -> PackedSamples:
        """Leave out samples that are farther from the body than `reach_m` of their nearest anchor."""
        keep = self.distance * np.float32(DISTANCE_UNIT_M) <= reach_m[self.anchor[:, 0]]
        ptr = np.concatenate([[0], np.cumsum(keep)])[self.ptr]
        names = ("level", "anchor", "weight", "normal", "distance", "place")
        return PackedSamples(ptr=ptr, step_m=self.step_m, **{name: getattr(self, name)[keep] for name in names})

    @classmethod
    def empty(cls, rays: int) -> PackedSamples:
        """No samples along so many rays."""
        return cls(
            ptr=np.zeros(rays + 1, np.int64),
            level=np.zeros(0, np.uint16),
            anchor=np.zeros((0, 4), np.uint16),
            weight=np.zeros((0, 4), np.uint8),
            normal=np.zeros((0, 3), np.int8),
            distance=np.zeros(0, np.int16),
            place=np.zeros((0, 3), np.uint16),
            step_m=CAST.step_m,
        )


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Samples of O objects along R rays, unpacked."""

    anchors: Int[Tensor, "N 4"]
    """Anchors of each sample."""
    shares: Float[Tensor, "N 4"]
    """Their shares, of sum 1."""
    normals: Float[Tensor, "N 3"]
    """Unit normal of the body, camera axes."""
    signed_m: Float[Tensor, "N"]
    """Signed distance to the body, metres, positive outside."""
    canonical_m: Float[Tensor, "N 3"]
    """Canonical place above the lowest, metres."""
    step_m: Float[Tensor, "N"]
    """Length of a step in the object's own space, metres."""
    ray: Int[Tensor, "N"]
    """Ray."""
    level: Int[Tensor, "N"]
    """Number of the step along the ray."""
    owner: Int[Tensor, "N"]
    """Object."""

    def to(self, device: torch.device | str) -> SampleBatch:
        """Move to a device."""
        return SampleBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def cast_body(
    body: PosedBody,
    rays: Rays,
    atlas: SurfaceAtlas,
    R_cam_body: Float[np.ndarray, "3 3"],
    *,
    scale: float = 1.0,
    config: CastConfig = CAST,
) -> PackedSamples:
    """Sample rays, in the body's own axes and units, near a body.

    scale: size of a unit of the body in that of the scene; steps are equal in the scene, and all rays are in phase.
    """
    own = config if scale == 1 else CastConfig(**{**vars(config), "step_m": config.step_m / scale})
    samples = cast_rays(body, rays, own)
    ptr, rows = _visible(samples.ptr, samples.signed_distance_m)
    weights = atlas.anchors.weigh(samples)
    normal = np.rint(samples.normal[rows] @ R_cam_body.T.astype(np.float32)).astype(np.int8)
    return PackedSamples(
        ptr,
        samples.step[rows],
        weights.anchor[rows],
        weights.weight[rows],
        normal,
        samples.distance[rows],
        samples.place[rows],
        own.step_m,
    )


def _visible(
    ptr: Int64[np.ndarray, "R1"], signed_m: Float[np.ndarray, "N"]
) -> tuple[Int64[np.ndarray, "R1"], Int[np.ndarray, "M"]]:
    """The samples of each ray up to the second deep one, with row pointers of their own."""
    deep = np.concatenate([[0], np.cumsum(signed_m < -_INSIDE_M)])
    ray = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    keep = deep[:-1] - deep[ptr[:-1]][ray] < _AFTER
    counts = np.bincount(ray[keep], minlength=len(ptr) - 1)
    return np.concatenate([[0], np.cumsum(counts)]), np.flatnonzero(keep)


def gather(parts: Sequence[tuple[PackedSamples, int]], windows: Sequence[Window] | None, width: int) -> SampleBatch:
    """Unpack samples of objects for one pass.

    parts: each object's samples and the number of its picture. windows: the part of each picture that is drawn, all of
    one size; whole pictures of `width` columns if left out. Rays are numbered through the windows, picture by picture,
    row by row; objects in the order of `parts`.
    """
    rows: list[np.ndarray] = []
    rays: list[np.ndarray] = []
    for one, picture in parts:
        height = (len(one.ptr) - 1) // width
        top, bottom, left, right = (0, height, 0, width) if windows is None else windows[picture]
        at = (np.arange(top, bottom)[:, None] * width + np.arange(left, right)).ravel()
        counts = one.ptr[at + 1] - one.ptr[at]
        ends = np.cumsum(counts)
        rows.append(np.repeat(one.ptr[at] - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0))
        rays.append(picture * len(at) + np.repeat(np.arange(len(at)), counts))
    count = np.array([len(r) for r in rows], np.int64)

    def joined(name: str, dtype: type, unit: float | None = None) -> Tensor:
        values = [getattr(one, name)[r] for (one, _), r in zip(parts, rows, strict=True)]
        out = torch.from_numpy(np.concatenate(values).astype(dtype))
        return out if unit is None else out * unit

    steps = np.array([one.step_m for one, _ in parts], np.float32)
    return SampleBatch(
        anchors=joined("anchor", np.int64),
        shares=joined("weight", np.float32, 1 / 255),
        normals=joined("normal", np.float32, 1 / 127),
        signed_m=joined("distance", np.float32, DISTANCE_UNIT_M),
        canonical_m=joined("place", np.float32, PLACE_UNIT_M),
        step_m=torch.from_numpy(np.repeat(steps, count)),
        ray=torch.from_numpy(np.concatenate(rays)),
        level=joined("level", np.int64),
        owner=torch.from_numpy(np.repeat(np.arange(len(parts)), count)),
    )
