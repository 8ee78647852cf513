"""Names of files that no text has, locales that know no letters beyond ASCII, and outputs that take nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bodyfit.runtime.file_names import as_path, as_text

ROOT = Path(__file__).resolve().parents[1]
LATIN_1 = os.fsdecode(b"caf\xe9.jpg")


def process(*arguments: object, **kwargs) -> subprocess.CompletedProcess[str]:
    """`bodyfit` where the locale is C and Python is told to keep to it."""
    command = [sys.executable, "-m", "bodyfit.cli", *map(str, arguments)]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 300, "env": environment, **kwargs}
    return subprocess.run(command, text=True, encoding="utf-8", errors="replace", **options)


@pytest.mark.parametrize("name", ["walking.jpg", "ünï日本.jpg", "a\\b.jpg", "a\\x41.jpg"])
def test_text_stays_as_it_is(name):
    assert as_text(name) == name
    assert as_path(name) == Path(name)


def test_a_name_that_is_no_text_is_found_again(tmp_path):
    try:
        (tmp_path / LATIN_1).touch()
    except OSError:
        pytest.skip("names are text on this file system")
    text = as_text(LATIN_1)
    assert text == "caf\\xe9.jpg"
    text.encode("utf-8")
    assert as_path(text, tmp_path) == tmp_path / LATIN_1


def test_a_file_that_has_the_text_as_its_name_goes_first(tmp_path):
    (tmp_path / "caf\\xe9.jpg").touch()
    assert as_path("caf\\xe9.jpg", tmp_path).name == "caf\\xe9.jpg"


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_pictures_of_any_name_are_fitted_and_drawn_again_in_the_locale_c(tmp_path):
    names = ("ünï日本.jpg", "person0.npz.jpg", LATIN_1)
    for name in names:
        shutil.copy(ROOT / "assets/samples/walking.jpg", tmp_path / name)
    done = process("fit", ".", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert "ünï日本.jpg" in json.dumps(summary, ensure_ascii=False)
    drawn = process("render", "out", "-o", "pictures", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert "internal error" not in done.stderr + drawn.stderr
    assert len(list((tmp_path / "pictures").rglob("overlay.png"))) == len(names)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_an_output_that_takes_nothing_is_told_in_a_line():
    with open("/dev/full", "w") as full:
        done = process("info", stdout=full)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "standard output cannot be written" in done.stderr
