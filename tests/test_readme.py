"""What README and docs show works as it stands: code runs, names and options are there, links lead somewhere."""

from __future__ import annotations

import inspect
import json
import operator
import re
import shutil
from enum import Enum
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
import typer
from moving import motion
from pages import PAGES, ROOT, commands, python, spans
from PIL import Image
from test_points3d import trc

import bodyfit
from bodyfit.cli.main import app, main
from bodyfit.io.clips.writer import VideoWriter
from bodyfit.raster.depth import depth_map

README = PAGES[0]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands


def names_of(pages: tuple[Path, ...]) -> list[str]:
    return [page.stem for page in pages]


# ---------------------------------------------------------------- code


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a reader stands: the checkout's assets, a photograph, a clip, other programs' keypoints, arrays of theirs,
    and results."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "assets").symlink_to(ROOT / "assets")
    (folder / "photos").mkdir()
    for name in ("photos/a", "front", "side"):
        shutil.copy(ROOT / "assets/samples/walking.jpg", folder / f"{name}.jpg")
    model, size, fps = bodyfit.load_model(), (1000, 1000), 10.0
    people = motion(model, frames=8)
    params = model.params(**{**people, "transl": torch.tensor([0.0, 0.0, 4.5]).expand(8, 3)})
    _write_arrays(folder, model, params, size)
    hands = bodyfit.load_model("open-h")
    bodyfit.save_amass(folder / "walk_poses.npz", hands, motion(hands, frames=8), fps=30, axes="camera")
    image = Image.open(folder / "photos/a.jpg").convert("RGB")
    with VideoWriter(folder / "clip.mp4", image.size, fps=fps) as clip:
        for i in range(8):
            clip.write(np.roll(np.asarray(image), 2 * i, 1), i / fps)
    _write_gvhmr(folder / "hmr4d_results.pt")
    (folder / "openpose_out").mkdir()
    points = model.keypoints(model(**params), "openpose25")
    scale = min(image.size) / 1000
    xyc = seen(bodyfit.Camera.make(8, image.size, focal_px=1000 * scale), points)
    for i, name in enumerate(["a", *(f"clip_{i:012d}" for i in range(8))]):
        people2d = [{"pose_keypoints_2d": xyc[max(i - 1, 0)].flatten().tolist()}]
        (folder / f"openpose_out/{name}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people2d}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "assets/samples/walking.jpg", "-o", "out/"]) == 0
        assert main(["video", "clip.mp4", "--keypoints", "openpose_out/", "-o", "out/", "--no-film"]) == 0
    return folder


def _write_gvhmr(path: Path) -> None:
    """What GVHMR saves of a clip: parameters of SMPL-X in the world and before the camera."""
    part = {"body_pose": torch.zeros(8, 63), "betas": torch.zeros(8, 10), "global_orient": torch.zeros(8, 3)}
    part["transl"] = torch.zeros(8, 3)
    torch.save({"smpl_params_global": part, "smpl_params_incam": part, "K_fullimg": torch.eye(3).repeat(8, 1, 1)}, path)


def seen(camera: bodyfit.Camera, points: torch.Tensor) -> torch.Tensor:
    """Keypoints (B, K, 3) of points in camera axes; confidence 0 for what the body has no point for."""
    xy = camera.project(points)
    return torch.cat([torch.nan_to_num(xy), torch.isfinite(xy).all(2, keepdim=True).to(xy)], 2)


def _write_arrays(folder: Path, model: bodyfit.BodyModel, params: bodyfit.BodyParams, size: tuple[int, int]) -> None:
    """The .npy, .npz and .trc files that docs/how-it-works.md, sequence.md and files.md read."""
    camera, out = bodyfit.Camera.make(8, size, focal_px=1000.0), model(**params)
    points, landmarks = (model.keypoints(out, layout) for layout in ("openpose25", "mediapipe33"))
    np.save(folder / "keypoints.npy", seen(camera, points))
    np.save(folder / "points3d.npy", points)
    drawn = depth_map(out.vertices[0].double().numpy(), model.faces.numpy(), 1000.0, (500.0, 500.0), size).depth_m
    np.save(folder / "depth.npy", np.where(np.isfinite(drawn), drawn, 0.0))
    trc(folder / "walk.trc", model.keypoints(out, "halpe26").double().numpy() * (1, -1, -1))
    np.save(folder / "track.npy", seen(camera, landmarks))
    np.save(folder / "lift.npy", landmarks)
    K = np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]])
    turn = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # from the side, about a place 4.5 m before the first
    R, t = np.stack([np.eye(3), turn]), np.stack([np.zeros(3), [0, 0, 4.5] - turn @ [0, 0, 4.5]])
    np.savez(folder / "cameras.npz", K=np.stack([K, K]), R=R, t=t)
    turned = [points @ torch.from_numpy(R[c]).float().T + torch.from_numpy(t[c]).float() for c in range(2)]
    np.save(folder / "views.npy", torch.stack([seen(camera, each) for each in turned], 1))


