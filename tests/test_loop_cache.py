"""Compiled loops where folders cannot be written: what is there is read, else all works, and a line says what to do.

Modes do not stop a user who is root, so a place is closed by a file that stands where its folder would be.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba.core.caching
import pytest
from numba.core import config

import bodyfit
import bodyfit.body.model  # before temporary files are closed: its imports may make some
from bodyfit.cli import doctor
from bodyfit.runtime import loop_cache as module
from bodyfit.runtime.compiled import jit

SAMPLE = Path(__file__).parents[1] / "assets" / "samples" / "walking.jpg"


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder with one module."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    return folder


def loop_of(package: Path) -> Any:
    """The module's function, to be compiled, as a process that starts now has it."""
    spec = importlib.util.spec_from_file_location("sums", package / "sums.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.dont_write_bytecode = before
    return jit(loaded.add)


def test_a_loop_is_compiled_again_where_another_file_that_has_loops_has_changed(package, monkeypatch):
    """It may call that file's, whose times and sizes are no sign: wheels store the same time for all versions."""
    monkeypatch.setattr(module, "_PACKAGE", package.resolve())
    other, plain = package / "other.py", package / "plain.py"
    other.write_text("import bodyfit.runtime.compiled\nA = 1\n")
    plain.write_text("A = 1\n")

    def cached() -> bool:
        module.digest_of_loops.cache_clear()  # as a process that starts now
        loop = loop_of(package)
        assert loop(1, 2) == 3
        return sum(loop.stats.cache_hits.values()) == 1

    assert [cached(), cached()] == [False, True]
    plain.write_text("A = 2\n")
    assert cached()
    times = other.stat().st_atime_ns, other.stat().st_mtime_ns
    other.write_text("import bodyfit.runtime.compiled\nA = 2\n")
    os.utime(other, ns=times)
    assert [cached(), cached()] == [False, True]
    module.digest_of_loops.cache_clear()


@pytest.fixture
def closed(monkeypatch, tmp_path) -> Callable[[], None]:
    """Close every folder from now on: beside modules, NUMBA_CACHE_DIR, the user's cache, temporary files."""

    def refuse(self) -> None:
        raise OSError("read-only")

    def close() -> None:
        monkeypatch.setattr(numba.core.caching._CacheLocator, "ensure_cache_path", refuse)
        (tmp_path / "file").touch()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))

    return close


