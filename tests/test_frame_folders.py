"""Clips that are no films: folders of frames and animated pictures, read in order and at their own times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodyfit.app.video import watch_clip
from bodyfit.cli.main import main
from bodyfit.errors import OptionError, VideoError
from bodyfit.io import ClipKeypoints, VideoReader, VideoWriter, load_keypoints
from bodyfit.io.clips.frame_folder import clips_in_folder, natural_order
from bodyfit.keypoints import convert_keypoints

SIZE = (48, 32)


def _picture(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Grey that names its frame, with a red corner at the top left."""
    pixels = np.full((size[1], size[0], 3), 20 + 8 * number, np.uint8)
    pixels[:8, :8] = (230, 20, 20)
    return Image.fromarray(pixels)


def _numbers(reader: VideoReader) -> list[int]:
    return [round((float(frame.image[20:, 20:].mean()) - 20) / 8) for frame in reader]


def _folder(path: Path, names: list[str], size: tuple[int, int] = SIZE) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        _picture(i, size).save(path / name)
    return path


def test_frames_come_as_people_count_and_each_at_its_time(tmp_path):
    folder = _folder(tmp_path / "f", [f"shot2_frame{n}.png" for n in range(8, 12)])
    reader = VideoReader(folder, fps=20)
    frames = list(reader)
    assert _numbers(reader) == [0, 1, 2, 3]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.path.name for frame in frames if frame.path] == [f"shot2_frame{n}.png" for n in range(8, 12)]
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(4) / 20)
    assert (reader.size, reader.fps, reader.expected, reader.notes) == (SIZE, 20.0, 4, ())
    assert [path.name for path in natural_order([Path("b10"), Path("B9"), Path("b1")])] == ["b1", "B9", "b10"]
    part = VideoReader(folder, fps=20, start_s=0.05, stride=2, max_side_px=24)
    assert [(frame.index, frame.size) for frame in part] == [(1, (24, 16)), (3, (24, 16))]


def test_a_gap_in_the_numbers_is_a_gap_in_time(tmp_path):
    folder = _folder(tmp_path / "f", [f"{n:03d}.jpg" for n in (4, 5, 6, 9, 10)])
    reader = VideoReader(folder, fps=10)
    np.testing.assert_allclose([frame.time_s for frame in reader], [0.0, 0.1, 0.2, 0.5, 0.6])
    assert [frame.index for frame in reader] == [0, 1, 2, 3, 4]
    assert "2 frames missing" in reader.notes[0]
    assert "006.jpg" in reader.notes[0]


@pytest.mark.parametrize(
    ("names", "times", "note"),
    [
        (["a0.png", "a5.png", "a10.png"], [0.0, 0.1, 0.2], None),  # every fifth was kept
        (["t1700000000033.png", "t1700000000066.png", "t1700000000100.png"], [0.0, 0.1, 0.2], "count no frames"),
        (["end.png", "middle.png", "start.png"], [0.0, 0.1, 0.2], None),
        (["2024-01-31 a.png", "2024-02-01 a.png"], [0.0, 0.1], None),  # two numbers differ
        (["only.png"], [0.0], None),
    ],
)
def test_numbers_that_count_no_frames_are_no_times(tmp_path, names, times, note):
    reader = VideoReader(_folder(tmp_path / "f", names), fps=10)
    assert _numbers(reader) == list(range(len(names)))
    np.testing.assert_allclose([frame.time_s for frame in reader], times)
    assert (note in reader.notes[0]) if note else reader.notes == ()


def test_what_is_not_one_clip_is_told_with_the_files_name(tmp_path):
    odd = _folder(tmp_path / "odd", [f"f{n}.png" for n in range(4)])
    _picture(2, (32, 48)).save(odd / "f2.png")
    cases = {
        odd: r"f2\.png is 32x48 and other frames of .* are 48x32",
        _folder(tmp_path / "two", ["left_1.png", "left_2.png", "right_1.png", "right_2.png"]): "two sequences",
        _folder(tmp_path / "same", ["f1.png", "f1.jpg", "f2.png"]): r"f1\.(png|jpg) and .*f1\.(png|jpg) have the same",
        _folder(tmp_path / "empty", []): "has no pictures",
    }
    for folder, says in cases.items():
        with pytest.raises(VideoError, match=says):
            VideoReader(folder, fps=10)
    with pytest.raises(VideoError, match="fps=30"):
        VideoReader(_folder(tmp_path / "good", ["f1.png"]))
    with pytest.raises(OptionError, match="fps"):
        VideoReader(tmp_path / "good", fps=0)


