"""`bodyfit render`: what it writes, where it finds the photograph, and how every mistake ends."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.body.model import BodyParams
from bodyfit.cli.main import main
from bodyfit.errors import OptionError, OutputError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import Camera
from bodyfit.io import save, save_depth, save_gif, save_labels, write_json
from bodyfit.skeleton import SMPL

SIZE = (160, 120)


def _fit(x: float = 0.0, z: float = 4.0, status: FitStatus = FitStatus.CONVERGED) -> FitResult:
    """The mean body upright before the camera."""
    nan = math.nan if not status.ok else 0.0
    camera = Camera.make(1, SIZE)
    keypoints = torch.tensor([[[80.0, 60.0, 1.0]]]).expand(1, 17, 3).contiguous()
    return FitResult(
        params=BodyParams(
            torch.zeros(1, 10),
            torch.zeros(1, 69) + nan,
            torch.tensor([[math.pi, 0.0, 0.0]]),
            torch.tensor([[x, 0.2, z]]),
        ),
        camera=camera,
        joints=torch.zeros(1, 24, 3) + nan,
        status=(status,),
        objective=torch.zeros(1),
        reprojection_error_px=torch.zeros(1),
        layout="coco17",
        keypoints=keypoints,
        model_name="open",
        gender="neutral",
        iterations=torch.zeros(1, dtype=torch.int64),
        flipped=torch.zeros(1, dtype=torch.bool),
    )


@pytest.fixture
def out(tmp_path):
    """What `bodyfit fit` leaves of two photographs, the first with two people."""
    root = tmp_path / "out"
    inputs = []
    for name, people in (("street", (_fit(-0.7), _fit(0.7, 5.0))), ("alone", (_fit(),))):
        Image.new("RGB", SIZE, (90, 120, 90)).save(tmp_path / f"{name}.png")
        entry = {"input": str(tmp_path / f"{name}.png"), "files": [f"{name}/overlay.png"], "people": []}
        for i, result in enumerate(people):
            save(result, root / name / f"person{i}.npz")
            entry["people"].append({"files": [f"{name}/person{i}.npz"]})
        inputs.append(entry)
    write_json(root / "summary.json", {"inputs": inputs})
    return root


@pytest.fixture
def run(capsys):
    """Run the program within the test: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["render", *(str(a) for a in arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def _pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_view_and_map_is_written(out, tmp_path, run):
    target = tmp_path / "pictures"
    code, text, err = run(
        *(out, "-o", target, "--view", "overlay,front,side,top,turn,sheet", "--skeleton", "--keypoints"),
        *("--maps", "depth,normal,silhouette,parts", "--size", "48x64", "--frames", "3", "--grid", "1"),
    )
    assert (code, err) == (0, "")
    assert len(text.splitlines()) == 3
    pictures = {"overlay.png", "front.png", "side.png", "top.png", "turn.gif"}
    maps = {"depth.png", "normal.png", "silhouette.png", "parts.png", "labels.json"}
    for name in ("street", "alone"):
        assert {p.name for p in (target / name).iterdir()} == pictures | maps
        assert _pixels(target / name / "overlay.png").shape == (120, 160, 3)
        assert _pixels(target / name / "side.png").shape == (64, 48, 3)
    with Image.open(target / "street" / "turn.gif") as film:
        assert film.n_frames == 3
    assert _pixels(target / "sheet.png").shape[0] > 2 * 360
    depth, person = (_pixels(target / "street" / f"{k}.png") for k in ("depth", "silhouette"))
    assert depth.dtype == np.uint16
    assert {0, 1, 2} == set(np.unique(person))
    for number, metres in ((1, 4.0), (2, 5.0)):
        assert abs(np.median(depth[person == number]) / 1000 - metres) < 0.2
    labels = json.loads((target / "street" / "labels.json").read_text())
    assert labels["silhouette"] == {"1": "person0", "2": "person1"}
    parts = _pixels(target / "street" / "parts.png")
    assert [labels["parts"][str(k + 1)] for k in range(24)] == list(SMPL.names)
    rows = {name: np.nonzero(parts == SMPL.index(name) + 1)[0] for name in ("head", "left_knee")}
    assert rows["head"].max() < rows["left_knee"].min()


def test_arrays_hold_the_same_as_the_pictures(out, tmp_path, run):
    kinds = ("--maps", "depth,silhouette")
    assert run(out / "alone", "-o", tmp_path / "a", *kinds)[0] == 0
    assert run(out / "alone", "-o", tmp_path / "b", *kinds, "--npy")[0] == 0
    depth = np.load(tmp_path / "b" / "alone" / "depth.npy")
    np.testing.assert_allclose(_pixels(tmp_path / "a" / "alone" / "depth.png") / 1000, depth, atol=0.00051)
    person = np.load(tmp_path / "b" / "alone" / "silhouette.npy")
    np.testing.assert_array_equal(_pixels(tmp_path / "a" / "alone" / "silhouette.png"), person)
    assert ((depth > 0) == (person > 0)).all()


def test_the_overlay_is_the_one_that_fit_draws(out, tmp_path, run):
    assert run(out / "alone", "-o", tmp_path / "o.png")[0] == 0
    model = bodyfit.load_model("open")
    result = _fit()
    with torch.no_grad():
        vertices = model(**result.params).vertices[0]
    image = np.full((120, 160, 3), (90, 120, 90), np.uint8)
    from bodyfit import render

    expected = render.overlay(image, [(vertices, render.person_color(0))], model.faces, result.camera)
    np.testing.assert_array_equal(_pixels(tmp_path / "o.png"), expected)


def test_opacity_skeleton_and_texture_change_the_overlay(out, tmp_path, run):
    Image.new("RGB", (32, 32), (250, 20, 20)).save(tmp_path / "red.png")
    pictures = []
    for i, options in enumerate(((), ("--opacity", "0"), ("--skeleton",), ("--texture", tmp_path / "red.png"))):
        assert run(out / "alone" / "person0.npz", "-o", tmp_path / f"{i}.png", *options)[0] == 0
        pictures.append(_pixels(tmp_path / f"{i}.png").astype(int))
    plain, unseen, skeleton, textured = pictures
    assert (unseen == (90, 120, 90)).all()
    assert ((skeleton == plain).all(2) ^ True).mean() > 0.01
    body = (plain != unseen).any(2)
    assert (textured[body][:, 0] > textured[body][:, 2] + 30).mean() > 0.9


def test_the_photograph_may_have_moved(out, tmp_path, run):
    (tmp_path / "alone.png").rename(tmp_path / "moved.png")
    code, _, err = run(out / "alone", "-o", tmp_path / "p")
    assert code == 1
    assert "alone.png is not there; give --photo" in err
    assert run(out / "alone", "-o", tmp_path / "p", "--photo", tmp_path / "moved.png")[0] == 0
    (tmp_path / "photos").mkdir()
    (tmp_path / "moved.png").rename(tmp_path / "photos" / "alone.png")
    assert run(out / "alone", "-o", tmp_path / "p", "--photo", tmp_path / "photos")[0] == 0
    code, _, err = run(out, "-o", tmp_path / "p", "--photo", tmp_path / "photos")  # holds one of the two
    assert code == 1
    assert "street" in err
    assert run(out / "alone", "-o", tmp_path / "q", "--view", "side")[0] == 0  # needs none
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    code, _, err = run(out / "alone", "-o", tmp_path / "p", "--photo", tmp_path / "small.png")
    assert code == 1
    assert "10x10" in err
    assert "160x120" in err


def test_who_is_not_drawn_is_said(tmp_path, run):
    Image.new("RGB", SIZE).save(tmp_path / "photo.png")
    save(_fit(), tmp_path / "r" / "person0.npz")
    save(_fit(z=-4.0), tmp_path / "r" / "person1.npz")
    save(_fit(status=FitStatus.UNOBSERVABLE), tmp_path / "r" / "person2.npz")
    code, text, err = run(tmp_path / "r", "-o", tmp_path / "o", "--photo", tmp_path / "photo.png", "--json")
    assert code == 0
    entry = json.loads(text)["pictures"][0]
    assert entry["people"] == [0, 1]
    assert [note["person"] for note in entry["not_drawn"]] == [2, 1]
    assert "person 1 is not drawn: it is behind the camera" in err
    assert "person 2 is not drawn: its fit is unobservable" in err
    code, _, _ = run(tmp_path / "r" / "person1.npz", "-o", tmp_path / "p", "--photo", tmp_path / "photo.png")
    assert code == 1  # nobody


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--view", "left"), ("--view", "overlay, insets", "left")),
        (("--maps", "colour"), ("--maps", "depth", "colour")),
        (("--size", "big"), ("--size", "800x600")),
        (("--size", "9x9"), ("--size", "16x16")),
        (("--opacity", "2"), ("opacity",)),
        (("--photo", "nowhere.png"), ("--photo", "nowhere.png")),
        (("--texture", "nowhere.png"), ("nowhere.png",)),
        (("--grid", "0"), ("--grid",)),
    ],
)
def test_wrong_use_is_said_in_a_line(out, tmp_path, run, options, parts):
    code, _, err = run(out / "alone", "-o", tmp_path / "o", *options)
    assert code in (1, 2)
    assert len(err.strip().splitlines()) == 1
    assert all(part in err for part in parts), err


