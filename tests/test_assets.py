"""Files of others: what authentic layouts hold comes out unchanged, and nothing in a file is ever run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from conftest import tiny_body

from bodyfit.body.assets import load_assets, read_archive
from bodyfit.body.files.safe_pickle import read_pickle
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.errors import AssetError, OptionError

chumpy = pytest.importorskip("chumpy")

BODY_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")


def write(path: Path, value, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def tiny_smpl() -> dict[str, np.ndarray]:
    """The tiny body with pose correctives and without what SMPL's files do not have."""
    arrays = tiny_body(posedirs=True)
    return {k: v for k, v in arrays.items() if not k.startswith("keypoint")}


def authentic(form: str = "csc") -> dict:
    """The tiny body as SMPL's v1.0 pickles hold theirs."""
    arrays = tiny_smpl()
    wide = np.concatenate([arrays["shapedirs"], np.ones((*arrays["shapedirs"].shape[:2], 3))], 2)
    return {
        **{k: chumpy.array(arrays[k]) for k in ("v_template", "posedirs", "weights")},
        "shapedirs": chumpy.array(wide)[:, :, :10],  # a chumpy Select, as SMPL's is
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]).asformat(form),
        "kintree_table": arrays["kintree_table"].astype(np.uint32),
        "f": arrays["f"].astype(np.uint32),
        "bs_type": "lrotmin",
        "bs_style": "lbs",
        "J": chumpy.array(arrays["J_regressor"] @ arrays["v_template"]),
    }


def assert_is_tiny(path: Path) -> None:
    found, want = load_assets(path), tiny_smpl()
    for key in BODY_KEYS:
        np.testing.assert_array_equal(getattr(found, key), want[key], err_msg=key)
    np.testing.assert_array_equal(found.faces, want["f"])
    assert found.parents[:4] == (-1, 0, 0, 0)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_chumpy_pickles_load_to_equal_arrays(tmp_path, protocol):
    assert_is_tiny(write(tmp_path / "body.pkl", authentic(), protocol))


@pytest.mark.parametrize("form", ["csc", "csr", "coo"])
def test_every_sparse_form_becomes_the_dense_regressor(tmp_path, form):
    assert_is_tiny(write(tmp_path / "body.pkl", authentic(form)))


def test_a_square_sparse_matrix_is_not_transposed(tmp_path):
    dense = np.arange(9.0).reshape(3, 3)
    for matrix in (scipy.sparse.csc_matrix(dense), scipy.sparse.csr_array(dense), scipy.sparse.coo_array(dense)):
        got = read_pickle(write(tmp_path / "m.pkl", {"m": matrix}))["m"]
        np.testing.assert_array_equal(got, dense)


