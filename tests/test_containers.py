"""joblib's and torch's files, compressed and nested ones: what they hold comes out, and nothing in them is ever run."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import time
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from bodyfit.body.files import compressed, torch_files
from bodyfit.body.files.contents import read_contents
from bodyfit.body.files.limits import MOTION_LIMITS, Limits
from bodyfit.body.files.unread import UnreadObjects
from bodyfit.errors import AssetError

SMALL = Limits("motion", 1 << 24, 1 << 20, 20_000)
"""A megabyte, so that what asks for more is soon made."""


def read(path: Path, **options):
    return read_contents(path, MOTION_LIMITS, **options)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# What other libraries wrote, kept as they wrote it.

NEW_JOBLIB = base64.b85decode(
    b"fCQCk0RR910001t3uA9=Y-M9~X>V?Gl#B~xWoBV@Y;<I4V|0|0l#B>sb!lvLX>N0rj09w9V|0|0l!cU1l#CT_b!~8YE@N+UWiD-XY;<X1a&l"
    b"pLl#B**V_|Gza+H&lj0J9WZE$&%j0I$Ld2nTvla!1CX*iULh=-"
    b"I?lqgFBi~&59PEJlr|NsC0O8@`=|4RULlwv~&2LJ#700000l!la2lzo&aj0A9Rb7ho_6KZc_Y-wUHZgp*Nd0%j8V{2?>l#CHhb!~8YL2`0oc"
    b"~^2_aByXEl#`Sxfs}oeD2xbmbz);|VRLhoXbX%7Ze(F{a$$Ltla!1Fb7*03Wt2+-O9O_Kj0JCUWMy)ci~&QGj0I$Ld2nTvXbp@4W;m3Ih=-"
    b"I?lqgFBXc10MPD=m(|Nlz=|Ns9>0CbdMj0$0FY;Sj8ZEaz2l!%NQZgp*Nd0%02a$$L2VQgt<Zf#|5bYEh5bY*jtOAvKp3;+NB|NsC0|NsC00"
    b"00000000000000008hm000000000$00000000O;00000000m`00000000y~l}!Ku000000E_`<lxP|$fs}oeC}<sMA7~&;0!ssilxQN10Y;Q"
    b")Bxntc0%kOniHL`kQj{o5185OWPEJby|Ns9=|NsC0O8|6~VrVIdXevt(bz%ws|NsC0|NsC000000002Nh004kL004kM0000$005vsl}i8s00"
    b"0000E_`|lxP|$fs}oeC}<sMA7~&;0)>=lB4{IMBxntc0#7)UiHL`kQj{o51B?NDluk}gO8@`=|4RS=|Nl!rbd+LfDT!z*OAvKpfC6J~b!~8Y"
    b"E@N+UWiD-XY;<X1a&lpL3SV+%V{dMAbaHiLbP90*V{UbAaCr)DWMOi0VR;I10ZRadaROssV{c?-V{-"
    b"~+Zewp`WeRZvSOEY40Ag_jSOx$90Bm7&X>Kub1%`13QgH`|aR^dz2`EbeO9F*)3S(|{ZE$%CWOR9OWeRZ%SONe508cn^42g(`aSc*&4k$|lS"
    b"OEY40DN%|PEJlr|NsC0O8@`=|4Tn~aS&pOU2zd8eQ^?40RR91VQ~{n0dr1eba517E_HJ*"
)
"""joblib 1.4.2: a defaultdict by a number of numpy's, with arrays in both orders and one of objects."""
OLD_JOBLIB = base64.b85decode(
    b"fCQDk000000001elqgF9eUvDS1aNP2Wt5B)YHwm}X<{yJb!~8YUvOz-Yiwndj1EpjL2`0oc~^2_aByXEl#`Sxfs}oeD2xbZX>4U~VQpoUj1X"
    b"{aVQFqIaBFN|FflG}aCwxB2y=B}V{Bn_bCiq)Zgp*Nd6bL?Ze(F{a$$Ltla!1KVQg$~cVBI7VQ`d)bz+PGW|U|JDS?!IlqhHjj1X{aVQFqIa"
    b"BFN|FfuM~aCwwy3TO>z4v2MPb&LUSluHA3E&"
)
"""joblib 0.9.4, whose arrays are in files of their own."""
OLD_ZIPPED = {
    "zipped.pkl": base64.b85decode(
        b"T1GH<F*G<JARr(hARr(hARr(hAb4J7j<HGvF%X6~w|97oC@3Pnfi^+K!a@tt>H=HX2sTUNW=*`kT*zjNJrK0eyMuI&&#RMF6mg0P%w+!Wd+N"
        b"WRlccLh*k=S==-X*6A#6WPMWqEb&BV63)pz3xr<=Fg)rE7sy>Z-H>EI0xo*|wMOI=CBC-HQqaaT|~uJXepYHUkq5C*m9UPcP*vGf%OT{OOhZ"
        b">_|n&?`@2xtPN>{z?NmgDlHNA6Q*ui3hRt5LUI(KIiVf2DKhmOu?fO2C(D>E{T9SG$N1^)Zj}_4gWeFe><tQ9~-"
        b"rS^pjt@+WOC4cu+fPH&WDIWHf;oU}-}?0gbPL5&"
    ),
    "zipped.pkl_01.npy.z": base64.b85decode(b"T1GH<GcX_^ARr(hARr(hARr(hAb4J5U_b^R?4djd2+aYd1)#Ku0{}LM0$c"),
    "zipped.pkl_02.npy.z": base64.b85decode(b"T1GH<F*qO~ARr(hARr(hARr(hAb4J5U;qIJ2L^@)dmskV3_!fV0RSBf10V"),
}
"""The same, compressed."""


