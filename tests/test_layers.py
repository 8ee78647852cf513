"""DESIGN.md's rooms: a module imports only lower layers and earlier rows of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "bodyfit"

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "environment",
        "forking",
        "pickling",
        "names",
        "loop_cache",
        "compiled",
        "parallel",
        "rotation",
        "timeline",
        "skeleton",
        "solve",
    ),
    ("image_files", "frame", "camera", "keypoints", "tracker"),
    ("body",),
    ("fit",),
    ("detect", "render", "io"),
    # video is the pipeline of a clip; film and show read results (io) and draw them (render): above both.
    ("pipeline", "video", "markers", "film", "batch", "evaluate", "show"),
    ("cli",),
)
"""The table of DESIGN.md, lowest first, each layer's rooms in the order of their rows."""
ORDER = {room: (layer, row) for layer, rooms in enumerate(LAYERS) for row, room in enumerate(rooms)}
APART = {"detect", "render", "io"}
"""Backends, which do not import each other."""


def imported(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, full module name) of every import in a module, nested ones and those for type checkers included.

    `from a import b` counts as a and as a.b, for b may be a module; relative names are resolved.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{full}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def violations(package: Path) -> list[str]:
    """Every import in a package's modules that goes up or sideways; the front door is exempt."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts == ("__init__",):
            continue
        is_package = parts[-1] == "__init__"
        module = ".".join((package.name, *(parts[:-1] if is_package else parts)))
        room = parts[0]
        if room not in ORDER:
            found.append(f"{module}: {room} has no place in the table of DESIGN.md")
            continue
        for line, name in imported(path.read_text(encoding="utf-8"), module, is_package=is_package):
            top, _, rest = name.partition(".")
            if top != package.name:
                continue
            target = rest.split(".")[0]
            where = f"{module}:{line} imports {name}"
            if target == room:
                continue
            if target not in ORDER:
                if target and not target.startswith("__"):
                    found.append(f"{where}: names come from the module that defines them, not the front door")
                elif room != "cli" and target not in ("", "__version__"):
                    found.append(where)
                continue
            if ORDER[target] >= ORDER[room] or {room, target} <= APART:
                found.append(where)
    return found


def test_modules_import_only_lower_layers():
    assert violations(PACKAGE) == []


def test_the_walk_sees_the_whole_package():
    """A checker that found no imports would pass anything."""
    rooms = {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in PACKAGE.rglob("*.py")}
    assert {
        "errors",
        "skeleton",
        "solve",
        "camera",
        "body",
        "fit",
        "detect",
        "render",
        "io",
        "pipeline",
        "evaluate",
        "cli",
    } <= rooms
    source = (PACKAGE / "fit/hypotheses.py").read_text()
    found = {name for _, name in imported(source, "bodyfit.fit.hypotheses", is_package=False)}
    assert {"bodyfit.fit.objective.StageObjective", "bodyfit.solve.minimize", "torch"} <= found


@pytest.fixture
def planted(tmp_path):
    """A package of one module."""

    def plant(name: str, source: str) -> list[str]:
        path = tmp_path / "bodyfit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return violations(tmp_path / "bodyfit")

    return plant


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("solve/lm.py", "from bodyfit.body.model import BodyModel"),
        ("solve/lm.py", "import bodyfit.body.model"),
        ("solve/lm.py", "import bodyfit.body.model as m"),
        ("solve/lm.py", "from bodyfit import body"),
        ("solve/lm.py", "from .. import body"),
        ("solve/lm.py", "from ..body.model import BodyModel"),
        ("solve/__init__.py", "from ..body import model"),
        ("solve/lm.py", "def f():\n    if True:\n        from bodyfit.fit.fitter import Fitter"),
        (
            "solve/lm.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bodyfit.fit.fitter import Fitter",
        ),
        ("solve/lm.py", "try:\n    import bodyfit.fit.fitter\nexcept ImportError:\n    pass"),
        ("solve/lm.py", "from importlib import import_module\nimport_module('bodyfit.fit')"),
        ("solve/lm.py", "from bodyfit.body.model import *"),
        ("errors.py", "from bodyfit.rotation import hat"),  # the same layer, a later row
        ("frame.py", "from bodyfit.camera import Camera"),
        ("body/model.py", "from bodyfit.fit.config import FitConfig"),
        ("detect/base.py", "from bodyfit.io.params import save"),
        ("io/mesh.py", "from bodyfit.render.shade import shade"),
        ("render/shade.py", "from bodyfit.detect import Detector"),
        ("render/shade.py", "from ..detect import Detector"),
        ("pipeline.py", "from bodyfit.batch import run"),
        ("batch.py", "from bodyfit.cli import main"),
        ("batch.py", "from bodyfit.evaluate import mpjpe"),
        ("fit/fitter.py", "from bodyfit.evaluate import mpjpe"),
        ("fit/fitter.py", "from bodyfit import FitConfig"),
        ("utils.py", "import os"),
    ],
)
def test_a_planted_violation_is_found(planted, module, source):
    assert len(planted(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("__init__.py", "from bodyfit.cli.main import main"),
        ("solve/lm.py", "import torch\nfrom bodyfit.errors import OptionError"),
        ("body/model.py", "from bodyfit.body.lbs import skin\nfrom . import lbs\nfrom .lbs import skin"),
        ("keypoints.py", "from bodyfit.camera import Camera"),
        ("fit/fitter.py", "from bodyfit.body.model import BodyModel\nfrom ..solve import minimize"),
        ("batch.py", "from bodyfit.pipeline import fit_frames"),
        ("cli/main.py", "import bodyfit\nfrom bodyfit.io import save\nfrom bodyfit import __version__"),
        ("io/mesh.py", "import bodyfitter\nfrom bodyfitter.cli import x"),
    ],
)
def test_an_honest_import_is_not(planted, module, source):
    assert planted(module, source) == []


def test_importing_the_package_costs_nothing():
    """The front door imports what is behind it when it is first used."""
    import subprocess
    import sys

    code = "import sys, bodyfit; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_the_front_door_opens_on_everything_it_names():
    import bodyfit

    assert sorted(bodyfit.__all__) == sorted({*bodyfit._HOME, "__version__"})
    for name in bodyfit.__all__:
        assert getattr(bodyfit, name) is not None
    assert set(dir(bodyfit)) == set(bodyfit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bodyfit.nothing
