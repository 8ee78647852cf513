"""`bodyfit scene`: labelled pictures and clips of dressed people."""

from __future__ import annotations

import contextlib
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

__all__ = ["scene"]


class SceneEngineName(str, Enum):
    """Where scenes are drawn."""

    LOCAL = "local"
    RAY = "ray"


class Background(str, Enum):
    """What is behind people where no photographs are given."""

    PAINTED = "painted"
    TRANSPARENT = "transparent"


def scene(
    out: common.OutOption,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many scenes.")] = 16,
    people: Annotated[str, typer.Option("--people", metavar="LOW:HIGH", help="How many people: 2, or 1:4.")] = "1",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Scene i of a seed is always the same.")] = 0,
    size: Annotated[int, typer.Option("--size", min=32, max=4096, help="Width and height, pixels.")] = 512,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="Maps to write, of masks, garments, parts, depth, normals, depth_npy; none for no maps; all but the "
            "last if left out.",
        ),
    ] = None,
    keypoints: Annotated[
        str, typer.Option("--keypoints", help="More layouts to write keypoints in, 2D and 3D: openpose25,smpl24.")
    ] = "",
    backgrounds: Annotated[
        Path | None, typer.Option("--backgrounds", help="A folder of photographs; rooms and open ground if left out.")
    ] = None,
    background: Annotated[
        Background, typer.Option("--background", help='"transparent" leaves it out: pictures are RGBA PNG.')
    ] = Background.PAINTED,
    things: Annotated[
        float, typer.Option("--things", help="Part of the scenes with tables, boxes and balls, and of hands that hold.")
    ] = 0.4,
    distortion: Annotated[bool, typer.Option("--distortion", help="Bend pictures and labels as lenses do.")] = False,
    fields: Annotated[
        bool, typer.Option("--fields", help="Draw by compositional feature fields; labels: masks, depth, depth_npy.")
    ] = False,
    clips: Annotated[bool, typer.Option("--clips", help="Short videos with labels of every frame.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of a clip.")] = 3.0,
    fps: Annotated[float, typer.Option("--fps", help="Frames a second of a clip.")] = 24.0,
    motions: Annotated[
        Path | None, typer.Option("--motions", help="A folder of npz in AMASS's layout; random poses if left out.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="open, open-h or open-x.")] = "open-x",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    engine: Annotated[
        SceneEngineName, typer.Option("--engine", help='"ray" draws on Ray, here or on a cluster.')
    ] = SceneEngineName.LOCAL,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the Ray cluster, as ray.init takes it; default: here.")
    ] = None,
    shard: Annotated[
        int, typer.Option("--shard", min=0, help="Pack so many scenes into each WebDataset tar; 0 for files.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder that has scenes of the same kind.")
    ] = False,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Draw scenes of dressed people with labels.

    Writes images/, params/ (SMPL parameters and the camera, npz), masks/, garments/, parts/, depth/ and normals/ (PNG),
    and annotations.json (COCO-WholeBody: boxes, masks, 133 keypoints with visibility, and their places in 3D; contact
    of feet). Scene i of a seed does not depend on how many are drawn, nor on workers or engine; a run that was stopped
    goes on with --resume. With --clips, clips/ (mp4), params/ with a row a frame, amass/ in world and camera, and maps
    of each frame.

    Examples:
        bodyfit scene -n 1000 --people 1:4 -o data
        bodyfit scene -n 1000 --people 1:4 -o data --resume --workers 2
        bodyfit scene -n 100 --backgrounds photographs --labels masks -o data
        bodyfit scene -n 100 --background transparent -o cut
        bodyfit scene -n 100 --fields --size 256 -o drawn
        bodyfit scene --clips -n 10 --people 1:2 --labels masks -o clips

    Exit code: 0 all are there, 1 some failed, 2 wrong use.
    """
    from bodyfit.scenes import ClipConfig, SceneConfig, write_clips

    usual = "masks,depth" if fields else "masks,garments,parts,depth,normals"
    chosen = () if labels == "none" else _listed(labels or usual)
    if fields and clips:
        raise OptionError("--fields draw pictures, no --clips; leave one of them out")
    transparent = background is Background.TRANSPARENT
    if transparent and backgrounds is not None:
        raise OptionError("--backgrounds gives what --background transparent leaves out; give one of them")
    config = SceneConfig(
        people=_range(people),
        size=size,
        model=model,
        backgrounds=backgrounds,
        transparent=transparent,
        things=things,
        distortion=distortion,
        fields=fields,
    )
    layouts = _listed(keypoints)
    if not clips:
        if motions is not None:
            raise OptionError("--motions is of --clips; give that too")
        path = _pictures(config, n, out, seed, chosen, layouts, workers, resume, shard, engine, address)
        kind = "scenes"
    else:
        if shard or engine is SceneEngineName.RAY:
            raise OptionError("--clips are written as files, by processes here; leave --shard and --engine out")
        clip = ClipConfig(seconds=seconds, fps=fps, motions=motions)
        settings = {"seed": seed, "labels": chosen, "keypoints": layouts, "workers": workers, "resume": resume}
        path, kind = write_clips(config, clip, n, out, **settings), "clips"
    if as_json:
        common.say_json({"annotations": str(path), kind: n, "seed": seed})
    else:
        common.say(f"{n} {kind} of seed {seed} -> {out} ({path.name}, {', '.join(('params', *chosen, *layouts))})")
    return common.OK


def _pictures(
    config: Any,
    n: int,
    out: Path,
    seed: int,
    labels: tuple[str, ...],
    layouts: tuple[str, ...],
    workers: int,
    resume: bool,
    shard: int,
    engine: SceneEngineName,
    address: str | None,
) -> Path:
    """Write scenes that are pictures, here or on Ray."""
    from bodyfit.scenes import scene_ray_engine, write_scenes

    drawn_by, aside = None, contextlib.nullcontext()
    if engine is SceneEngineName.RAY:
        aside = contextlib.redirect_stdout(sys.stderr)  # where Ray prints what its nodes say
        drawn_by = scene_ray_engine(workers if workers > 1 else None, address=address)
    elif address is not None:
        raise OptionError("--address is of --engine ray; give that too")
    with aside:
        return write_scenes(
            config,
            n,
            out,
            seed=seed,
            labels=labels,
            keypoints=layouts,
            workers=workers,
            resume=resume,
            shard=shard,
            engine=drawn_by,
        )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _range(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    try:
        return int(low), int(high if colon else low)
    except ValueError:
        raise OptionError(f"--people must be a number or LOW:HIGH, got {text!r}") from None