def assert_has_arrays(value: dict) -> None:
    np.testing.assert_array_equal(value["pose"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(value["f"], np.arange(6, dtype=np.float32).reshape(2, 3))
    assert value["f"].dtype == np.float32


COMPRESSIONS = {
    "none": lambda data: data,
    "zlib": lambda data: zlib.compress(data, 9),
    "zlib, fast": lambda data: zlib.compress(data, 1),
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "in two pieces": lambda data: gzip.compress(data[:300]) + gzip.compress(data[300:]),
}


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_joblib_files_hold_their_arrays(tmp_path, compress):
    value = read(written(tmp_path / "vibe_output.pkl", compress(NEW_JOBLIB)))
    assert list(value) == [7]
    assert_has_arrays(value[7])
    assert value[7]["o"].tolist() == [{"a": 1}, None]


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)], ids=str)
def test_joblib_itself_agrees(tmp_path, compress):
    joblib = pytest.importorskip("joblib")
    rng = np.random.default_rng(0)
    track = {"pose": rng.standard_normal((5, 72)), "ids": np.arange(5), "none": None, "empty": np.zeros((0, 3))}
    held = defaultdict(dict, {np.int32(3): track, "words": ["a", ("b", 1.5)], "flag": np.array(True), 2: {1.5: 1}})
    joblib.dump(held, tmp_path / "a.pkl", compress=compress)
    value = read(tmp_path / "a.pkl")
    assert list(value) == [3, "words", "flag", 2]
    for key in ("pose", "ids", "empty"):
        np.testing.assert_array_equal(value[3][key], track[key])
        assert value[3][key].dtype == track[key].dtype
    assert (value[3]["none"], value["words"], bool(value["flag"]), value[2]) == (
        None,
        ["a", ("b", 1.5)],
        True,
        {1.5: 1},
    )


def test_lz4_names_what_it_needs(tmp_path):
    path = written(tmp_path / "a.pkl", b"\x04\x22\x4d\x18" + bytes(40))
    with pytest.raises(AssetError, match=r"a\.pkl: (compressed by lz4, which needs: pip install lz4|.*damaged)"):
        read(path)


