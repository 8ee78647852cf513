"""`bodyfit avatar`: a textured avatar of a person in results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common, finding
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.app.avatars.views import AvatarMaterial
    from bodyfit.avatars import Avatar
    from bodyfit.fields.radiance import RadianceField

__all__ = ["avatar"]


def avatar(
    people: Annotated[
        list[Path],
        typer.Argument(help="personN.npz of a clip, of one photograph or of several; or an avatar.npz, for --motion."),
    ],
    out: common.OutOption,
    video: Annotated[
        Path | None, typer.Option("--video", help="The clip of the results, if it is not where it was.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option("--photo", help="The photograph (or a folder of them), if it is not where it was.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of masks, named as for fit and video; the detector's without."),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option("--cameras", help="npz of calibrated cameras (K, R, t) that a result of several was fitted with."),
    ] = None,
    view: Annotated[
        list[Path] | None,
        typer.Option("--view", help="With --cameras: each camera's clip or photograph, once a camera, in their order."),
    ] = None,
    detector: finding.DetectorOption = finding.DETECTOR,
    frames: Annotated[int, typer.Option("--frames", min=1, max=2000, help="Most frames of a clip that are used.")] = 48,
    size: Annotated[int, typer.Option("--size", min=64, max=8192, help="Side of the texture, pixels.")] = 1024,
    motion: Annotated[
        Path | None, typer.Option("--motion", help="A motion file (AMASS and others) for the avatar to play.")
    ] = None,
    field: Annotated[
        bool, typer.Option("--field", help="Train a radiance field about the body, too: hair, cuffs, soft edges.")
    ] = False,
    refine: Annotated[
        bool | None,
        typer.Option("--refine/--no-refine", help="Refine poses together with the field; by default with --cameras."),
    ] = None,
    surface: Annotated[
        bool,
        typer.Option("--surface", help="Fit a surface field to the masks alone, too: surface.glb, no colours."),
    ] = False,
    model: Annotated[str, typer.Option("--model", help="Body model, if not the one the results name.")] = "",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Make a textured avatar of a person.

    The body's surface is moved out to the clothes by masks, and the pictures' colours are put into its texture. Writes
    avatar.npz (for `bodyfit render --avatar` and `view --avatar`), avatar.glb (texture, skeleton, the clip's
    animation), texture.png, confidence.png (white: well seen, black: an average), views.png (pictures beside the
    avatar), turn.mp4 and avatar.json; with --motion motion.glb and motion.mp4; with --field field.npz, field.glb (its
    surface), field_views.png and, of a motion, field_motion.mp4; with --surface surface.glb. Of six or more pictures
    every sixth is held out, and avatar and field scored by it.

    Examples:
        bodyfit avatar out/clip/person0.npz --video clip.mp4 -o avatar
        bodyfit avatar out/walking/person0.npz -o avatar
        bodyfit avatar out/front/person0.npz out/back/person0.npz --size 2048 -o avatar
        bodyfit avatar person0.npz --cameras rig.npz --view front.mp4 --view left.mp4 --view back.mp4 -o avatar
        bodyfit avatar out/clip/person0.npz --field --motion dance.npz -o avatar
        bodyfit avatar avatar/avatar.npz --motion dance.npz -o dance

    Exit code: 0 an avatar, 1 a poor one, 2 wrong use.
    """
    if video is not None and photo is not None:
        raise OptionError("--video and --photo are both given; results are of a clip or of photographs")
    from bodyfit.io.results.avatar import is_avatar, load_avatar

    if refine and not field:
        raise OptionError("--refine goes with --field: poses are refined together with the radiance field")
    ready = [path for path in people if path.is_file() and path.suffix == ".npz" and is_avatar(path)]
    facts: dict[str, Any] = {}
    volume: RadianceField | None = None
    if ready:
        if len(people) > 1 or motion is None:
            raise OptionError(f"{ready[0]} is an avatar: give it alone, with --motion FILE for it to play")
        if field or surface or cameras is not None:
            raise OptionError(f"{ready[0]} is an avatar: --field, --surface and --cameras need results and pictures")
        result = load_avatar(ready[0])
        common.output_folder(out)
    else:
        material = _material(people, video or photo, cameras, view or [], masks, detector, frames, model)
        result, volume, facts = _make(material, out, size, field=field, refine=refine, surface=surface)
    if motion is not None:
        facts["motion"] = _play(result, volume, motion, out)
    _tell(facts, result, people, out, as_json)
    return common.OK if result.status == "ok" else common.SOME_FAILED


