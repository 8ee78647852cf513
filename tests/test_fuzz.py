"""Damaged and hostile files of models and motion: one error each, soon, in little memory; nothing of them is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from fuzz_files import LIMIT_S, Mutator, seeds
from official_files import FORMS, body_arrays

from bodyfit.body.assets import load_assets
from bodyfit.body.files import archive
from bodyfit.errors import AssetError

pytest.importorskip("chumpy")
HERE = Path(__file__).parent
GROWN_MIB = 1500
"""Resident memory that a file may cost: 1 GiB is the reader's own limit, and arrays are checked in float64."""


def fuzz(count: int, seed: int, folder: Path, kind: str = "models") -> dict:
    """A process of its own, so that its memory can be measured and a crash is seen."""
    env = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        str(HERE / "fuzz_files.py"),
        str(count),
        str(seed),
        str(folder),
        kind,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def assert_harmless(report: dict, count: int) -> None:
    assert report["wrong"] == []
    assert report["canary"] == []
    assert report["files"] == count
    assert report["slowest_s"] < LIMIT_S
    assert report["grown_mib"] < GROWN_MIB
    assert report["refused"] > count // 2


def test_damaged_files_are_refused_or_read(tmp_path):
    assert_harmless(fuzz(300, 1, tmp_path), 300)


def test_damaged_motion_is_refused_or_read(tmp_path):
    """Most damage of a motion is to its numbers, which no reader can know; half of it is seen."""
    report = fuzz(250, 1, tmp_path, "motions")
    assert_harmless(report, 250)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["models", "motions"])
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_damaged_files_are_refused_or_read(tmp_path, seed, kind):
    assert_harmless(fuzz(2500, seed, tmp_path, kind), 2500)


