"""2D keypoints of one person, as a detector reports them, and the way from one layout to another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import overload

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.errors import OptionError, check_shape
from bodyfit.raster.outline import Outline
from bodyfit.skeleton import LAYOUTS, correspondence, layout_names

__all__ = [
    "FACE_IBUG68",
    "KeypointRows",
    "Keypoints2D",
    "Part",
    "SoftMask",
    "closeness",
    "convert_keypoints",
    "hand_joints_of_mediapipe",
]

FACE_IBUG68: tuple[int, ...] = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # the jaw, 0 to 16
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # eyebrows, 17 to 26
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),  # nose, 27 to 35
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes, 36 to 47
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips, 48 to 59
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips, 60 to 67
)
"""Of MediaPipe's 468 points of a face those nearest to iBUG's 68, in iBUG's order: right and left are the person's as
there. SMPL-X takes the 51 from the eyebrows on, then the 17 of the jaw. Nearest, not the same: the two were drawn
apart, and the jaw of iBUG is an outline in the picture, that of the mesh a line on the face."""

_TIPS, _WRIST, _MIDDLE_KNUCKLE = (4, 8, 12, 16, 20), 0, 9
_THUMB_BASE = {0: 0.70, 2: -0.15, 5: 0.41, 17: -0.21}
_THUMB_KNUCKLE = {1: 0.18, 3: -0.14}


def hand_joints_of_mediapipe(points: Float[np.ndarray, "*B 21 C"]) -> Float[np.ndarray, "*B 21 C"]:
    """Move the 21 points of a hand from where MediaPipe's network marks them to the model's joints and fingertips.

    The network's fingertips lie under the nails, its wrist nearer to the fingers, and the base of its thumb on the
    outer side of the palm. Each point is a sum of points, in a picture (pixels) as in a lift (metres). The
    coefficients are least squares over rendered hands (`scripts/bench/hands_face.py`); points in a picture come out
    half as far off.
    """
    sums = np.eye(points.shape[-2])
    moved = {tip: {tip - 1: -0.4} for tip in _TIPS}
    moved |= {_WRIST: {_MIDDLE_KNUCKLE: -0.10}, 1: _THUMB_BASE, 2: _THUMB_KNUCKLE}
    for point, shares in moved.items():
        for other, share in shares.items():
            sums[point, other] += share
            sums[point, point] -= share
    return (sums @ points).astype(points.dtype)


@dataclass(frozen=True)
class Part:
    """The finer points of a hand or a face."""

    xyc: Float[np.ndarray, "K 3"]
    """x px, y px (pixel centres at +0.5) and confidence in [0, 1]. Hands: 21 points, the wrist, then thumb, index,
    middle, ring and little finger from the palm to the tip. Face: MediaPipe's 468. Irises: five."""
    lift_m: Float[np.ndarray, "K 3"] | None = None
    """A 3D lift in metres about the part's own origin, in the axes of a camera that looks straight at the middle of
    the points (x right, y down, z away). Hands have one."""
    score: float = 1.0
    """How sure the detector is that it is there, in [0, 1]."""

    def scaled(self, scale: float) -> Part:
        """Return the points for a picture resized by `scale`."""
        return replace(self, xyc=_scaled(self.xyc, scale))


