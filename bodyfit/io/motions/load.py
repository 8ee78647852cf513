"""Load motion files of other programs: detect the layout, read the people, transfer them to a body."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bodyfit.body.files.contents import read_contents
from bodyfit.body.files.limits import MOTION_LIMITS
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.record import GENDERS
from bodyfit.errors import AssetError, BodyfitError, OptionError
from bodyfit.io.motions.formats import MOTION_FORMATS, format_of
from bodyfit.io.motions.motion import Motion
from bodyfit.io.motions.posing import transfer
from bodyfit.io.motions.recording import MotionFile, Recording

__all__ = ["TRAJECTORIES", "chosen", "load_motion", "load_motions", "motion_file", "moved", "recordings_of"]

TRAJECTORIES = ("world", "camera")
"""Motions to choose from in a file that has both."""
_DEFAULT_FPS = 30.0
"""Frame rate where neither the file nor its program has one."""
_SAME_RATE = 1e-3
"""Largest relative difference of equal rates, for example 29.97 and 30000 / 1001."""
_ENDINGS = (".npz", ".npy", ".pkl", ".json", ".pt", ".pth", ".smpl")
_MAX_FILES = 100_000
_IGNORED = (
    *(
        "verts",
        "vertices",
        "smpl_vertices",
        "verts_camed_org",
        "joints3d",
        "joints2d",
        "smpl_joints3d",
        "smpl_joints2d",
    ),
    *("3d_joints", "2d_joints", "appe", "embedding", "uv", "mask", "masks", "loca", "net_outputs", "pj2d", "pj2d_org"),
    *("keypoints_2d", "vitpose", "prhmr_img_feats", "features", "markers", "markers_latent", "marker_data", "labels"),
    *(
        "markers_obs",
        "markers_sim",
        "params_pred",
        "full_pose",
        "j3d_all54",
        "j3d_h36m17",
        "rendered_image",
        "spec_calib",
    ),
)
"""Keys of values that are not needed and would fill the memory: meshes, joints, features, pictures."""


def load_motion(
    path: str | Path,
    person: str | int | None = None,
    model: BodyModel | str | Path | None = None,
    *,
    axes: str | None = None,
    trajectory: str = "world",
    fps: float | int | None = None,
) -> Motion:
    """Load one person's motion from another program's file, on a body; `docs/files.md` lists the programs.

    path: the file, or a folder with a file a frame. person: the number or name in the file, see `load_motions`; needed
    where there are several. model: the body, or an argument of `load_model`; by default the open body with the file's
    joints. axes: the file's axes ("camera", "y_up", "z_up"), where the program's usual ones are wrong. trajectory: the
    motion in the "world" or the "camera", of a file that has both. fps: the frame rate where the file has none, by
    default the program's usual one, or 30. Nothing in the file is executed; the result's `notes` name what was assumed
    or omitted. Raises `AssetError`, naming the
    file, and `OptionError`, also for an `fps` other than the file's.
    """
    file = motion_file(Path(path), trajectory)
    people = chosen(recordings_of(file), None if person is None else str(person), file.path)
    _check_rate(file.path, people, fps)
    if len(people) > 1:
        raise OptionError(f"{path} has {len(people)} people: choose one by person ({_listed(people)})")
    return moved(file.path, people, model, axes=axes, fps=fps)[0][0]


def load_motions(
    path: str | Path,
    model: BodyModel | str | Path | None = None,
    *,
    axes: str | None = None,
    trajectory: str = "world",
    fps: float | int | None = None,
) -> list[Motion]:
    """Load all people's motions from another program's file; arguments as for `load_motion`."""
    file = motion_file(Path(path), trajectory)
    people = recordings_of(file)
    _check_rate(file.path, people, fps)
    return [motion for motion, _ in moved(file.path, people, model, axes=axes, fps=fps)]


def moved(
    path: Path,
    people: list[Recording],
    model: BodyModel | str | Path | None,
    *,
    axes: str | None = None,
    fps: float | int | None = None,
) -> list[tuple[Motion, BodyModel]]:
    """Transfer recordings to bodies; `model` as for `load_motion`, `fps` where a file has no rate.

    Raises `AssetError` and `OptionError`.
    """
    bodies: dict[tuple[str, str, int], BodyModel] = {}
    motions = []
    for person in people:
        body, notes = (model, ()) if isinstance(model, BodyModel) else _body(person, model, bodies)
        motion = transfer(_with_rate(person, fps), body, path, axes=axes)
        motions.append((replace(motion, notes=(*notes, *motion.notes)), body))
    return motions


def _with_rate(person: Recording, fps: float | int | None) -> Recording:
    """Set the frame rate: the file's, else the given one, the program's usual one, or 30."""
    if person.fps:
        return person
    if fps is not None:
        return replace(person, fps=float(fps))
    if len(person.poses) < 2 and not person.usual_fps:
        return person
    rate = person.usual_fps or _DEFAULT_FPS
    whose = f"{rate:g}, those of {person.program}," if person.usual_fps else f"{rate:g}"
    note = f"the file does not say its frame rate: {whose} a second are taken"
    return replace(person, fps=rate, notes=(*person.notes, note))


def _check_rate(path: Path, people: list[Recording], fps: float | int | None) -> None:
    """Raise `OptionError` for a rate other than the file's."""
    stated = next((one.fps for one in people if one.fps), None)
    if fps is not None and stated is not None and abs(fps - stated) > _SAME_RATE * stated:
        raise OptionError(f"{path} is at {stated:g} frames a second, not at fps={fps:g}; leave fps out")


