"""Batches: every fault is caused for real, and no finished work is lost or done twice."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import batch_fakes
import numpy as np
import pytest

from bodyfit.app.batch import pool as pool_module
from bodyfit.app.batch.items import Item, find_items, read_item
from bodyfit.app.batch.pool import Failure, WorkerPool
from bodyfit.app.batch.run import run_batch
from bodyfit.app.batch.stages import fitted
from bodyfit.app.batch.status_log import StatusLog
from bodyfit.app.pipeline import fit_detections
from bodyfit.cli.main import main
from bodyfit.errors import BodyfitError, ImageError, OptionError, OutputError
from bodyfit.fit.config import FitConfig
from bodyfit.io import load_keypoints, load_result
from bodyfit.keypoints import convert_keypoints

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture
def detector(tmp_path, monkeypatch):
    """The fake detector, to be found by this process and by those it starts."""
    folder = batch_fakes.install(tmp_path / "installed")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("BATCH_LOG", str(tmp_path / "looked"))
    return batch_fakes.NAME


def here(items, looking, fitting):
    """An engine without processes."""
    look = looking()

    def seen():
        for item in items:
            try:
                yield item, look(item)
            except ImageError as fault:  # noqa: PERF203
                yield item, Failure(str(fault))

    return fitted(seen(), fitting())


def lines(out: Path) -> list[dict]:
    data = (out / "status.jsonl").read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def looked(tmp_path: Path) -> Counter:
    """How often each picture was looked at."""
    return Counter(line.split()[1] for line in (tmp_path / "looked").read_text().splitlines())


def check_whole(out: Path, names: set[str]) -> None:
    """Every picture has one line, every result can be read, and nothing half-written is there."""
    entries = lines(out)
    assert sorted(Path(entry["item"]).name for entry in entries) == sorted(names)
    files = {entry["file"] for entry in entries if entry["status"] == "done"}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} - {".bodyfit-batch.lock"} == files | {
        "status.jsonl",
        "batch.json",
    }
    for file in files:
        assert len(load_result(out / file)) == 1


# ---------------------------------------------------------------- workers


def answers(pool, items):
    return [answer for answer in pool.answers(iter(items), tick_s=0.05) if answer is not None]


@POSIX
def test_a_killed_worker_costs_nothing_and_the_others_keep_their_work():
    asked, got, pids = [], [], set()

    def items():
        """As many as it takes for the worker that comes after to answer one."""
        while len(pids) < 3 and len(asked) < 3000:
            asked.append(f"pid{len(asked)}")
            yield asked[-1]

    with WorkerPool(batch_fakes.Doing(), 2) as pool:
        for answer in pool.answers(items(), tick_s=0.05):
            if answer is None:
                continue
            got.append(answer)
            assert not isinstance(answer[1], Failure)
            pids.add(answer[1][0])
            if len(got) == 10:
                os.kill(answer[1][0], signal.SIGKILL)
    assert sorted(item for item, _ in got) == sorted(asked)
    assert len(pids) == 3  # two and who came after


@POSIX
def test_a_worker_killed_while_idle_or_in_the_middle_of_a_message_costs_nothing():
    with WorkerPool(batch_fakes.Doing(), 2) as pool:
        answers(pool, ["a"])
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)  # which waits
        items, got = [f"big{i}" for i in range(30)], []
        for answer in pool.answers(iter(items), tick_s=0.05):
            if answer is not None:
                got.append(answer)
                if len(got) in (5, 15):  # the other answers of 3 MB are on their way, or wait for room in a pipe
                    os.kill(pool._workers[len(got) % 2].process.pid, signal.SIGKILL)
    assert sorted(item for item, _ in got) == sorted(items)
    assert not [answer for _, answer in got if isinstance(answer, Failure)]


def test_items_that_crash_hang_or_raise_cost_themselves_alone():
    items = ["a", "raise", "b", "abort", "c", "hang", *"defghijklmnopqrs"]
    with WorkerPool(batch_fakes.Doing(), 1, timeout_s=1.0) as pool:
        got = answers(pool, items)
    assert sorted(item for item, _ in got) == sorted(items)
    failed = {item: answer.why for item, answer in got if isinstance(answer, Failure)}
    assert failed.keys() == {"raise", "abort", "hang"}
    assert "ZeroDivisionError: by word" in failed["raise"]
    assert "twice" in failed["abort"]
    assert "longer than 1 s" in failed["hang"]
    assert not any(answer[1] for _, answer in got if not isinstance(answer, Failure)), "a worker imported torch"


@pytest.mark.parametrize(("begins", "says"), [("refuses", "no network here"), ("dies", "exit code 3")])
def test_workers_that_cannot_begin_are_told_of(begins, says):
    with pytest.raises(BodyfitError, match=says), WorkerPool(batch_fakes.Doing(begins), 1) as pool:
        answers(pool, ["a"])


def test_a_machine_that_sleeps_is_no_items_fault(monkeypatch):
    """The pool's clock stands still while nobody looks, and does not follow the wall's."""
    now = [0.0]
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pool_module.time, "time", lambda: -1e9 * now[0])
    pool = WorkerPool(batch_fakes.Doing(), 0)
    for step in (0.3, 3600.0, 0.2):
        now[0] += step
        pool._tick()
    assert pool._now_s == pytest.approx(1.5)


@POSIX
def test_the_real_detectors_worker_does_without_torch():
    code = (
        "import sys; from bodyfit.app.batch.stages import Looking; import bodyfit.app.batch.pool; Looking('movenet')();"
        "assert 'onnxruntime' in sys.modules; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- what is looked at


def test_names_of_results_are_their_own(tmp_path):
    for name in ("a/photos/x.jpg", "a/photos/x.png", "b/photos/x.jpg", "b/photos/deep/x.jpg", "b/.hidden/x.jpg"):
        batch_fakes.picture(tmp_path / name)
    (tmp_path / "a/photos/notes.txt").write_text("no picture")
    a, b = str(tmp_path / "a/photos"), str(tmp_path / "b/photos")
    items, folders = find_items([a, b, f"{a}/x.jpg", f"{b}/../photos/x.jpg"], tmp_path / "out", {})
    assert [item.target for item in items] == [
        "photos/x.jpg.npz",
        "photos/x.png.npz",
        "photos_2/x.jpg.npz",
        "photos_2/deep/x.jpg.npz",
    ]
    # Another run on the same folder, another order: the same names.
    again, _ = find_items([b, a], tmp_path / "out", folders)
    assert {*again} == {*items}
    alone, _ = find_items([f"{b}/x.jpg"], tmp_path / "out", folders)
    assert alone == [Item(str(tmp_path / "b/photos/x.jpg"), "photos_2/x.jpg.npz")]


def test_what_fit_drew_is_no_picture(tmp_path):
    """Where results were written beside the pictures; of somebody's own such names are pictures."""
    for name in ("a.png", "overlay.png", "a/overlay.png", "a/person0_side.png", "a/b.png"):
        batch_fakes.picture(tmp_path / name)
    (tmp_path / "a/person0.npz").touch()
    items, _ = find_items([str(tmp_path)], tmp_path, {})
    assert [Path(item.source).relative_to(tmp_path).as_posix() for item in items] == ["a.png", "overlay.png", "a/b.png"]


