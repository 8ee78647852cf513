"""From a clip to tracks, files and a film, with a detector that knows where people are."""

from __future__ import annotations

import contextlib
import json
import shutil

import av
import numpy as np
import pytest
import shown_results
import torch
from gltf_reader import Gltf

import bodyfit
from bodyfit.app.film import write_film
from bodyfit.cli.main import main
from bodyfit.cli.support import common
from bodyfit.detect.registry import DETECTORS
from bodyfit.errors import OptionError, VideoError
from bodyfit.geometry.camera import Camera
from bodyfit.io import VideoReader, VideoWriter, load_track
from bodyfit.keypoints import Keypoints2D

SIZE, FPS, N = (320, 240), 15.0, 24
FOCAL = float(np.hypot(*SIZE))


def _walkers(model) -> torch.Tensor:
    """Keypoints of two people who swing an arm and pass each other, (people, frames, 17, 3), px and confidence."""
    t = torch.linspace(0, 1, N)
    people = []
    for sign in (1.0, -1.0):
        pose = torch.zeros(N, 69)
        pose[:, 3 * 16 - 3 + 2] = -1.2 + 0.5 * torch.sin(4 * t)  # left shoulder
        orient = torch.tensor([[np.pi, 0.0, 0.0]]).float().repeat(N, 1)
        transl = torch.stack([sign * (-1.0 + 2.0 * t), torch.full((N,), 0.1), torch.full((N,), 4.6 + 0.5 * sign)], 1)
        out = model(body_pose=pose, global_orient=orient, transl=transl)
        xy = Camera.make(N, SIZE, focal_px=FOCAL).project(model.keypoints(out, "coco17"))
        people.append(torch.cat([xy, torch.full((N, 17, 1), 0.9)], 2))
    return torch.stack(people)


class Scripted:
    """Knows the keypoints of each frame; whom it does not see in which frame is said."""

    def __init__(self, xyc: np.ndarray, unseen: dict[int, range] | None = None) -> None:
        self.xyc, self.unseen = xyc.astype(np.float32), unseen or {}

    def detect(self, frames):
        return [
            [
                Keypoints2D("coco17", person[frame.index])
                for who, person in enumerate(self.xyc)
                if frame.index not in self.unseen.get(who, ())
            ]
            for frame in frames
        ]


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


@pytest.fixture(scope="module")
def walkers(model):
    with torch.no_grad():
        return _walkers(model).numpy()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "meadow.mp4"
    with VideoWriter(path, SIZE, FPS) as film:
        for i in range(N):
            film.write(np.full((SIZE[1], SIZE[0], 3), 90 + 2 * i, np.uint8))
    return path


@pytest.fixture(scope="module")
def tracks(model, walkers, clip):
    return bodyfit.fit_video(clip, model=model, detector=Scripted(walkers, {1: range(10, 16)}), focal_px=FOCAL)


def test_everyone_is_one_body_through_the_clip(tracks, walkers):
    assert [(t.id, len(t), t.fps) for t in tracks] == [(0, N, FPS), (1, N, FPS)]
    for track in tracks:
        np.testing.assert_array_equal(track.frames, np.arange(N))
        np.testing.assert_allclose(track.times_s, np.arange(N) / FPS)
        betas = track.result.params.betas
        assert torch.equal(betas, betas[:1].expand_as(betas))
        assert float(track.result.reprojection_error_px[track.seen].max()) < 2.0
        assert track.result.camera.image_size == SIZE
        assert track.result.focal_source == "given"
    # Who is who: one walks to the right of the picture, the other to the left.
    moved = [float(t.result.joints[-1, 0, 0] - t.result.joints[0, 0, 0]) for t in tracks]
    assert sorted(m > 1.5 for m in moved) == sorted(m < -1.5 for m in moved) == [False, True]


def test_a_gap_is_marked_and_filled_by_the_motion(tracks, walkers):
    (hidden,) = [t for t in tracks if not t.seen.all()]
    np.testing.assert_array_equal(hidden.seen, ~np.isin(np.arange(N), range(10, 16)))
    assert {hidden.result.status[i].value for i in range(10, 16)} == {"filled"}
    path = hidden.result.joints[:, 0, 0].numpy()
    np.testing.assert_allclose(np.diff(path), np.diff(path).mean(), atol=0.05)  # he walks on at the same speed


