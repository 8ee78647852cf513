"""`bodyfit convert`: a body model in another layout of file, or bodies for other programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common
from bodyfit.cli.support.convert_source import BODY_MODEL, MARKERS, SourceKind, what_is
from bodyfit.cli.support.marker_source import bodies_of_markers
from bodyfit.errors import BodyfitError, OptionError

if TYPE_CHECKING:
    from bodyfit.appearance import Outfit
    from bodyfit.body.record import BodyAssets
    from bodyfit.io import Bodies
    from bodyfit.io.motions.recording import MotionFile

__all__ = ["convert"]


class Layout(str, Enum):
    """Layouts of model files that can be written."""

    BODYFIT = "bodyfit"
    SMPLX = "smplx"


class Axes(str, Enum):
    """Axes that bodies in a file may have."""

    CAMERA = "camera"
    Y_UP = "y_up"
    Z_UP = "z_up"


class Up(str, Enum):
    """Axis of a file that points up."""

    Y = "y"
    Z = "z"


class Unit(str, Enum):
    """Unit of length of a file."""

    M = "m"
    CM = "cm"


class Trajectory(str, Enum):
    """Which motion is taken of a file that has both."""

    WORLD = "world"
    CAMERA = "camera"


class PoseShapes(str, Enum):
    """What becomes of pose blend shapes."""

    BAKED = "baked"
    NONE = "none"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Bodies: a result (.npz), motion in AMASS's layout or by another program (VIBE, ROMP, 4D-Humans, "
            "WHAM, GVHMR, EasyMocap and more: docs/files.md), a file or a folder of frames, or markers (.trc, .c3d). "
            "Or a model: open, open-h or open-x (shipped), or a model file (.npz, .pkl) or folder of them.",
        ),
    ],
    new: Annotated[
        Path,
        typer.Argument(
            metavar="NEW",
            help="The file to write: .glb, .usd, .usda, .usdc, .bvh, .npz (AMASS), .obj, .ply or .csv (face, as Live "
            "Link Face) for bodies; .npz for a model, with --layout smplx also .pkl or a folder.",
        ),
    ],
    frame: Annotated[
        int | None, typer.Option("--frame", min=0, help="One body of several, or frame of a clip, from 0.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            min=1e-3,
            help="Frames a second of a clip, where SOURCE does not say; where it says when each is shown, those of "
            ".bvh and .npz.",
        ),
    ] = None,
    up: Annotated[Up | None, typer.Option("--up", help="Up in the file: z for AMASS, else y, if left out.")] = None,
    unit: Annotated[Unit | None, typer.Option("--unit", help="Unit of the file; metres if left out.")] = None,
    pose_shapes: Annotated[
        PoseShapes | None,
        typer.Option("--pose-shapes", help="Of .glb and .usd: baked in (if left out), or none, plain skinning."),
    ] = None,
    tolerance_mm: Annotated[
        float | None,
        typer.Option(
            "--tolerance-mm", min=1e-3, help="How far baked pose shapes of a clip may be off; 0.1 if left out."
        ),
    ] = None,
    arkit: Annotated[
        bool | None,
        typer.Option(
            "--arkit",
            help="Of .glb and .usd: the face is moved by ARKit's 52 blend shapes, by their names.",
            show_default=False,
        ),
    ] = None,
    dress: Annotated[
        bool,
        typer.Option("--dress", help="Of .glb: with clothes, hair and skin, textured, for the open bodies."),
    ] = False,
    outfit: Annotated[
        str | None,
        typer.Option(
            "--outfit", help="What --dress puts on, in place of what --seed draws: upper=jacket, lower=skirt, hat=none."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Draws what --dress puts on; 0 if left out.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Body that is moved; a fit knows its own, else it is the open one with SOURCE's joints."
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option("--person", help="One person of several, by SOURCE's number; of all, a file each if left out."),
    ] = None,
    trajectory: Annotated[
        Trajectory | None,
        typer.Option(
            "--trajectory", help="Of a SOURCE with both: motion in the world (if left out) or before the camera."
        ),
    ] = None,
    axes: Annotated[
        Axes | None,
        typer.Option(
            "--axes", help="Axes of SOURCE, where it does not say: AMASS's are z_up, other programs' their own."
        ),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            help="Of a model. bodyfit: a plain npz with all that is known of it (if left out); smplx: what "
            "smplx.create loads.",
        ),
    ] = None,
    gender: common.GenderOption = common.Gender.NEUTRAL,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Write bodies for other programs, or a body model anew.

    Bodies go to Blender, game engines and browsers with skeleton, skin and motion (.glb, .usd), to motion editors
    (.bvh), to AMASS's tools (.npz), to anything as a mesh (.obj, .ply), to face rigs (.csv); a model's own body stands
    in the T-pose there.
    To markers a body is fitted first, by their names.
    Of several people in one file each gets a file, NEW with their number. What had to be assumed or left out is told in
    notes. Files of others, pickles too, are read without running anything of them. Nothing that is written needs a
    pickle to be read, but for the models that smplx itself reads from pickles only (SMPL and FLAME).

    Examples:
        bodyfit convert out/photo/person0.npz person.ply --up z --unit cm
        bodyfit convert out/clip/person0.npz dance.glb
        bodyfit convert out/clip/person0.npz face.csv
        bodyfit convert out/clip/person0.npz talk.glb --arkit
        bodyfit convert out/photo/person0.npz person.glb --dress --outfit "upper=jacket, hat=fedora"
        bodyfit convert walk_poses.npz walk.bvh --model open-h
        bodyfit convert markers.trc walk.bvh
        bodyfit convert wham_output.pkl dance.glb --fps 30
        bodyfit convert output/smpl walk.bvh --person 0
        bodyfit convert SMPL_NEUTRAL.pkl neutral.npz
        bodyfit convert open-x models --layout smplx --gender female

    Exit code: 0 all went well, 1 some of several people could not be written, 2 the source cannot be read or nothing be
    written.
    """
    from bodyfit.io import EXPORTS

    of_bodies = {"--frame": frame, "--fps": fps, "--model": model, "--axes": axes}
    of_bodies |= {"--person": person, "--trajectory": trajectory}
    of_files = {"--up": up, "--unit": unit, "--pose-shapes": pose_shapes, "--tolerance-mm": tolerance_mm}
    of_files |= {"--arkit": arkit, "--dress": dress or None}
    if not dress:
        _refuse({"--outfit": outfit, "--seed": seed}, "it is for --dress")
    content = what_is(source)
    if content is BODY_MODEL:
        if new.suffix.lower() in EXPORTS and new.suffix.lower() != ".npz":
            _refuse(of_bodies | {"--layout": layout}, f"{source} is a body model")
            people = [_rest(source, gender)]
        else:
            _refuse(of_bodies | of_files, f"{source} is a body model")
            return _convert_model(source, new, layout or Layout.BODYFIT, gender, as_json)
    else:
        _refuse({"--layout": layout}, f"{source} holds bodies")
        people = _people(source, content, model, axes, person, trajectory, fps, gender)
    targets = _targets(new, people)
    options = (frame, up, unit, pose_shapes, tolerance_mm, bool(arkit))
    clothes = _clothes(people, outfit, seed) if dress else [None] * len(people)
    worn = dict(zip(targets, clothes, strict=True))
    return _export_all(
        source, people, targets, as_json, lambda bodies, target: _export(bodies, target, *options, worn[target])
    )


