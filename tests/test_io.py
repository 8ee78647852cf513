"""What is written is read back exactly, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from enum import Enum

import numpy as np
import pytest
import torch
import trimesh
from gltf_reader import Gltf
from PIL import Image
from pytorch3d.io import load_obj

from bodyfit.body.model import BodyParams
from bodyfit.errors import AssetError, OptionError, OutputError, ShapeError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import Camera, flip_yz
from bodyfit.io import (
    known_entries,
    load_result,
    save,
    save_glb,
    save_obj,
    save_params,
    save_picture,
    write_atomically,
    write_json,
    write_summary,
)
from bodyfit.runtime.atomic import is_temporary
from bodyfit.runtime.json_text import json_text

TETRAHEDRON = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])


def _params(batch: int, dtype: torch.dtype = torch.float32) -> BodyParams:
    torch.manual_seed(0)
    return BodyParams(*(torch.randn(batch, n, dtype=dtype) for n in (10, 69, 3, 3)))


def _result(batch: int = 3, dtype: torch.dtype = torch.float32) -> FitResult:
    statuses = (FitStatus.CONVERGED, FitStatus.INVALID_INPUT, FitStatus.UNOBSERVABLE)
    objective = torch.randn(batch, dtype=dtype)
    objective[1:2] = torch.nan
    return FitResult(
        params=_params(batch, dtype),
        camera=Camera.make(batch, (640, 480), focal_px=torch.linspace(500, 600, batch), dtype=dtype),
        joints=torch.randn(batch, 24, 3, dtype=dtype),
        status=tuple(statuses[i % 3] for i in range(batch)),
        objective=objective,
        reprojection_error_px=torch.rand(batch, dtype=dtype),
        layout="openpose25",
        keypoints=torch.rand(batch, 25, 3, dtype=dtype),
        model_name="données/model.npz",
        gender="female",
        iterations=torch.arange(batch),
        flipped=torch.arange(batch) % 2 == 0,
        focal_source="exif",
    )


def _assert_same(a, b) -> None:
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, torch.Tensor):
            assert x.dtype == y.dtype
            torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
        elif dataclasses.is_dataclass(x):
            _assert_same(x, y)
        else:
            assert x == y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_fit_comes_back_exactly(tmp_path, dtype, batch):
    result = _result(batch, dtype)
    save(result, tmp_path / "person.npz")
    _assert_same(result, load_result(tmp_path / "person.npz"))


def test_amass_tools_can_read_a_fit_without_pickle(tmp_path):
    result = _result()
    save(result, tmp_path / "person.npz", fps=30.0)
    with np.load(tmp_path / "person.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    assert arrays["poses"].shape == (3, 72)
    np.testing.assert_array_equal(arrays["poses"][:, 3:], result.params.body_pose)
    np.testing.assert_array_equal(arrays["global_orient"], result.params.global_orient)
    np.testing.assert_array_equal(arrays["transl"], result.params.transl)
    assert (str(arrays["up_axis"]), str(arrays["axes"])) == ("z", "camera")
    assert "allow_pickle" not in arrays
    assert arrays["betas"].shape == (3, 10)
    assert str(arrays["gender"]) == "female"
    assert float(arrays["mocap_framerate"]) == 30


def test_random_bodies_are_saved_and_are_no_fit(tmp_path):
    save_params(_params(2), tmp_path / "bodies.npz", "male")
    with np.load(tmp_path / "bodies.npz", allow_pickle=False) as file:
        assert file["poses"].shape == (2, 72)
        assert str(file["gender"]) == "male"
    with pytest.raises(AssetError, match=r"bodies\.npz.*without a fit"):
        load_result(tmp_path / "bodies.npz")


def _edited(tmp_path, **changes) -> str:
    path = tmp_path / "edited.npz"
    save(_result(), path)
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files} | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return str(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"joints": None},
        {"poses": np.zeros((3, 69), np.float32)},
        {"poses": np.zeros((2, 72), np.float32)},
        {"status": np.array(["converged", "odd", "invalid_input"])},
        {"status": np.array("converged")},
        {"layout": np.array(3)},
        {"image_size": np.array([640.0, 480.0])},
        {"objective": np.array(["a", "b", "c"])},
        {"bodyfit_format": np.array(99)},
        {"bodyfit_format": np.array("new")},
        {"joints": np.array([{"a": 1}] * 3, dtype=object)},
    ],
)
def test_a_changed_file_is_refused_by_name(tmp_path, changes):
    with pytest.raises(AssetError, match=r"edited\.npz"):
        load_result(_edited(tmp_path, **changes))


def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path):
    save(_result(), tmp_path / "good.npz")
    data = (tmp_path / "good.npz").read_bytes()
    flipped = bytearray(data)
    for i in range(200, 2000, 7):
        flipped[i] ^= 255
    files = {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello", "flipped": bytes(flipped)}
    for name, content in files.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(AssetError, match=name):
            load_result(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    for path in (tmp_path / "single.npy", tmp_path / "foreign.npz", tmp_path / "absent.npz", tmp_path):
        with pytest.raises(AssetError, match=path.name):
            load_result(path)


def _half_written(path, error: BaseException) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    full = OSError(28, "No space left on device")
    for error, want in ((ValueError(), ValueError), (KeyboardInterrupt(), KeyboardInterrupt), (full, OutputError)):
        with pytest.raises(want, match=r"a\.txt" if want is OutputError else None):
            _half_written(path, error)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_write_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("one", "two"):
        with write_atomically(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".txt"
            assert is_temporary(temporary.name)
            assert not is_temporary(path.name)
            temporary.write_text(text)
        assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"person\.npz"):
        save(_result(), tmp_path / "file" / "person.npz")
    with pytest.raises(OutputError, match=r"folder\.png"):
        save_picture(tmp_path / "folder.png", np.zeros((4, 4, 3), np.uint8))
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder.png"}


def _tetrahedron() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(4, 3) + torch.tensor([0.0, 0.0, 3.0])


def test_a_glb_holds_the_same_vertices_upright(tmp_path):
    vertices, faces = _tetrahedron(), torch.from_numpy(TETRAHEDRON)
    save_glb(tmp_path / "a.glb", vertices, faces, (1.0, 0.5, 0.0))
    mesh = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices, flip_yz(vertices).numpy(), atol=1e-6)  # float32 in the file
    np.testing.assert_array_equal(mesh.faces, TETRAHEDRON)
    # The factor is linear light, as in the files with a skeleton: (0.5 + 0.055) / 1.055 to the power of 2.4.
    np.testing.assert_allclose(mesh.visual.material.baseColorFactor[:3], (255, 255 * 0.214, 0), atol=1)
    gltf = Gltf(tmp_path / "a.glb")
    assert gltf.json["asset"]["extras"] == {"axes_and_unit": "metres, y up"}
    want = trimesh.Trimesh(flip_yz(vertices).numpy(), TETRAHEDRON, process=False).vertex_normals
    (primitive,) = gltf.json["meshes"][0]["primitives"]
    np.testing.assert_allclose(gltf.array(primitive["attributes"]["NORMAL"]), want, atol=1e-6)


@pytest.mark.parametrize("axes", ["camera", "y_up"])
def test_an_obj_holds_the_same_vertices_and_texture_coordinates(tmp_path, axes):
    vertices = _tetrahedron()
    uv, uv_faces = np.random.default_rng(0).random((5, 2)), TETRAHEDRON + 1
    save_obj(tmp_path / "a.obj", vertices, TETRAHEDRON, uv=uv, uv_faces=uv_faces, axes=axes)
    points, corners, extra = load_obj(tmp_path / "a.obj", load_textures=False)
    want = flip_yz(vertices) if axes == "camera" else vertices
    torch.testing.assert_close(points, want, atol=1e-6, rtol=0)  # six decimals
    np.testing.assert_array_equal(corners.verts_idx, TETRAHEDRON)
    np.testing.assert_array_equal(corners.textures_idx, uv_faces)
    np.testing.assert_allclose(extra.verts_uvs, uv, atol=1e-6)
    save_obj(tmp_path / "b.obj", vertices.numpy(), TETRAHEDRON, axes=axes)
    torch.testing.assert_close(load_obj(tmp_path / "b.obj")[0], want, atol=1e-6, rtol=0)


def test_meshes_that_cannot_be_meant_are_refused(tmp_path):
    with pytest.raises(OutputError, match="NaN"):
        save_glb(tmp_path / "a.glb", torch.full((4, 3), torch.nan), TETRAHEDRON)
    with pytest.raises((ShapeError, TypeError)):
        save_obj(tmp_path / "a.obj", torch.zeros(1, 4, 3), TETRAHEDRON)
    with pytest.raises(OptionError, match="axes"):
        save_obj(tmp_path / "a.obj", torch.zeros(4, 3), TETRAHEDRON, axes="x_up")
    assert list(tmp_path.iterdir()) == []


def test_json_has_null_for_what_is_no_number(tmp_path):
    payload = {
        "error": float("nan"),
        "objective": torch.tensor([1.5, torch.inf]),
        "status": FitStatus.CONVERGED,
        "box": (np.float32(1), np.int64(2), np.array([True])),
        "file": tmp_path,
        3: None,
        "name": "Ünal",
    }
    write_json(tmp_path / "a.json", payload)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "error": None,
        "objective": [1.5, None],
        "status": "converged",
        "box": [1.0, 2, [True]],
        "file": str(tmp_path),
        "3": None,
        "name": "Ünal",
    }


def test_one_line_of_json_is_ascii_and_rounds_fractions_alone():
    class Name(str, Enum):
        LEFT = "links"

    value = {"a": 1.23456789, "n": 123456789, "t": torch.tensor([0.1, torch.nan]), "e": Name.LEFT, "f": "ü\udce9"}
    text = json_text(value, digits=3, indent=None, ascii_only=True)
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text) == {"a": 1.23, "n": 123456789, "t": [0.1, None], "e": "links", "f": "ü\\xe9"}
    with pytest.raises(TypeError):
        json_text({1, 2})


def test_a_picture_comes_back_from_png_exactly_and_from_jpeg_nearly(tmp_path):
    y, x = np.mgrid[:40, :60]
    image = np.stack([x * 4, y * 6, 255 - x * 3], 2).astype(np.uint8)
    for name, most in (("a.png", 0), ("a.JPG", 8), ("a.jpeg", 8)):
        save_picture(tmp_path / name, image)
        assert np.abs(np.asarray(Image.open(tmp_path / name)).astype(int) - image).max() <= most
    with pytest.raises(OptionError, match=r"\.png"):
        save_picture(tmp_path / "a.gif", image)
    with pytest.raises((ShapeError, TypeError)):
        save_picture(tmp_path / "a.png", image[..., :2])


def test_a_summary_keeps_what_earlier_runs_said_of_other_folders(tmp_path):
    def entry(name, **more):
        return {"input": f"{name}.jpg", "people": [{"files": [f"{name}/person0.npz"]}], "files": [], **more}

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write_summary(tmp_path, {"inputs": [entry("a", run=1), entry("b", run=1)], "part": {"stride": 2}})
    write_summary(tmp_path, {"inputs": [entry("b", run=2)]})
    written = json.loads((tmp_path / "summary.json").read_text())
    assert [e["run"] for e in written["inputs"]] == [2]
    assert [(e["input"], e["run"], e["part"]) for e in written["earlier"]] == [("a.jpg", 1, {"stride": 2})]
    assert [e["input"] for e in known_entries(written)] == ["b.jpg", "a.jpg"]
    (tmp_path / "a").rmdir()
    write_summary(tmp_path, {"inputs": []})
    assert [e["input"] for e in known_entries(json.loads((tmp_path / "summary.json").read_text()))] == ["b.jpg"]