def test_bodies_do_not_depend_on_how_the_clip_was_stored(model, walkers, clip, tracks, tmp_path):
    """Uneven frame times: what the file lacks is the motion's to fill, and the other frames stay where they are."""
    kept = [i for i in range(N) if i not in (5, 12, 13)]
    with VideoWriter(tmp_path / "vfr.mp4", SIZE, FPS) as film:
        for i in kept:
            film.write(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), i / FPS)
    found = bodyfit.fit_video(tmp_path / "vfr.mp4", model=model, detector=Scripted(walkers[:, kept]), focal_px=FOCAL)
    assert [len(t) for t in found] == [len(kept)] * 2
    np.testing.assert_allclose(found[0].times_s, np.array(kept) / FPS, atol=1e-3)
    # The same places in the picture; how far away is told by size alone.
    one, other = found[0].result.joints[:, 0], tracks[0].result.joints[kept, 0]
    np.testing.assert_allclose(FOCAL * one[:, :2] / one[:, 2:], FOCAL * other[:, :2] / other[:, 2:], atol=8.0)
    np.testing.assert_allclose(one[:, 2], other[:, 2], rtol=0.1)


def test_a_part_of_a_clip_in_steps(model, walkers, clip):
    found = bodyfit.fit_video(clip, model=model, detector=Scripted(walkers), focal_px=FOCAL, start_s=0.4, stride=2)
    np.testing.assert_array_equal(found[0].frames, np.arange(6, N, 2))
    assert found[0].fps == FPS / 2
    assert found[0].seen.all()


def test_a_clip_without_people_has_no_tracks(clip, walkers):
    assert bodyfit.fit_video(clip, detector=Scripted(walkers[:0])) == []