def _clothes(people: list[Bodies], changes: str | None, seed: int | None) -> list[Outfit]:
    """An outfit for each person: drawn for their body's gender, and changed as asked. Raises `OptionError`."""
    from bodyfit.appearance import random_outfits

    genders = [one.model.gender for one in people]
    drawn = [random_outfits(i + 1, seed or 0, gender=gender)[i] for i, gender in enumerate(genders)]
    return [one.changed(changes or "") for one in drawn]


def _targets(new: Path, people: list[Bodies]) -> list[Path]:
    """A file for each person: NEW, or NEW with their number."""
    if len(people) == 1:
        return [new]
    words = [re.sub(r"[^\w.-]+", "_", one.person)[:60] for one in people]
    names = [f"{new.stem}_{word}{new.suffix}" for word in words]
    if len(set(names)) < len(names):
        names = [f"{new.stem}_{i}{new.suffix}" for i in range(len(people))]
    return [new.with_name(name) for name in names]


def _export_all(
    source: str,
    people: list[Bodies],
    targets: list[Path],
    as_json: bool,
    write: Callable[[Bodies, Path], dict[str, Any]],
) -> int:
    """Write everyone; what cannot be written costs one person of several."""
    reports: list[dict[str, Any]] = []
    for bodies, target in zip(people, targets, strict=True):
        try:
            facts = write(bodies, target)
        except BodyfitError as fault:
            if len(people) == 1:
                raise
            common.error(f"person {bodies.person}: {fault}")
            reports.append({"person": bodies.person, "error": str(fault)})
            continue
        reports.append(facts)
        if not as_json:
            _say(source, bodies, target, facts, several=len(people) > 1)
    if as_json:
        facts = reports[0] if len(reports) == 1 else {"people": reports}
        common.say_json({"source": source} | facts)
    failed = sum("error" in facts for facts in reports)
    return common.OK if not failed else common.WRONG_USE if failed == len(reports) else common.SOME_FAILED


