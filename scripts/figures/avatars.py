"""Draw the pictures of docs/radiance.md: a drawn person in clothes, as a textured avatar and as a radiance field.

    python -m scripts.figures.avatars -o docs/images [--seed 4] [--poses 24]

Writes radiance.jpg, pictures of new poses and cameras with the avatar and the field below, and radiance-turn.webp, both
turning round in a pose of which no picture was used. The person and pictures are those of the benchmarks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bodyfit.app.avatars.drawn import draw_view, truth_of
from bodyfit.app.avatars.field import draw_field_view
from bodyfit.avatars import Avatar, AvatarView, make_avatar
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.images.similarity import box_of
from bodyfit.io.picture import save_webp
from bodyfit.runtime.atomic import write_atomically
from scripts.bench.avatars.people import Studio, studio
from scripts.bench.avatars.radiance import HELD_OUT_POSES, NEW_YAWS, YAWS, trained

_SHOWN = ((0, 45), (1, 135), (3, 225), (5, 315))
"""Poses and yaws of the sheet, the poses counted from the first new one."""
_CELL = (150, 250)
"""Width and height of a picture of the sheet, pixels."""
_FRAMES, _FPS = 24, 9.0


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=4, help="the person, outfit and poses (4)")
    parser.add_argument("--poses", type=int, default=24, help="of training (24)")
    args = parser.parse_args()
    person = studio(args.seed, args.poses + HELD_OUT_POSES)
    views = person.views(range(args.poses), YAWS)
    field = trained(person.model, views, [v.params for v in views], RadianceConfig(background=(1.0, 1.0, 1.0)))
    avatar = make_avatar(views, model=person.model, size=1024, exact=True)
    write(args.out, person, avatar, field, args.poses)


def write(out: Path, person: Studio, avatar: Avatar, field: RadianceField, first: int) -> None:
    """Write the sheet and the film."""
    assert {yaw for _, yaw in _SHOWN} <= set(NEW_YAWS)
    shown = [person.view(first + pose, yaw) for pose, yaw in _SHOWN]
    rows = [[truth_of(view), draw_view(avatar, view), draw_field_view(field, view)] for view in shown]
    sheet = np.concatenate([np.concatenate(column(view, some)) for view, some in zip(shown, rows, strict=True)], 1)
    with write_atomically(out / "radiance.jpg") as temporary:
        Image.fromarray(sheet).save(temporary, format="JPEG", quality=85)
    film = []
    for k in range(_FRAMES):
        view = person.view(first + 1, 360 * k / _FRAMES)
        film.append(np.concatenate([draw_view(avatar, view), draw_field_view(field, view)], 1))
    save_webp(out / "radiance-turn.webp", film, fps=_FPS, quality=60)


def column(view: AvatarView, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut pictures to cells about the person of a view."""
    rows, columns = box_of(view.mask)
    (width, height), (h, w) = _CELL, view.mask.shape
    left = int(np.clip((columns.start + columns.stop - width) // 2, 0, w - width))
    top = int(np.clip((rows.start + rows.stop - height) // 2, 0, h - height))
    return [picture[top : top + height, left : left + width] for picture in pictures]


if __name__ == "__main__":
    main()
