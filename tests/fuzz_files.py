"""Damaged and hostile files of models and motion, made from whole ones; run as a program it reads them and reports what
happened."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import pickle
import pickletools
import random
import re
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import tiny_assets
from official_files import FORMS, body_arrays

from bodyfit.body.assets import load_assets
from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError, OptionError
from bodyfit.io.motions import load_motions

__all__ = ["Mutator", "main", "motion_seeds", "motion_values", "other_types", "seeds"]

LIMIT_S = 10
"""For one file, on a busy machine."""
DANGEROUS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec", "pickle.find_class")
DANGEROUS += ("ctypes.dlopen", "socket.connect", "os.remove", "os.rename", "shutil.rmtree", "webbrowser.open")
CALLS = (
    b"cos\nsystem\n(S'touch canary'\ntR",
    b'c__builtin__\neval\n(S\'open("canary","w")\'\ntR',
    b"(S'touch canary'\nios\nsystem\n",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch canary\x85R",
    b"cnumpy\nload\n(S'canary'\ntR",
    b"\x82\x01",
    b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR",
)


def seeds(folder: Path) -> dict[str, bytes]:
    """A small file of every form; without pose blend shapes, which are large and like any other array."""
    made = {}
    for name, form in FORMS.items():
        arrays = body_arrays(form.kind, columns=min(form.columns, 20), local=form.local)
        if form.kind not in ("flame", "star"):  # whose are small, and say which of them it is
            del arrays["posedirs"]
        arrays = {key: value for key, value in arrays.items() if not key.startswith(("hands_coeffs", "dynamic"))}
        path = folder / form.file
        path.parent.mkdir(parents=True, exist_ok=True)
        form.writer(path, arrays)
        made[name] = path.read_bytes()
    return made


def motion_values(frames: int = 3) -> dict[str, Any]:
    """What small files of motion hold, by a name of the file."""
    n, rng = frames, np.random.default_rng(0)
    pose = 0.1 * rng.standard_normal((n, 72)).astype(np.float32)
    eyes, ones, shape = np.tile(np.eye(3), (n, 24, 1, 1)), np.ones((n, 4), np.float32), np.zeros((n, 10), np.float32)
    trans = ones[:, :3]
    named = {"global_orient": pose[:, :3], "body_pose": pose[:, 3:66], "transl": trans, "betas": shape}
    hands = {"left_hand_pose": np.zeros((n, 12)), "right_hand_pose": np.zeros((n, 45)), "expression": shape}
    whole = {"pose": np.zeros((n, 165)), "shape": shape, "trans": trans}
    seen = {"tid": [1, 2], "smpl": [], "camera": [trans[0], trans[0]], "size": [[9, 16]] * 2, "tracked_time": [0, 1]}
    seen["smpl"] = [{"global_orient": eyes[0, :1], "body_pose": eyes[0, 1:], "betas": shape[0]}] * 2
    person = {
        "id": 0,
        "Rh": [[0.0, 0.1, 0.2]],
        "Th": [[0.0, 0.0, 1.0]],
        "poses": pose[:1].tolist(),
        "shapes": [[0.0] * 10],
    }
    lists = {"frame_id": list(range(n)), "smpl_thetas": list(pose), "smpl_betas": list(shape), "cam_trans": list(trans)}
    pictures = {"0.png": {"smpl_thetas": pose, "smpl_betas": shape, "cam_trans": trans}}
    parts = {"root_orient": pose[:, :3], "pose_body": pose[:, 3:66], "trans": trans, "pose_hand": np.zeros((n, 90))}
    return {
        "vibe": {1: {"pose": pose, "betas": shape, "orig_cam": ones, "frame_ids": np.arange(n)}},
        "pare": {"pred_pose": eyes, "pred_shape": shape, "pred_cam": trans, "orig_cam": ones},
        "wham": {0: {"pose": pose, "trans": trans, "pose_world": pose, "trans_world": trans, "betas": shape}},
        "romp": {"results": pictures, "sequence_results": {}},
        "tracked": {"results": pictures, "sequence_results": {1: lists}},
        "phalp": {"0.jpg": seen | {"time": 0}, "1.jpg": seen | {"time": 1}},
        "tram": {"pred_rotmat": eyes, "pred_trans": trans[:, None], "pred_shape": shape, "frame": np.arange(n)},
        "gvhmr": {"smpl_params_global": named, "smpl_params_incam": named},
        "prompthmr": {"people": {1: {"frames": np.arange(n), "smplx_world": whole, "smplx_cam": whole}}},
        "easymocap": [person, person | {"id": 1}],
        "aist": {"smpl_poses": pose, "smpl_trans": trans, "smpl_scaling": np.ones(1)},
        "motionx": np.zeros((n, 322), np.float32),
        "smplcodec": {"codecVersion": 2, "smplVersion": 2, "gender": 0, "bodyPose": pose[:, :66].reshape(n, 22, 3)},
        "3dpw": {"poses": [pose, pose], "trans": [trans, trans], "betas": [shape[0], shape[0]], "genders": ["m", "f"]},
        "amass": {"poses": pose, "trans": trans, "betas": shape[0], "mocap_framerate": np.array(30.0)},
        "prior": parts,
        "smplifyx": named | hands | {"camera_translation": trans, "camera_rotation": np.eye(3)[None]},
        "smplx": named | hands | {"jaw_pose": np.zeros((n, 3))},
    }


def motion_seeds() -> dict[str, bytes]:
    """A small file of motion in every container that there is."""
    values = motion_values()
    made = {f"{name}.pkl": pickle.dumps(values[name], 2) for name in ("aist", "phalp", "wham")}
    made |= {"vibe.pkl": pickle.dumps(values["vibe"], 4), "vibe.pkl.gz": gzip.compress(pickle.dumps(values["vibe"], 4))}
    made["easymocap.json"] = json.dumps(values["easymocap"]).encode()
    tensors = {k: {n: torch.from_numpy(v) for n, v in part.items()} for k, part in values["gvhmr"].items()}
    moved = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in values["tram"].items()}
    for name, save in (
        ("new.pt", lambda file: torch.save(tensors, file)),
        ("old.pt", lambda file: torch.save(tensors, file, _use_new_zipfile_serialization=False)),
        ("hps_track_0.npy", lambda file: np.save(file, moved)),
        ("motionx.npy", lambda file: np.save(file, values["motionx"])),
        ("romp.npz", lambda file: np.savez(file, **values["romp"])),
        ("amass.npz", lambda file: np.savez(file, **values["amass"])),
        ("joblib.pkl", lambda file: _joblib(values["vibe"][1], file)),
    ):
        file = io.BytesIO()
        save(file)
        made[name] = file.getvalue()
    return made


def _joblib(track: dict[str, np.ndarray], file: io.BytesIO) -> None:
    """As joblib writes: after the opcodes of each array its numbers."""
    dtype = (
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR(K\x03X\x01\x00\x00\x00<NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )
    file.write(b"\x80\x02}K\x01}(")
    for key, array in track.items():
        file.write(
            b"X" + struct.pack("<I", len(key)) + key.encode() + b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}("
        )
        shape = b"(" + b"".join(b"K" + bytes([axis]) for axis in array.shape) + b"t"
        for name, value in (("shape", shape), ("order", b"X\x01\x00\x00\x00C"), ("dtype", dtype)):
            file.write(b"X" + struct.pack("<I", len(name)) + name.encode() + value)
        file.write(b"ub" + array.astype("<f4").tobytes())
    file.write(b"us.")


def other_types(value: Any, random: random.Random) -> Any:
    """The same value with something of another type or shape at one place inside it."""
    odd = (
        None,
        3,
        -1,
        2.5,
        "x",
        "",
        [],
        {},
        (),
        [1, "a"],
        {"a": 1},
        True,
        np.zeros(0),
        np.zeros((2, 3)),
        np.array("w"),
    )
    odd += (np.array([None, 1], object), np.full((3, 72), np.nan), np.zeros((3, 24, 3, 3)), 10**30, float("nan"), b"z")
    if random.random() < 0.25 or not isinstance(value, (dict, list)) or not value:
        return random.choice(odd)
    if isinstance(value, list):
        at = random.randrange(len(value))
        return [other_types(part, random) if i == at else part for i, part in enumerate(value)]
    key = random.choice(list(value))
    if random.random() < 0.1:
        return {k: part for k, part in value.items() if k != key}
    return {k: other_types(part, random) if k == key else part for k, part in value.items()}


class Mutator:
    """Draws damaged files from whole ones, the same for the same seed."""

    def __init__(self, whole: dict[str, bytes], seed: int) -> None:
        self.whole, self.random = list(whole.values()), random.Random(seed)
        self.structure = [self._places(data) for data in self.whole]
        self.ways: tuple[Callable[[bytearray, list[int]], bytes | bytearray], ...] = (
            *(self._flip, self._flip, self._cut, self._drop, self._double, self._splice, self._inject, self._inject),
            *(self._member, self._member, self._number),
        )

    def __iter__(self) -> Iterator[bytes]:
        while True:
            which = self.random.randrange(len(self.whole))
            data: bytes | bytearray = bytearray(self.whole[which])
            for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                data = self.random.choice(self.ways)(bytearray(data), self.structure[which])
            yield bytes(data)

    @staticmethod
    def _places(data: bytes) -> list[int]:
        """Where a file says what it is rather than numbers: a pickle's opcodes, a zip's and its arrays' headers."""
        if data[:2] != b"PK" and data[:6] != b"\x93NUMPY":
            places = []
            try:  # a file of joblib's or torch's goes on with something else, and JSON is none at all
                places += [place for _, _, place in pickletools.genops(data) if place is not None]
            except Exception:
                places += range(min(len(data), 400))
            return places
        marks = re.finditer(rb"PK\x01\x02|PK\x03\x04|PK\x05\x06|\x93NUMPY", data)
        return [at for mark in marks for at in range(mark.start(), min(mark.start() + 90, len(data)))]

    def _at(self, data: bytearray, places: list[int]) -> int:
        near = self.random.choice(places) + self.random.randrange(4)
        return near if self.random.random() < 0.8 and near < len(data) else self.random.randrange(len(data))

    def _flip(self, data: bytearray, places: list[int]) -> bytearray:
        for _ in range(self.random.choice((1, 1, 1, 2, 6))):
            data[self._at(data, places)] = self.random.choice((self.random.randrange(256), 0, 255, 127, 128))
        return data

    def _cut(self, data: bytearray, places: list[int]) -> bytearray:
        return data[: max(1, self._at(data, places))]

    def _drop(self, data: bytearray, places: list[int]) -> bytearray:
        at = self._at(data, places)
        del data[at : at + self.random.randint(1, 200)]
        return data or bytearray(b"x")

    def _double(self, data: bytearray, places: list[int]) -> bytearray:
        at, n = self._at(data, places), self.random.randint(1, 300)
        data[at:at] = data[at : at + n] * self.random.choice((1, 1, 50))
        return data

    def _splice(self, data: bytearray, places: list[int]) -> bytearray:
        other = self.random.choice(self.whole)
        start, at = self.random.randrange(len(other)), self._at(data, places)
        data[at : at + self.random.choice((0, 50, 500))] = other[start : start + self.random.randint(1, 2000)]
        return data

    def _inject(self, data: bytearray, places: list[int]) -> bytearray:
        """Opcodes with small or absurd arguments, or a call, before an opcode (in a zip: anywhere)."""
        number = struct.pack("<q", self.random.choice((0, 1, 7, 255, 2**31 - 1, -1, 2**40, 2**62)))
        opcode = self.random.choice(pickletools.opcodes).code.encode("latin-1")
        tail = self.random.choice((b"", number[:1], number[:2], number[:4], number, b"1000000000\n", b"a\n", b"'b'\n"))
        repeat = self.random.choice((1, 1, 1, 3, 1000))
        made = self.random.choice((self.random.choice(CALLS), (opcode + tail) * repeat, (opcode + tail) * repeat))
        at = self.random.choice(places)
        data[at:at] = made
        return data

    def _number(self, data: bytearray, places: list[int]) -> bytearray:
        """A number of the structure made absurd."""
        at, form = self._at(data, places), self.random.choice(("<I", "<Q", "<H"))
        value = self.random.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
        width = struct.calcsize(form)
        data[at : at + width] = struct.pack(form, value % 2 ** (8 * width))
        return data

    def _member(self, data: bytearray, places: list[int]) -> bytes | bytearray:
        """An npz that is whole as a zip, with another header, other numbers, or none, in one of its arrays."""
        try:
            with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
        except Exception:  # no zip, or no longer one
            return self._flip(data, places)
        if not members:
            return data
        victim = self.random.choice(list(members))
        members[victim] = self._npy(members[victim])
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", self.random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name, content in members.items():
                odd = {2: "../" + name, 3: victim + "\x1b"}.get(self.random.randrange(200), name)
                archive.writestr(odd, content)
        return out.getvalue()

    def _npy(self, content: bytes) -> bytes:
        dtypes = ("|O", "<f8", "<f4", "<c16", "|S0", "<U9", "|b1", "<i8", "|V8", ">f8", "<f2", "<M8[s]", "|u1")
        shapes = ("()", "(0,)", "(-1,)", "(24, 96)", "(1000000000000,)", "(2, 24)", "(96, 3)", "(4,)*3", "(1e3,)")
        change = self.random.randrange(5)
        if change == 0:
            new = rb"'descr': '" + self.random.choice(dtypes).encode() + b"'"
            return re.sub(rb"'descr': '[^']*'", lambda _: new, content, count=1)
        if change == 1:
            new = b"'shape': " + self.random.choice(shapes).encode()
            return re.sub(rb"'shape': \([^)]*\)", lambda _: new, content, count=1)
        if change == 2:
            values = bytearray(content)
            for _ in range(8):
                at = self.random.randrange(len(values))
                values[at : at + 8] = struct.pack("<d", self.random.choice((float("nan"), 1e300, -1.0, 0.0, 2.0**31)))
            return bytes(values)
        return content[: self.random.randrange(len(content) + 1)] if change == 3 else self.random.randbytes(100)