def _say(source: str, bodies: Bodies, target: Path, facts: dict[str, Any], *, several: bool) -> None:
    if facts["note"]:
        common.error(facts["note"], label="note")
    what = "1 body" if facts["bodies"] == 1 else _frames(facts)
    who = f" person {bodies.person}:" if several else ""
    of = "" if bodies.program == "bodyfit" else f" ({bodies.program})"
    common.say(
        f"{source}{of}:{who} {what} of {facts['model']}, {facts['gender']} -> {target}"
        f" ({facts['bytes'] / 2**20:.1f} MiB; {facts['placing']})"
    )
    for note in bodies.notes:
        common.say(f"  note: {note}")


def _refuse(options: dict[str, Any], why: str) -> None:
    """Say that an option has no meaning here."""
    present = [name for name, value in options.items() if value is not None]
    if present:
        raise OptionError(f"{', '.join(present)}: not for this conversion, {why}")


def _people(
    source: str,
    content: MotionFile | SourceKind,
    model: str | None,
    axes: Axes | None,
    person: str | None,
    trajectory: Trajectory | None,
    fps: float | None,
    gender: common.Gender,
) -> list[Bodies]:
    from bodyfit.io import read_people

    if content is MARKERS:
        _refuse({"--person": person, "--trajectory": trajectory}, f"{source} holds markers")
        found = bodies_of_markers(Path(source), model, axes and axes.value, gender)
        return [found if fps is None else replace(found, fps=fps)]
    return read_people(
        source,
        model=model,
        axes=axes and axes.value,
        person=person,
        trajectory=trajectory.value if trajectory else "world",
        fps=fps,
        file=None if isinstance(content, SourceKind) else content,
    )


def _rest(source: str, gender: common.Gender) -> Bodies:
    """A model's body in the T-pose."""
    from bodyfit.io import Bodies

    body = common.chosen_model(source, gender, "cpu")
    return Bodies(body.params(), body, "y_up", 0.0)