def test_results_are_no_pictures_and_empty_folders_are_told_of(tmp_path):
    batch_fakes.picture(tmp_path / "in/x.jpg")
    batch_fakes.picture(tmp_path / "in/out/overlay.jpg")
    items, _ = find_items([str(tmp_path / "in")], tmp_path / "in/out", {})
    assert [Path(item.source).name for item in items] == ["x.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty has no pictures"):
        find_items([str(tmp_path / "empty")], tmp_path / "out", {})


def test_addresses_are_read_by_fsspec(tmp_path, detector):
    fsspec = pytest.importorskip("fsspec", reason="the extra [remote]")
    files = fsspec.filesystem("memory")
    local = batch_fakes.picture(tmp_path / "x.png")
    for name in ("bucket/day/x.png", "bucket/day/deep/nobody.png"):
        files.pipe(f"/{name}", local.read_bytes())
    files.pipe("/bucket/day/broken.png", b"half")
    try:
        summary = run_batch(["memory://bucket/day"], tmp_path / "out", detector=detector, engine=here)
        alone, _ = find_items(["memory://bucket/day/x.png"], tmp_path / "out", {})
    finally:
        files.rm("/bucket", recursive=True)
    assert (summary.done, summary.no_person, summary.failed) == (1, 1, 1)
    found = {entry["item"]: entry for entry in lines(tmp_path / "out")}
    assert found["memory:///bucket/day/x.png"]["file"] == "day/x.png.npz"
    assert alone[0].target == "day/x.png.npz"
    with pytest.raises(ImageError, match="gone"):
        read_item("memory://gone.png")
    with pytest.raises(ImageError, match="nonsense"):
        find_items(["nonsense://a"], tmp_path, {})


