"""What a user installs: built as it would be published, and run where there is no source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import bodyfit

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it, so that what the sdist lacks the wheel lacks."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    try:
        import hatchling  # noqa: F401

        isolation = ["--no-isolation"]
    except ImportError:
        isolation = []
    run(sys.executable, "-m", "build", *isolation, "--outdir", out, ROOT, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def files(built) -> dict[str, bytes]:
    with zipfile.ZipFile(built[1]) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def source_files(folder: Path) -> set[str]:
    found = (p.relative_to(ROOT).as_posix() for p in folder.rglob("*") if p.is_file())
    return {p for p in found if "__pycache__" not in p and "_cache/" not in p}


def test_every_module_is_in_the_wheel_and_nothing_else(files):
    modules = source_files(ROOT / "bodyfit")
    assert {"bodyfit/__init__.py", "bodyfit/cli/main.py", "bodyfit/body/files/safe_pickle.py"} <= modules
    assets = {f"bodyfit/{name}" for name in source_files(ROOT / "assets")}
    package = {name for name in files if ".dist-info/" not in name}
    assert package == modules | assets


def test_every_asset_is_in_the_wheel_unchanged(files):
    assets = source_files(ROOT / "assets")
    assert {f"assets/body/open_{g}.npz" for g in ("neutral", "male", "female")} <= assets
    assert "assets/prior/pose_gmm.npz" in assets
    assert sum(name.startswith("assets/samples/") and name.endswith(".jpg") for name in assets) >= 3
    for name in assets:
        assert files[f"bodyfit/{name}"] == (ROOT / name).read_bytes(), name


def test_the_wheel_says_what_it_is(files):
    (info,) = {name.split("/")[0] for name in files if ".dist-info/" in name}
    about = Parser().parsestr(files[f"{info}/METADATA"].decode())
    assert about["Name"] == "bodyfit"
    assert about["Version"] == bodyfit.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert "## " in about.get_payload(), "the README is the description"
    assert f"{info}/licenses/LICENSE" in files
    assert "bodyfit = bodyfit.cli.__main__:run" in files[f"{info}/entry_points.txt"].decode()
    assert "Root-Is-Purelib: true" in files[f"{info}/WHEEL"].decode()
    needed = " ".join(r for r in about.get_all("Requires-Dist") if "extra ==" not in r)
    assert "torch" in needed
    for only_for_tests in ("smplx", "chumpy", "pytest"):
        assert only_for_tests not in needed


def test_opencv_is_named_and_is_the_one_that_other_dependencies_bring(files):
    """Two of OpenCV's wheels in one environment overwrite each other's files."""
    (info,) = {name.split("/")[0] for name in files if ".dist-info/" in name}
    wanted = [Requirement(r) for r in Parser().parsestr(files[f"{info}/METADATA"].decode()).get_all("Requires-Dist")]
    always = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    ours = {r.name for r in always if r.name.startswith("opencv")}
    assert ours == {"opencv-contrib-python"}
    for package in always:
        brought = map(Requirement, metadata.requires(package.name) or [])
        named = {r.name for r in brought if r.marker is None or r.marker.evaluate({"extra": ""})}
        assert {name for name in named if name.startswith("opencv")} <= ours, package.name
    (opencv,) = (r for r in always if r.name in ours)
    assert metadata.version(opencv.name) in opencv.specifier


def test_type_checkers_see_the_annotations(files):
    assert files["bodyfit/py.typed"] == b""


def test_the_sdist_holds_what_makes_the_wheel_and_its_tests(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    want = {
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "tests/conftest.py",
        "scripts/build/open_body/build.py",
    }
    assert want <= names
    assert source_files(ROOT / "assets") <= names
    assert not {n for n in names if "__pycache__" in n or n.startswith((".git/", ".ci/")) or n.endswith(".pyc")}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A fresh environment with the wheel in it; the dependencies are this one's, by a .pth, not downloaded again."""
    env = tmp_path_factory.mktemp("installed") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", env, cwd=env.parent)
    scripts = env / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet")
    run(*pip, "--disable-pip-version-check", built[1], cwd=env.parent)
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=env.parent).stdout.strip()
    parents = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(where) / "dependencies.pth").write_text("\n".join(sorted(parents)) + "\n")
    return scripts


@pytest.fixture
def empty(tmp_path) -> Path:
    """A working folder where no source lies."""
    return tmp_path


def test_the_installed_package_is_the_wheels(installed, empty):
    where = run(installed / "python", "-c", "import bodyfit; print(bodyfit.__file__)", cwd=empty).stdout
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert run(installed / "bodyfit", "--version", cwd=empty).stdout.strip() == f"bodyfit {bodyfit.__version__}"


def test_the_installed_program_finds_its_assets(installed, empty):
    said = json.loads(run(installed / "bodyfit", "info", "--json", cwd=empty).stdout)
    assert said["missing"] == []
    assert said["versions"]["bodyfit"] == bodyfit.__version__
    paths = list(said["assets"].values())
    assert paths
    assert all(Path(p).is_relative_to(installed.parent) for p in paths)
    assert run(installed / "bodyfit", "info", cwd=empty).stdout.count("\n") > 10
    assert list(empty.iterdir()) == []


def test_the_installed_program_fits_a_picture(installed, empty):
    samples = next(installed.parent.rglob("assets/samples"))
    done = run(installed / "bodyfit", "fit", samples / "standing.jpg", "-o", "out", "--json", cwd=empty)
    (entry,) = json.loads(done.stdout)["inputs"]
    assert entry["status"] == "ok"
    (person,) = entry["people"]
    assert person["reprojection_error_percent"] < 5
    (file,) = (empty / "out").rglob("*.npz")
    assert bodyfit.load_result(file).params.body_pose.shape == (1, 69)
    assert next((empty / "out").rglob("overlay.png")).stat().st_size > 10_000