def test_old_joblib_keeps_arrays_in_files_beside(tmp_path):
    np.save(tmp_path / "plain.pkl_01.npy", np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "plain.pkl_02.npy", np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert_has_arrays(read(written(tmp_path / "plain.pkl", OLD_JOBLIB))[1])
    for name, data in OLD_ZIPPED.items():
        written(tmp_path / name, data)
    assert_has_arrays(read(tmp_path / "zipped.pkl")[1])
    (tmp_path / "plain.pkl_02.npy").unlink()
    with pytest.raises(AssetError, match=r"plain\.pkl: its array 'plain\.pkl_02\.npy' is missing"):
        read(tmp_path / "plain.pkl")


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/passwd", "other.pkl_01.npy", "..\\secret.npy"])
def test_old_joblib_cannot_name_files_elsewhere(tmp_path, name):
    np.save(tmp_path / "secret.npy", np.zeros(3))
    (tmp_path / "in").mkdir()
    text = name.encode()
    head = b"\x80\x02}X\x01\x00\x00\x00acjoblib.numpy_pickle\nNDArrayWrapper\n)\x81}X\x08\x00\x00\x00filename"
    path = written(tmp_path / "in" / "a.pkl", head + b"X" + struct.pack("<I", len(text)) + text + b"sbs.")
    with pytest.raises(AssetError, match=r"a\.pkl: refused an array in a file that is not the pickle's own"):
        read(path)


# torch.


def tensors() -> dict:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "pose": base,
        "part": base[1:, ::2],
        "turned": base.T,
        "one": torch.tensor(3.5),
        "none": torch.zeros(0, 3),
        "whole": torch.arange(3),
        "flags": torch.tensor([True, False]),
        "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([0.5, -2.0, 3.0], dtype=torch.bfloat16),
        "double": torch.tensor([1e-9], dtype=torch.float64),
        "learned": torch.nn.Parameter(torch.ones(2, 2)),
        "inside": OrderedDict(a=[torch.ones(2), ("x", torch.zeros(1))]),
        "shape": base.shape,
        "type": torch.float32,
        "where": base.device,
        "path": PurePosixPath("a/b.jpg"),
        "numpy": np.arange(4.0),
    }


