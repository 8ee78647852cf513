"""How like held-out pictures textured avatars are, of drawn people in clothes.

Each person (shape, clothes and hair of `bodyfit.dress`, poses of the prior, light that stands in the room) is drawn in
24 poses by 4 cameras at 256x256, masks and bodies exact, and the avatar made of the 96 pictures is compared with new
poses before these cameras (`pose`), these poses before new cameras (`camera`), and both. PSNR and SSIM are means over
the boxes of the masks, on white; seconds are the process's own. `naked`: the same texture on the skin, not moved out.

With --fits the bodies are bodyfit's own, of a film of the person turning before one camera, by the shipped detector and
its masks; pictures held out are frames of the film, and a new camera stands a quarter round: before the avatar in the
exact pose, and in the fitted one.

    python -m scripts.bench.avatars.textured [-n 6] [--first 0] [--size 1024] [--fits]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.app.avatars.drawn import score_avatar
from bodyfit.avatars import AvatarView, make_avatar
from scripts.bench.avatars.people import studio
from scripts.bench.avatars.turning import turning_avatar
from scripts.bench.records import harness

_POSES, _NEW_POSES = 24, 6
_YAWS_DEG, _NEW_YAWS_DEG = (0, 90, 180, 270), (45, 225)


def exact(seed: int, size: int) -> dict[str, Any]:
    """Make the avatar of one drawn person with exact bodies, and score it."""
    room = studio(seed, _POSES + _NEW_POSES)
    known, new = range(_POSES), range(_POSES, _POSES + _NEW_POSES)
    views = room.views(known, _YAWS_DEG)
    held_out: dict[str, list[AvatarView]] = {
        "pose": room.views(new, _YAWS_DEG[::2]),
        "camera": room.views(known[::4], _NEW_YAWS_DEG),
        "both": room.views(new, _NEW_YAWS_DEG),
    }
    start = time.process_time()
    avatar = make_avatar(views, model=room.model, size=size, exact=True)
    entry: dict[str, Any] = {"person": seed, "seconds": time.process_time() - start, "iou": float(avatar.iou.mean())}
    naked = replace(avatar, offsets_m=np.zeros_like(avatar.offsets_m))
    drawn = time.process_time()
    for name, some in held_out.items():
        score = score_avatar(avatar, some)
        assert score is not None
        entry[name] = {"psnr_db": score.psnr_db, "ssim": score.ssim}
    entry["seconds_a_picture"] = (time.process_time() - drawn) / sum(len(some) for some in held_out.values())
    for name, some in held_out.items():
        score = score_avatar(naked, some)
        assert score is not None
        entry[name]["naked_psnr_db"] = score.psnr_db
    return entry


def report(entries: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Print a table, and return means over the people."""
    table = Table("person", *names, "masks and bodies", "s")
    for entry in entries:
        cells = [f"{entry[name]['psnr_db']:.1f} / {entry[name]['ssim']:.3f}" for name in names]
        table.add_row(str(entry["person"]), *cells, f"{entry['iou']:.2f}", f"{entry['seconds']:.1f}")
    means: dict[str, Any] = {
        name: {key: float(np.mean([entry[name][key] for entry in entries])) for key in entries[0][name]}
        for name in names
    }
    means["seconds"] = float(np.median([entry["seconds"] for entry in entries]))
    cells = [f"{means[name]['psnr_db']:.1f} / {means[name]['ssim']:.3f}" for name in names]
    table.add_row("mean", *cells, f"{np.mean([e['iou'] for e in entries]):.2f}", f"{means['seconds']:.1f}")
    Console().print(table)
    return means


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=6, help="people")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, default=1024, help="of the texture, pixels")
    parser.add_argument("--fits", action="store_true", help="bodies fitted to a film, not exact ones")
    harness.add_json_option(parser)
    args = parser.parse_args()
    people = range(args.first, args.first + args.n)
    make_avatar([studio(0, 1).view(0, 0)], model=bodyfit.load_model("open-x"), size=64)  # compile the loops
    entries = [turning_avatar(seed, args.size) if args.fits else exact(seed, args.size) for seed in people]
    names = ("held out", "camera", "camera, fitted pose") if args.fits else ("pose", "camera", "both")
    harness.write_json(args, {"people": entries, "means": report(entries, names)})


if __name__ == "__main__":
    main()