def test_pictures_that_cannot_be_read_are_named_and_cost_themselves(tmp_path):
    folder = _folder(tmp_path / "f", [f"f{n}.png" for n in range(6)])
    (folder / "f1.png").write_bytes(b"")
    data = (folder / "f3.png").read_bytes()
    (folder / "f3.png").write_bytes(data[: len(data) // 2])  # its size can be read, the rest cannot
    (folder / "notes.txt").write_text("no picture")
    reader = VideoReader(folder, fps=10)
    frames = list(reader)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    np.testing.assert_allclose([frame.time_s for frame in frames], [0.0, 0.2, 0.4, 0.5])
    assert reader.skipped == 1
    assert [name for name in ("f1.png", "f3.png", "notes.txt") if name in " ".join(reader.notes)] == [
        "f1.png",
        "f3.png",
        "notes.txt",
    ]


def test_frames_stand_upright_by_their_exif(tmp_path):
    folder = _folder(tmp_path / "f", [])
    exif = Image.Exif()
    exif[0x0112] = 6
    for n in range(2):
        _picture(n).save(folder / f"{n}.jpg", exif=exif)
    reader = VideoReader(folder, fps=10)
    image = next(iter(reader)).image
    assert image.shape[:2] == reader.size[::-1] == SIZE
    np.testing.assert_allclose(image[1:6, -6:-1].mean((0, 1)), (230, 20, 20), atol=20)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animated_picture_is_a_clip_with_its_own_times(tmp_path, suffix):
    """Frames that claim to take no time are shown for a tenth of a second, as browsers do."""
    pictures, durations = [_picture(i) for i in range(5)], [40, 120, 0, 40, 80]
    path = tmp_path / f"a{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, **lossless)
    reader = VideoReader(path)
    frames = list(reader)
    assert _numbers(reader) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([frame.time_s for frame in frames], [0.0, 0.04, 0.16, 0.26, 0.30], atol=1e-6)
    assert reader.clip_s == pytest.approx(0.38)
    assert reader.expected == 5
    assert (reader.skipped, reader.has_sound) == (0, False)
    np.testing.assert_allclose(frames[0].image[:8, :8].mean((0, 1)), (230, 20, 20), atol=3)
    assert [frame.index for frame in VideoReader(path, start_s=0.16, end_s=0.29)] == [2, 3]
    with pytest.raises(VideoError, match="leave out fps"):
        VideoReader(path, fps=10)


def test_half_an_animation_gives_what_is_there(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (32, 48, 3), np.uint8)) for _ in range(6)]
    path = tmp_path / "a.png"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    path.write_bytes(path.read_bytes()[:15000])
    reader = VideoReader(path)
    assert 1 <= len(list(reader)) < 6
    assert reader.cut_short


def test_pages_need_a_rate_and_views_of_one_moment_are_no_clip(tmp_path):
    pictures = [_picture(i) for i in range(3)]
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:])
    with pytest.raises(VideoError, match="fps=30"):
        VideoReader(tmp_path / "a.tif")
    assert _numbers(VideoReader(tmp_path / "a.tif", fps=5)) == [0, 1, 2]
    pictures[0].save(tmp_path / "a.mpo", save_all=True, append_images=pictures[1:])
    with pytest.raises(VideoError, match="one moment"):
        VideoReader(tmp_path / "a.mpo")
    for name in ("a.jpg", "b.png", "c.webp", "d.gif"):
        pictures[0].save(tmp_path / name)
        with pytest.raises(VideoError, match="bodyfit fit"):
            VideoReader(tmp_path / name)


def _film(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, SIZE, 10.0) as film:
        for _ in range(3):
            film.write(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    return path


def test_folders_of_clips_and_folders_of_frames_are_told_apart(tmp_path):
    _film(tmp_path / "clips/a.mp4")
    _film(tmp_path / "clips/b.mp4")
    _picture(0).save(tmp_path / "clips/c.webp", save_all=True, append_images=[_picture(1)])
    (tmp_path / "clips/notes.txt").write_text("words")
    inside = clips_in_folder(tmp_path / "clips")
    assert inside is not None
    assert [path.name for path in inside.clips] == ["a.mp4", "b.mp4", "c.webp"]
    assert clips_in_folder(_folder(tmp_path / "frames", ["f1.png", "f2.png"])) is None
    _film(tmp_path / "both/a.mp4")
    _folder(tmp_path / "both", ["f1.png"])
    with pytest.raises(VideoError, match=r"f1\.png.*a\.mp4"):
        clips_in_folder(tmp_path / "both")
    with pytest.raises(VideoError, match="neither"):
        clips_in_folder(_folder(tmp_path / "empty", []))


def test_the_command_says_what_a_folder_lacks(tmp_path, capsys):
    folder = _folder(tmp_path / "frames", ["f1.png", "f2.png"])
    assert main(["video", str(folder), "-o", str(tmp_path / "out")]) == 2
    assert "--fps 30" in capsys.readouterr().err
    _folder(tmp_path / "empty", [])
    assert main(["video", str(tmp_path / "empty"), "-o", str(tmp_path / "out")]) == 2
    assert "neither clips nor pictures" in capsys.readouterr().err


def test_keypoints_of_frames_are_found_by_the_pictures_names(tmp_path):
    """Numbered from any number on, with gaps."""
    numbers = [7, 8, 9, 12, 13, 14]
    folder = _folder(tmp_path / "frames", [f"im_{n:04d}.png" for n in numbers])
    coco = np.random.default_rng(0).uniform((2, 2, 0.8), (46, 30, 1.0), (17, 3)).astype(np.float32)
    for n in numbers:
        moved = convert_keypoints(coco + np.array((0.1 * n, 0, 0), np.float32), "coco17", "openpose25")[0]
        entry = {"people": [{"pose_keypoints_2d": moved.ravel().tolist()}]}
        path = tmp_path / "kp" / f"im_{n:04d}_keypoints.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(entry))
    found = ClipKeypoints(load_keypoints(tmp_path / "kp"), folder)
    assert found.unused == ()
    watched = watch_clip(VideoReader(folder, fps=10), found)
    assert [trail.frames for trail in watched.trails] == [[0, 1, 2, 3, 4, 5]]
    np.testing.assert_allclose(watched.trails[0].times_s, [0.0, 0.1, 0.2, 0.5, 0.6, 0.7])
    nose = [person.xyc[0, 0] for person in watched.trails[0].people]
    np.testing.assert_allclose(np.diff(nose), 0.1 * np.diff(numbers), atol=1e-3)
