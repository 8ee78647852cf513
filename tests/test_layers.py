"""The rooms of docs/architecture.md: a module imports only lower layers and earlier rows of its own."""

from __future__ import annotations

import ast
import builtins
import dis
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import networkx
import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "bodyfit"

TABLE = PACKAGE.parent / "docs" / "architecture.md"


def layers(page: str) -> list[list[str]]:
    """The rooms of each layer, lowest first, in the order that the table of docs/architecture.md has them in."""
    rows = re.findall(r"^\| (\d) \| (.*?) \|", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(rows))), "the layers are numbered from 0 upwards"
    return [re.findall(r"`(\w+)/?`", rooms) for _, rooms in rows]


LAYERS = layers(TABLE.read_text(encoding="utf-8"))
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
            found.append(f"{module}: {room} has no place in the table of docs/architecture.md")
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
        "geometry",
        "images",
        "body",
        "fit",
        "detect",
        "render",
        "io",
        "app",
        "evaluate",
        "cli",
    } <= rooms
    source = (PACKAGE / "fit/initialise/descent.py").read_text()
    found = {name for _, name in imported(source, "bodyfit.fit.initialise.descent", is_package=False)}
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
        ("errors.py", "from bodyfit.geometry.rotation import hat"),  # the same layer, a later row
        ("images/frame.py", "from bodyfit.keypoints import Keypoints2D"),
        ("body/model.py", "from bodyfit.fit.config import FitConfig"),
        ("detect/base.py", "from bodyfit.io.results.params import save"),
        ("io/export/mesh.py", "from bodyfit.render.shade import shade"),
        ("render/shade.py", "from bodyfit.detect import Detector"),
        ("render/shade.py", "from ..detect import Detector"),
        ("app/batch/run.py", "from bodyfit.report.page import write_page"),
        ("app/video.py", "from bodyfit.cli import main"),
        ("app/video.py", "from bodyfit.evaluate import mpjpe"),
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
        ("keypoints.py", "from bodyfit.geometry.camera import Camera"),
        ("fit/fitter.py", "from bodyfit.body.model import BodyModel\nfrom ..solve import minimize"),
        ("report/page.py", "from bodyfit.app.results.find import find_results"),
        ("cli/main.py", "import bodyfit\nfrom bodyfit.io import save\nfrom bodyfit import __version__"),
        ("io/export/mesh.py", "import bodyfitter\nfrom bodyfitter.cli import x"),
    ],
)
def test_an_honest_import_is_not(planted, module, source):
    assert planted(module, source) == []


def circles(package: Path) -> list[list[str]]:
    """The groups of modules of a package that import each other in a circle, nested imports included."""
    files = {}
    for path in package.rglob("*.py"):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = networkx.DiGraph()
    for module, path in files.items():
        is_package = path.stem == "__init__"
        for _, name in imported(path.read_text(encoding="utf-8"), module, is_package=is_package):
            target = name if name in files else name.rpartition(".")[0]
            if target in files and target not in (module, package.name):
                graph.add_edge(module, target)
    return [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def test_no_modules_import_each_other_in_a_circle(tmp_path):
    # The package `fit` is a function, too, and calls the fitter.
    assert [c for c in circles(PACKAGE) if "bodyfit.fit" not in c] == []
    (tmp_path / "p").mkdir()
    for name, source in (("a", "from p.b import x"), ("b", "def f():\n    import p.c"), ("c", "from p import a")):
        (tmp_path / "p" / f"{name}.py").write_text(source)
    assert circles(tmp_path / "p") == [["p.a", "p.b", "p.c"]]


def globals_of(code: CodeType) -> Iterator[str]:
    """The global names that a module's functions load."""
    yield from (str(i.argval) for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_of(constant)


def test_functions_load_names_that_exist():
    """Linters that take shapes for annotations cannot look for undefined names."""
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
        module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        exist = {*vars(module), *vars(builtins)}
        missing += [f"{path.name}: {name}" for name in globals_of(code) if name not in exist]
    assert missing == []
    assert set(globals_of(compile("def f():\n    return lost(1)", "", "exec"))) == {"lost"}


def test_no_room_is_crowded():
    """A folder of more than twenty files has more than one concept in it."""
    for top in (PACKAGE, PACKAGE.parent / "scripts"):
        for folder in (top, *(p for p in top.rglob("*") if p.is_dir())):
            assert len([p for p in folder.glob("*.py") if p.stem != "__init__"]) <= 20, folder


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
