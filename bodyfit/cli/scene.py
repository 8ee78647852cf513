"""`bodyfit scene`: labelled pictures of dressed people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

__all__ = ["scene"]


def scene(
    out: common.OutOption,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many scenes.")] = 16,
    people: Annotated[str, typer.Option("--people", metavar="LOW:HIGH", help="How many people: 2, or 1:4.")] = "1",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Scene i of a seed is always the same.")] = 0,
    size: Annotated[int, typer.Option("--size", min=32, max=4096, help="Width and height, pixels.")] = 512,
    labels: Annotated[
        str,
        typer.Option(
            "--labels", help="Maps to write, of masks, garments, parts, depth, normals, depth_npy; none for no maps."
        ),
    ] = "masks,garments,parts,depth,normals",
    keypoints: Annotated[
        str, typer.Option("--keypoints", help="More layouts to write keypoints in, 2D and 3D: openpose25,smpl24.")
    ] = "",
    backgrounds: Annotated[
        Path | None, typer.Option("--backgrounds", help="A folder of photographs; rooms and open ground if left out.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="open, open-h or open-x.")] = "open-x",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder that has scenes of the same kind.")
    ] = False,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Draw scenes of dressed people with labels.

    Writes images/, params/ (SMPL parameters and the camera, npz), masks/, garments/, parts/, depth/ and normals/ (PNG),
    and annotations.json (COCO-WholeBody: boxes, masks, 133 keypoints with visibility, and their places in 3D; contact
    of feet). Scene i of a seed does not depend on how many are drawn, nor on workers; a run that was stopped goes on
    with --resume.

    Examples:
        bodyfit scene -n 1000 --people 1:4 -o data
        bodyfit scene -n 1000 --people 1:4 -o data --resume --workers 2
        bodyfit scene -n 100 --backgrounds photographs --labels masks -o data
    """
    from bodyfit.scenes import SceneConfig, write_scenes

    chosen = () if labels.strip() == "none" else _listed(labels)
    config = SceneConfig(people=_range(people), size=size, model=model, backgrounds=backgrounds)
    layouts = _listed(keypoints)
    path = write_scenes(config, n, out, seed=seed, labels=chosen, keypoints=layouts, workers=workers, resume=resume)
    facts = {"annotations": str(path), "scenes": n, "seed": seed}
    if as_json:
        common.say_json(facts)
    else:
        common.say(
            f"{n} scenes of seed {seed} -> {out} ({path.name}, {', '.join(('images', 'params', *chosen, *layouts))})"
        )
    return common.OK


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _range(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    try:
        return int(low), int(high if colon else low)
    except ValueError:
        raise OptionError(f"--people must be a number or LOW:HIGH, got {text!r}") from None
