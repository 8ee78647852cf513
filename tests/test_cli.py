"""The program as a user meets it: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gltf_reader import Gltf
from PIL import Image

import bodyfit
from bodyfit.cli.main import main
from bodyfit.cli.support import common
from bodyfit.cli.support.runs import folder_names
from bodyfit.runtime.json_text import plain

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "assets" / "samples"
WALKING = SAMPLES / "walking.jpg"
PERSON_FILES = ("_side.png", ".obj", ".glb", ".npz")


@pytest.fixture
def run(capsys):
    """Run the program within the test: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def _process(*arguments: object, **kwargs) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bodyfit.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, **kwargs)


def _one_error(err: str, *parts: str) -> None:
    """Exactly one line, no traceback, and what it must say."""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0], err


def _grey(path: Path) -> Path:
    Image.new("RGB", (64, 48), (128, 128, 128)).save(path)
    return path


# ---------------------------------------------------------------- help


def test_help_teaches(run):
    code, out, _ = run("--help")
    assert code == 0
    for word in ("fit", "random", "info"):
        assert word in out
    code, out, _ = run("fit", "--help")
    assert code == 0
    for word in ("Examples", "bodyfit fit photo.jpg -o out", "--focal-mm", "Exit code"):
        assert word in out
    assert run()[0] == 0
    assert run("--version")[1].strip() == f"bodyfit {bodyfit.__version__}"