def test_mistakes_are_told_before_the_slow_part(clip, tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        bodyfit.fit_video(tmp_path / "no.mp4")
    with pytest.raises(OptionError, match="focal"):
        bodyfit.fit_video(clip, focal_px=-3.0)
    with pytest.raises(VideoError, match=r"no frame lies between start and end; it is 1\.6 s long"):
        bodyfit.fit_video(clip, detector=Scripted(np.zeros((0, N, 17, 3))), start_s=50.0)


def test_a_film_has_every_frame_of_the_clip(model, tracks, clip, tmp_path):
    reader = VideoReader(clip)
    assert write_film(tmp_path / "o.mp4", reader, tracks, model) == N
    film = VideoReader(tmp_path / "o.mp4")
    frames, plain = list(film), list(reader)
    assert film.size == (320 + 168, 240)
    assert (film.rate, len(frames)) == (reader.rate, N)
    np.testing.assert_allclose([f.time_s for f in frames], [f.time_s for f in plain], atol=1e-4)
    for i in (0, N // 2, N - 1):
        changed = np.abs(frames[i].image[:, :320].astype(int) - plain[i].image).max(2) > 25
        for who in (0, 1):  # bodies are drawn where people are
            middle = tracks[who].result.camera.select([0]).project(tracks[who].result.joints[i : i + 1])[0, 3].numpy()
            assert changed[int(middle[1]), int(middle[0])]
        assert not changed[:10].any()


def test_a_film_of_another_clip_is_refused(model, tracks, tmp_path):
    with VideoWriter(tmp_path / "b.mp4", (64, 48), FPS) as film:
        film.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(VideoError, match="64x48"):
        write_film(tmp_path / "o.mp4", VideoReader(tmp_path / "b.mp4"), tracks, model)


def test_who_is_in_a_part_of_the_clip_is_drawn_there(model, tracks, clip, tmp_path):
    part = VideoReader(clip, start_s=1.0)
    write_film(tmp_path / "o.gif", part, tracks, model, side_view=False)
    frames = list(VideoReader(tmp_path / "o.gif"))
    assert len(frames) == N - 15
    plain = next(iter(part)).image
    assert (np.abs(frames[0].image.astype(int) - plain).max(2) > 40).mean() > 0.02


@pytest.fixture
def scripted(monkeypatch, walkers):
    monkeypatch.setitem(DETECTORS, "scripted", lambda: Scripted(walkers, {1: range(10, 16)}))


def test_the_command_writes_tracks_motion_and_a_film(scripted, clip, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(["video", str(clip), "-o", str(out), "--detector", "scripted", "--focal-px", str(FOCAL)])
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "")
    assert "2 people in 24 frames" in printed.out
    assert "6 of them filled in" in printed.out
    names = {p.name for p in (out / "meadow").iterdir()}
    assert names == {"overlay.mp4"} | {f"person{i}.{kind}" for i in (0, 1) for kind in ("npz", "glb", "bvh")}
    summary = json.loads((out / "summary.json").read_text())
    (entry,) = summary["inputs"]
    assert (entry["status"], entry["frames"], entry["fps"], entry["damaged_frames"]) == ("ok", N, FPS, 0)
    gaps = {person["person"]: person["gaps"] for person in entry["people"]}
    assert sorted(gaps.values()) == [[], [[10, 15]]]
    for person in entry["people"]:
        track = load_track(out / "meadow" / f"person{person['person']}.npz")
        assert len(track) == person["frames"] == sum(person["statuses"].values())
        assert int(track.seen.sum()) == person["frames_seen"]
    with av.open(str(out / "meadow" / "overlay.mp4")) as film:
        assert film.streams.video[0].frames == N


def test_what_a_killed_run_was_writing_is_swept_away(scripted, clip, tmp_path, capsys):
    left = tmp_path / "out/meadow/.overlay.0123456789ab.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a film")
    (left.parent / "notes.txt").write_text("the user's own")
    given = [str(clip), "-o", str(tmp_path / "out"), "--detector", "scripted", "--no-film", "--end", "0.7"]
    assert main(["video", *given]) == 0
    assert not left.exists()
    assert (left.parent / "notes.txt").exists()


@pytest.mark.parametrize("step", ["saving", "drawing"])
def test_an_output_folder_that_goes_away_is_told(scripted, clip, tmp_path, capsys, monkeypatch, step):
    """And nothing half-written is left in its place."""
    out, gone = tmp_path / "out", []

    def remove(now: str, done: int, total: int | None) -> None:
        if now == step and not gone:
            gone.append(shutil.rmtree(out / "meadow"))
            (out / "meadow").write_text("a file of somebody else's")

    monkeypatch.setattr(common, "progress_bar", lambda: contextlib.nullcontext(remove))
    assert main(["video", str(clip), "-o", str(out), "--detector", "scripted", "--end", "0.7"]) == 1
    assert gone
    said = capsys.readouterr().err
    assert str(out / "meadow") in said
    assert "cannot be written" in said
    assert "Traceback" not in said
    assert {p.name for p in out.iterdir()} == {"meadow", "summary.json"}
    assert (out / "meadow").read_text() == "a file of somebody else's"


def test_json_is_all_that_is_printed(scripted, clip, tmp_path, capsys):
    arguments = [
        "video",
        str(clip),
        "-o",
        str(tmp_path),
        "--detector",
        "scripted",
        "--no-film",
        "--json",
        "--end",
        "0.8",
    ]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["inputs"][0]["frames"] == 12
    assert not (tmp_path / "meadow" / "overlay.mp4").exists()


def test_a_bad_clip_costs_one_line_and_not_the_others(scripted, clip, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no clip")
    out = tmp_path / "out"
    code = main(["video", str(bad), str(clip), "-o", str(out), "--detector", "scripted", "--no-film", "--end", "0.5"])
    printed = capsys.readouterr()
    assert code == 1
    assert len(printed.err.splitlines()) == 1
    assert "bad.mp4" in printed.err
    statuses = [entry["status"] for entry in json.loads((out / "summary.json").read_text())["inputs"]]
    assert statuses == ["error", "ok"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--start", "3", "--end", "2"], "--start"),
        (["--stride", "0"], "--stride"),
        (["--detector", "nobody"], "--detector"),
        (["--focal-mm", "30"], "sensor"),
    ],
)
def test_wrong_use_is_told(clip, tmp_path, capsys, options, says):
    assert main(["video", str(clip), "-o", str(tmp_path), *options]) == 2
    assert says in capsys.readouterr().err


def test_pictures_and_clips_of_one_folder_are_drawn_together(scripted, clip, model, tmp_path, capsys):
    """The clip as its film; views that a clip has none of are told, and cost it nothing where there is an overlay."""
    out, drawn = tmp_path / "out", tmp_path / "drawn"
    assert main(["video", str(clip), "-o", str(out), "--detector", "scripted", "--no-film"]) == 0
    shown_results.write_picture(out, model)
    capsys.readouterr()
    assert main(["render", str(out), "-o", str(drawn), "--view", "overlay,side", "--size", "60x40"]) == 0
    err = capsys.readouterr().err
    assert "meadow: of a clip nothing but its overlay is drawn, not side" in err
    files = sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.*"))
    assert files == ["meadow/overlay.mp4", "photo/overlay.png", "photo/side.png"]
    assert len(list(VideoReader(drawn / "meadow/overlay.mp4"))) == N
    assert main(["render", str(out), "-o", str(drawn), "--view", "side", "--size", "60x40", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)["pictures"]
    assert {entry["name"]: entry["status"] for entry in printed} == {"meadow": "error", "photo": "ok"}
    for name in ("all.mp4", "all.gif"):
        assert main(["render", str(out), "-o", str(tmp_path / name)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["render", str(out / "photo"), "-o", str(tmp_path / "photo.mp4")]) == 2
    assert "is the film of one clip" in capsys.readouterr().err
    assert not (tmp_path / "photo.mp4").exists()


def test_a_film_is_drawn_again_from_its_folder(scripted, clip, tmp_path, capsys):
    out = tmp_path / "out"
    part = ["--start", "0.4", "--end", "1.2"]
    assert main(["video", str(clip), "-o", str(out), "--detector", "scripted", "--no-film", *part]) == 0
    capsys.readouterr()
    assert main(["render", str(out / "meadow"), "-o", str(tmp_path / "again.mp4")]) == 0
    assert "12 frames" in capsys.readouterr().out
    assert len(list(VideoReader(tmp_path / "again.mp4"))) == 12
    (out / "summary.json").unlink()
    assert main(["render", str(out / "meadow"), "-o", str(tmp_path / "b.gif")]) == 2
    assert "--photo" in capsys.readouterr().err
    assert main(["render", str(out / "meadow"), "-o", str(tmp_path / "b.gif"), "--photo", str(clip)]) == 0
    assert len(list(VideoReader(tmp_path / "b.gif"))) == N


def test_who_enters_later_starts_later_in_every_file(monkeypatch, walkers, clip, tmp_path, capsys):
    """All people of a clip share one clock, also of files that are converted, and of a part of a clip."""
    monkeypatch.setitem(DETECTORS, "late", lambda: Scripted(walkers, {1: range(9)}))
    out = tmp_path / "out"
    options = ["--detector", "late", "--focal-px", str(FOCAL), "--no-film"]
    assert main(["video", str(clip), "-o", str(out), *options]) == 0
    assert capsys.readouterr().err == ""
    first, other = out / "meadow/person0", out / "meadow/person1"
    later = 9 / FPS
    np.testing.assert_allclose(Gltf(first.with_suffix(".glb")).times(), np.arange(N) / FPS, atol=1e-3)
    np.testing.assert_allclose(Gltf(other.with_suffix(".glb")).times(), np.arange(9, N) / FPS, atol=1e-3)
    assert float(np.load(other.with_suffix(".npz"))["start_s"]) == pytest.approx(later, abs=1e-3)
    rows = [_bvh_rows(path.with_suffix(".bvh")) for path in (first, other)]
    assert rows[0].shape == rows[1].shape == (N, 75)
    np.testing.assert_array_equal(rows[1][:9], rows[1][9:10].repeat(9, 0))  # stands still until then
    assert np.abs(np.diff(rows[1][9:, :3], axis=0)).max(1).min() > 0
    for name in ("again.glb", "again.bvh", "again.npz"):
        assert main(["convert", f"{other}.npz", str(tmp_path / name)]) == 0
    assert Gltf(tmp_path / "again.glb").times()[0] == pytest.approx(later, abs=1e-3)
    np.testing.assert_array_equal(_bvh_rows(tmp_path / "again.bvh"), rows[1])
    assert float(np.load(tmp_path / "again.npz")["start_s"]) == pytest.approx(later, abs=1e-3)
    capsys.readouterr()
    part = ["--start", "0.4", "--end", "1.3"]
    assert main(["video", str(clip), "-o", str(out), *options, *part]) == 0
    assert Gltf(first.with_suffix(".glb")).times()[0] == 0.0
    assert Gltf(other.with_suffix(".glb")).times()[0] == pytest.approx(later - 0.4, abs=1e-3)
    assert load_track(other.with_suffix(".npz")).times_s[0] == pytest.approx(later, abs=1e-3)


def _bvh_rows(path) -> np.ndarray:
    rows = path.read_text().partition("Frame Time: ")[2].splitlines()[1:]
    return np.array([[float(x) for x in row.split()] for row in rows])


def test_a_clip_that_falls_to_half_its_rate_keeps_its_times(model, walkers, tmp_path, monkeypatch, capsys):
    """From 15 frames a second to 7.5, as telephones do in the dusk: every file knows when each body is where."""
    kept = [*range(10), *range(10, N, 2)]
    times = np.array(kept) / FPS
    with VideoWriter(tmp_path / "dusk.mp4", SIZE, FPS) as film:
        for time_s in times:
            film.write(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), float(time_s))
    monkeypatch.setitem(DETECTORS, "dusk", lambda: Scripted(walkers[:1, kept]))
    out = tmp_path / "out"
    options = ["--detector", "dusk", "--focal-px", str(FOCAL), "--no-film"]
    assert main(["video", str(tmp_path / "dusk.mp4"), "-o", str(out), *options]) == 0
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "dusk.mp4: its frames are uneven in time" in err
    assert "interpolated at 15 a second" in err
    track = load_track(out / "dusk/person0.npz")
    np.testing.assert_allclose(track.times_s, times, atol=1e-3)
    assert track.fps == pytest.approx(FPS, rel=1e-3)
    np.testing.assert_allclose(Gltf(out / "dusk/person0.glb").times(), times, atol=1e-3)
    x = _bvh_rows(out / "dusk/person0.bvh")[:, 0]
    assert len(x) == kept[-1] + 1
    np.testing.assert_allclose(x[kept], track.result.joints[:, 0, 0], atol=1e-5)  # each at its time
    arrays = np.load(out / "dusk/person0.npz")
    assert len(arrays["poses"]) == len(x)
    assert float(arrays["mocap_framerate"]) == pytest.approx(FPS, rel=1e-3)
    (entry,) = json.loads((out / "summary.json").read_text())["inputs"]
    assert (entry["even"], entry["clock_fps"]) == (False, pytest.approx(FPS, rel=1e-3))


def test_a_folder_of_frames_is_the_clip_that_they_are_of(model, walkers, clip, tracks, tmp_path, monkeypatch, capsys):
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    for frame in VideoReader(clip):
        Image.fromarray(frame.image).save(folder / f"frame{frame.index + 3}.png")
    found = bodyfit.fit_video(
        folder, fps=FPS, model=model, detector=Scripted(walkers, {1: range(10, 16)}), focal_px=FOCAL
    )
    for one, other in zip(found, tracks, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_allclose(one.times_s, other.times_s, atol=1e-4)
        np.testing.assert_allclose(one.result.joints, other.result.joints, atol=1e-4)
    monkeypatch.setitem(DETECTORS, "scripted", lambda: Scripted(walkers))
    out = tmp_path / "out"
    options = ["-o", str(out), "--detector", "scripted", "--fps", str(FPS), "--end", "0.5"]
    assert main(["video", str(folder), str(clip), *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""  # the rate is the folder's, and the clip beside it keeps its own
    assert f"{folder}: 2 people in 8 frames" in printed.out
    assert len(list(VideoReader(out / "frames/overlay.mp4"))) == 8
    assert main(["render", str(out / "frames"), "-o", str(tmp_path / "again.mp4")]) == 0
    assert "8 frames" in capsys.readouterr().out
