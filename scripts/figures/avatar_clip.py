"""Draw the pictures of docs/avatars.md: the first people of a clip, as textured avatars.

    python -m scripts.figures.avatar_clip CLIP -o docs/images [--people 2]

Writes avatars.jpg, pictures of the clip that the avatars were not made of with the avatars in their poses below, and
avatars-turn.webp, all turning round.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from bodyfit.cli.main import main as bodyfit_command
from bodyfit.io.picture import save_webp
from bodyfit.runtime.atomic import write_atomically

_WIDTH_PX = 900
_FILM_PX, _FRAMES, _FPS = 220, 24, 9.0


def main() -> None:
    """Fit the clip, make avatars, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sheets, films = zip(*avatars(args.clip, Path(scratch), args.people), strict=True)
    with write_atomically(args.out / "avatars.jpg") as temporary:
        Image.fromarray(np.concatenate(sheets)).save(temporary, format="JPEG", quality=82)
    frames = [np.concatenate(some, 1) for some in zip(*films, strict=True)]
    save_webp(args.out / "avatars-turn.webp", frames, fps=_FPS, quality=60)


def avatars(clip: Path, folder: Path, people: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Make avatars of people of a clip by the commands of docs/avatars.md; returns their sheets and films."""
    bodyfit_command(["video", str(clip), "-o", str(folder), "--silhouette"])
    made = []
    for number in range(people):
        out = folder / f"avatar{number}"
        bodyfit_command(
            ["avatar", str(folder / clip.stem / f"person{number}.npz"), "--video", str(clip), "-o", str(out)]
        )
        sheet = np.asarray(Image.open(out / "views.png").convert("RGB"))
        height = round(_WIDTH_PX * sheet.shape[0] / sheet.shape[1])
        sheet = np.asarray(cv2.resize(sheet, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA))
        with av.open(str(out / "turn.mp4")) as film:
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        some = np.linspace(0, len(frames), _FRAMES, endpoint=False).astype(int)
        made.append((sheet, [cell(frames[k]) for k in some]))
    return made


def cell(frame: np.ndarray) -> np.ndarray:
    """Reduce a frame of a film to the figure's height."""
    width = round(_FILM_PX * frame.shape[1] / frame.shape[0])
    return np.asarray(cv2.resize(frame, (width, _FILM_PX), interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    main()
