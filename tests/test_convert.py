"""Models written anew: read back they are the same, and smplx makes the same bodies of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from official_files import FORMS, write

from bodyfit.body.assets import load_assets
from bodyfit.body.families.kinds import FAMILIES
from bodyfit.body.model import load_model
from bodyfit.body.record import BodyAssets, FaceLandmarks, PoseBlocks
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError, OutputError
from bodyfit.io import save_model

pytest.importorskip("chumpy")
TOLERANCE_M = {torch.float64: 1e-6, torch.float32: 1e-5}
"""smplx rounds what it reads to float32, 1e-7 m; in float32 some ten such roundings."""


@pytest.fixture
def run(capsys):
    """Run the program within the test: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def assert_equal(a, b, where: str = "") -> None:
    """The same to the last bit, in records and dicts too."""
    assert type(a) is type(b), where
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            if field.name not in ("name", "kind"):
                assert_equal(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, err_msg=where)
    else:
        assert a == b, where


def assert_same_model(a: BodyAssets, b: BodyAssets) -> None:
    assert a.kind is b.kind
    assert_equal(a, b)


@pytest.mark.parametrize("form", FORMS)
def test_a_published_file_survives_both_layouts(tmp_path, form):
    source = load_assets(write(tmp_path, form)[0])
    assert_same_model(load_assets(save_model(source, tmp_path / "plain.npz"), gender="male"), source)
    if source.kind.name != "star":
        written = save_model(source, tmp_path / "tree", layout="smplx")
        assert_same_model(load_assets(written, gender="male"), source)
        again = save_model(written, tmp_path / "again.npz")
        assert_same_model(load_assets(again, gender="male"), source)


