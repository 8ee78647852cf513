"""Messages: the library names Python arguments, the command line names options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import bodyfit
from bodyfit.cli.main import app
from bodyfit.cli.support.wording import OPTIONS, in_options
from bodyfit.errors import BodyfitError
from bodyfit.geometry.camera import focal_px_from

PACKAGE = Path(bodyfit.__file__).parent


def options() -> set[str]:
    """Every option of every command."""
    commands = typer.main.get_command(app).commands.values()
    return {name for command in commands for param in command.params for name in param.opts if name.startswith("-")}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string in a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
            yield node.lineno, node.value


def options_in(path: Path) -> list[str]:
    """Where a module's strings name options of the command line."""
    named = [(line, name) for line, text in texts(path) for name in re.findall(r"(?<![\w-])--?[a-z][\w-]*", text)]
    return [f"{path.name}:{line}: {name}" for line, name in named if name in options()]


def test_the_library_names_no_option():
    modules = [p for p in PACKAGE.rglob("*.py") if "cli" not in p.relative_to(PACKAGE).parts]
    assert len(modules) > 100
    assert [found for path in modules for found in options_in(path)] == []


def test_that_test_would_find_one(tmp_path):
    module = tmp_path / "planted.py"
    module.write_text('"""Of --resume."""\nraise ValueError(f"{1}: go on with --resume, or with -o FOLDER")\n')
    assert options_in(module) == ["planted.py:2: --resume", "planted.py:2: -o"]


def test_arguments_become_options_that_are_there():
    assert set(OPTIONS.values()) <= options()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("focal_mm needs sensor_mm, the width", "--focal-mm needs --sensor-mm, the width"),
        ("what is finished is safe: go on with resume=True", "what is finished is safe: go on with --resume"),
        ("offline, give a file: detector='yolo:PATH.pt'", "offline, give a file: --detector yolo:PATH.pt"),
        ("say so: first_frame=1", "say so: --first-frame 1"),
        ("seed must not be negative, got -1", "--seed must not be negative, got -1"),
        (
            "took longer than 5 s; a larger timeout_s allows more",
            "took longer than 5 s; a larger --timeout allows more",
        ),
        ("name the layout with layout= if it is another", "name the layout with --keypoint-layout if it is another"),
        ("source='my photos/a.png': no such file", "--photo my photos/a.png: no such file"),
        ("the model must be whole", "the model must be whole"),
        ("/data/focal_px/sensor_mm.jpg cannot be read", "/data/focal_px/sensor_mm.jpg cannot be read"),
        ("--focal-px and --fov", "--focal-px and --fov"),
    ],
)
def test_arguments_become_options(message, words):
    assert in_options(message) == words
    assert in_options(words) == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"focal_px": 30.0}, "--focal-mm with --sensor-mm (or --fov in degrees)"),
        ({"sensor_mm": 36.0}, "--sensor-mm goes with --focal-mm"),
        ({"fov_deg": 200.0}, "--fov must be degrees"),
        ({"fov_deg": 60.0, "focal_px": 900.0}, "not as --focal-px and --fov"),
    ],
)
def test_the_lens_in_the_words_of_its_reader(given, words):
    with pytest.raises(BodyfitError) as caught:
        focal_px_from((4000, 3000), **given)
    assert "--" not in str(caught.value)
    assert words in in_options(str(caught.value))


PARTICIPLES = frozenset(
    re.findall(
        r"\w+",
        """
    seen known said told untold foretold begun wanted asked gone given taken made
    found kept held shown meant thought brought sought felt heard
""",
    )
)
"""Words that say what happened to a thing and not what it is: no names."""
PUBLIC = frozenset(
    {
        "known",  # Sighting.known
        "untold",  # Score.untold
        "Wanted",  # evaluate.Wanted
        "wanted",  # keyword of evaluate.points_of
        "seen",  # Track.seen; argument of a residual's methods
        "min_seen_s",  # TrackerConfig
        "min_seen_part",
        "known_entries",  # io.known_entries
        "found",  # Match.found
    }
)
"""Participles that users know as names of fields, keywords and functions."""
BEGINS = re.compile(r"(Of|The same)\b")
"""Openings of docstrings that say nothing."""


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, docstring) of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield getattr(node, "lineno", 1), text


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of the functions, classes, arguments, fields and variables that a module defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def words_of(name: str) -> set[str]:
    """Split a name in snake or camel case into its lower-case words."""
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))


def participles(path: Path) -> list[tuple[int, str]]:
    """List (line, name) of the names that have a participle and are not public."""
    return [(line, name) for line, name in names(path) if name not in PUBLIC and PARTICIPLES & words_of(name)]


def modules() -> dict[str, Path]:
    """All modules of the package by their path in it."""
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def test_docstrings_begin_with_what_a_thing_is():
    texts = [(where, line, text) for where, path in modules().items() for line, text in docstrings(path)]
    assert len(texts) > 1000
    assert [f"{where}:{line}: {text.splitlines()[0]}" for where, line, text in texts if BEGINS.match(text)] == []


def test_names_are_no_participles():
    found = [(where, line, name) for where, path in modules().items() for line, name in participles(path)]
    assert [f"{w}:{line}: {name}" for w, line, name in found] == []


def test_these_tests_would_find_one(tmp_path):
    module = tmp_path / "planted.py"
    module.write_text('"""Of a body."""\ndef f(shown):\n    """The same, turned."""\n    asGiven = shown\n')
    assert [text for _, text in docstrings(module) if BEGINS.match(text)] == ["Of a body.", "The same, turned."]
    assert participles(module) == [(2, "shown"), (4, "asGiven")]