def test_the_same_seed_damages_the_same_way(tmp_path):
    whole = {name: data for name, data in seeds(tmp_path).items() if FORMS[name].kind in ("smpl", "flame")}
    first, second, other = (list(islice(Mutator(whole, seed), 20)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


# What chance seldom finds.


def program(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def doubled(make: bytes, times: int = 60) -> bytes:
    """An object that holds the last one twice, so many times over: 2^times of the first in some bytes."""
    return b"(K\x01t" + (b"q\x00h\x00h\x00" + make) * times


def filled(**changes) -> dict:
    return {**body_arrays("smpl"), **changes}


def laughs(times: int = 40) -> list:
    held: list = [1.0]
    for _ in range(times):
        held = [held, held]
    return held


def shared_bytes(make: bytes, size: int = 1 << 24, times: int = 400) -> bytes:
    """`make`, which has the same megabytes on the stack, again and again."""
    head = b"}X\x01\x00\x00\x00bT" + struct.pack("<i", size) + b"\0" * size + b"q\x01s"
    return program(head, *(b"J" + struct.pack("<i", i) + b"h\x01" + make + b"s" for i in range(times)))


def csr(**state) -> bytes:
    """A sparse matrix of any state."""

    class Matrix:
        def __reduce__(self):
            return scipy_class, (), state

    from scipy.sparse import csr_matrix as scipy_class

    return pickle.dumps(filled(J_regressor=Matrix()), 2)


I64 = np.int64
HOSTILE = {
    "a key of tuples of tuples": program(b"}", doubled(b"\x86"), b"K\x01s"),
    "a dict of such keys": program(b"(", doubled(b"\x86"), b"K\x01d"),
    "items of such keys": program(b"}(", doubled(b"\x86"), b"K\x01u"),
    "a set of tuples of tuples": b"\x80\x04\x8f(" + doubled(b"\x86") + b"\x90.",
    "a frozen set of them": b"\x80\x04(" + doubled(b"\x86") + b"\x91.",
    "an ordered dict of such keys": program(b"ccollections\nOrderedDict\n((", doubled(b"\x86"), b"K\x01tl\x85R"),
    "lists of lists for an array": pickle.dumps(filled(v_template=laughs())),
    "lists of lists for a tree": pickle.dumps(filled(kintree_table=laughs())),
    "lists of lists for a gender": pickle.dumps(filled(gender=laughs(), weights=1)),
    "lists of lists for names": pickle.dumps(filled(keypoint_regressor=np.ones((2, 96)), keypoint_names=laughs())),
    "long lists of long lists": pickle.dumps(filled(f=[[list(range(3000))] * 3000] * 3000)),
    "ten million steps": program(b"}" + b"K\x010" * 5_000_000),
    "a number of a megabyte": program(b"}K\x01\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b"s"),
    "a number of a megabyte in digits": program(b"}K\x01L" + b"7" * (1 << 20) + b"L\ns"),
    "a registered object": program(b"}K\x01\x82\x01s"),
    "megabytes as text again and again": shared_bytes(b"c_codecs\nencode\n\x85R".replace(b"\x85R", b"0")),
    "megabytes encoded again and again": shared_bytes(b"q\x020c_codecs\nencode\nh\x02X\x06\x00\x00\x00latin1\x86R"),
    "counts beyond the entries": csr(
        _shape=(24, 96), data=np.ones(2), indices=np.zeros(2, I64), indptr=np.array([0, 2**62, 2])
    ),
    "counts that overflow": csr(
        _shape=(24, 96), data=np.ones(2), indices=np.zeros(2, I64), indptr=np.array([0, 2**62, -(2**62), 2])
    ),
    "columns beyond": csr(_shape=(2, 3), data=np.ones(2), indices=np.array([0, 10**9]), indptr=np.array([0, 1, 2])),
    "a shape of giants": csr(
        _shape=(2**900, 2**900), data=np.ones(1), indices=np.zeros(1, I64), indptr=np.array([0, 1])
    ),
    "text for a shape": csr(_shape="ab", data=np.ones(1), indices=np.zeros(1, I64), indptr=np.array([0, 1])),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_greedy_pickles_are_refused_soon(tmp_path, data):
    path = tmp_path / "evil.pkl"
    path.write_bytes(data)
    start = time.perf_counter()
    with pytest.raises(AssetError, match=rf"^{path}: "):
        load_assets(path)
    assert time.perf_counter() - start < LIMIT_S


def npy(descr: str, shape: str, content: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


MEMBERS = {
    "eight terabytes": npy("'<f8'", "(1000000000000,)"),
    "strings of nothing": npy("'|S0'", "(1000000000000,)"),
    "a negative axis": npy("'<f8'", "(-1, -1)", bytes(8)),
    "text": npy("'<U4'", "(2, 3)", bytes(96)),
    "a record of objects": npy("[('a', '|O')]", "(1,)", bytes(8)),
    "a record": npy("[('a', '<f8')]", "(1,)", bytes(8)),
    "dates": npy("'<M8[s]'", "(96, 3)", bytes(8 * 288)),
    "a call for a shape": npy("'<f8'", "(__import__('os').system('touch canary'),)"),
    "a deep header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 90_000) + b"(" * 90_000,
    "a version of its own": b"\x93NUMPY\x09\x00" + bytes(100),
    "nothing": b"",
    "a pickle": pickle.dumps({"a": 1}),
    "objects": npy("'|O'", "(1,)", b"cos\nsystem\n(S'touch canary'\ntR."),
}


@pytest.mark.parametrize("content", MEMBERS.values(), ids=MEMBERS)
def test_members_that_are_no_arrays_of_numbers_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path, whole = tmp_path / "evil.npz", io.BytesIO()
    np.savez(whole, **body_arrays("smpl"))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == "v_template.npy" else old.read(name))
    with pytest.raises(AssetError, match=rf"^{path}: .*"):
        load_assets(path)
    assert [p.name for p in tmp_path.iterdir()] == ["evil.npz"]


def test_objects_that_nothing_needs_do_no_harm(tmp_path):
    path, whole = tmp_path / "body.npz", io.BytesIO()
    np.savez(whole, **body_arrays("smpl"))
    path.write_bytes(whole.getvalue())
    with zipfile.ZipFile(path, "a") as added:
        added.writestr("part2num.npy", MEMBERS["objects"])
        added.writestr("readme.txt", "not an array")
    assert len(load_assets(path).v_template) == 96


def test_a_small_file_that_unpacks_to_more_than_any_body_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_MAX_BYTES", 1 << 20)  # a thousandth of what it is, to make the file soon
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **body_arrays("smpl"), a=np.zeros((1 << 20,), np.uint8))
    with pytest.raises(AssetError, match=r"bomb\.npz: 1 MiB when unpacked, in 8 members, is more than a body model"):
        load_assets(path)