def as_python2(body: dict[str, np.ndarray]) -> bytes:
    """A protocol 2 pickle as Python 2 wrote it: arrays' bytes and dict keys are byte strings, not text."""
    out = io.BytesIO()

    def text(s: bytes) -> bytes:
        return b"U" + bytes([len(s)]) + s if len(s) < 256 else b"T" + struct.pack("<I", len(s)) + s

    def number(n: int) -> bytes:
        return b"J" + struct.pack("<i", n)

    out.write(b"\x80\x02}(")
    for key, array in body.items():
        array = np.ascontiguousarray(array)
        code, order = array.dtype.str[1:].encode(), array.dtype.str[:1].encode()
        out.write(text(key.encode()) + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n")
        out.write(b"(" + number(0) + b"t" + text(b"b") + b"tR(" + number(1))
        out.write(b"(" + b"".join(map(number, array.shape)) + b"t")
        out.write(b"cnumpy\ndtype\n(" + text(code) + number(0) + number(1) + b"tR(" + number(3) + text(order))
        out.write(b"NNN" + number(-1) + number(-1) + number(0) + b"tb")
        out.write(b"I00\n" + text(array.tobytes()) + b"tb")
    out.write(b"u.")
    return out.getvalue()


def test_python_2_byte_strings_hold_the_same_arrays(tmp_path):
    path = tmp_path / "body.pkl"
    path.write_bytes(as_python2(tiny_smpl()))
    assert_is_tiny(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_loads_to_equal_arrays(tmp_path, save):
    save(tmp_path / "body.npz", **tiny_smpl())
    assert_is_tiny(tmp_path / "body.npz")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back_as_they_were(tmp_path, protocol):
    rng = np.random.default_rng(0)
    value = {
        "f4": rng.standard_normal((2, 3)).astype(np.float32),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "big_endian": np.arange(4, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "scalar0": np.array(2.5),
        "scalar": np.float64(1.25),
        "text": np.array(["left", "right"]),
        "words": "laïc",
        "list": [1, 2.5, None, True, ("a", {"b": np.arange(3)})],
        "ordered": OrderedDict(a=1, b=2),
    }
    got = read_pickle(write(tmp_path / "v.pkl", value, protocol))
    for key in ("f4", "fortran", "big_endian", "bool", "empty", "scalar0", "scalar", "text"):
        np.testing.assert_array_equal(got[key], value[key], err_msg=key)
        assert np.asarray(got[key]).dtype == np.asarray(value[key]).dtype, key
    assert got["words"] == value["words"]
    assert got["ordered"] == {"a": 1, "b": 2}
    assert got["list"][:4] == [1, 2.5, None, True]
    np.testing.assert_array_equal(got["list"][4][1]["b"], np.arange(3))


def test_arrays_can_be_written_to(tmp_path):
    """torch shares memory with them, and what it shares must not be read-only."""
    got = read_pickle(write(tmp_path / "v.pkl", {"a": np.arange(3.0), "b": chumpy.array(np.arange(3.0))}))
    assert all(array.flags.writeable for array in got.values())


# Hostile files. Each would set `touched` if anything of it ran.

touched: list[str] = []


class Calls:
    """Pickles as a call of any importable function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def nested(hostile):
    return {"v_template": np.zeros((3, 3)), "deep": [{"x": ({"y": hostile},)}]}


def in_an_object_array(hostile):
    box = np.empty(2, object)
    box[0] = hostile
    return {"shapedirs": box}


def in_chumpy(hostile):
    box = chumpy.array(np.zeros(3))
    box.__dict__["a"] = hostile
    return {"weights": box}


def at_the_top(hostile):
    return {"v_template": hostile}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", [at_the_top, nested, in_an_object_array, in_chumpy])
@pytest.mark.parametrize("function", [os.system, eval, exec, builtins.__import__, getattr, open, touched.append])
def test_calls_are_refused_by_name_and_never_made(tmp_path, place, function, protocol):
    flag, name = tmp_path / "ran", function.__name__
    argument = {"system": f"touch {flag}", "eval": f"open({str(flag)!r}, 'w')", "exec": f"open({str(flag)!r}, 'w')"}
    hostile = Calls(function, argument.get(name, str(flag)), *(["w"] if function is open else []))
    path = write(tmp_path / "evil.pkl", place(hostile), protocol)
    # A bound method is pickled as getattr(list, name).
    refused = "getattr" if name == "append" else name
    with pytest.raises(AssetError, match=rf"evil\.pkl.*refused the name \w+\.{refused}"):
        read_archive(path)
    assert not flag.exists()
    assert not touched


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "__builtin__.eval"),
        *("builtins.getattr", "builtins.open", "builtins.type", "pickle.loads", "numpy.load", "numpy.f2py.os.system"),
        *("numpy.testing._private.utils.runstring", "numpy.core.multiarray.fromfile", "numpy.memmap"),
        *("copyreg.__newobj__", "copyreg.add_extension", "scipy.sparse.load_npz", "chumpyx.Ch", "numpy.ndarray.tofile"),
        *("collections.OrderedDict.update", "functools.partial", "operator.attrgetter", "torch.load", "sys.exit"),
    ],
)
def test_names_outside_the_list_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    for program in (
        f"c{module}\n{attribute}\n.".encode(),
        b"\x80\x04\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(attribute)])
        + attribute.encode()
        + b"\x93.",
        b"(" + f"i{module}\n{attribute}\n.".encode(),
    ):
        (tmp_path / "evil.pkl").write_bytes(program)
        with pytest.raises(AssetError, match=r"evil\.pkl: .*refused the name") as caught:
            read_pickle(tmp_path / "evil.pkl")
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["numpy ndarray", "numpy dtype", "_codecs encode", "chumpy.ch Ch", "builtins set"])
def test_a_file_cannot_change_what_the_next_one_meets(tmp_path, name):
    """BUILD sets attributes of what stands on the stack, classes and functions included."""
    module, attribute = name.split()
    stand_in = f"c{module}\n{attribute}\n".encode()
    for state in (b"}S'__doc__'\nS'hacked'\ns", b"(N}S'__doc__'\nS'hacked'\nst", b"(N}S'args'\nS'hacked'\nst"):
        (tmp_path / "evil.pkl").write_bytes(b"\x80\x02}S'a'\n" + stand_in + state + b"bs.")
        with pytest.raises(AssetError):
            read_pickle(tmp_path / "evil.pkl")
    assert_is_tiny(write(tmp_path / "body.pkl", authentic()))


def with_dtype(state: tuple, code: str = "V8", data: bytes = b"\x00" * 8) -> bytes:
    """A pickle of an array whose dtype is made by `code` and then given `state`."""

    class Dtype:
        def __reduce__(self):
            return np.dtype, (code, False, True), state

    class Array:
        def __reduce__(self):
            return np.core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Dtype(), False, data)

    return pickle.dumps({"a": Array()}, 2)


def test_a_record_that_lays_objects_over_bytes_is_refused(tmp_path):
    """numpy would follow the eight bytes as a pointer."""
    fields = {"p": (np.dtype("O"), 0)}
    state = (3, "|", None, ("p",), fields, 8, 1, 0)
    (tmp_path / "evil.pkl").write_bytes(with_dtype(state, data=b"\x41" * 8))
    with pytest.raises(AssetError, match=r"evil\.pkl: refused the dtype 'V8'"):
        read_pickle(tmp_path / "evil.pkl")
    (tmp_path / "evil.pkl").write_bytes(with_dtype((3, "|", (np.dtype("O"), (1,)), None, None, 8, 1, 0), code="f8"))
    with pytest.raises(AssetError, match="refused the dtype"):
        read_pickle(tmp_path / "evil.pkl")


def test_objects_cannot_be_made_from_bytes(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(with_dtype((3, "|", None, None, None, -1, -1, 63), code="O8", data=b"A" * 8))
    with pytest.raises(AssetError, match="array of objects"):
        read_pickle(tmp_path / "evil.pkl")


def test_an_array_has_the_bytes_that_its_shape_says(tmp_path):
    for data in (b"", b"\0" * 7, b"\0" * 16):
        (tmp_path / "evil.pkl").write_bytes(with_dtype((3, "<", None, None, None, -1, -1, 0), code="f8", data=data))
        with pytest.raises(AssetError, match="bytes and not 8"):
            read_pickle(tmp_path / "evil.pkl")


def raw_array(shape: str) -> bytes:
    return (
        b"\x80\x02}S'a'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tS'b'\ntR(K\x01"
        + shape.encode()
        + b"cnumpy\ndtype\n(S'f8'\nK\x00K\x01tR(K\x03S'<'\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbI00\nS''\ntbs."
    )


BILLION = b"(I1000000000\nI1000000000\nt"
GREEDY = {
    "array": raw_array("(I1000000000\nI1000000000\nt"),
    "negative array": raw_array("(I-1\nI-1\nt"),
    "ndarray called": b"\x80\x02}S'a'\ncnumpy\nndarray\n" + BILLION + b"\x85Rs.",
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "text that is not there": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "a long memo": b"\x80\x02Nr" + struct.pack("<I", 0x03FFFFFF) + b".",  # in C a gigabyte
    "bytes of a length": b"c__builtin__\nbytes\n(I4000000000\ntR.",
    "lists in lists": b"\x80\x02}S'a'\n" + b"]" * 100_000 + b"a" * 99_999 + b"s.",
    "tuples in tuples": b"\x80\x02}S'a'\n)" + b"\x85" * 100_000 + b"s.",
    "a list in itself": b"\x80\x02}S'a'\n]q\x00h\x00as.",
    "a great sparse matrix": pickle.dumps({"m": scipy.sparse.csc_matrix((1 << 20, 1 << 10))}, 2),
    "a sparse matrix of great counts": pickle.dumps({"m": scipy.sparse.csc_matrix(np.eye(2))}, 2).replace(
        np.array([0, 1, 2], np.int32).tobytes(), np.array([0, 1, 2**31 - 1], np.int32).tobytes()
    ),
}


@pytest.mark.parametrize("program", GREEDY.values(), ids=GREEDY)
def test_greedy_files_are_refused_at_once(tmp_path, program):
    (tmp_path / "evil.pkl").write_bytes(program)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(AssetError, match=r"evil\.pkl"):
            read_pickle(tmp_path / "evil.pkl")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 5
    assert peak < 200e6, "bytes"


def test_shared_objects_are_followed_once(tmp_path):
    """Thirty lists that each hold the one before twice name 2^30 items."""
    laughs: list = [np.zeros(3)]
    for _ in range(40):
        laughs = [laughs, laughs]
    start = time.perf_counter()
    got = read_pickle(write(tmp_path / "v.pkl", {"a": laughs}))
    assert time.perf_counter() - start < 5
    assert got["a"][0] is got["a"][1]


def test_the_sum_of_all_arrays_is_bounded(tmp_path):
    """A hundred thousand arrays on the same megabyte of bytes."""
    head = b"\x80\x05}(S'b'\nB" + struct.pack("<I", 1 << 20) + b"\0" * (1 << 20) + b"q\x00"
    make = b"cnumpy.core.numeric\n_frombuffer\n(h\x00cnumpy\ndtype\n(S'u1'\ntR(J\x00\x00\x10\x00tS'C'\ntR"
    rows = b"".join(b"J" + struct.pack("<i", i) + make for i in range(3000))
    (tmp_path / "evil.pkl").write_bytes(head + rows + b"u.")
    with pytest.raises(AssetError, match=r"evil\.pkl: refused, it asks for too much"):
        read_pickle(tmp_path / "evil.pkl")


def test_mangled_files_raise_nothing_but_asset_errors(tmp_path):
    """Whatever bytes are turned, cut or doubled, a file loads or is refused with its name."""
    rng, path = random.Random(0), tmp_path / "mangled"
    np.savez(tmp_path / "good.npz", a=np.arange(9.0), kintree_table=np.zeros((2, 3)))
    small = {k: v for k, v in authentic().items() if k in ("J_regressor", "kintree_table", "bs_type")}
    small["x"] = chumpy.array(np.arange(6.0))[2:4]
    seeds = [pickle.dumps(small, p) for p in range(6)] + [(tmp_path / "good.npz").read_bytes()]
    refused = []
    for turn in range(400):
        data = bytearray(seeds[turn % len(seeds)])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            if rng.random() < 0.6:
                data[at] = rng.randrange(256)
            elif rng.random() < 0.5:
                del data[at : at + rng.randint(1, 40)]
            else:
                data[at:at] = data[max(0, at - 20) : at]
        path.write_bytes(data or b"x")
        try:
            read_archive(path)
        except AssetError as error:
            refused.append(str(error))
    assert len(refused) > 130
    assert all(message.startswith(str(path)) for message in refused)


def test_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(b"c\x1b[31mos\n" + b"system" * 1000 + b"\n.")
    with pytest.raises(AssetError) as caught:
        read_pickle(tmp_path / "evil.pkl")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("kind", ["pkl", "npz"])
def test_truncated_files_are_refused(tmp_path, kind, fraction):
    path = tmp_path / f"body.{kind}"
    if kind == "npz":
        np.savez(path, **tiny_smpl())
    else:
        write(path, authentic())
    data = path.read_bytes()
    path.write_bytes(data[: int(fraction * len(data))])
    with pytest.raises(AssetError, match=rf"body\.{kind}"):
        load_assets(path)


@pytest.mark.parametrize(
    "data",
    [b"hello", b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b"PK", b"\0" * 64],
)
@pytest.mark.parametrize("name", ["body.pkl", "body.npz"])
def test_files_of_another_kind_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AssetError, match=name):
        load_assets(tmp_path / name)


@pytest.mark.parametrize("value", [[1, 2], "text", 5, None, np.zeros(3), {1: 2}, {}])
def test_pickles_of_something_else_are_refused(tmp_path, value):
    with pytest.raises(AssetError, match=r"other\.pkl"):
        load_assets(write(tmp_path / "other.pkl", value))


def test_a_pickle_inside_an_npz_is_never_read(tmp_path):
    arrays = tiny_smpl()
    arrays["weights"] = np.array([Calls(touched.append, "npz")], object)
    np.savez(tmp_path / "body.npz", **arrays)
    with pytest.raises(AssetError, match=r"body\.npz"):
        load_assets(tmp_path / "body.npz")
    assert not touched


def test_an_npz_that_unpacks_to_gigabytes_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 30,)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("v_template.npy", header.getvalue())
    with pytest.raises(AssetError, match=r"bomb\.npz"):  # says eight gigabytes, has none
        load_assets(tmp_path / "bomb.npz")
    data = (tmp_path / "bomb.npz").read_bytes()
    directory = data.rindex(b"PK\x01\x02")
    data = data[: directory + 24] + struct.pack("<I", 0xFFFFFFF0) + data[directory + 28 :]
    (tmp_path / "bomb.npz").write_bytes(data)
    with pytest.raises(AssetError, match=r"bomb\.npz: 4095 MiB when unpacked"):
        load_assets(tmp_path / "bomb.npz")


def changed(**changes) -> dict:
    arrays = tiny_smpl()
    for key, change in changes.items():
        if change is None:
            del arrays[key]
        else:
            arrays[key] = change(arrays[key]) if callable(change) else change
    return arrays


def put(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


def other_tree(table):
    table = table.copy()
    table[0, 5] = 1
    return table


BAD = {
    "no template": (changed(v_template=None), "lacks v_template"),
    "no weights": (changed(weights=None), "lacks weights"),
    "no tree": (changed(kintree_table=None), "lacks kintree_table"),
    "no faces": (changed(f=None), "lacks f"),
    "flat template": (changed(v_template=np.ravel), "v_template has shape"),
    "number for template": (changed(v_template=np.array(1.0)), "v_template has shape"),
    "number for shapes": (changed(shapedirs=np.array(1.0)), "shapedirs has shape"),
    "number for faces": (changed(f=np.array(3)), "f has shape"),
    "fewer weights": (changed(weights=lambda w: w[:-1]), "weights has shape"),
    "23 joints": (changed(weights=lambda w: w[:, :-1]), "weights has shape"),
    "other correctives": (changed(posedirs=lambda p: p[..., :10]), "posedirs has shape"),
    "regressor of others": (changed(J_regressor=lambda r: r[:, 1:]), "J_regressor has shape"),
    "quads": (changed(f=np.zeros((5, 4), int)), "f has shape"),
    "no triangles": (changed(f=np.zeros((0, 3), int)), "f must name vertices"),
    "face beyond": (changed(f=put((0, 0), 10**6)), "f must name vertices"),
    "negative face": (changed(f=put((0, 0), -1)), "f must name vertices"),
    "NaN": (changed(v_template=put((3, 1), np.nan)), "v_template holds NaN"),
    "infinity": (changed(shapedirs=put((3, 1, 2), np.inf)), "shapedirs holds NaN"),
    "words": (changed(weights=np.array(["a", "b"])), "weights is not numeric"),
    "weights of 0.9": (changed(weights=lambda w: 0.9 * w), "sum to 1"),
    "negative weight": (changed(weights=lambda w: w + np.eye(24)[0] - np.eye(24)[1]), "non-negative"),
    "another tree": (changed(kintree_table=other_tree), "24 joints that is none of SMPL 24, SMPL-H 52"),
    "52 joints": (changed(kintree_table=np.stack([np.arange(-1, 51), np.arange(52)])), "a kinematic tree of 52 joints"),
    "no root": (changed(kintree_table=np.zeros((2, 52))), "kintree_table has a cycle"),
    "flat tree": (changed(kintree_table=np.arange(24)), "kintree_table must be"),
    "keypoints": (changed() | {"keypoint_regressor": np.ones((2, 3)), "keypoint_names": ["a", "b"]}, "keypoint_regr"),
    "keypoint words": (changed() | {"keypoint_regressor": np.array("x")}, "keypoint_regressor is not numeric"),
    "texture": (changed() | {"vt": np.zeros((4, 2)), "ft": np.full((64, 3), 4)}, "ft must name three rows of vt"),
    "texture faces": (changed() | {"vt": np.zeros((4, 2)), "ft": np.zeros((3, 3))}, "ft has shape"),
    "texture words": (changed() | {"vt": np.array("a"), "ft": np.zeros((64, 3))}, "vt is not numeric"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_inconsistent_bodies_are_refused_with_the_file_and_the_array(tmp_path, kind, arrays, message):
    path = tmp_path / f"bad.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        write(path, arrays)
    with pytest.raises(AssetError, match=message) as caught:
        load_assets(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_says_what_can_be_given(tmp_path):
    with pytest.raises(AssetError, match=r'none\.pkl: no such file; give "open", "open-h", "open-x" or the path'):
        load_assets(tmp_path / "none.pkl")
    with pytest.raises(AssetError, match="a folder with no model in it; expected files such as smpl/SMPL_NEUTRAL"):
        load_assets(tmp_path)
    with pytest.raises(OptionError, match="neutral, male, female"):
        load_assets("open", gender="other")


def test_the_file_says_its_gender_and_the_caller_where_it_does_not(tmp_path):
    np.savez(tmp_path / "said.npz", **tiny_smpl(), gender="female")
    np.savez(tmp_path / "unsaid.npz", **tiny_smpl())
    assert load_assets(tmp_path / "said.npz", gender="male").gender == "female"
    assert load_assets(tmp_path / "unsaid.npz", gender="male").gender == "male"


# The pose prior.


def mixture(m: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    factors = rng.standard_normal((m, 69, 69))
    covars = factors @ factors.transpose(0, 2, 1) + np.eye(69)
    weights = rng.uniform(0.5, 1.5, m)
    return {"means": rng.standard_normal((m, 69)), "covars": covars, "weights": weights / weights.sum()}


def as_written_by(kind: str, path: Path, arrays: dict) -> Path:
    if kind == "npz":
        with path.open("wb") as file:  # a path without .npz would get it
            np.savez(file, **arrays)
    elif kind == "python 2":
        path.write_bytes(as_python2(arrays))
    else:
        write(path, arrays)
    return path


@pytest.mark.parametrize("kind", ["npz", "python 2", "python 3"])
def test_a_prior_in_the_layout_of_gmm_08_is_the_mixture_it_was(tmp_path, kind):
    want = mixture()
    prior = load_pose_prior(as_written_by(kind, tmp_path / "gmm_08.pkl", want))
    for key, array in want.items():
        np.testing.assert_allclose(getattr(prior, key), array, rtol=1e-15, err_msg=key)
    np.testing.assert_allclose(prior.mean, want["weights"] @ want["means"], rtol=1e-12)
    shipped = load_pose_prior()
    np.testing.assert_array_equal(prior.limits_lower, shipped.limits_lower)


def test_the_shipped_prior_is_a_mixture_within_its_limits():
    prior = load_pose_prior()
    assert prior.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(prior.covars, prior.covars.transpose(0, 2, 1), atol=1e-12)
    assert (prior.limits_lower < prior.limits_upper).all()
    assert np.abs(prior.means).max() < np.pi
    # SMPL's elbows bend about y, the left to negative angles and the right to positive, and knees about x to positive.
    left_elbow, right_elbow, left_knee, right_knee = prior.mean[[52, 55, 9, 12]]
    assert left_elbow < -0.1
    assert right_elbow > 0.1
    assert min(left_knee, right_knee) > 0


def test_samples_have_the_mixtures_moments_and_keep_its_limits():
    prior = load_pose_prior()
    n = 20_000
    poses = prior.sample(n, seed=3)
    assert (poses >= prior.limits_lower).all()
    assert (poses <= prior.limits_upper).all()
    np.testing.assert_array_equal(poses[:50], prior.sample(n, seed=3)[:50])
    assert np.abs(prior.sample(n, seed=4) - poses).max() > 0.1
    # Angles whose limits lie 4 deviations off are not touched by them: the sample mean is then within 5 errors.
    spread = np.sqrt(prior.weights @ (prior.covars.diagonal(0, 1, 2) + prior.means**2) - prior.mean**2)
    free = (prior.mean - 4 * spread > prior.limits_lower) & (prior.mean + 4 * spread < prior.limits_upper)
    assert free.sum() >= 5
    off = np.abs(poses.mean(0) - prior.mean) / (spread / np.sqrt(n))
    assert off[free].max() < 5


BAD_PRIORS = {
    "no means": ({"means": None}, "lacks means"),
    "flat means": ({"means": np.ravel}, "expected means"),
    "number": ({"means": np.array(1.0)}, "expected means"),
    "one weight too many": ({"weights": lambda w: np.append(w, 0.1)}, "expected means"),
    "63 angles": ({"means": lambda m: m[:, :63]}, "expected means"),
    "NaN": ({"covars": put((0, 0, 0), np.nan)}, "NaN"),
    "zero weight": ({"weights": put(0, 0.0)}, "not positive"),
    "indefinite": ({"covars": np.negative}, "positive definite"),
    "words": ({"weights": np.array(["a"] * 8)}, "numeric"),
    "none at all": (
        {"means": lambda m: m[:0], "covars": lambda c: c[:0], "weights": lambda w: w[:0]},
        "expected means",
    ),
    "short limits": ({"limits_lower": np.zeros(3), "limits_upper": np.ones(3)}, "limits_lower"),
    "crossed limits": ({"limits_lower": np.ones(69), "limits_upper": np.zeros(69)}, "limits_lower"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_PRIORS.values(), ids=BAD_PRIORS)
def test_bad_priors_are_refused(tmp_path, changes, message):
    arrays = mixture()
    for key, change in changes.items():
        if change is None:
            del arrays[key]
        else:
            arrays[key] = change(arrays[key]) if callable(change) else change
    path = write(tmp_path / "prior.pkl", arrays)
    with pytest.raises(AssetError, match=message) as caught:
        load_pose_prior(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_or_hostile_prior_is_refused(tmp_path):
    with pytest.raises(AssetError, match="no such file"):
        load_pose_prior(tmp_path / "none.pkl")
    with pytest.raises(AssetError, match="refused the name"):
        load_pose_prior(write(tmp_path / "evil.pkl", mixture() | {"x": Calls(touched.append, "prior")}))
    assert not touched


@pytest.mark.parametrize("key", ["means", "covars", "weights"])
def test_a_prior_of_lists_in_lists_in_lists_costs_no_memory(tmp_path, key):
    """Each list holds the next a thousand times: a kilobyte of file, a terabyte of array."""
    bomb: list = [0.0] * 1000
    for _ in range(3):
        bomb = [bomb] * 1000
    path = write(tmp_path / "prior.pkl", mixture() | {key: bomb})
    with pytest.raises(AssetError, match="too much") as caught:
        load_pose_prior(path)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(AssetError, match="where an array should be") as caught:
        load_pose_prior(write(path, mixture() | {key: {"a": 1}}))
    assert str(caught.value).startswith(str(path))


def test_a_prior_of_plain_lists_is_read(tmp_path):
    want = mixture(2)
    prior = load_pose_prior(write(tmp_path / "prior.pkl", {key: value.tolist() for key, value in want.items()}))
    np.testing.assert_array_equal(prior.covars, want["covars"])