@dataclass(frozen=True)
class SoftMask:
    """How much of each pixel is the person, within a box; nothing outside."""

    alpha: UInt8[np.ndarray, "h w"]
    """0 to 255 = all of the pixel, at the picture's own resolution."""
    corner_px: tuple[int, int]
    """x, y of the box's first pixel."""

    def full(self, image_size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        """The mask of the whole picture; `image_size` is width and height."""
        (x, y), (h, w) = self.corner_px, self.alpha.shape
        whole = np.zeros((image_size[1], image_size[0]), np.uint8)
        whole[y : y + h, x : x + w] = self.alpha
        return whole


@dataclass(frozen=True)
class Keypoints2D:
    """One person's keypoints in one picture."""

    layout: str
    """Name of the keypoint layout, see `skeleton.LAYOUTS`."""
    xyc: Float[np.ndarray, "K 3"]
    """x px, y px (pixel centres at +0.5) and confidence in [0, 1]; 0 means missing."""
    lift_m: Float[np.ndarray, "K 3"] | None = None
    """A 3D lift, metres about any origin, in the axes of a camera that looks straight at `lift_centre_px`
    (x right, y down, z away); NaN where unknown."""
    lift_centre_px: tuple[float, float] | None = None
    """The pixel that the lift's camera looks at; None for the picture's own camera."""
    score: float = 1.0
    """How sure the detector is of the person, in [0, 1]."""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1 px of the whole person as the detector sees it, hidden parts and hair included."""
    mask: SoftMask | Outline | None = None
    """The person's silhouette, or, in a clip, its outline."""
    hands: Mapping[str, Part] | None = None
    """The hands that were seen, under "left" and "right" of the person; None where none was looked for."""
    face: Part | None = None
    """The face, where one was looked for and seen."""
    track: int | None = None
    """The person's number in all frames of a clip, where whoever found them tells people apart."""
    lift_scale_m: Float[np.ndarray, "K 2"] | None = None
    """Scales of the lift's errors across the view and along it, metres, of Student's distribution with 4 degrees of
    freedom (a standard deviation is 1.41 times its scale). They mean nothing where the lift is NaN; None of detectors
    that give none."""
    irises: Mapping[str, Part] | None = None
    """The irises of a face that was seen, under "left" and "right" of the person, five points each: the middle, then
    the edge towards the picture's right, up, left and down as the head is held. None where no face was."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise OptionError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        k = len(LAYOUTS[self.layout])
        check_shape("xyc", self.xyc, (k, 3), hint=f"layout {self.layout} has {k} keypoints of x, y, confidence")
        if self.lift_m is not None:
            check_shape("lift_m", self.lift_m, (k, 3))
        if self.lift_scale_m is not None:
            check_shape("lift_scale_m", self.lift_scale_m, (k, 2), hint="across the view and along it, metres")

    def scaled(self, scale: float) -> Keypoints2D:
        """Return keypoints, parts and outline for a picture resized by `scale`, without box and mask of pixels."""

        def sided(parts: Mapping[str, Part] | None) -> Mapping[str, Part] | None:
            return None if parts is None else {side: part.scaled(scale) for side, part in parts.items()}

        centre = self.lift_centre_px
        return replace(
            self,
            xyc=_scaled(self.xyc, scale),
            lift_centre_px=None if centre is None else (scale * centre[0], scale * centre[1]),
            box=None,
            mask=self.mask.scaled(scale) if isinstance(self.mask, Outline) else None,
            hands=sided(self.hands),
            face=None if self.face is None else self.face.scaled(scale),
            irises=sided(self.irises),
        )

    def box_px(self, min_confidence: float = 0.3) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 about the confident keypoints (about all of them where none is)."""
        keep = self.xyc[:, 2] >= min_confidence
        xy = self.xyc[keep if keep.any() else slice(None), :2]
        (x0, y0), (x1, y1) = xy.min(0), xy.max(0)
        return float(x0), float(y0), float(x1), float(y1)


def closeness(
    a_px: Float[np.ndarray, "K 2"], b_px: Float[np.ndarray, "K 2"], deviation_px: float | Float[np.ndarray, "K"]
) -> Float[np.ndarray, "K"]:
    """Compare two sets of keypoints point by point: exp(-d^2 / 2 s^2), 1 on each other and 0 far apart, with the
    deviations s that are usual. COCO's similarity of keypoints is its mean, for s by keypoint and person's size."""
    squared = ((a_px - b_px) ** 2).sum(1)
    return np.exp(-squared / (2 * np.square(deviation_px)))


def _scaled(xyc: Float[np.ndarray, "K 3"], scale: float) -> Float[np.ndarray, "K 3"]:
    return (xyc * np.array((scale, scale, 1.0))).astype(np.float32)


class KeypointRows(Sequence[Keypoints2D]):
    """One person's keypoints through a clip, frame after frame, in few arrays: as objects those of an hour would take
    three times the memory. Numbers are kept in float32, and outlines of masks; boxes and masks of pixels are not."""

    _ROWS = 128
    """Frames in one array."""

    def __init__(self) -> None:
        self.layout = ""
        """That of all frames, once there is one."""
        self._count = 0
        self._points: list[Float[np.ndarray, "R K 6"]] = []  # xyc and lift
        self._about: list[Float[np.ndarray, "R 3"]] = []  # lift_centre_px and score
        self._parts: dict[tuple[str, str], _PartRows] = {}
        self._outlines: dict[int, Outline] = {}
        self._asked: dict[str, set[int]] = {"hands": set(), "irises": set()}  # frames in which they were looked for

    def append(self, person: Keypoints2D) -> None:
        """The next frame's. Raises `OptionError` for another layout, or part of another count, than before."""
        if self._count and person.layout != self.layout:
            raise OptionError(f"a person's keypoints must keep their layout, got {person.layout} after {self.layout}")
        self.layout, row = person.layout, self._count % self._ROWS
        if row == 0:
            self._points.append(np.full((self._ROWS, len(person.xyc), 6), np.nan, np.float32))
            self._about.append(np.full((self._ROWS, 3), np.nan))
        self._points[-1][row, :, :3] = person.xyc
        if person.lift_m is not None:
            self._points[-1][row, :, 3:] = person.lift_m
        if person.lift_centre_px is not None:
            self._about[-1][row, :2] = person.lift_centre_px
        self._about[-1][row, 2] = person.score
        for (kind, side), part in _parts_of(person):
            self._parts.setdefault((kind, side), _PartRows(self._ROWS)).put(self._count, part)
        if isinstance(person.mask, Outline):
            self._outlines[self._count] = person.mask
        for kind, frames in self._asked.items():
            if getattr(person, kind) is not None:
                frames.add(self._count)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Keypoints2D: ...
    @overload
    def __getitem__(self, index: slice) -> list[Keypoints2D]: ...
    def __getitem__(self, index: int | slice) -> Keypoints2D | list[Keypoints2D]:
        if isinstance(index, slice):
            return [self[i] for i in range(self._count)[index]]
        number = range(self._count)[index]
        block, row = divmod(number, self._ROWS)
        points, (x, y, score) = self._points[block][row], self._about[block][row].tolist()
        lift = points[:, 3:] if np.isfinite(points[:, 3:]).any() else None
        parts = {name: part for name, rows in self._parts.items() if (part := rows.get(number)) is not None}
        sided = {
            kind: {side: part for (of, side), part in parts.items() if of == kind} if number in frames else None
            for kind, frames in self._asked.items()
        }
        centre = None if math.isnan(x) else (x, y)
        person = Keypoints2D(self.layout, points[:, :3], lift, centre, score, face=parts.get(("face", "")))
        mask = self._outlines.get(number)
        return replace(person, hands=sided["hands"], irises=sided["irises"], mask=mask)


class _PartRows:
    """A hand, a face or an iris through a clip, in arrays that are made for the frames that show it."""

    def __init__(self, rows: int) -> None:
        """`rows` frames in one array."""
        self._rows = rows
        self._blocks: dict[int, tuple[Float[np.ndarray, "R K C"], Float[np.ndarray, "R"]]] = {}
        self._shape = (0, 0)

    def put(self, number: int, part: Part) -> None:
        """Keep a frame's. Raises `OptionError` where its points are not as many as before, or lack the lift."""
        points = part.xyc if part.lift_m is None else np.concatenate([part.xyc, part.lift_m], 1)
        self._shape = self._shape if self._blocks else points.shape
        if points.shape != self._shape:
            raise OptionError(
                f"a part must keep its points, with or without a lift, in all frames: got {points.shape} "
                f"after {self._shape}"
            )
        block, row = divmod(number, self._rows)
        if block not in self._blocks:
            empty = np.full((self._rows, *self._shape), np.nan, np.float32), np.full(self._rows, np.nan)
            self._blocks[block] = empty
        values, scores = self._blocks[block]
        values[row], scores[row] = points, part.score

    def get(self, number: int) -> Part | None:
        """A frame's; None where there is none."""
        block, row = divmod(number, self._rows)
        values, scores = self._blocks.get(block, (None, None))
        if values is None or scores is None or math.isnan(scores[row]):
            return None
        lift = values[row, :, 3:] if values.shape[2] > 3 else None
        return Part(values[row, :, :3], lift, float(scores[row]))


def _parts_of(person: Keypoints2D) -> list[tuple[tuple[str, str], Part]]:
    """A person's hands, irises and face, each with its kind and side."""
    parts = [(("hands", side), part) for side, part in (person.hands or {}).items()]
    parts += [(("irises", side), part) for side, part in (person.irises or {}).items()]
    return parts if person.face is None else [*parts, (("face", ""), person.face)]


def convert_keypoints(
    xyc: Float[np.ndarray, "*B K 3"], source: str, target: str
) -> tuple[Float[np.ndarray, "*B T 3"], tuple[str, ...]]:
    """Keypoints of the layout `source` in the order of `target`, and the names of those that `target` has no place for.

    A keypoint goes where the target means the same point of the body, whatever it calls it; a middle that the source
    lacks (of the hips, OpenPose's neck) is made from its parts with the least of their confidences. What cannot be had
    is (0, 0, 0). Raises `OptionError` for an unknown layout and `ShapeError` where K is not the source's.
    """
    rows, lost = _conversion(source, target)
    k = len(layout_names(source))
    check_shape("xyc", xyc, (*(None,) * (xyc.ndim - 2), k, 3), hint=f"layout {source} has {k} keypoints")
    converted = np.zeros((*xyc.shape[:-2], len(rows), 3), xyc.dtype)
    for row, parts in enumerate(rows):
        if len(parts) == 1:
            converted[..., row, :] = xyc[..., parts[0][0], :]
        elif parts:
            of = xyc[..., [i for i, _ in parts], :]
            known = np.all(np.isfinite(of) & (of[..., 2:] > 0), axis=(-1, -2))
            confidence = of[..., 2].min(-1, keepdims=True)
            middle = (of[..., :2] * np.array([[w] for _, w in parts], xyc.dtype)).sum(-2)
            converted[..., row, :] = np.where(known[..., None], np.concatenate([middle, confidence], -1), 0)
    return converted, lost


@lru_cache(maxsize=64)
def _conversion(source: str, target: str) -> tuple[tuple[tuple[tuple[int, float], ...], ...], tuple[str, ...]]:
    """For each keypoint of `target` the rows of `source` whose weighted mean it is; the names that go nowhere."""
    names, points = layout_names(source), correspondence(source)
    single = {next(iter(entry)): row for row, entry in reversed(list(enumerate(points))) if len(entry) == 1}
    rows = []
    for name, entry in zip(layout_names(target), correspondence(target), strict=True):
        # The same name may stand for another point; a point without one on the body has nothing but its name.
        same = names.index(name) if name in names and points[names.index(name)] == entry else None
        alike = next((row for row, other in enumerate(points) if entry and other == entry), None)
        row = alike if same is None else same
        if row is not None:
            rows.append(((row, 1.0),))
        elif len(entry) > 1 and set(entry) <= set(single):
            rows.append(tuple((single[part], weight) for part, weight in entry.items()))
        else:
            rows.append(())
    placed = {parts[0][0] for parts in rows if len(parts) == 1}
    return tuple(rows), tuple(name for row, name in enumerate(names) if row not in placed)