def test_an_archive_is_a_folder_for_workers_too(tmp_path, detector):
    pytest.importorskip("fsspec", reason="the extra [remote]")
    batch_fakes.picture(tmp_path / "zipped/day/a.png")
    batch_fakes.picture(tmp_path / "zipped/day/b.png")
    shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "zipped")
    address = f"zip://day::file://{tmp_path}/all.zip"
    summary = run_batch([address], tmp_path / "out", detector=detector, workers=1)
    assert summary.done == 2, lines(tmp_path / "out")


# ---------------------------------------------------------------- runs


def test_everything_that_can_be_in_a_folder(tmp_path, detector):
    pictures = tmp_path / "in"
    names = [*(f"person{i}.png" for i in range(4)), "nobody.png", "abort.png", "hang.png", "raise.png"]
    for name in names:
        batch_fakes.picture(pictures / name, (320, 320) if name != "person3.png" else (500, 320))
    (pictures / "empty.jpg").touch()
    (pictures / "text.jpg").write_text("<html>")
    (pictures / "half.png").write_bytes((pictures / "nobody.png").read_bytes()[:60])
    (pictures / "gone.jpg").symlink_to("nowhere")
    told = []
    summary = run_batch(
        [pictures],
        tmp_path / "out",
        workers=2,
        detector=detector,
        timeout_s=3.0,
        progress=lambda *now: told.append(now),
    )
    assert (summary.items, summary.done, summary.no_person, summary.failed) == (12, 4, 1, 7)
    check_whole(tmp_path / "out", {p.name for p in pictures.iterdir()})
    assert [now[0] for now in told] == list(range(13))
    assert all(entry["why"] for entry in lines(tmp_path / "out") if entry["status"] == "failed")
    # Pictures of two sizes were fitted together; each result knows its own.
    assert load_result(tmp_path / "out/in/person3.png.npz").camera.image_size == (500, 320)
    # A run with all done does nothing again.
    before = looked(tmp_path)
    assert before["person0.png"] == 1
    again = run_batch([pictures], tmp_path / "out", resume=True, detector=detector)
    assert (again.skipped, again.done, again.failed) == (12, 4, 7)
    assert looked(tmp_path) == before


def test_a_run_is_not_begun_over_another(tmp_path, detector):
    batch_fakes.picture(tmp_path / "in/nobody.png")
    run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here)
    with pytest.raises(OptionError, match="resume=True"):
        run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here)
    with StatusLog(tmp_path / "out", resume=True), pytest.raises(OptionError, match="another run is writing"):
        run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here, resume=True)
    (tmp_path / "out2").mkdir()
    (tmp_path / "out2/status.jsonl").write_text("my own notes")
    with pytest.raises(OptionError, match="line 1"):
        run_batch([tmp_path / "in"], tmp_path / "out2", detector=detector, engine=here, resume=True)
    assert (tmp_path / "out2/status.jsonl").read_text() == "my own notes"