def _export(
    bodies: Bodies,
    new: Path,
    frame: int | None,
    up: Up | None,
    unit: Unit | None,
    pose_shapes: PoseShapes | None,
    tolerance_mm: float | None,
    arkit: bool,
    outfit: Outfit | None,
) -> dict[str, Any]:
    from bodyfit.io import Placing, export
    from bodyfit.io.export.formats import time_note

    unit = unit or Unit.M
    times_s = bodies.times_s if frame is None else None
    export(
        bodies.params,
        new,
        model=bodies.model,
        frame=frame,
        fps=bodies.fps,
        times_s=times_s,
        axes=bodies.axes,
        up=up and up.value,
        unit=unit.value,
        pose_shapes=pose_shapes and pose_shapes.value,
        tolerance_m=None if tolerance_mm is None else tolerance_mm / 1000,
        arkit=arkit,
        outfit=outfit,
    )
    count = 1 if frame is not None else bodies.params.batch
    is_up = up.value if up else ("z" if new.suffix.lower() == ".npz" else "y")
    return {
        "file": new,
        "bodies": count,
        "fps": bodies.fps if count > 1 else None,
        "start_s": 0.0 if times_s is None else float(times_s[0]),
        "note": None if times_s is None else time_note(new, times_s, bodies.fps),
        "model": bodies.model.name,
        "gender": bodies.model.gender,
        "placing": "weights and radians" if new.suffix.lower() == ".csv" else str(Placing(is_up, unit.value)),
        "bytes": new.stat().st_size,
        "program": bodies.program,
        "person": bodies.person,
        "notes": list(bodies.notes),
    }


def _frames(facts: dict[str, Any]) -> str:
    """How many frames went in; their rate where they have one."""
    return f"{facts['bodies']} frames{'' if facts['note'] else ' at {:g} fps'.format(facts['fps'])}"


def _convert_model(model: str, new: Path, layout: Layout, gender: common.Gender, as_json: bool) -> int:
    from bodyfit.body.assets import load_assets
    from bodyfit.io import save_model

    assets = load_assets(model, gender=gender.value)
    path = save_model(assets, new, layout=layout.value)
    facts = _facts(assets, path, layout)
    if as_json:
        common.say_json(facts)
        return common.OK
    common.say(
        f"{model}: {assets.kind.title}, {assets.gender}, {facts['vertices']} vertices, {facts['betas']} betas"
        f" -> {path} ({facts['bytes'] / 2**20:.1f} MiB)"
    )
    if facts["note"]:
        common.say(facts["note"])
    return common.OK


def _facts(assets: BodyAssets, path: Path, layout: Layout) -> dict[str, Any]:
    return {
        "source": assets.name,
        "file": path,
        "layout": layout.value,
        "model": assets.kind.title,
        "gender": assets.gender,
        "vertices": len(assets.v_template),
        "joints": len(assets.parents),
        "betas": assets.shapedirs.shape[2],
        "expression_coefficients": 0 if assets.exprdirs is None else assets.exprdirs.shape[2],
        "bytes": path.stat().st_size,
        "note": _note(assets, path) if layout is Layout.SMPLX else None,
    }


def _note(assets: BodyAssets, path: Path) -> str:
    """How smplx loads the file: it goes by the first word of the name and takes an ending for granted."""
    from bodyfit.io.results.model_file import smplx_class

    name = smplx_class(assets)
    if path.parent.name == name.lower() and path.stem.startswith(f"{name}_"):
        side = f", is_rhand={assets.kind.name == 'mano_right'}" if name == "MANO" else f", gender={assets.gender!r}"
        return f"smplx loads it with smplx.create({str(path.parent.parent)!r}, model_type={name.lower()!r}{side})"
    usual = "npz" if name == "SMPLX" else "pkl"
    ext = "" if name == "SMPL" or path.suffix == f".{usual}" else f", ext={path.suffix[1:]!r}"
    if path.stem.partition("_")[0].lower() == name.lower():
        call = f"smplx.create({str(path)!r}{ext})"
    else:
        call = f"smplx.{name}({str(path)!r}{ext}), or with smplx.create if its name starts with {name.lower()}_"
    content = (
        "; smplx reads SMPL from a pickle only, so this is one" if name == "SMPL" and path.suffix == ".npz" else ""
    )
    return f"smplx loads it with {call}{content}"