def files(folder: Path) -> dict[str, bytes]:
    """Names and contents of all files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_where_nothing_can_be_written_a_loop_runs_and_leaves_nothing(package, closed):
    closed()
    before = files(package.parent)
    loop = loop_of(package)
    assert loop(1, 2) == 3
    assert not loop._cache.can_be_written
    assert files(package.parent) == before


def test_the_working_folder_is_no_place_for_a_cache(package, closed, monkeypatch, tmp_path):
    closed()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cwd"))  # what Python takes where none can be written
    assert not loop_of(package)._cache.can_be_written
    assert not list((tmp_path / "cwd").iterdir())


def test_a_cache_beside_the_package_is_read_where_nothing_can_be_written(package, closed):
    assert loop_of(package)(1, 2) == 3
    assert list((package / "__pycache__").glob("*.nbi"))
    closed()
    before = files(package.parent)
    loop = loop_of(package)
    assert loop(1, 2) == 3
    assert sum(loop.stats.cache_hits.values()) == 1
    assert files(package.parent) == before


def test_a_cache_in_the_named_folder_is_read_where_nothing_can_be_written(package, closed, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))  # read from the environment at numba's import
    assert loop_of(package)(1, 2) == 3
    assert list((tmp_path / "cache").rglob("*.nbi"))
    closed()
    loop = loop_of(package)
    assert loop(1, 2) == 3
    assert sum(loop.stats.cache_hits.values()) == 1
    assert not (package / "__pycache__").exists()


def test_the_doctor_tells_a_closed_installation_that_is_filled_from_one_that_is_not(closed, monkeypatch):
    closed()
    monkeypatch.setattr("bodyfit.runtime.compiled.compiled_so_far", lambda: (0, 0.0))
    assert doctor._cache().ok
    monkeypatch.setattr("bodyfit.runtime.compiled.compiled_so_far", lambda: (3, 20.0))
    for finding in (doctor._cache(), doctor._compile()):
        assert not finding.ok
        assert module.ANOTHER_PLACE in finding.words


@pytest.fixture
def site(tmp_path) -> Path:
    """A copy of the package without compiled files."""
    site = tmp_path / "site"
    shutil.copytree(Path(bodyfit.__file__).parent, site / "bodyfit", ignore=shutil.ignore_patterns("__pycache__"))
    if not (site / "bodyfit" / "assets").exists():  # in a checkout they are beside the package
        (site / "assets").symlink_to(Path(__file__).parents[1] / "assets")
    return site


@pytest.fixture
def closed_site(site) -> Path:
    """That copy, in which no compiled file can be written."""
    for folder in [site / "bodyfit", *(path for path in (site / "bodyfit").rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()
    (site.parent / "closed").touch()
    return site


def fitted(site: Path, out: Path, temporary: Path) -> str:
    """What a process says that fits the sample, with that package, a home that cannot be written, and that folder for
    temporary files."""
    closed = str(site.parent / "closed" / "x")
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv.pop(1)\n"
        "from bodyfit.cli.main import main; import bodyfit; print(bodyfit.__file__); sys.exit(main(sys.argv[1:]))"
    )
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"), closed)
    places |= {"PYTHONPATH": str(site), "TORCHINDUCTOR_CACHE_DIR": str(site.parent / "torch")}  # torch insists on one
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | places
    words = [str(temporary), "fit", str(SAMPLE), "-o", str(out)]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout
    assert (out / "walking" / "person0.npz").exists()
    return done.stderr


@pytest.mark.slow
def test_a_package_and_a_home_that_cannot_be_written_keep_loops_among_the_temporary_files(closed_site, tmp_path):
    before, temporary = set(files(closed_site)), tmp_path / "temporary"
    temporary.mkdir()
    first = fitted(closed_site, tmp_path / "out", temporary)
    assert f"they are kept in {temporary}" in first
    assert "compiles" not in fitted(closed_site, tmp_path / "again", temporary)
    assert set(files(closed_site)) == before


@pytest.mark.slow
def test_where_no_folder_can_be_written_a_fit_works_and_says_what_to_do(closed_site, tmp_path):
    before = set(files(closed_site))
    text = fitted(closed_site, tmp_path / "out", tmp_path / "closed" / "x")
    (line,) = [line for line in text.splitlines() if "compiles its loops" in line]
    assert module.ANOTHER_PLACE in line
    assert set(files(closed_site)) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"closed", "out", "site", "torch"}


AFTERWARDS = f"""
import sys
from bodyfit.cli.main import main
from bodyfit.runtime.compiled import only_compiled

commands = (
    "fit {SAMPLE} -o out",
    "fit {SAMPLE} -o x --model open-x",
    "render out -o pictures --view overlay,side,top,turn,sheet --maps depth,parts --skeleton",
    "convert out/walking/person0.npz person.glb",
    "report out -o report.html",
    "random -n 3 -o bodies --heights 1.5:1.9 --floor",
)
with only_compiled():
    for command in commands:
        if main(command.split()) != 0:
            sys.exit(command)
"""


@pytest.mark.slow
def test_after_the_doctor_compiled_no_command_compiles(site, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"PYTHONPATH": str(site)}
    run = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    start = "import sys; from bodyfit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", start, "doctor", "--compile"], **run)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("compile")]
    assert f"they are kept in the package, {site / 'bodyfit'}" in line
    done = subprocess.run([sys.executable, "-c", AFTERWARDS], **run)
    assert done.returncode == 0, done.stderr