def test_what_failed_is_taken_once_more_on_demand(tmp_path, detector):
    batch_fakes.picture(tmp_path / "in/person.png")
    (tmp_path / "in/person2.png").write_bytes(b"not yet downloaded")
    first = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here)
    assert (first.done, first.failed) == (1, 1)
    batch_fakes.picture(tmp_path / "in/person2.png")
    assert run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here, resume=True).failed == 1
    last = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here, retry_failed=True)
    assert (last.done, last.failed, last.skipped) == (2, 0, 1)
    assert looked(tmp_path) == {"person.png": 1, "person2.png": 1}


def test_a_line_counts_only_where_its_result_is(tmp_path, detector):
    for i in range(3):
        batch_fakes.picture(tmp_path / f"in/person{i}.png")
    run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here)
    (tmp_path / "out/in/person0.png.npz").unlink()
    (tmp_path / "out/in/person1.png.npz").write_bytes(b"")  # as a power cut leaves files
    with (tmp_path / "out/status.jsonl").open("ab") as file:
        file.write(b'{"item": "/half')
    summary = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here, resume=True)
    assert (summary.done, summary.skipped) == (3, 1)
    assert len(load_result(tmp_path / "out/in/person1.png.npz")) == 1
    assert len(lines(tmp_path / "out")) == 5


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, detector, monkeypatch):
    for i in range(6):
        batch_fakes.picture(tmp_path / f"in/nobody{i}.png")
    real, room = os.write, [3]

    def write(file: int, data: bytes) -> int:
        if not data.startswith(b'{"item"'):
            return real(file, data)
        room[0] -= 1
        if room[0] > 0:
            return real(file, data)
        if room[0] == 0:
            return real(file, data[:10])  # what a disk does that fills within a line
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(OutputError, match=r"No space left.*free some space and go on with resume=True"):
            run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here)
    assert len(lines(tmp_path / "out")) == 2
    summary = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here, resume=True)
    assert (summary.no_person, summary.skipped) == (6, 2)
    check_whole(tmp_path / "out", {f"nobody{i}.png" for i in range(6)})


FULL = """
set -e
mount -t tmpfs -o size=48k none "$1"
{python} -m bodyfit.cli batch "$2" -o "$1" --detector by_name --workers 1 2>"$3" && exit 9 || test $? = 1
cp -r "$1" "$4"
"""


@POSIX
def test_a_disk_that_is_really_full(tmp_path, detector):
    """A file system of 48 kB, which holds five results, in a mount space of its own."""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    for i in range(12):
        batch_fakes.picture(tmp_path / f"in/person{i}.png")
    (tmp_path / "small").mkdir()
    script = FULL.format(python=sys.executable)
    given = [tmp_path / "small", tmp_path / "in", tmp_path / "said", tmp_path / "out"]
    ended = subprocess.run([*alone, "sh", "-c", script, "sh", *map(str, given)], check=False, capture_output=True)
    said = (tmp_path / "said").read_text()
    assert ended.returncode == 0, (ended, said)
    assert "No space left" in said
    assert "--resume" in said
    assert "Traceback" not in said
    entries = lines(tmp_path / "out")
    assert 1 <= len(entries) < 12
    assert all(entry["status"] == "done" for entry in entries)
    summary = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here, resume=True)
    assert (summary.done, summary.skipped) == (12, len(entries))
    check_whole(tmp_path / "out", {f"person{i}.png" for i in range(12)})