def _material(
    people: list[Path],
    source: Path | None,
    cameras: Path | None,
    views: list[Path],
    masks: Path | None,
    detector: str,
    frames: int,
    model: str,
) -> AvatarMaterial:
    """Gather pictures, masks and bodies."""
    from bodyfit.app.avatars.rig import gather_rig_views
    from bodyfit.app.avatars.views import gather_views
    from bodyfit.app.results.bodies import Models
    from bodyfit.app.results.find import find_results
    from bodyfit.detect import load_detector
    from bodyfit.io.cameras import load_cameras

    models = Models(model or None)
    if cameras is None:
        if views:
            raise OptionError("--view is for results of several cameras; give these with --cameras, or use --video")
        found = find_results(people, source)
        finder = None if masks is not None else load_detector(detector, masks=True)
        return gather_views(found, detector=finder, masks=masks, frames=frames, models=models)
    if source is not None or len(people) > 1:
        raise OptionError("--cameras takes one result, and --view for each camera instead of --video and --photo")
    rig = load_cameras(cameras)
    finder = None if masks is not None else load_detector(detector, masks=True)
    return gather_rig_views(people[0], rig, views, detector=finder, masks=masks, frames=frames, models=models)


def _make(
    material: AvatarMaterial, out: Path, size: int, *, field: bool, refine: bool | None, surface: bool
) -> tuple[Avatar, RadianceField | None, dict[str, Any]]:
    """Make an avatar, and a field and a surface if asked for, and write their files."""
    from bodyfit.app.avatars.drawn import score_avatar
    from bodyfit.app.avatars.files import write_avatar
    from bodyfit.avatars import make_avatar
    from bodyfit.io.results.summary import write_json

    common.output_folder(out)
    volume = None
    if field:
        from bodyfit.app.avatars.refine import fit_field_of

        volume, material = fit_field_of(material, refine=refine)
    result = make_avatar(material.views, model=material.model, size=size, room_light=material.one_place)
    facts = write_avatar(result, material, score_avatar(result, material.test_views), out)
    if volume is not None:
        from bodyfit.app.avatars.field import write_field

        facts["field"] = write_field(volume, material, out)
    if surface:
        from bodyfit.app.avatars.surface import write_surface

        facts["surface"] = write_surface(material, out)
    if field or surface:
        write_json(out / "avatar.json", facts)
    return result, volume, facts


def _play(result: Avatar, volume: RadianceField | None, motion: Path, out: Path) -> dict[str, Any]:
    """Let the avatar, and its field, play a motion file."""
    from bodyfit.app.avatars.files import write_motion
    from bodyfit.io.motions import load_motion

    loaded = load_motion(motion, model=result.model)
    files = write_motion(result, loaded, out)
    if volume is not None:
        from bodyfit.app.avatars.field import write_field_motion

        files += write_field_motion(volume, loaded, out)
    return {"file": str(motion), "bodies": loaded.params.batch, "files": files}


def _tell(facts: dict[str, Any], result: Avatar, people: list[Path], out: Path, as_json: bool) -> None:
    """Tell what came of it, and how good it is."""
    if as_json:
        common.say_json({"people": [str(path) for path in people], **facts})
    elif "files" in facts:
        common.say(
            f"{people[0]}: {result.status}, of {facts['pictures']} pictures, {_likeness(facts['score'])}, "
            f"masks and bodies agree to {facts['iou']:.2f} -> {out}: {', '.join(facts['files'])}"
        )
    if "field" in facts and not as_json:
        common.say(
            f"{people[0]}: field, {_likeness(facts['field']['score'])} -> {out}: {', '.join(facts['field']['files'])}"
        )
    if "surface" in facts and not as_json:
        skin = facts["surface"]
        common.say(f"{people[0]}: surface, {skin['faces']} faces, masks to {skin['iou']:.2f} -> {out}: surface.glb")
    if "motion" in facts and not as_json:
        played = facts["motion"]
        common.say(f"{played['file']}: {played['bodies']} bodies -> {out}: {', '.join(played['files'])}")
    for note in facts.get("notes", ()):
        common.error(note, label="note")
    if result.reason is not None:
        common.error(f"{people[0]}: poor, {result.reason}", label="note")


def _likeness(score: dict[str, Any] | None) -> str:
    """Say how like the pictures held out something is."""
    if score is None:
        return "no picture to score it by"
    return f"{score['psnr_db']:.1f} dB, SSIM {score['ssim']:.2f} on {score['pictures']} pictures held out"