def _resident_mib(which: str) -> float:
    """Resident memory now (VmRSS) or at most so far (VmHWM); 0 where the system does not tell.

    Not getrusage's peak, which a process has from the one that started it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{which}:")), 0.0)


def _too_slow(*_: Any) -> None:
    raise TimeoutError(f"more than {LIMIT_S} s")


class _Moved:
    """Reads a file of motion onto a body."""

    def __init__(self) -> None:
        self.model = BodyModel(tiny_assets("smplx"))

    def __call__(self, path: Path) -> Any:
        return load_motions(path, self.model)


def main(count: int, seed: int, keep: Path, kind: str = "models") -> dict[str, Any]:
    """Read so many damaged files of models or motion; what came of it, the files that went wrong left in `keep`."""
    watching = False
    ran: list[str] = []
    report: dict[str, Any] = {"files": 0, "read": 0, "refused": 0, "wrong": [], "slowest_s": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The seeds are whole, and what reading them imports is not a damaged file's doing.
        if kind == "models":
            whole, read = seeds(folder), load_assets
            for form in FORMS.values():
                load_assets(folder / form.file)
        else:
            whole, read = motion_seeds(), _Moved()
            for name, data in whole.items():
                (folder / name).write_bytes(data)
                read(folder / name)
        for codec in ("raw_unicode_escape", "unicode_escape", "latin-1", "utf-16", "cp437"):
            codecs.lookup(codec)
        sys.addaudithook(lambda event, _: ran.append(event) if watching and event in DANGEROUS else None)
        signal.signal(signal.SIGALRM, _too_slow)
        before = _resident_mib("VmRSS")
        path = folder / "damaged"
        for data, _ in zip(Mutator(whole, seed), range(count), strict=False):
            path.write_bytes(data)
            start, wrong = time.perf_counter(), ""
            watching = True
            signal.alarm(LIMIT_S)
            try:
                read(path)
                report["read"] += 1
            except (AssetError, OptionError) as error:
                report["refused"] += 1
                named = str(error).startswith(f"{path}: ")
                if (
                    not (named or isinstance(error, OptionError))
                    or not str(error).isprintable()
                    or len(str(error)) > 600
                ):
                    wrong = f"says {str(error)!a:.300}"
            except BaseException as error:
                wrong = f"raised {error!r:.300}"
            signal.alarm(0)
            watching = False
            if ran:
                wrong = f"ran {ran}"
                ran.clear()
            if wrong:
                (keep / f"wrong{len(report['wrong'])}").write_bytes(data)
                report["wrong"].append(wrong)
            report["files"] += 1
            report["slowest_s"] = max(report["slowest_s"], time.perf_counter() - start)
        report["grown_mib"] = _resident_mib("VmHWM") - before
        report["canary"] = [str(p) for p in (folder / "canary", Path("canary")) if p.exists()]
    return report


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])))