def assert_are_tensors(value: dict) -> None:
    for key, want in tensors().items():
        if isinstance(want, torch.Tensor):
            np.testing.assert_array_equal(value[key], want.detach().double().numpy(), err_msg=key)
            assert value[key].shape == tuple(want.shape)
            assert value[key].flags.writeable
    np.testing.assert_array_equal(value["inside"]["a"][0], np.ones(2))
    np.testing.assert_array_equal(value["inside"]["a"][1][1], np.zeros(1))
    np.testing.assert_array_equal(value["numpy"], np.arange(4.0))
    assert (value["shape"], value["type"], value["where"], value["path"]) == ([4, 6], "f4", "cpu", "a/b.jpg")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_torch_files_hold_their_tensors(tmp_path, zipped):
    torch.save(tensors(), tmp_path / "hmr4d_results.pt", _use_new_zipfile_serialization=zipped)
    assert_are_tensors(read(tmp_path / "hmr4d_results.pt"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_in_pickles_and_npy_files_come_out(tmp_path, protocol):
    """As TRAM has them: numpy's file of a dict of tensors."""
    np.save(tmp_path / "hps_track_0.npy", tensors())  # pyright: ignore[reportArgumentType]
    assert_are_tensors(read(tmp_path / "hps_track_0.npy"))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(tensors(), protocol))
    assert_are_tensors(read(tmp_path / "a.pkl"))
    joblib = pytest.importorskip("joblib")
    joblib.dump(tensors(), tmp_path / "b.pkl", compress=3, protocol=protocol)
    assert_are_tensors(read(tmp_path / "b.pkl"))


def test_objects_in_an_npz_are_read_where_asked_for(tmp_path):
    """As ROMP has them."""
    held = {"00.png": {"smpl_thetas": np.ones((2, 72)), "cam": np.zeros((2, 3))}}
    np.savez(tmp_path / "a.npz", results=held, plain=np.arange(3), several=np.array([{"a": 1}, None], object))
    value = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(value["results"]["00.png"]["smpl_thetas"], np.ones((2, 72)))
    assert value["several"].tolist() == [{"a": 1}, None]
    left = read(tmp_path / "a.npz", objects=False)
    assert isinstance(left["results"], UnreadObjects)
    np.testing.assert_array_equal(left["plain"], np.arange(3))


def test_what_is_ignored_costs_nothing(tmp_path):
    """VIBE's meshes are a hundred times its poses."""
    joblib = pytest.importorskip("joblib")
    joblib.dump({1: {"pose": np.ones((2, 72)), "verts": np.zeros((40, 6890, 3), np.float32)}}, tmp_path / "a.pkl")
    value = read_contents(tmp_path / "a.pkl", Limits("motion", 1 << 30, 1 << 20, 10_000), ignored=("verts",))
    assert isinstance(value[1]["verts"], UnreadObjects)
    np.testing.assert_array_equal(value[1]["pose"], np.ones((2, 72)))
    with pytest.raises(AssetError, match=r"a\.pkl: refused, it asks for too much"):
        read_contents(tmp_path / "a.pkl", SMALL)


def test_json_is_read(tmp_path):
    path = written(tmp_path / "000000.json", b'\xef\xbb\xbf [{"id": 0, "Rh": [[0, 0, 1.5]]}]')
    assert read(path) == [{"id": 0, "Rh": [[0, 0, 1.5]]}]


# What is something else, in plain words.

OTHERS = {
    "an empty file": (b"", "an empty file"),
    "a web page": (b"<html>login required</html>", r"a web page \(HTML\): the download failed or needs a login"),
    "a page of blanks": (b"\n\n  <!DOCTYPE HTML><head>", r"a web page \(HTML\)"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n",
        "a Git LFS pointer: .*git lfs",
    ),
    "an error in JSON": (b'{"error": "Access denied"}', r"a text of JSON \(.*Access denied.*\) and no motion"),
    "half of JSON": (b'[{"id": 0, "Rh": [', "text that begins like JSON and is damaged"),
    "XML": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an XML document"),
    "words": (b"Quota exceeded for this file", "text .'Quota exceeded for this file'. and neither an npz nor"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "a picture"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file .*convert it to npz"),
    "zeros": (bytes(5000), "a file of zeros"),
    "a film": (b"\0\0\0\x20ftypisom" + bytes(50), "a film"),
    "noise": (b"\xc0\xc1" * 40, "neither an npz nor a pickle"),
}


@pytest.mark.parametrize(("data", "says"), OTHERS.values(), ids=OTHERS)
def test_a_file_of_another_kind_is_called_that(tmp_path, data, says):
    path = written(tmp_path / "aist.pkl", data)
    with pytest.raises(AssetError, match=rf"aist\.pkl: {says}") as caught:
        read(path)
    assert str(caught.value).isprintable()
    assert "safely" not in str(caught.value)


def test_a_zip_of_other_files_says_what_is_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "SMPL.zip", "w") as archive:
        archive.writestr("smpl/models/basicmodel_f_lbs_10_207_0_v1.1.0.pkl", b"x")
        archive.writestr("LICENSE.txt", b"x")
    with pytest.raises(AssetError, match=r"a zip of 2 other files and no npz; unpack it .* smpl/models/basicmodel_f"):
        read(tmp_path / "SMPL.zip")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in ("model/data.pkl", "model/constants.pkl", "model/code/__torch__.py"):
            archive.writestr(name, b"x")
    with pytest.raises(AssetError, match=r"model\.pt: a program of TorchScript, which is code and is not run"):
        read(tmp_path / "model.pt")


# Hostile files. Each would make the file `canary` if anything of it ran.


class Calls:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def hostile(folder: Path) -> dict[str, Path]:
    """The same call in every container there is."""
    call = Calls(os.system, f"touch {folder / 'canary'}")
    value = {"pose": np.zeros((2, 72)), "deep": [call]}
    paths = {name: folder / name for name in ("a.pkl", "a.pkl.gz", "a.npy", "a.npz", "new.pt", "old.pt", "in.pkl")}
    data = pickle.dumps(value, 4)
    paths["a.pkl"].write_bytes(data)
    paths["a.pkl.gz"].write_bytes(gzip.compress(data))
    np.save(paths["a.npy"], value)  # pyright: ignore[reportArgumentType]
    np.savez(paths["a.npz"], results=value)  # pyright: ignore[reportArgumentType]
    torch.save(value, paths["new.pt"])
    torch.save(value, paths["old.pt"], _use_new_zipfile_serialization=False)
    inner = torch_files.OLD_MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + data
    storage = b"ctorch.storage\n_load_from_bytes\n(B" + struct.pack("<I", len(inner)) + inner + b"tR"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00)K\x01\x85\x89NtR"
    paths["in.pkl"].write_bytes(b"\x80\x03}X\x04\x00\x00\x00pose" + tensor + b"s.")
    head, tail = NEW_JOBLIB.split(b"\x80\x02cnumpy.core.multiarray\n", 1)
    paths["objects.pkl"] = written(folder / "objects.pkl", head + pickle.dumps(call, 2) + tail)
    return paths


