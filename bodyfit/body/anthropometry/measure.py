"""Measure the height, mass, girths and lengths of bodies.

Independent of the mesh's topology: regions come from the skinning weights, levels from joints and the surface itself.
Definitions follow ISO 8559-1:2017 and ANSUR II (Gordon et al. 2014) as far as a surface without palpable bones allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.anthropometry.cross_section import Region, close_holes, hull_perimeters, mesh_edges, smooth_over_edges
from bodyfit.errors import OptionError, check_shape
from bodyfit.skeleton import SMPL, Skeleton

__all__ = ["BODY_DENSITY", "Measurements", "TapeMeasure", "measure"]

BODY_DENSITY = 985.0
"""Mean density of the living body with air in its lungs, kg/m3."""

_CHUNK = 16  # bodies at a time, so that their arrays fit the cache
_ARM_IN_TRUNK = 0.1
"""Largest weight of the arm for skin that counts as the trunk's. In a T-pose the flesh in front of and behind the
armpit is stretched along the arm; a tape under hanging arms excludes it (it would add 5 to 9 cm to a man's chest)."""
_JOINTS = (
    *("pelvis", "spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_collar"),
    *(f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")),
    *(f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist")),
)
_CHEST_LEVELS = np.linspace(0.0, 0.5, 11)  # from spine2 (0) to the shoulder joints (1)
_HIP_LEVELS = np.linspace(0.0, 1.0, 9)  # from the crotch (0) to the pelvis joint (1)
_NECK_LEVELS = np.linspace(0.1, 0.6, 5)  # from the neck joint (0) to the head joint (1)
_THIGH_LEVEL = 0.05  # from the crotch (0) to the knee joints (1)


@dataclass(frozen=True)
class Measurements:
    """Measurements of a batch of bodies in the rest pose: metres and kilograms. NaN where a body lacks the region."""

    height: Float[Tensor, " B"]
    """Height (stature): from the soles to the top of the head, barefoot."""
    mass: Float[Tensor, " B"]
    """Kilograms: the volume that the surface encloses, times a density."""
    chest: Float[Tensor, " B"]
    """Chest or bust girth: the greatest horizontal girth of the trunk from the ribs to the armpits, arms left out."""
    waist: Float[Tensor, " B"]
    """Waist girth at the level of the joint spine1: midway between the lowest rib and the crest of the hip bone."""
    hip: Float[Tensor, " B"]
    """Hip girth: the greatest horizontal girth between the crotch and the joint pelvis, the fullest of the buttocks."""
    neck: Float[Tensor, " B"]
    """Neck girth: the smallest square to the neck, below the larynx."""
    upper_arm: Float[Tensor, " B"]
    """Upper arm girth, relaxed, midway between shoulder and elbow; the mean of left and right."""
    thigh: Float[Tensor, " B"]
    """Thigh girth, horizontal, just below the crotch; the mean of left and right."""
    arm_length: Float[Tensor, " B"]
    """From the top of the shoulder along the hanging arm, by the elbow, to the wrist joint; the mean of both."""
    leg_length: Float[Tensor, " B"]
    """From the hip joint by the knee joint to the ankle joint; the mean of left and right."""
    inseam: Float[Tensor, " B"]
    """Crotch height above the soles."""
    shoulder_breadth: Float[Tensor, " B"]
    """Distance between the centres of the shoulder joints; the biacromial breadth of ISO 8559 is 3 to 4 cm more."""

    @property
    def bmi(self) -> Float[Tensor, " B"]:
        """Body mass index, kg/m2."""
        return self.mass / self.height**2


class TapeMeasure:
    """Measures bodies of one topology in the rest pose (upright T-pose), in the model's frame: y up, z forward."""

    def __init__(self, faces: Int[Tensor, "F 3"], weights: Float[Tensor, "V J"], skeleton: Skeleton = SMPL) -> None:
        self._faces = faces.detach().cpu().numpy()
        self._weights = weights.detach().cpu().double().numpy()
        self._skeleton = skeleton
        check_shape("weights", weights, (None, len(skeleton.names)), hint="give the skeleton that the weights are for")
        lacking = [name for name in _JOINTS if name not in skeleton.names]
        if lacking:
            raise OptionError(f"only whole bodies can be measured; this model has no joint {', '.join(lacking)}")
        limb, mesh = self._limb, mesh_edges(self._faces, len(self._weights))
        arms = [limb("left_shoulder"), limb("right_shoulder")]
        legs = [limb("left_hip"), limb("right_hip")]
        ends = limb("head"), limb("left_knee"), limb("right_knee")
        # Skinning weights are noisy: without smoothing, girths would jump by millimetres from shape to shape.
        off_trunk = smooth_over_edges(arms[0] + arms[1], mesh[0], 3) - _ARM_IN_TRUNK
        self._trunk = Region.where(np.maximum(off_trunk, np.max(ends, 0) - 0.5), *mesh)
        self._upper = Region.where(np.maximum(off_trunk, 0.5 - limb("spine3")), *mesh)
        self._arms = [Region.where(0.5 - w, *mesh) for w in arms]
        # The legs end where they meet, not at a level: the thighs of many bodies touch or intersect.
        self._legs = [Region.where(1e-3 - w, *mesh) for w in (legs[0] - legs[1], legs[1] - legs[0])]
        self._shoulders = Region.where(0.05 - limb("left_collar") - limb("right_collar"), *mesh)
        self._between, self._between_at = _midline(self._faces, *legs)
        self._closed, self._rims = close_holes(self._faces, len(self._weights))

    def measure(
        self,
        vertices: Float[Tensor, "B V 3"],
        joints: Float[Tensor, "B J 3"],
        *,
        density: float | int = BODY_DENSITY,
    ) -> Measurements:
        """Measure bodies in the rest pose (metres); `density` is in kg/m3. Raises `ShapeError`."""
        check_shape("vertices", vertices, (None, len(self._weights), 3))
        check_shape("joints", joints, (vertices.shape[0], len(self._skeleton.names), 3))
        names = [f.name for f in fields(Measurements)]
        table = self.values(names, vertices, joints, density=density)
        columns = torch.from_numpy(table).to(vertices).unbind(1)
        return Measurements(**dict(zip(names, columns, strict=True)))

    def values(
        self, names: Sequence[str], vertices: Tensor, joints: Tensor, *, density: float | int = BODY_DENSITY
    ) -> Float[np.ndarray, "B M"]:
        """Compute only the named measurements, in float64, a column each. Raises `OptionError`."""
        if not density > 0:
            raise OptionError(f"density must be positive (kg/m3; a living body's is {BODY_DENSITY:g}), got {density}")
        rows = [np.zeros((0, len(names)))]
        for mesh, rest in zip(vertices.detach().split(_CHUNK), joints.detach().split(_CHUNK), strict=True):
            if not len(mesh):  # an empty batch splits into one empty part
                continue
            # Vertices as the first axis: gathering by vertex then reads all bodies contiguously, which is far faster.
            mesh = np.ascontiguousarray(mesh.cpu().double().numpy().swapaxes(0, 1))
            bodies = _Bodies(self, mesh, rest.cpu().double().numpy())
            rows.append(np.stack([_MEASURES[name](bodies) for name in names], 1))
        return np.concatenate(rows) * np.array([density if name == "mass" else 1.0 for name in names])

    def _limb(self, top: str) -> Float[np.ndarray, " V"]:
        """Sum each vertex's skinning weights over a joint and its descendants."""
        parents = self._skeleton.parents
        below = [self._skeleton.index(top)]
        for joint, parent in enumerate(parents):  # a parent comes before its children
            if parent in below:
                below.append(joint)
        return self._weights[:, below].sum(1)


def measure(
    vertices: Float[Tensor, "B V 3"],
    joints: Float[Tensor, "B J 3"],
    faces: Int[Tensor, "F 3"],
    weights: Float[Tensor, "V J"],
    *,
    skeleton: Skeleton = SMPL,
    density: float | int = BODY_DENSITY,
) -> Measurements:
    """Measure bodies in the rest pose (upright T-pose, y up, z forward), in metres and kilograms.

    `density` is in kg/m3. To measure many batches of one model, make a `TapeMeasure` once. Raises `ShapeError` and
    `OptionError`.
    """
    return TapeMeasure(faces, weights, skeleton).measure(vertices, joints, density=density)


class _Bodies:
    """A batch of bodies being measured, vertices first: mesh (V, B, 3) and rest joints (B, J, 3), metres."""

    def __init__(self, tape: TapeMeasure, mesh: Float[np.ndarray, "V B 3"], rest: Float[np.ndarray, "B J 3"]) -> None:
        self.tape, self.mesh, self._rest = tape, mesh, rest

    def joint(self, name: str) -> Float[np.ndarray, "B 3"]:
        """Return the positions of a joint."""
        return self._rest[:, self.tape._skeleton.index(name)]

    def level(self, *names: str) -> Float[np.ndarray, "B 1"]:
        """Return the mean height of some joints."""
        return np.mean([self.joint(name)[:, 1:2] for name in names], 0)

    @cached_property
    def soles(self) -> Float[np.ndarray, " B"]:
        """Height of the lowest vertex."""
        return self.mesh[..., 1].min(0)

    @cached_property
    def crotch(self) -> Float[np.ndarray, " B"]:
        """Height of the lowest point on the boundary between the skin of the two legs; NaN where there is none."""
        a, b = self.tape._between.T
        y = self.mesh[..., 1]
        lowest = (y[a] + self.tape._between_at[:, None] * (y[b] - y[a])).min(0, initial=np.inf)
        return np.where(np.isfinite(lowest), lowest, np.nan)

    def sections(
        self, region: Region, origin: Float[np.ndarray, "B L 3"], normal: Float[np.ndarray, "B 3"]
    ) -> tuple[Int[np.ndarray, " P"], Float[np.ndarray, "P 3"]]:
        """Intersect a region's edges with parallel planes through `origin`, L planes a body.

        Returns each intersection's section number (L times the body's plus the plane's) and its position.
        """
        points = region.points(self.mesh)
        height = np.einsum("nbc,bc->nb", points, normal)
        planes = np.einsum("blc,bc->bl", origin, normal)
        above, below = height.max(1) >= planes.min(), height.min(1) <= planes.max()
        edges = region.edges[above[region.edges].any(1) & below[region.edges].any(1)]  # only edges near the planes
        start, end = height[edges[:, 0]], height[edges[:, 1]]
        crossings = []
        for k, plane in enumerate(planes.T):
            edge, item = np.nonzero((start > plane) != (end > plane))
            h_start, h_end = (start - plane)[edge, item], (end - plane)[edge, item]
            a, b = points[edges[edge, 0], item], points[edges[edge, 1], item]
            crossings.append((item * planes.shape[1] + k, a + (h_start / (h_start - h_end))[:, None] * (b - a)))
        sections, places = zip(*crossings, strict=True)
        return np.concatenate(sections), np.concatenate(places)

    def girths(
        self, region: Region, origin: Float[np.ndarray, "B L 3"], normal: Float[np.ndarray, "B 3"]
    ) -> Float[np.ndarray, "B L"]:
        """Compute girths of a region in parallel planes: the perimeters of the sections' convex hulls."""
        section, places = self.sections(region, origin, normal)
        across = np.cross(normal, (0.0, 0.0, 1.0))  # no plane measured here is parallel to the frontal plane
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        axes = np.stack([across, np.cross(normal, across)], 2)
        batch, count = origin.shape[:2]
        xy = np.einsum("pc,pcd->pd", places, axes[section // count])
        return hull_perimeters(section, xy, batch * count).reshape(batch, count)

    def top(self, name: str) -> Float[np.ndarray, " B"]:
        """Return the height of the shoulder's skin above a joint, in the sagittal plane through it."""
        joint = self.joint(name)
        sideways = np.broadcast_to((1.0, 0.0, 0.0), joint.shape)
        body, places = self.sections(self.tape._shoulders, joint[:, None], sideways)
        top = np.full(len(joint), -np.inf)
        np.maximum.at(top, body, places[:, 1])
        return top - joint[:, 1]

    def horizontal(self, region: Region, level: Float[np.ndarray, "B L"]) -> Float[np.ndarray, "B L"]:
        """Compute horizontal girths of a region at heights."""
        up = np.broadcast_to((0.0, 1.0, 0.0), (len(level), 3))
        return self.girths(region, level[..., None] * up[:, None], up)


def _height(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    return bodies.mesh[..., 1].max(0) - bodies.soles


def _volume(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    """Compute the enclosed volume, m3, by the divergence theorem, with holes closed, for either face orientation."""
    mesh = bodies.mesh - bodies.mesh.mean(0)
    lids = [mesh[rim].mean(0, keepdims=True) for rim in bodies.tape._rims]
    x, y, z = np.ascontiguousarray(np.moveaxis(np.concatenate([mesh, *lids]), 2, 0))
    a, b, c = bodies.tape._closed.T
    y_a, z_a = y[a], z[a]
    twice_area_x = (y[b] - y_a) * (z[c] - z_a) - (z[b] - z_a) * (y[c] - y_a)
    return np.abs((twice_area_x * (x[a] + x[b] + x[c])).sum(0)) / 6


def _chest(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    low, high = bodies.level("spine2"), bodies.level("left_shoulder", "right_shoulder")
    return bodies.horizontal(bodies.tape._trunk, low + _CHEST_LEVELS * (high - low)).max(1)


def _waist(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    return bodies.horizontal(bodies.tape._trunk, bodies.level("spine1"))[:, 0]


def _hip(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    low, high = bodies.crotch[:, None], bodies.level("pelvis")
    return bodies.horizontal(bodies.tape._trunk, low + _HIP_LEVELS * (high - low)).max(1)


def _neck(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    low, axis = bodies.joint("neck"), bodies.joint("head") - bodies.joint("neck")
    normal = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    return bodies.girths(bodies.tape._upper, low[:, None] + _NECK_LEVELS[:, None] * axis[:, None], normal).min(1)


def _upper_arm(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    girths = []
    for side, arm in zip(("left", "right"), bodies.tape._arms, strict=True):
        shoulder, elbow = bodies.joint(f"{side}_shoulder"), bodies.joint(f"{side}_elbow")
        normal = (elbow - shoulder) / np.linalg.norm(elbow - shoulder, axis=1, keepdims=True)
        girths.append(bodies.girths(arm, (shoulder + elbow)[:, None] / 2, normal)[:, 0])
    return np.mean(girths, 0)


def _thigh(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    crotch = bodies.crotch[:, None]
    level = crotch + _THIGH_LEVEL * (bodies.level("left_knee", "right_knee") - crotch)
    return np.mean([bodies.horizontal(leg, level)[:, 0] for leg in bodies.tape._legs], 0)


def _chain(bodies: _Bodies, *names: str) -> Float[np.ndarray, " B"]:
    """Sum the distances along a chain of joints, and take the mean of left and right."""
    bones = [
        np.linalg.norm(bodies.joint(f"{side}_{b}") - bodies.joint(f"{side}_{a}"), axis=1)
        for side in ("left", "right")
        for a, b in pairwise(names)
    ]
    return np.sum(bones, 0) / 2


def _arm_length(bodies: _Bodies) -> Float[np.ndarray, " B"]:
    # The tape starts at the acromion, above the joint, and the arm hangs: the height above the joint adds to the arm.
    above = [bodies.top(f"{side}_shoulder") for side in ("left", "right")]
    return np.mean(above, 0) + _chain(bodies, "shoulder", "elbow", "wrist")


_MEASURES: dict[str, Callable[[_Bodies], Float[np.ndarray, " B"]]] = {
    "height": _height,
    "mass": _volume,  # times the density
    "chest": _chest,
    "waist": _waist,
    "hip": _hip,
    "neck": _neck,
    "upper_arm": _upper_arm,
    "thigh": _thigh,
    "arm_length": _arm_length,
    "leg_length": lambda bodies: _chain(bodies, "hip", "knee", "ankle"),
    "inseam": lambda bodies: bodies.crotch - bodies.soles,
    "shoulder_breadth": lambda bodies: np.linalg.norm(
        bodies.joint("left_shoulder") - bodies.joint("right_shoulder"), axis=1
    ),
}


def _midline(
    faces: Int[np.ndarray, "F 3"], left: Float[np.ndarray, " V"], right: Float[np.ndarray, " V"]
) -> tuple[Int[np.ndarray, "K 2"], Float[np.ndarray, " K"]]:
    """Find the edges that cross from one leg's skin to the other's: pairs of vertices, and the crossing along them.

    left, right: weights of the legs. Vertices of equal weights count as degenerate edges.
    """
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    more = left - right
    across = (more[sides[:, 0]] > 0) & (more[sides[:, 1]] < 0)
    # A vertex with equal weights lies on the boundary, unless it has none: then it is the trunk's.
    middle = np.flatnonzero((more == 0) & (left > 1e-3))
    pairs = np.concatenate([sides[across], np.stack([middle, middle], 1)])
    at = np.concatenate([more[sides[across, 0]], np.zeros(len(middle))])
    return pairs, at / np.concatenate([more[sides[across, 0]] - more[sides[across, 1]], np.ones(len(middle))])