def with_code() -> list[Any]:
    """Pages with Python, those apart that take over ten seconds."""
    long = ("pictures",)
    return [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem in long)) for p in PAGES if python(p)]


@pytest.mark.parametrize("page", with_code())
def test_python_runs_from_the_top_of_a_page_to_its_end(page, folder, tmp_path, monkeypatch, tables):
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in python(page):
        exec(compile(code, page.name, "exec"), names)
    results = [value for value in names.values() if isinstance(value, bodyfit.FitResult)]
    people = names.get("people", [])
    results += [person for person in people if isinstance(person, bodyfit.FitResult)]
    assert all(status.ok for result in results for status in result.status), page.name
    if page.stem == "python":
        # The keypoints are exact: what is left is the priors' pull, a centimetre at 4 m.
        assert names["result"].reprojection_error_px.mean() < 5
        assert len(bodyfit.load_result("people.npz")) == 256


# ---------------------------------------------------------------- names


FOREIGN = {"Fragments", "analyze_videos", "smplx.create", "smplx.SMPL", "to_json", "tojson", "numpy.asarray"}
FOREIGN |= {"PIL.Image.open", "torch.get_num_threads", "ray.init", "trimesh.load", "NamedTuple"}
"""Calls and classes of other packages."""
OBJECTS = {
    "frame": "bodyfit.Frame",
    "model": "bodyfit.BodyModel",
    "person": "bodyfit.Keypoints2D",
    "rasterizer": "bodyfit.render.MeshRasterizer",
    "result": "bodyfit.FitResult",
    "track": "bodyfit.Track",
}
"""What a variable of a reader's holds."""
ROOMS = ("bodyfit", "bodyfit.render", "bodyfit.detect", "bodyfit.errors", "bodyfit.io")
ROOMS += ("bodyfit.keypoints", "bodyfit.register.surface.colors", "bodyfit.register.free_surface")
ROOMS += ("bodyfit.fields.casting", "bodyfit.fields.radiance")
ROOMS += ("bodyfit.fit.evidence", "bodyfit.fit.objective", "bodyfit.fit.residuals", "bodyfit.fit.variables")
"""Where a name is looked for."""


def has(value: Any, name: str) -> bool:
    """Whether a module, class or record has an attribute; a record's fields count."""
    return hasattr(value, name) or name in getattr(value, "__dataclass_fields__", {})


def resolved(dotted: str) -> Any:
    """What a name from `bodyfit` on stands for: attributes first, then modules. Raises `AttributeError`."""
    first, *rest = dotted.split(".")
    value: Any = import_module(first)
    path = first
    for name in rest:
        path += f".{name}"
        if isinstance(value, type) and name in getattr(value, "__dataclass_fields__", {}):
            return value
        try:
            value = getattr(value, name)
        except AttributeError:
            try:
                value = import_module(path)
            except ImportError:
                raise AttributeError(f"there is no {path}") from None
    return value


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_name_of_bodyfit_is_there(page):
    text = page.read_text(encoding="utf-8")
    found = set(re.findall(r"(?<![\w./\"-])bodyfit(?:\.[A-Za-z_]\w*)+", text))
    for dotted in found:
        resolved(dotted)


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_call_and_class_in_the_text_is_there(page):
    """`fit_video(sequence=...)`, `SequenceConfig.motion`, `result.trace`: the name, its attribute and its keywords."""
    for span in spans(page):
        match = re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(\(.*\))?", span)
        if match is None or match[1] in FOREIGN:
            continue
        name, arguments = match.groups()
        first = name.split(".")[0]
        is_class = re.match(r"(?:[A-Z][a-z0-9]+){2,}|[A-Z][a-z]\w*\.", name)
        if not (arguments or is_class or (first in OBJECTS and "." in name)):
            continue
        if first == "model":
            target = operator.attrgetter(name.partition(".")[2] or "forward")(bodyfit.load_model())
        elif first in OBJECTS:
            target = resolved(f"{OBJECTS[first]}{name[len(first) :]}")
        elif first == "bodyfit":
            target = resolved(name)
        else:
            homes = [room for room in ROOMS if has(import_module(room), first)]
            owners = [o for o in map(resolved, OBJECTS.values()) if has(o, first)]
            assert homes or owners, f"{page.name} has `{span}`"
            target = resolved(f"{homes[0]}.{name}") if homes else getattr(owners[0], first)
        for keyword in re.findall(r"(?<![\w.])(\w+)=", arguments or ""):
            known = inspect.signature(target).parameters
            assert keyword in known or "kwargs" in known, f"{page.name} has `{span}`: no argument {keyword}"