@pytest.mark.parametrize("exchanged", [False, True])
def test_an_output_folder_that_goes_away_stops_the_run(tmp_path, detector, exchanged):
    for i in range(4):
        batch_fakes.picture(tmp_path / f"in/nobody{i}.png")
    out = tmp_path / "out"

    def remove(finished, items, entry):
        if finished == 2:
            shutil.rmtree(out)
            if exchanged:
                run_batch([tmp_path / "in"], out, detector=detector, engine=here)

    with pytest.raises(OutputError, match="removed or exchanged"):
        run_batch([tmp_path / "in"], out, detector=detector, engine=here, progress=remove)
    if exchanged:  # the other run's work is whole
        check_whole(out, {f"nobody{i}.png" for i in range(4)})
    else:
        assert not out.exists()


def test_the_wall_clock_may_jump(tmp_path, detector, monkeypatch):
    for i in range(4):
        batch_fakes.picture(tmp_path / f"in/person{i}.png")
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (next(jumps) % 3 - 1))
    summary = run_batch([tmp_path / "in"], tmp_path / "out", workers=1, detector=detector)
    assert (summary.done, summary.failed) == (4, 0)
    assert 0 < summary.seconds < 100
    check_whole(tmp_path / "out", {f"person{i}.png" for i in range(4)})


def test_one_bad_fit_costs_one_picture(tmp_path, detector, monkeypatch):
    import bodyfit.app.pipeline

    real = bodyfit.app.pipeline.fit_detections

    def fit(frames, people, **options):
        if any(frame.size == (500, 320) for frame in frames):
            raise RuntimeError("that size")
        return real(frames, people, **options)

    monkeypatch.setattr(bodyfit.app.pipeline, "fit_detections", fit)
    for i in range(3):
        batch_fakes.picture(tmp_path / f"in/person{i}.png", (500, 320) if i == 1 else (320, 320))
    summary = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=here)
    assert (summary.done, summary.failed) == (2, 1)


# ---------------------------------------------------------------- the program


def start(tmp_path: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bodyfit.cli", "batch", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    return subprocess.Popen(
        [*command, "--detector", batch_fakes.NAME, "--workers", "2", *more], stderr=subprocess.PIPE, text=True
    )


def wait_for_lines(tmp_path: Path, count: int, process: subprocess.Popen) -> None:
    status = tmp_path / "out/status.jsonl"
    deadline = time.monotonic() + 120
    while not status.exists() or status.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@POSIX
def test_a_killed_run_goes_on_and_does_nothing_twice(tmp_path, detector):
    names = {f"{kind}_slow{i}.png" for i in range(15) for kind in ("nobody", "person")}
    for name in names:
        batch_fakes.picture(tmp_path / "in" / name)
    process = start(tmp_path)
    wait_for_lines(tmp_path, 8, process)
    process.kill()  # SIGKILL: nothing can be tidied up
    process.communicate()
    with (tmp_path / "out/status.jsonl").open("ab") as file:
        file.write(b'{"item": "' + os.fsencode(tmp_path / "in"))  # the line it was writing
    (tmp_path / "out/in").mkdir(exist_ok=True)
    (tmp_path / "out/in/.person_slow1.png.0123456789ab.npz").write_bytes(b"PK")  # the result it was writing
    before = (tmp_path / "out/status.jsonl").read_bytes().splitlines()[:-1]
    finished = {Path(json.loads(line)["item"]).name for line in before}
    assert 8 <= len(finished) < len(names)
    assert main(["batch", *map(str, (tmp_path / "in", "-o", tmp_path / "out")), "--detector", detector]) == 2
    process = start(tmp_path, "--resume")
    process.communicate()
    assert process.returncode == 0
    check_whole(tmp_path / "out", names)
    assert (tmp_path / "out/status.jsonl").read_bytes().splitlines()[: len(before)] == before
    assert {name for name, times in looked(tmp_path).items() if times > 1}.isdisjoint(finished)