def test_a_single_picture_must_be_single(out, tmp_path, run):
    for options in (("-o", "x.png"), ("-o", "x.gif"), ("-o", "x.png", "--view", "turn")):
        code, _, err = run(out if options == ("-o", "x.png") else out / "alone", *options)
        assert (code, len(err.strip().splitlines())) == (2, 1)
    assert run(out / "street", "-o", tmp_path / "s.gif", "--view", "turn", "--frames", "2", "--size", "40x30")[0] == 0


def test_what_is_no_result_is_named(out, tmp_path, run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.npz").write_bytes(b"nothing")
    for given, code in ((tmp_path / "empty", 2), (tmp_path / "nowhere", 2), (tmp_path / "x.npz", 1)):
        got, _, err = run(given, "-o", tmp_path / "o")
        assert got == code
        assert given.name in err
        assert "Traceback" not in err
    (out / "summary.json").write_text("[1, 2]")
    assert run(out, "-o", tmp_path / "o")[0] == 2
    assert (
        run(out / "alone", "-o", tmp_path / "o", "--photo", tmp_path / "alone.png")[0] == 0
    )  # the summary is not asked


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said(out, tmp_path, run):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, err = run(out / "alone", "-o", locked / "o", "--view", "side")
    assert code == 2
    assert "cannot write" in err


def test_a_place_that_cannot_be_written_is_said(out, tmp_path, run):
    (tmp_path / "file").write_text("")
    code, _, err = run(out / "alone", "-o", tmp_path / "file" / "o", "--view", "side")
    assert code == 2
    assert "cannot write" in err


# ---------------------------------------------------------------- the files


def test_a_gif_holds_every_frame(tmp_path):
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 255, (7, 3))
    frames = [np.full((20, 30, 3), color, np.uint8) for color in colors]
    save_gif(tmp_path / "a.gif", frames, fps=10.0)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"]) == (7, 100, 0)
        for k, color in enumerate(colors):
            film.seek(k)
            shown = np.asarray(film.convert("RGB"), float).mean((0, 1))
            np.testing.assert_allclose(shown, color, atol=20)  # a palette of some frames serves all
    for wrong in ([], [frames[0], frames[0][:5]]):
        with pytest.raises((OptionError, ValueError)):
            save_gif(tmp_path / "b.gif", wrong)
    with pytest.raises(OptionError, match="fps"):
        save_gif(tmp_path / "b.gif", frames, fps=1000.0)
    with pytest.raises(OptionError, match=r"\.gif"):
        save_gif(tmp_path / "b.png", frames)


def test_depth_is_millimetres_and_ends_at_65_m(tmp_path):
    depth = np.array([[0.0, 1.2344, 65.535, 99.0]], np.float32)
    save_depth(tmp_path / "d.png", depth)
    assert _pixels(tmp_path / "d.png").tolist() == [[0, 1234, 65535, 65535]]
    with pytest.raises(OptionError, match="png"):
        save_depth(tmp_path / "d.jpg", depth)
    with pytest.raises(OutputError, match=r"d\.png"):
        save_depth(tmp_path / "d.png" / "d.png", depth)


@pytest.mark.parametrize("most", [3, 300])
def test_labels_come_back(tmp_path, most):
    labels = np.array([[0, 1, most]], np.uint16)
    save_labels(tmp_path / "l.png", labels, [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
    np.testing.assert_array_equal(_pixels(tmp_path / "l.png"), labels)