def test_these_tests_would_find_what_is_not_there(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    for wrong in ("`bodyfit.fit_nothing`", "`bodyfit.FitResult.colour`"):
        page.write_text(wrong)
        with pytest.raises(AttributeError):
            test_every_name_of_bodyfit_is_there(page)
    for wrong in (
        "`fit_nothing(1)`",
        "`SequenceConfig(smoothness=1)`",
        "`SequenceConfig.smoothness`",
        "`result.colour`",
    ):
        page.write_text(wrong)
        with pytest.raises((AttributeError, AssertionError)):
            test_every_call_and_class_in_the_text_is_there(page)
    for wrong in (
        "```\nbodyfit fit a.jpg -o out --smoothness 2\n```",
        "`bodyfit fitt a.jpg`",
        "`bodyfit convert a b.glb --up x`",
    ):
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            test_every_command_and_option_is_there(page)
    page.write_text("`--smoothness 2`")
    with pytest.raises(AssertionError):
        test_every_option_in_the_text_is_there(page)
    page.write_text("`python -m scripts.bench.fit CLIPS --smoothness 2`")
    with pytest.raises(AssertionError):
        test_every_script_and_its_options_are_there(page)


# ---------------------------------------------------------------- commands


OTHERS = {"--format", "--head", "--keypoint_scale", "--num-gpus", "--write_json"}
"""Options of other programs."""
OWN = {name for command in COMMANDS.values() for param in command.params for name in param.opts + param.secondary_opts}


def choices(command: str) -> dict[str, list[str]]:
    """The values of each option of a command that takes one of a few."""
    (callback,) = (c.callback for c in app.registered_commands if c.name == command and c.callback)
    found = {}
    for param in COMMANDS[command].params:
        hint = get_type_hints(callback).get(param.name)
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and issubclass(kind, Enum):
                found |= {option: [str(member.value) for member in kind] for option in param.opts}
    return found


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_command_and_option_is_there(page):
    for _, name, *words in commands(page, "bodyfit"):
        if name in ("--version", "--help"):
            continue
        assert name in COMMANDS, f"{page.name}: bodyfit {name}"
        known = {o for param in COMMANDS[name].params for o in param.opts + param.secondary_opts} | {"--help"}
        for option, value in pairwise([*words, ""]):
            if re.match(r"--?[a-z]", option):
                assert option in known, f"{page.name}: bodyfit {name} {option}"
                allowed = choices(name).get(option, [value])
                assert value in allowed, f"{page.name}: bodyfit {name} {option} {value}"


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_option_in_the_text_is_there(page):
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").rglob("*.py"))
    for span in spans(page):
        if span.startswith("--"):
            option = re.match(r"--[\w-]+", span)
            assert option is not None, span
            known = option[0] in OWN | OTHERS | {"--help", "--version"} or f'"{option[0]}"' in scripts
            assert known, f"{page.name} has `{span}`"


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_script_and_its_options_are_there(page):
    for name in re.findall(r"scripts/[\w/]+\.py", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    for _, *words in commands(page, "python"):
        if words[:1] == ["-m"] and words[1].startswith("scripts."):
            script = words[1].replace(".", "/") + ".py"
            source = (ROOT / script).read_text(encoding="utf-8")
            if "harness.add_json_option(" in source:
                source += (ROOT / "scripts/bench/records/harness.py").read_text(encoding="utf-8")
            for option in (word.strip("[]") for word in words if re.match(r"\[?--", word)):
                assert f'"{option.partition("=")[0]}"' in source, f"{page.name}: {script} {option}"


# ---------------------------------------------------------------- the rest


def test_every_local_link_leads_somewhere():
    for page in (*PAGES, ROOT / "CHANGELOG.md", ROOT / "assets" / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_commands_are_those_of_the_check_script():
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("pip install", "bodyfit fit assets/samples/walking.jpg", '".[test', "pytest"):
        assert command in README.read_text(encoding="utf-8")
        assert command in script