@POSIX
def test_ctrl_c_ends_within_two_seconds(tmp_path, detector):
    for i in range(200):
        batch_fakes.picture(tmp_path / f"in/nobody_slow{i}.png")
    process = start(tmp_path)
    wait_for_lines(tmp_path, 3, process)
    pids = {int(line.split()[0]) for line in (tmp_path / "looked").read_text().splitlines()}
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - begin < 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # of a free machine
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert json.loads((tmp_path / "out/batch.json").read_text())["interrupted"]
    assert 3 <= len(lines(tmp_path / "out")) < 200


@POSIX
def test_workers_end_with_a_killed_run(tmp_path, detector):
    batch_fakes.picture(tmp_path / "in/hang.png")
    process = start(tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "looked").exists() or not (tmp_path / "looked").read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker = Path("/proc") / (tmp_path / "looked").read_text().split()[0]
    process.kill()
    process.communicate()
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    while worker.exists() and "\nState:\tZ" not in (worker / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_wrong_use_is_told(tmp_path, detector, capsys):
    batch_fakes.picture(tmp_path / "in/nobody.png")
    given = [str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert main(["batch", *given, "--workers", "0"]) == 2
    assert main(["batch", *given, "--address", "auto"]) == 2
    assert main(["batch", *given, "--detector", "nonesuch", "--workers", "1"]) == 2
    assert "nonesuch" in capsys.readouterr().err
    assert main(["batch", *given, "--detector", detector, "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["no_person"] == 1


def test_keypoint_files_take_the_detectors_place(tmp_path, capsys):
    """One item each, resumable, faults told; nobody looks."""
    pictures, files = tmp_path / "in", tmp_path / "openpose"
    for name in ("a.png", "deep/b.png", "empty.png", "faulty.png", "lacking.png"):
        batch_fakes.picture(pictures / name)
    (person,) = batch_fakes.FakeDetector().detect([read_item(str(pictures / "a.png"))])[0]
    said = {"pose_keypoints_2d": convert_keypoints(person.xyc, "coco17", "openpose25")[0].ravel().tolist()}
    files.mkdir()
    for name, people in (
        ("a", [said]),
        ("b", [said, said]),
        ("empty", []),
        ("faulty", [said, {"pose_keypoints_2d": ["x"] * 75}]),
    ):
        (files / f"{name}_keypoints.json").write_text(json.dumps({"people": people}))
    out = tmp_path / "out"
    given = ["batch", str(pictures), "-o", str(out), "--workers", "1", "--keypoints"]
    assert main([*given, str(files)]) == 1
    err = capsys.readouterr().err
    assert "faulty_keypoints.json: person 1: pose_keypoints_2d: value 0 is text" in err
    assert "no keypoints for lacking.png" in err
    found = {Path(entry["item"]).stem: entry for entry in lines(out)}
    assert {name: entry["status"] for name, entry in found.items()} == {
        **dict.fromkeys(("a", "b", "faulty"), "done"),
        "empty": "no_person",
        "lacking": "failed",
    }
    assert len(load_result(out / "in/deep/b.png.npz")) == found["b"]["people"] == 2
    assert len(found["faulty"]["faults"]) == 1
    (files / "lacking_keypoints.json").write_text(json.dumps({"people": [said]}))
    assert main([*given, str(files), "--retry-failed"]) == 0
    assert [Path(entry["item"]).stem for entry in lines(out)][5:] == ["lacking"]
    assert main([*given, str(files), "--tta", "--resume"]) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other/z_keypoints.json").write_text(json.dumps({"people": [said]}))
    assert main([*given[:3], str(tmp_path / "out2"), *given[4:], str(tmp_path / "other")]) == 2
    assert "keypoints of none of the 5 pictures" in capsys.readouterr().err


def test_the_learned_prior_can_be_left_out(tmp_path):
    batch_fakes.picture(tmp_path / "a.png")
    frame = read_item(str(tmp_path / "a.png"))
    (people,) = batch_fakes.FakeDetector().detect([frame])
    row = {"pose_keypoints_2d": convert_keypoints(people[0].xyc, "coco17", "openpose25")[0].ravel().tolist()}
    (tmp_path / "a_keypoints.json").write_text(json.dumps({"people": [row]}))
    found = {}
    for words in ((), ("--no-learned-prior",)):
        out = tmp_path / f"out{len(words)}"
        given = ["batch", str(tmp_path / "a.png"), "-o", str(out), "--workers", "1", "--keypoints"]
        assert main([*given, str(tmp_path / "a_keypoints.json"), *words]) == 0
        found[words] = load_result(next(out.rglob("*.npz"))).params.body_pose
    (seen,) = load_keypoints(tmp_path / "a_keypoints.json").entries
    ((own,),) = fit_detections([frame], [seen.people], config=FitConfig.without_conditional_prior())
    plain, learned = found["--no-learned-prior",], found[()]
    assert (plain - own.params.body_pose).abs().max() < 1e-3
    assert (learned - own.params.body_pose).abs().max() > 0.05


def test_tta_is_for_detectors_that_know_it(tmp_path, detector, capsys):
    batch_fakes.picture(tmp_path / "in/nobody.png")
    given = ["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", "1", "--tta", "--detector"]
    assert main([*given, detector]) == 2
    assert "has no option tta" in capsys.readouterr().err
    assert main([*given, "movenet:quick", "--resume"]) == 2
    assert "looks at each person once" in capsys.readouterr().err


def test_other_commands_read_a_batch(tmp_path, detector):
    from bodyfit.app.results.find import find_results
    from bodyfit.app.results.folder import read_results

    for name in ("in/person.png", "in/deep/person.png", "in/nobody.png"):
        batch_fakes.picture(tmp_path / name)
    (tmp_path / "in/text.jpg").write_text("<html>")
    out = tmp_path / "out"
    run_batch([tmp_path / "in"], out, detector=detector, engine=here)
    results = read_results(out)
    pictures = {tmp_path / "in/person.png", tmp_path / "in/deep/person.png"}
    assert {scene.source for scene in results.scenes} == pictures
    assert [failure.name for failure in results.failures] == [str(tmp_path / "in/text.jpg")]
    assert {found.source for found in find_results([out])} == pictures
    (one,) = find_results([out / "in/deep/person.png.npz"])
    assert (one.name, one.source, len(one.people())) == ("person.png", tmp_path / "in/deep/person.png", 1)


# ---------------------------------------------------------------- Ray


@POSIX
@pytest.mark.slow
def test_ray_gives_what_this_machine_gives_though_a_worker_is_killed(tmp_path, detector, monkeypatch):
    pytest.importorskip("ray.data", reason="the extra [ray]", exc_type=ImportError)
    from bodyfit.app.batch.ray_engine import ray_engine

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = set(Path(tempfile.gettempdir()).glob("ray*"))
    names = {*(f"person_slow{i}.png" for i in range(80)), "nobody.png", "raise.png", "abort.png"}
    for name in names:
        batch_fakes.picture(tmp_path / "in" / name)
    killed: list[int] = []

    def kill_an_actor() -> None:
        """Whose worker process has looked at the tenth picture, and has its block half done."""
        log = tmp_path / "looked"
        while not log.exists() or log.read_text().count("\n") < 10:
            time.sleep(0.05)
        killed.append(int(log.read_text().splitlines()[9].split()[2]))
        os.kill(killed[0], signal.SIGKILL)

    watcher = threading.Thread(target=kill_an_actor, daemon=True)
    watcher.start()
    summary = run_batch([tmp_path / "in"], tmp_path / "out", detector=detector, engine=ray_engine(2))
    watcher.join(1)
    assert killed
    assert len({line.split()[2] for line in (tmp_path / "looked").read_text().splitlines()} - {str(killed[0])}) >= 2
    assert max(looked(tmp_path).values()) >= 2, "nothing was looked at again: was nobody killed?"
    assert (summary.done, summary.no_person, summary.failed) == (80, 1, 2)
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    assert set(Path(tempfile.gettempdir()).glob("ray*")) <= before
    check_whole(tmp_path / "out", names)
    run_batch([tmp_path / "in"], tmp_path / "local", detector=detector, workers=2)
    mine, theirs = ({entry["item"]: entry for entry in lines(tmp_path / out)} for out in ("local", "out"))
    assert mine.keys() == theirs.keys()
    for item, entry in mine.items():
        assert entry["status"] == theirs[item]["status"]
        if entry["status"] == "done":
            a, b = (load_result(tmp_path / out / entry["file"]) for out in ("local", "out"))
            # Fitted in other company: sums of float32 in another order, through some tens of steps.
            for key in a.params:
                np.testing.assert_allclose(a.params[key], b.params[key], atol=1e-3)
            np.testing.assert_allclose(a.joints, b.joints, atol=1e-3)
        else:
            assert entry.get("why") == theirs[item].get("why")


def ray_node(tmp_path: Path, *options: str) -> subprocess.Popen:
    """A node of a Ray cluster."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    command += ["--num-cpus", "2", "--object-store-memory", "100000000", *options]
    with (tmp_path / "ray.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


@POSIX
@pytest.mark.slow
def test_a_cluster_loses_a_node_and_no_picture(tmp_path, detector, monkeypatch, capsys):
    """Two nodes on this machine, of which one is killed with all its processes while it looks."""
    pytest.importorskip("ray.data", reason="the extra [ray]", exc_type=ImportError)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    names = {*(f"person_slow{i}.png" for i in range(120)), "nobody.png"}  # enough for the second node to get some
    for name in names:
        batch_fakes.picture(tmp_path / "in" / name)
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ray") as folder:  # paths of sockets are short
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        address, nodes, killed = f"127.0.0.1:{port}", [], threading.Event()
        try:
            head = ["--head", "--port", str(port), "--node-ip-address", "127.0.0.1", "--temp-dir", folder]
            nodes.append(ray_node(tmp_path, *head, "--include-dashboard", "false"))
            wait_for_nodes(tmp_path, 1)
            nodes.append(ray_node(tmp_path, "--address", address, "--node-ip-address", "127.0.0.1"))
            wait_for_nodes(tmp_path, 2)

            def kill_the_second() -> None:
                """When a process of it looks."""
                log = tmp_path / "looked"
                while not killed.is_set():
                    time.sleep(0.05)
                    lookers = {int(line.split()[2]) for line in log.read_text().splitlines()} if log.exists() else set()
                    if not lookers.isdisjoint(below(nodes[1].pid)):
                        killed.set()
                        end_all(nodes[1])

            threading.Thread(target=kill_the_second, daemon=True).start()
            given = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--detector", detector, "--json"]
            assert main(["batch", *given, "--engine", "ray", "--address", address]) == 0
        finally:
            was_killed = killed.is_set()
            killed.set()
            for node in nodes:
                end_all(node)
    assert was_killed
    summary = json.loads(capsys.readouterr().out)  # and nothing of what Ray says of the lost node
    assert (summary["done"], summary["no_person"], summary["failed"]) == (120, 1, 0)
    check_whole(tmp_path / "out", names)


def wait_for_nodes(tmp_path: Path, count: int) -> None:
    deadline = time.monotonic() + 180
    while (tmp_path / "ray.log").read_text().count("Ray runtime started") < count:
        assert time.monotonic() < deadline, (tmp_path / "ray.log").read_text()
        time.sleep(0.2)


def below(pid: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, more = {pid}, {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        found |= more
    return found


def end_all(node: subprocess.Popen) -> None:
    for pid in below(node.pid):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    node.wait()


def test_without_ray_the_extra_is_named(monkeypatch):
    from bodyfit.app.batch.ray_engine import ray_engine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"bodyfit\[ray\]"):
        ray_engine(2)