def _body(
    person: Recording, source: str | Path | None, loaded: dict[tuple[str, str, int], BodyModel]
) -> tuple[BodyModel, tuple[str, ...]]:
    """Load the body for a recording, with as many betas as the file has; each body is loaded once."""
    notes: tuple[str, ...] = ()
    if source is None:
        names = person.joints.names
        hands = bool(person.hands) or any("index1" in name for name in names)
        face = "jaw" in names or person.expression is not None
        source = "open-x" if face else "open-h" if hands else "open"
        notes = (f"moved is {source}, bodyfit's own body; model= takes another",)
    gender = person.gender if person.gender in GENDERS else "neutral"
    betas = 10 if person.betas is None else max(10, person.betas.shape[1])
    key = (str(source), gender, betas)
    if key not in loaded:
        loaded[key] = load_model(source, gender=gender, num_betas=betas)
    return loaded[key], notes


def chosen(people: list[Recording], person: str | None, path: Path) -> list[Recording]:
    """Select a person by number or name, or all. Raises `OptionError`."""
    selected = [one for one in people if person is None or one.person == person]
    if not selected:
        raise OptionError(f"{path} has no person {person}; there are {_listed(people)}")
    return selected


def _listed(people: list[Recording]) -> str:
    """List people for messages, at most 20 of them."""
    return ", ".join(one.person for one in people[:20]) + (" and more" if len(people) > 20 else "")


def recordings_of(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`, naming it, where its layout is unknown or it is damaged."""
    try:
        layout = format_of(file)
        people = [] if layout is None else layout.read(file)
    except BodyfitError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        # A file may have any type where its program writes a dict, a list or an array.
        words = ascii(str(error)[:120])[1:-1]
        raise AssetError(f"{file.path}: damaged, or of a version that is not known ({words})") from error
    if layout is None:
        names = ", ".join(layout.name for layout in MOTION_FORMATS)
        raise AssetError(
            f"{file.path}: neither a body model nor motion in a known layout ({_begin(file)}); known are {names}"
        )
    if not people or any(len(person.poses) == 0 for person in people):
        raise AssetError(f"{file.path}: nobody is in it")
    return people


def _begin(file: MotionFile) -> str:
    """Describe the content of a file."""
    value = file.value
    if file.is_folder:
        return f"a folder of {len(value)} files" if value else "a folder without files of motion"
    if isinstance(value, dict):
        keys = [ascii(str(key)[:40])[1:-1] for key in list(value)[:6]]
        return f"it holds {', '.join(keys)}" if keys else "it holds nothing"
    shape = getattr(value, "shape", None)
    return f"it holds an array of shape {shape}" if shape is not None else f"it holds a {type(value).__name__}"


def motion_file(path: Path, trajectory: str = "world") -> MotionFile:
    """Read a file, or the files of a folder. Raises `AssetError`, naming it."""
    if trajectory not in TRAJECTORIES:
        raise OptionError(f"trajectory must be one of {', '.join(TRAJECTORIES)}, got {trajectory!r}")
    if path.is_dir():
        return MotionFile(path, _folder(path), is_folder=True, trajectory=trajectory)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give a motion file or a folder of frames")
    return MotionFile(path, read_contents(path, MOTION_LIMITS, ignored=_IGNORED), trajectory=trajectory)


def _folder(path: Path) -> dict[str, Any]:
    """Read the motion files in a folder, else those in its subfolders, by their relative paths. Raises `AssetError`."""
    for pattern in ("*", "*/*"):
        files = sorted(p for p in path.glob(pattern) if p.suffix.lower() in _ENDINGS and p.is_file())
        if len(files) > _MAX_FILES:
            raise AssetError(f"{path}: more than {_MAX_FILES} files")
        if files:
            return {p.relative_to(path).as_posix(): read_contents(p, MOTION_LIMITS, ignored=_IGNORED) for p in files}
    return {}