def test_calls_are_refused_by_name_in_every_container(tmp_path):
    for name, path in hostile(tmp_path).items():
        with pytest.raises(AssetError, match=rf"{name}: refused the name (posix|nt)\.system"):
            read(path)
    assert not (tmp_path / "canary").exists()


def of_storage(offset: int, size: tuple, stride: tuple, numbers: int = 6) -> bytes:
    """A torch file of one tensor that is any view of so many numbers."""
    out = io.BytesIO()
    torch.save({"x": torch.arange(float(numbers))}, out)
    whole = zipfile.ZipFile(out)
    program = whole.read("archive/data.pkl")
    at = program.index(b"QK\x00") + 1  # offset, sizes, strides follow the storage

    def number(n: int) -> bytes:
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    def several(values: tuple) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    rest = program[program.index(b"\x89", at) :]
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
        archive.writestr("archive/data.pkl", program[:at] + number(offset) + several(size) + several(stride) + rest)
    return changed.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (6, (1,), (1,)),
        (-1, (1,), (1,)),
        (0, (2, 3), (4, 1)),
        (0, (2,), (-1,)),
        (0, (2**40,), (0,)),
        (0, (2**20, 2**20), (0, 0)),
        (2**62, (1,), (2**62,)),
        (0, (2, 2), (1,)),
        (0, (-1,), (1,)),
    ],
)
def test_a_tensor_stays_inside_its_storage(tmp_path, offset, size, stride):
    path = written(tmp_path / "evil.pt", of_storage(offset, size, stride))
    with pytest.raises(AssetError, match=r"evil\.pt: "):
        read_contents(path, SMALL)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_views_inside_a_storage_are_read(tmp_path):
    path = written(tmp_path / "fine.pt", of_storage(1, (2, 2), (3, 1)))
    np.testing.assert_array_equal(read(path)["x"], [[1, 2], [4, 5]])


def bomb(compress) -> bytes:
    return compress(pickle.dumps({"a": bytes(8 << 20)}, 4))


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name not in ("none", "in two pieces")])
def test_bombs_are_refused_before_they_fill_the_memory(tmp_path, name):
    path = written(tmp_path / "bomb.pkl", bomb(COMPRESSIONS[name]))
    assert path.stat().st_size < SMALL.file_bytes
    start = time.perf_counter()
    with pytest.raises(AssetError, match=r"bomb\.pkl: more than 1 MiB when unpacked; refused"):
        read_contents(path, SMALL)
    assert time.perf_counter() - start < 5


def test_other_bombs_are_refused(tmp_path):
    zfile = b"ZF" + hex(1 << 40).encode().ljust(19) + zlib.compress(bytes(10))
    many = b"\x80\x02]" + b"(K\x00" * 30_000 + b"."
    again = gzip.compress(bytes(300_000)) * 5
    for name, data in (("zfile", zfile), ("steps", many), ("again", again)):
        with pytest.raises(AssetError, match=rf"{name}: "):
            read_contents(written(tmp_path / name, data), SMALL)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(2 << 20))
    with pytest.raises(AssetError, match=r"bomb\.pt: 2 MiB when unpacked"):
        read_contents(tmp_path / "bomb.pt", SMALL)
    monkey = json.dumps([[]] * 10)
    assert read(written(tmp_path / "lists.json", monkey.encode())) == [[]] * 10
    deep = written(tmp_path / "deep.json", b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(AssetError, match=r"deep\.json: "):
        read(deep)


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.6, 0.95])
def test_a_file_that_is_cut_short_says_so(tmp_path, cut):
    whole = {"a.pkl": NEW_JOBLIB, **{f"a.{name}": make(NEW_JOBLIB) for name, make in COMPRESSIONS.items()}}
    for zipped in (True, False):
        out = io.BytesIO()
        torch.save(tensors(), out, _use_new_zipfile_serialization=zipped)
        whole[f"a{zipped}.pt"] = out.getvalue()
    for name, data in whole.items():
        with pytest.raises(AssetError, match=rf"{name}: "):
            read(written(tmp_path / name, data[: int(cut * len(data))]))


def test_the_readers_cover_what_they_name():
    """A compression that is recognised is unpacked, too."""
    for name, make in COMPRESSIONS.items():
        data = make(NEW_JOBLIB)
        if name != "none":
            assert compressed.compression_of(data[:16]) is not None, name
            assert compressed.unpack(data, MOTION_LIMITS) == NEW_JOBLIB, name
