"""Films and pictures of the person of a photograph seen from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bodyfit.app.avatars.views import gather_views
from bodyfit.app.results.bodies import Models
from bodyfit.app.results.find import Failure, ResultFiles
from bodyfit.avatars.view import AvatarView
from bodyfit.body.model import BodyModel
from bodyfit.detect import Detector
from bodyfit.errors import OptionError
from bodyfit.fit.result import FitStatus
from bodyfit.io import VideoWriter
from bodyfit.io.picture import save_picture, save_webp
from bodyfit.novel_views.background import without_person
from bodyfit.novel_views.views import NewViews

__all__ = [
    "FILM_SUFFIXES",
    "PICTURE_SUFFIXES",
    "TRANSPARENT_SUFFIXES",
    "Angles",
    "TurnMaterial",
    "gather_turn",
    "turned_pictures",
    "write_turn",
]

FILM_SUFFIXES = (".mp4", ".gif", ".webp")
"""Films that can be written; anything without a suffix is a folder of frames."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Pictures of a single view."""
TRANSPARENT_SUFFIXES = ("", ".png", ".webp")
"""What can be transparent: folders of frames, pictures and films."""


@dataclass(frozen=True)
class Angles:
    """How the person turns, and the camera rises, over a film."""

    yaw_deg: tuple[float | int, float | int]
    """First and last yaw; the same for one view."""
    pitch_deg: tuple[float | int, float | int] = (0.0, 0.0)
    """Least and greatest pitch."""

    @property
    def single(self) -> bool:
        """Whether it is one view and no film."""
        return self.yaw_deg[0] == self.yaw_deg[1] and self.pitch_deg[0] == self.pitch_deg[1]

    def path(self, frames: int) -> list[tuple[float | int, float | int]]:
        """List yaw and pitch of the frames of a film that goes there and back, smoothly, and can be played in a loop.

        The pitch is greatest where the yaw is at its first end.
        """
        if self.single:
            return [(self.yaw_deg[0], self.pitch_deg[0])]
        phase = [0.5 - 0.5 * math.cos(2 * math.pi * k / frames) for k in range(frames)]
        (y0, y1), (p0, p1) = self.yaw_deg, self.pitch_deg
        return [(y0 + part * (y1 - y0), p1 + part * (p0 - p1)) for part in phase]


@dataclass(frozen=True, eq=False)
class TurnMaterial:
    """A photograph whose person can be seen from elsewhere."""

    view: AvatarView
    """The whole photograph, with the person's mask and body."""
    model: BodyModel
    """What the body is of."""
    views: NewViews
    """What draws it."""
    reason: str | None
    """Why it is not to be relied on; None where it is."""


def gather_turn(
    found: Sequence[ResultFiles],
    *,
    detector: Detector | None,
    masks: Path | None = None,
    models: Models | None = None,
    refine: bool = True,
) -> TurnMaterial:
    """Gather the photograph of one person's result, or of a clip's first good frame.

    Arguments are those of `gather_views` and `NewViews`. Raises `OptionError` for several people and where no mask is
    the person's, `ImageError` and `VideoError`.
    """
    if len(found) > 1:
        raise OptionError(f"{found[0].name} and {found[1].name}: one photograph is turned, give one result")
    material = gather_views(found, detector=detector, masks=masks, frames=1, models=models, crop=False)
    view = material.views[0]
    views = NewViews(view, material.model, refine=refine)
    (person,) = found[0].people()
    reasons = [] if views.reason is None else [views.reason]
    if not isinstance(person, Failure) and not found[0].is_clip and person.result.status[0] is FitStatus.POOR:
        reasons.append(f"the fit is poor: {person.result.reason[0]}")
    return TurnMaterial(view, material.model, views, "; ".join(reasons) or None)


def turned_pictures(
    material: TurnMaterial,
    path: Sequence[tuple[float | int, float | int]],
    *,
    background: tuple[int, int, int] | None = None,
    transparent: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Iterator[UInt8[np.ndarray, "H W C"]]:
    """Draw the person at each yaw and pitch. background: a colour; the photograph's, holes filled, if left out.

    transparent: RGBA without a background instead.
    """
    view, views = material.view, material.views
    if background is None:
        behind = view.image if transparent else without_person(view.image, view.mask)
    else:
        behind = np.broadcast_to(np.array(background, np.uint8), view.image.shape).copy()
    height, width = view.mask.shape
    for k, (yaw, pitch) in enumerate(path):
        drawn = views.draw(yaw, pitch)
        yield views.cut_out(drawn, (width, height)) if transparent else views.laid(drawn, behind)
        if progress is not None:
            progress("turning", k + 1, len(path))


def write_turn(
    out: Path, pictures: Iterator[UInt8[np.ndarray, "H W C"]], size: tuple[int, int], *, fps: float
) -> list[str]:
    """Write a film (.mp4, .gif, .webp), one picture (.png, .jpg), or a folder of frames; returns the files' names.

    Raises `OptionError` and `OutputError`.
    """
    suffix = out.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        save_picture(out, next(pictures))
        return [out.name]
    if suffix == ".webp":
        save_webp(out, list(pictures), fps=fps)
        return [out.name]
    if suffix:
        with VideoWriter(out, size, fps) as film:
            for picture in pictures:
                film.write(picture)
        return [out.name]
    names = []
    for k, picture in enumerate(pictures):
        names.append(f"turn{k:03d}.png")
        save_picture(out / names[-1], picture)
    return names