@pytest.mark.parametrize("posedirs", ["none", "dense", "blocks"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_any_body_survives(tmp_path, kind, posedirs):
    """Also with what no published file has: no expression, landmarks without a contour, one hand, a gender."""
    if kind == "star" and posedirs == "blocks":
        pytest.skip("STAR's pose blend shapes are dense")
    full = tiny_assets(kind, posedirs=posedirs)
    rng = np.random.default_rng(0)
    landmarks = FaceLandmarks(np.arange(51) % len(full.faces), rng.dirichlet(np.ones(3), 51))
    sums = full.weights.sum(1, keepdims=True)
    for body in (
        dataclasses.replace(full, gender="female", weights=full.weights / sums),
        dataclasses.replace(full, exprdirs=None, keypoints={}, uv=rng.random((9, 2)), uv_faces=full.faces % 9),
        dataclasses.replace(full, landmarks=landmarks, hands={k: v for k, v in full.hands.items() if k in kind}),
        dataclasses.replace(full, shapedirs=rng.standard_normal((len(full.v_template), 3, 3))),
    ):
        for layout in ("bodyfit", "smplx")[: 1 if kind in ("star", "mano_left", "mano_right") else 2]:
            target = tmp_path / ("body.npz" if layout == "bodyfit" else "folder")
            if kind.startswith("mano"):  # the record may hold the other hand too; a file of one hand does not
                body = dataclasses.replace(body, hands={k: v for k, v in body.hands.items() if k in kind})
            assert_same_model(load_assets(save_model(body, target, layout=layout), gender="male"), body)


def test_a_plain_file_holds_no_pickle_and_keeps_the_precision(tmp_path):
    source = write(tmp_path, "STAR npz")[0]
    single, double = tmp_path / "single.npz", tmp_path / "double.npz"
    save_model(source, single)
    held = load_assets(source)
    save_model(dataclasses.replace(held, v_template=held.v_template + 1e-9), double)
    with np.load(single, allow_pickle=False) as a, np.load(double, allow_pickle=False) as b:
        assert {key: a[key].dtype for key in ("v_template", "shapedirs", "posedirs")} == dict.fromkeys(
            ("v_template", "shapedirs", "posedirs"), np.float32
        )
        assert b["v_template"].dtype == np.float64
        assert not any(a[key].dtype.hasobject for key in a.files)


# The shipped bodies for smplx.


def params(model, batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(columns: int, spread: float) -> torch.Tensor:
        return (spread * torch.randn(batch, columns, generator=generator, dtype=torch.float64)).to(model.dtype)

    drawn = {"betas": draw(model.num_betas, 1), "global_orient": draw(3, 0.5), "transl": draw(3, 1)}
    drawn |= {name: draw(3 * joints, 0.3) for name, joints in model.kind.poses}
    return drawn | ({"expression": draw(model.num_expression_coeffs, 1)} if model.num_expression_coeffs else {})


def assert_smplx_agrees(reference, source: str, gender: str, dtype: torch.dtype) -> None:
    ours = load_model(source, gender=gender, dtype=dtype)
    given = params(ours, 2)
    with torch.no_grad():
        out, want = ours(**given), reference(**given)
    n = ours.num_joints
    assert (out.vertices - want.vertices).abs().max() < TOLERANCE_M[dtype]
    assert (out.joints - want.joints[:, :n]).abs().max() < TOLERANCE_M[dtype]
    np.testing.assert_array_equal(ours.faces, reference.faces_tensor)


SHIPPED = {"open": "smpl", "open-h": "smplh", "open-x": "smplx"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("source", SHIPPED)
def test_smplx_creates_the_shipped_bodies_from_a_folder(run, tmp_path, source, dtype):
    smplx = pytest.importorskip("smplx")
    gender = {"open": "male", "open-h": "female", "open-x": "neutral"}[source]
    code, out, err = run("convert", source, tmp_path, "--layout", "smplx", "--gender", gender)
    assert (code, err) == (0, "")
    kind = SHIPPED[source]
    assert f"smplx.create({str(tmp_path)!r}, model_type={kind!r}, gender={gender!r})" in out
    options = {"use_pca": False} if kind != "smpl" else {}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints warnings
        reference = smplx.create(str(tmp_path), model_type=kind, gender=gender, batch_size=2, dtype=dtype, **options)
    assert_smplx_agrees(reference, source, gender, dtype)


@pytest.mark.parametrize("ending", ["npz", "pkl"])
@pytest.mark.parametrize("source", SHIPPED)
def test_smplx_loads_the_shipped_bodies_from_a_file(run, tmp_path, source, ending):
    """By its class under any name, and by create(), which goes by the name's first word, under a fitting one."""
    smplx = pytest.importorskip("smplx")
    kind = SHIPPED[source]
    path = tmp_path / f"open_{kind}.{ending}"
    code, out, err = run("convert", source, path, "--layout", "smplx", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["file"], facts["layout"]) == (str(path), "smplx")
    assert f"smplx.{kind.upper()}({str(path)!r}" in facts["note"]
    options = {"batch_size": 2, "ext": ending} | ({"use_pca": False} if kind != "smpl" else {})
    named = shutil.copy(path, tmp_path / f"{kind}_open.{ending}")
    with contextlib.redirect_stdout(io.StringIO()):
        direct = getattr(smplx, kind.upper())(str(path), dtype=torch.float64, **options)
        created = smplx.create(str(named), dtype=torch.float64, **options)
    assert_smplx_agrees(direct, source, "neutral", torch.float64)
    assert_smplx_agrees(created, source, "neutral", torch.float64)
    assert (path.read_bytes()[:2] == b"PK") == (ending == "npz" and kind != "smpl")


@pytest.mark.parametrize("source", SHIPPED)
def test_the_shipped_bodies_survive(tmp_path, source):
    want = load_assets(source, gender="female")
    assert_same_model(load_assets(save_model(want, tmp_path / "plain.npz")), want)
    if isinstance(want.posedirs, PoseBlocks):  # smplx's arrays are dense, and do not tell which zeros were kept
        sparse = PoseBlocks.of(want.posedirs.dense(len(want.v_template), len(want.parents)))
        want = dataclasses.replace(want, posedirs=sparse)
    assert_same_model(load_assets(save_model(want, tmp_path / "smplx.npz", layout="smplx")), want)


def test_smplx_reads_what_was_made_of_its_own_files(tmp_path):
    """MANO and FLAME, for which nothing ships."""
    smplx = pytest.importorskip("smplx")
    for form, kind in (("MANO right pkl", "mano"), ("MANO left pkl", "mano"), ("FLAME pkl", "flame")):
        source = write(tmp_path / "in", form)[0]
        save_model(source, tmp_path / "out", layout="smplx")
        options = {"is_rhand": "right" in form, "use_pca": False} if kind == "mano" else {}
        with contextlib.redirect_stdout(io.StringIO()):
            reference = smplx.create(
                str(tmp_path / "out"), model_type=kind, batch_size=2, dtype=torch.float64, **options
            )
        assert_smplx_agrees(reference, str(source), "neutral", torch.float64)


# The command.


def test_convert_writes_a_clean_npz_of_a_pickle(run, tmp_path):
    source, arrays = write(tmp_path, "SMPL v1.0 pkl")
    target = tmp_path / "new" / "neutral.npz"
    code, out, err = run("convert", source, target)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert str(target) in out
    np.testing.assert_array_equal(load_assets(target).shapedirs, arrays["shapedirs"])
    assert [p.name for p in target.parent.iterdir()] == ["neutral.npz"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.pkl", "new.npz"], "none.pkl: no such file"),
        (["{model}", "{model}"], "is the model that is read; give another name"),
        (["{model}", "new.stl"], r"new.stl: bodyfit's own layout is an npz"),
        (["{model}", "new.npz", "--up", "z", "--frame", "2"], "--frame, --up: not for this conversion"),
        (["{model}", "new.glb", "--fps", "30"], "--fps: not for this conversion"),
        (["{model}", "new.pkl"], "ends in .npz, or layout smplx"),
        (["{model}", "."], "ends in .npz, or layout smplx"),
        (["{model}", "new.txt", "--layout", "smplx"], "smplx reads .npz and .pkl"),
        (["{star}", "new.npz", "--layout", "smplx"], "smplx has no STAR model"),
        (["{flame}", "new.pkl", "--layout", "smplx"], "from a folder only"),
        (["{result}", "new.npz", "--person", "3"], "person.npz has no person 3; there are 0"),
        (["{web}", "new.npz", "--model", "open"], "page.pkl: a web page (HTML): the download failed or needs a login"),
        (["{pointer}", "new.glb", "--model", "open"], "pointer.pkl: a Git LFS pointer"),
        (
            ["{text}", "new.glb", "--model", "open"],
            "notes.pkl: text ('just some words') and neither an npz nor a pickle",
        ),
        (["{arrays}", "new.glb"], "arrays.npz: neither a body model nor motion in a known layout (it holds spam)"),
        (["{result}", "new.npz", "--layout", "smplx"], "--layout: not for this conversion, person.npz holds bodies"),
        (["{result}", "new.stl", "--model", "open"], "the ending must be one of .glb"),
        (["{result}", "new.glb", "--model", "open", "--frame", "1"], "there is no 1"),
        (["{result}", "new.glb", "--model", "open", "--axes", "camera"], "not in camera axes"),
        (["{result}", "new.npz", "--model", "open", "--unit", "cm"], "AMASS files are in metres"),
        (["{result}", "new.bvh", "--model", "open", "--pose-shapes", "none"], "has no skin"),
        (["{model}", "{model}/new.npz"], "cannot be written"),
        (["{model}", "new.npz", "--layout", "fbx"], "--layout"),
        (["{model}"], "NEW"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    forms = {"model": "SMPL npz", "star": "STAR npz", "flame": "FLAME pkl"}
    names = {key: str(write(tmp_path, form)[0]) for key, form in forms.items()}
    np.savez(tmp_path / "person.npz", poses=np.zeros((1, 72)), trans=np.zeros((1, 3)), betas=np.zeros((1, 10)))
    np.savez(tmp_path / "arrays.npz", spam=np.zeros(3))
    names |= {"web": "page.pkl", "pointer": "pointer.pkl", "text": "notes.pkl", "arrays": "arrays.npz"}
    (tmp_path / "page.pkl").write_text("<html>login required</html>")
    (tmp_path / "pointer.pkl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 247101\n")
    (tmp_path / "notes.pkl").write_text("just some words")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("convert", *[a.format(**names, result="person.npz") for a in arguments])
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    source = write(tmp_path, "SMPL npz")[0]
    target = tmp_path / "old.npz"
    target.write_bytes(b"precious")
    monkeypatch.setattr(np, "savez_compressed", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        save_model(source, target)
    assert target.read_bytes() == b"precious"
    assert {p.name for p in tmp_path.iterdir()} == {"smpl", "old.npz"}


def test_a_folder_that_is_read_keeps_its_files(tmp_path):
    source = write(tmp_path, "SMPL npz")[0]
    with pytest.raises(OutputError, match="is the model that is read"):
        save_model(source.parent, source)
    with pytest.raises(OutputError, match="is the model that is read"):
        save_model(load_assets(source), source)


def test_wrong_layouts_and_sources(tmp_path):
    with pytest.raises(OptionError, match="layout must be one of bodyfit, smplx, got 'fbx'"):
        save_model("open", tmp_path / "a.npz", layout="fbx")
    with pytest.raises(AssetError, match="no such file"):
        save_model(tmp_path / "none.npz", tmp_path / "a.npz")
    wide = dataclasses.replace(tiny_assets("smplx"), shapedirs=np.zeros((330, 3, 301)))
    with pytest.raises(OptionError, match="up to 300 betas"):
        save_model(wide, tmp_path / "a.npz", layout="smplx")


# What `bodyfit info` says of them.


def test_info_describes_every_form(run, tmp_path: Path):
    for form, made in FORMS.items():
        path, arrays = write(tmp_path, form)
        code, out, err = run("info", path, "--json")
        assert (code, err) == (0, ""), form
        facts = json.loads(out)
        assert facts["kind"] == "body model"
        assert facts["model"] == FAMILIES[made.kind].title
        assert facts["vertices"] == len(arrays["v_template"])
        assert facts["joints"] == len(arrays["weights"][0])
        assert facts["betas"] == {400: 300, 20: 10}.get(made.columns, made.columns)
        assert facts["expression_coefficients"] == {400: 100, 20: 10}.get(made.columns, 0)
        assert facts["pose_corrections"].startswith("sparse" if made.local else "dense")
        assert facts["landmarks"] == (68 if made.kind == "smplx" else 0)
    code, out, err = run("info", tmp_path, "--json")
    assert (code, err) == (0, "")
    listed = json.loads(out)["models"]
    assert {entry["file"] for entry in listed} == {made.file for made in FORMS.values()}
    assert {entry["model"] for entry in listed} == {FAMILIES[made.kind].title for made in FORMS.values()}
    (tmp_path / "smpl" / "SMPL_NEUTRAL.pkl").write_bytes(b"\x80\x02cos\nsystem\n.")
    code, out, _ = run("info", tmp_path)
    assert code == 0
    assert "refused the name os.system" in out


@pytest.mark.parametrize("source", SHIPPED)
def test_info_describes_the_shipped_bodies(run, source):
    code, out, _ = run("info", source, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["joints"] == len(FAMILIES[SHIPPED[source]].skeleton)
    assert 1.4 < facts["height_m"] < 2.0