def test_help_does_not_load_the_heavy_libraries():
    code = (
        "import sys; from bodyfit.cli.main import main; main(['--help']);"
        "sys.exit(str([m for m in ('torch', 'mediapipe', 'pytorch3d', 'numba', 'numpy') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == "[]"


# ---------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--focal-px", "-3"], "positive"),
        (["--focal-px", "nan"], "positive"),
        (["--focal-px", "many"], "--focal-px"),
        (["--focal-mm", "35"], "--focal-mm needs --sensor-mm"),
        (["--sensor-mm", "36"], "--sensor-mm goes with --focal-mm"),
        (["--fov", "400"], "--fov must be degrees between 1.2 and 135"),
        (["--fov", "60", "--focal-px", "900"], "once, not as --focal-px and --fov"),
        (["--detector", "magic"], "mediapipe"),
        (["--gender", "other"], "neutral"),
        (["--model", "missing.npz"], "missing.npz"),
        (["--device", "abacus"], "cpu, cuda"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_options_end_with_2_and_one_line(run, tmp_path, options, says):
    code, out, err = run("fit", WALKING, "-o", tmp_path / "out", *options)
    assert code == 2
    assert out == ""
    _one_error(err, says)


def test_names_that_begin_with_a_dash_and_empty_ones(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _grey(tmp_path / "-dash.png")
    code, _, err = run("fit", "-dash.png", "-o", "out")
    assert code == 2
    _one_error(err, "./-dash.png")
    for arguments in (("fit", WALKING, "-o", ""), ("fit", "", "-o", "out"), ("random", "-o", "")):
        code, _, err = run(*arguments)
        assert code == 2
        _one_error(err, "an argument is empty")
    assert [path.name for path in tmp_path.iterdir()] == ["-dash.png"]


def test_missing_arguments(run, tmp_path):
    for arguments in (["fit"], ["fit", WALKING], ["fit", "-o", tmp_path], ["random"], ["walk"]):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        _one_error(err, "--help")


def test_output_folder_that_cannot_be(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        for command in (["fit", WALKING], ["batch", WALKING], ["random", "-n", "1"]):
            code, said, err = run(*command, "-o", out)
            assert (code, said) == (2, "")
            _one_error(err, "--out", str(out))


def test_folder_without_pictures_as_the_only_input(run, tmp_path):
    (tmp_path / "in").mkdir()
    code, out, err = run("fit", tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    _one_error(err, "no pictures")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """`bodyfit fit` on the samples, as a process of its own with its output in a pipe."""
    out = tmp_path_factory.mktemp("fit") / "deep" / "out"
    return _process("fit", SAMPLES, "-o", out), out


def test_fit_writes_what_it_promises(fitted):
    done, out = fitted
    assert done.returncode == 0, done.stderr
    # The first run of all tells what it waits for.
    assert [line for line in done.stderr.splitlines() if "compiles its loops" not in line] == []
    names = sorted(path.stem for path in SAMPLES.glob("*.jpg"))
    lines = done.stdout.strip().splitlines()
    assert [line for line in lines if line.startswith(" ")] == ["  person 0: legs not visible, put at rest"]
    assert [Path(line.split(": ")[0]).stem for line in lines if not line.startswith(" ")] == names
    summary = json.loads((out / "summary.json").read_text())
    assert [Path(entry["input"]).stem for entry in summary["inputs"]] == names
    for name, entry in zip(names, summary["inputs"], strict=True):
        assert entry["status"] == "ok"
        assert name in done.stdout
        people = 2 if name == "street_two_people" else 1
        expected = {f"person{i}{end}" for i in range(people) for end in PERSON_FILES} | {"overlay.png"}
        assert {path.name for path in (out / name).iterdir()} == expected
        listed = {f for person in entry["people"] for f in person["files"]} | set(entry["files"])
        assert listed == {f"{name}/{file}" for file in expected}
        with Image.open(out / name / "overlay.png") as overlay, Image.open(SAMPLES / f"{name}.jpg") as photo:
            assert overlay.size == photo.size
        for person in entry["people"]:
            assert person["status"] in ("converged", "max_steps")
            assert person["focal_source"] == "guess"
            assert 0 < person["reprojection_error_percent"] < 10
    assert {path.name for path in out.iterdir()} == {*names, "summary.json"}


def test_saved_result_is_the_fit(fitted, run):
    _, out = fitted
    result = bodyfit.load_result(out / "walking" / "person0.npz")
    entry = next(e for e in json.loads((out / "summary.json").read_text())["inputs"] if "walking" in e["input"])
    assert float(result.reprojection_error_px[0]) == pytest.approx(
        entry["people"][0]["reprojection_error_px"], rel=1e-5
    )
    code, said, _ = run("info", out / "walking" / "person0.npz", "--json")
    assert code == 0
    assert json.loads(said)["people"][0]["status"] == entry["people"][0]["status"]


def test_mesh_stands_upright(fitted):
    """The head of the man on the roof is above his feet in a y-up file."""
    import trimesh

    _, out = fitted
    mesh = trimesh.load_mesh(out / "standing" / "person0.obj", process=False)
    height = np.ptp(mesh.vertices[:, 1])
    assert 1.2 < height < 2.2
    assert height > np.ptp(mesh.vertices[:, 0])
    posed, _ = Gltf(out / "standing" / "person0.glb").posed()
    np.testing.assert_allclose(np.ptp(posed, axis=0), np.ptp(mesh.vertices, axis=0), atol=1e-4)


def test_bad_inputs_cost_only_themselves(run, tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "half.jpg").write_bytes(WALKING.read_bytes()[:9000])
    (tmp_path / "none").mkdir()
    bad = [tmp_path / "text.jpg", tmp_path / "empty.png", tmp_path / "half.jpg", tmp_path / "missing.jpg"]
    nobody = _grey(tmp_path / "grey.png")
    code, out, err = run("fit", *bad, tmp_path / "none", WALKING, nobody, "-o", tmp_path / "out")
    assert code == 1
    assert len(out.strip().splitlines()) == 1
    assert out.startswith(str(WALKING))
    lines = err.strip().splitlines()
    assert len(lines) == 6
    for path in (*bad, tmp_path / "none", nobody):
        assert sum(str(path) in line for line in lines) == 1, path
    assert "Traceback" not in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    status = {Path(entry["input"]).name: entry["status"] for entry in summary["inputs"]}
    assert status == {
        **dict.fromkeys(("text.jpg", "empty.png", "half.jpg", "missing.jpg", "none"), "error"),
        "walking.jpg": "ok",
        "grey.png": "nobody",
    }


def test_only_failures_end_with_1(run, tmp_path):
    assert run("fit", tmp_path / "missing.jpg", "-o", tmp_path / "out")[0] == 1
    assert run("fit", _grey(tmp_path / "grey.png"), "-o", tmp_path / "out")[0] == 1


def test_json_on_standard_output_and_nothing_else(run, tmp_path):
    code, out, err = run("fit", WALKING, "-o", tmp_path / "out", "--json", "--fov", "50")
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    (person,) = summary["inputs"][0]["people"]
    assert person["focal_source"] == "given"
    assert person["focal_px"] == pytest.approx(277 / np.tan(np.radians(25)), rel=1e-4)


def test_a_focal_length_in_the_wrong_unit_is_explained(run, tmp_path):
    code, _, err = run("fit", WALKING, "-o", tmp_path / "out", "--focal-px", "35")
    assert code == 1  # it might suit another picture
    _one_error(err, "walking.jpg", "--focal-mm")


def test_two_inputs_of_one_name(run, tmp_path):
    (tmp_path / "other").mkdir()
    Image.open(WALKING).save(tmp_path / "other" / "WALKING.png")
    code, out, _ = run("fit", WALKING, tmp_path / "other" / "WALKING.png", WALKING, "-o", tmp_path / "out")
    assert code == 0
    assert len(out.strip().splitlines()) == 2  # the same file twice is one input
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"walking", "WALKING_2", "summary.json"}


def testfolder_names_never_meet():
    paths = [Path(p) for p in ("a/x.jpg", "b/x.jpg", "x_2.jpg", "X.png", "summary.json.jpg", "trailing. .png", ".png")]
    names = folder_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[:2] == ["x", "x_2"]
    assert "summary.json" not in names
    assert not any(name.endswith((".", " ")) for name in names)


def test_a_second_run_leaves_no_old_people(run, tmp_path):
    folder = tmp_path / "out" / "walking"
    folder.mkdir(parents=True)
    for name in ("person7.obj", "person7_side.png", "notes.txt", "personal.obj"):
        (folder / name).touch()
    assert run("fit", WALKING, "-o", tmp_path / "out")[0] == 0
    names = {path.name for path in folder.iterdir()}
    assert not names & {"person7.obj", "person7_side.png"}
    assert names >= {"notes.txt", "personal.obj", "person0.obj"}


def test_a_fault_of_ours_costs_one_input(run, tmp_path, monkeypatch):
    from bodyfit.cli.support import fit_one

    read = fit_one.read_image

    def stumble(path):
        if path.name == "grey.png":
            raise ZeroDivisionError("of all things")
        return read(path)

    monkeypatch.setattr(fit_one, "read_image", stumble)
    grey = _grey(tmp_path / "grey.png")
    code, out, err = run("fit", grey, WALKING, "-o", tmp_path / "out")
    assert code == 1
    assert out.count("\n") == 1
    assert err.strip().splitlines() == [
        f"internal error: {grey}: ZeroDivisionError: of all things (a fault in bodyfit; -v shows where)"
    ]
    code, out, err = run("fit", grey, WALKING, "-o", tmp_path / "out", "-v")
    assert code == 1
    assert "Traceback" in err
    entry = json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"][0]
    assert entry["status"] == "internal_error"
    assert "ZeroDivisionError" in entry["message"]


def test_interrupt_keeps_what_is_done(run, tmp_path, monkeypatch):
    from bodyfit.cli.support import fit_one

    read = fit_one.read_image

    def interrupt(path):
        if path.name == "grey.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(fit_one, "read_image", interrupt)
    code, _, err = run("fit", WALKING, _grey(tmp_path / "grey.png"), "-o", tmp_path / "out")
    assert code == 130
    assert "Traceback" not in err
    assert "Ctrl-C" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert [entry["status"] for entry in summary["inputs"]] == ["ok"]
    assert (tmp_path / "out" / "walking" / "person0.npz").exists()


def _hears_interrupts() -> None:
    """A shell starts its background jobs deaf to Ctrl-C, and they pass it on to their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("after_s", [0.05, 2.0])
def test_ctrl_c_at_any_time_is_quiet(tmp_path, after_s):
    """While Python starts (before our code runs) nothing can be promised but an end; later no traceback either."""
    for i in range(40):
        (tmp_path / f"{i}.jpg").write_bytes(WALKING.read_bytes())
    command = [sys.executable, "-m", "bodyfit.cli", "fit", str(tmp_path), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hears_interrupts,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    if after_s >= 2:
        assert process.returncode == 130, err
        assert "Traceback" not in err


def test_a_reader_that_leaves_does_not_stop_the_work(tmp_path):
    command = f'"{sys.executable}" -m bodyfit.cli fit "{WALKING}" "{SAMPLES}" -o "{tmp_path}" | true'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert "Traceback" not in done.stderr
    assert len(json.loads((tmp_path / "summary.json").read_text())["inputs"]) == 5


def test_names_that_are_no_text(run, tmp_path):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff.jpg"))
    try:
        strange.write_bytes(WALKING.read_bytes())
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    code, out, _ = run("fit", strange, "-o", tmp_path / "out")
    assert code == 0
    assert out.count("\n") == 1
    json.loads((tmp_path / "out" / "summary.json").read_text())


# ---------------------------------------------------------------- random


def test_random_is_reproducible_and_complete(run, tmp_path):
    for folder in ("a", "b"):
        code, out, err = run("random", "-n", 3, "--seed", 5, "-o", tmp_path / folder)
        assert (code, err) == (0, "")
        assert out.count("\n") == 1
    names = {path.name for path in (tmp_path / "a").iterdir()}
    files = {"bodies.npz", "bodies.png", "measurements.csv"}
    assert names == {*files, *(f"body{i}.{kind}" for i in range(3) for kind in ("obj", "glb"))}
    with np.load(tmp_path / "a" / "bodies.npz") as a, np.load(tmp_path / "b" / "bodies.npz") as b:
        assert a["poses"].shape == (3, 72)
        assert np.array_equal(a["poses"], b["poses"])
    assert (tmp_path / "a" / "body1.obj").read_bytes() == (tmp_path / "b" / "body1.obj").read_bytes()
    code, out, _ = run("info", tmp_path / "a" / "bodies.npz", "--json")
    assert (code, json.loads(out)["bodies"]) == (0, 3)


def test_random_is_the_library_and_measures_what_it_writes(run, tmp_path):
    """Height in the table is that of the mesh, which is in the T-pose; the mesh is that of `random_bodies`."""
    import csv

    import trimesh

    options = ["--seed", 7, "--gender", "female", "--pose", "rest", "--heights", "1.5:1.9", "--floor"]
    (tmp_path / "body7.obj").touch()  # of an earlier run with more bodies
    (tmp_path / "body.obj").touch()  # the user's
    code, out, err = run("random", "-n", 3, *options, "--json", "-o", tmp_path)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert not (tmp_path / "body7.obj").exists()
    assert (tmp_path / "body.obj").exists()
    with (tmp_path / "measurements.csv").open(encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    assert [row["body"] for row in rows] == ["body0", "body1", "body2"]
    assert {"height_m", "mass_kg", "chest_m", "waist_m", "hip_m", "arm_length_m", "leg_length_m"} <= rows[0].keys()
    model = bodyfit.load_model("open", gender="female")
    bodies = bodyfit.random_bodies(3, model=model, seed=7, pose="rest", heights=(1.5, 1.9), floor=True)
    vertices = model(**bodies).vertices
    for i, row in enumerate(rows):
        mesh = trimesh.load_mesh(tmp_path / f"body{i}.obj", process=False)
        assert np.ptp(mesh.vertices[:, 1]) == pytest.approx(float(row["height_m"]), abs=1e-4)
        assert mesh.vertices[:, 1].min() == pytest.approx(0, abs=1e-6)
        assert 1.5 <= float(row["height_m"]) <= 1.9
        assert said["bodies"][i]["height_m"] == pytest.approx(float(row["height_m"]), abs=1e-4)
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.ptp(vertices[i].numpy(), axis=0), atol=1e-5)
    with np.load(tmp_path / "bodies.npz") as saved:
        assert np.array_equal(saved["betas"], bodies.betas.numpy())
        assert np.array_equal(saved["transl"], bodies.transl.numpy())


@pytest.mark.parametrize(
    "options",
    [
        *(["-n", "0"], ["-n", "-2"], ["-n", "x"], ["--seed", "-1"], ["--model", "no.npz"], ["--pose", "sitting"]),
        *(["--heights", h] for h in ("1.5", "tall:short", "1.9:1.5", "150:190", "nan:1.9", "2.5:2.8", "1:2:3", "")),
    ],
)
def test_random_with_wrong_numbers(run, tmp_path, options):
    code, out, err = run("random", "-o", tmp_path / "out", *options)
    assert (code, out) == (2, "")
    _one_error(err)


# ---------------------------------------------------------------- info


def test_info_of_the_installation(run):
    code, out, err = run("info", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["missing"] == []
    assert facts["versions"]["mediapipe"] in (None, "0.10.21")  # an extra
    assert facts["body"]["joints"] == 24
    assert 1.4 < facts["body"]["height_m"] < 2.0
    code, out, _ = run("info")
    assert code == 0
    assert "vertices" in out


def test_info_of_a_model_file(run, tiny_path):
    code, out, _ = run("info", tiny_path, "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["kind"], facts["vertices"]) == ("body model", 192)


def test_info_of_other_files(run, tmp_path):
    (tmp_path / "junk.npz").write_bytes(b"PK not really")
    (tmp_path / "junk.pkl").write_text("no")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.json").write_text("{}")
    for path in (
        WALKING,
        tmp_path,
        tmp_path / "clip.mp4",
        tmp_path / "out",
        tmp_path / "missing.npz",
        *(tmp_path / n for n in ("junk.npz", "junk.pkl", "other.npz")),
    ):
        code, out, err = run("info", path)
        assert (code, out) == (2, ""), path
        _one_error(err, str(path))


# ---------------------------------------------------------------- small parts


def test_plain_is_what_json_takes():
    value = plain({"a": float("nan"), "b": (1.23456789, Path("x")), 3: [float("inf"), None, True, "é"]}, 6)
    assert value == {"a": None, "b": [1.23457, "x"], "3": [None, None, True, "é"]}


def test_help_text_keeps_examples_and_flows_prose():
    def command():
        """First line.

        Prose over
        two lines.

        Examples:
            one
            two
        """

    assert common.as_help(command) == "First line.\n\nProse over two lines.\n\n\b\nExamples:\n    one\n    two"
