"""Clips are read as they were shot, whatever the file, and written without losing a frame."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bodyfit.errors import OptionError, OutputError, ShapeError, VideoError
from bodyfit.io import VideoReader, VideoWriter

RATE = 25.0


def _picture(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """A grey ramp that names its frame by the brightness of its left half, with a red corner at the top left."""
    picture = np.full((size[1], size[0], 3), 60, np.uint8)
    picture[:, : size[0] // 2] = 8 * (number % 32)
    picture[: size[1] // 4, : size[0] // 4] = (230, 20, 20)
    return picture


def _number(picture: np.ndarray) -> int:
    """The frame that a picture of `_picture` is."""
    h, w = picture.shape[:2]
    return round(float(picture[h // 2 : -4, 4 : w // 2 - 8].mean()) / 8)


def _clip(path: Path, n: int = 20, size: tuple[int, int] = (96, 64), times=None, **options) -> Path:
    with VideoWriter(path, size, RATE, **options) as film:
        for i in range(n):
            film.write(_picture(i, size), None if times is None else times[i])
    return path


def _encoded(
    path: Path, codec: str, pix_fmt: str, *, n: int = 12, sound: str | None = None, gop: int = 4, **kind
) -> Path:
    """A clip by PyAV alone, in any container and codec, with a tone."""
    with av.open(str(path), "w", **kind) as container:
        video = container.add_stream(codec, rate=int(RATE))
        video.width, video.height, video.pix_fmt, video.gop_size = 96, 64, pix_fmt, gop
        tone = container.add_stream(sound, rate=48000) if sound else None
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(_picture(i), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, int(RATE))
            container.mux(video.encode(frame))
            if tone is not None:
                wave = (3000 * np.sin(np.arange(1920) * 0.1)).astype(np.int16)
                heard = av.AudioFrame.from_ndarray(
                    np.stack([wave, wave]).T.reshape(1, -1), format="s16", layout="stereo"
                )
                heard.sample_rate, heard.pts, heard.time_base = 48000, i * 1920, Fraction(1, 48000)
                container.mux(tone.encode(heard))
        for stream in (video, tone):
            if stream is not None:
                container.mux(stream.encode(None))
    return path


def _turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write the upper left of the track header's matrix (ISO/IEC 14496-12, 8.3.2), as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0
    one = {0: bytes(4), 1: (1 << 16).to_bytes(4, "big"), -1: (-(1 << 16)).to_bytes(4, "big", signed=True)}
    a, b, c, d = (one[v] for v in matrix)
    data[at : at + 20] = a + b + bytes(4) + c + d
    path.write_bytes(data)


def test_no_frame_is_lost_and_times_and_colours_stay(tmp_path):
    path = _clip(tmp_path / "a.mp4")
    reader = VideoReader(path)
    frames = list(reader)
    assert (reader.size, reader.fps, reader.expected, reader.skipped) == ((96, 64), RATE, 20, 0)
    assert [frame.index for frame in frames] == list(range(20))
    assert [_number(frame.image) for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(20) / RATE, atol=1e-9)
    for i in (0, 7, 19):  # x264 at this quality, and colour at half the resolution
        np.testing.assert_allclose(frames[i].image[4:12, 4:20].mean((0, 1)), (230, 20, 20), atol=6)


def test_reading_again_starts_anew(tmp_path):
    reader = VideoReader(_clip(tmp_path / "a.mp4", 5))
    assert [f.index for f in reader] == [f.index for f in reader] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), 50.0, 12.5, Fraction(1, 2)])
def test_the_frame_rate_is_kept(tmp_path, rate):
    with VideoWriter(tmp_path / "r.mp4", (64, 48), rate) as film:
        for _ in range(9):
            film.write(np.zeros((48, 64, 3), np.uint8))
    reader = VideoReader(tmp_path / "r.mp4")
    assert reader.rate == rate
    assert len(list(reader)) == reader.expected == 9


def test_unequal_times_are_kept(tmp_path):
    times = np.cumsum([0, 0.033, 0.067, 0.033, 0.4, 0.017, 0.1])
    path = _clip(tmp_path / "v.mp4", 7, times=times.tolist())
    reader = VideoReader(path)
    np.testing.assert_allclose([f.time_s for f in reader], times, atol=1e-4)  # ticks of 1/16000 s
    assert reader.duration_s == pytest.approx(times[-1] + 1 / RATE, abs=1e-3)


def _as_players_show(stored: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Each pixel where the matrix a b c d puts it: (x, y) at (a x + c y, b x + d y), up to a shift."""
    a, b, c, d = matrix
    y, x = np.indices(stored.shape[:2])
    x, y = a * x + c * y, b * x + d * y
    x, y = x - x.min(), y - y.min()
    shown = np.zeros((y.max() + 1, x.max() + 1, 3), stored.dtype)
    shown[y, x] = stored
    return shown


MATRICES = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)]
MATRICES += [(0, -1, -1, 0)]
"""The four turns, as phones write them, and their mirror images, as front cameras and editors do."""


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_clips_stand_as_players_show_them(tmp_path, matrix, suffix):
    """Upright, and left and right not exchanged: all eight display matrices."""
    stored = next(iter(VideoReader(_clip(tmp_path / "a.mp4", 2)))).image
    path = tmp_path / "a.mp4"
    _turn(path, matrix)
    if suffix != "mp4":
        path = _copied(path, tmp_path / f"b.{suffix}")
    reader = VideoReader(path)
    image = next(iter(reader)).image
    expected = _as_players_show(stored, matrix)
    assert image.shape[:2] == reader.size[::-1] == reader.full_size[::-1] == expected.shape[:2]
    np.testing.assert_array_equal(image, expected)
    smaller = VideoReader(path, max_side_px=48)
    image = next(iter(smaller)).image
    assert image.shape[:2] == smaller.size[::-1]
    assert np.abs(image.astype(float) - expected[::2, ::2]).mean() < 3  # a mirrored one is off by 40


def _copied(path: Path, to: Path) -> Path:
    """The same stream in another container, with what is said of its display."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return to


def test_a_display_matrix_of_zeros_is_none(tmp_path):
    path = _clip(tmp_path / "a.mp4", 2)
    stored = next(iter(VideoReader(path))).image
    _turn(path, (0, 0, 0, 0))
    np.testing.assert_array_equal(next(iter(VideoReader(path))).image, stored)


def test_odd_sizes_are_padded_by_their_edge(tmp_path):
    path = _clip(tmp_path / "odd.mp4", 3, size=(97, 63))
    reader = VideoReader(path)
    assert reader.size == (98, 64)
    image = next(iter(reader)).image
    np.testing.assert_allclose(image[:, 97].astype(int), image[:, 96].astype(int), atol=6)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("ten.mp4", "libx264", "yuv420p10le"),
        ("full.mp4", "mjpeg", "yuvj420p"),
        ("rgb.mkv", "ffv1", "bgr0"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("old.avi", "mpeg4", "yuv420p"),
        ("broadcast.ts", "libx264", "yuv422p"),  # starts at 1.4 s
    ],
)
def test_any_codec_and_depth_gives_the_same_frames(tmp_path, name, codec, pix_fmt):
    reader = VideoReader(_encoded(tmp_path / name, codec, pix_fmt))
    frames = list(reader)
    assert [_number(f.image) for f in frames] == list(range(12))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(12) / RATE, atol=2e-3)
    np.testing.assert_allclose(frames[0].image[4:12, 4:20].mean((0, 1)), (230, 20, 20), atol=12)


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    with av.open(str(tmp_path / "dv.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=int(RATE))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(_picture(0), format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    reader = VideoReader(tmp_path / "dv.mp4")
    assert reader.size == (128, 64)
    assert next(iter(reader)).image.shape == (64, 128, 3)


def test_a_part_of_a_clip(tmp_path):
    path = _clip(tmp_path / "a.mp4", 60)
    part = list(VideoReader(path, start_s=1.0, end_s=1.6, stride=5))
    assert [f.index for f in part] == [25, 30, 35]
    assert [_number(f.image) for f in part] == [25, 30, 3]
    np.testing.assert_allclose([f.time_s for f in part], [1.0, 1.2, 1.4])
    assert VideoReader(path, stride=5).fps == RATE / 5
    assert VideoReader(path, start_s=1.0, end_s=1.6, stride=5).expected == 3
    assert list(VideoReader(path, start_s=99.0)) == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_part_of_an_uneven_clip_has_the_numbers_of_the_whole(tmp_path, suffix):
    times = np.r_[np.arange(20) / 25, 3 + np.arange(40) / 12.5]
    path = _copied(_clip(tmp_path / "a.mp4", 60, times=times.tolist()), tmp_path / f"b.{suffix}")
    whole = {frame.index: frame for frame in VideoReader(path)}
    for start_s in (0.5, 2.0, 4.9):
        part = list(VideoReader(path, start_s=start_s))
        assert len(part) == (times >= start_s - 1e-3).sum()
        for frame in part:
            assert frame.time_s == whole[frame.index].time_s
            assert _number(frame.image) == _number(whole[frame.index].image)


@pytest.mark.parametrize("options", [{"start_s": -1.0}, {"start_s": 2.0, "end_s": 1.0}, {"end_s": 0.0}, {"stride": 0}])
def test_parts_that_cannot_be_are_refused(tmp_path, options):
    with pytest.raises(OptionError):
        VideoReader(_clip(tmp_path / "a.mp4", 2), **options)


def test_a_file_that_ends_early_gives_what_is_there(tmp_path):
    path = _encoded(tmp_path / "a.mkv", "libx264", "yuv420p", n=40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    numbers = [_number(f.image) for f in VideoReader(path)]
    assert 5 < len(numbers) < 35
    assert numbers == [i % 32 for i in range(len(numbers))]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.avi", "mpeg4", "yuv420p"), ("a.mkv", "ffv1", "bgr0"), ("b.mkv", "libx264", "yuv420p")],
)
def test_damaged_frames_are_counted_and_the_others_come(tmp_path, name, codec, pix_fmt):
    path = _encoded(tmp_path / name, codec, pix_fmt, n=30, gop=1)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in places[10:13]:
        # A third of the frame stays, else some containers lose the ones after it too.
        first = at + size // 3 if codec != "mpeg4" else at
        data[first : at + size] = bytes(b ^ 0x5A if codec != "mpeg4" else 0 for b in data[first : at + size])
    path.write_bytes(data)
    reader = VideoReader(path)
    numbers = [_number(f.image) for f in reader]
    assert numbers == [*range(10), *range(13, 30)]
    assert reader.skipped == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.mp4", None, "does not exist"),
        ("empty.mp4", b"", "0 bytes"),
        ("text.mp4", b"not a video at all\n" * 50, "no clip that can be read"),
        (
            "list.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\na.ts\n#EXT-X-ENDLIST\n",
            "no clip that can be read",
        ),
        ("join.mp4", b"ffconcat version 1.0\nfile 'a.mp4'\n", "no clip that can be read"),
        ("note.txt", b"\x1b[31mhello", "no clip that can be read"),
    ],
)
def test_what_is_no_clip_is_said(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=says) as caught:
        VideoReader(tmp_path / name)
    assert name in str(caught.value)


def test_pictures_sounds_and_folders_are_no_clips(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    with pytest.raises(VideoError, match="bodyfit fit"):
        VideoReader(tmp_path / "p.png")
    with pytest.raises(VideoError, match="folder"):
        VideoReader(tmp_path)
    (tmp_path / "link.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(VideoError, match=r"link to nowhere\.mp4, which does not exist"):
        VideoReader(tmp_path / "link.mp4")
    with av.open(str(tmp_path / "s.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="only sound"):
        VideoReader(tmp_path / "s.mp4")


def _streams(path: Path, sizes: list[tuple[int, int]], *, sound: str | None = None, cover: bool = False, default=()):
    """A file of several films, frame n of each 8 n bright on the left, a tone and a cover picture."""
    from av.stream import Disposition

    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4a" else None) as container:
        films = []
        for width, height in sizes:
            film = container.add_stream("libx264", rate=int(RATE))
            film.width, film.height, film.pix_fmt = width, height, "yuv420p"
            films.append(film)
        for number in default:
            films[number].disposition = Disposition.default
        tone = container.add_stream(sound, rate=48000) if sound else None
        if cover:
            picture = container.add_stream("mjpeg")
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            container.mux(picture.encode(_yuv(np.full((64, 64, 3), 200, np.uint8), "yuvj420p", 0)))
            container.mux(picture.encode(None))
        for i in range(8):
            for film in films:
                container.mux(film.encode(_yuv(_picture(i, (film.width, film.height)), "yuv420p", i)))
            if tone is not None:
                heard = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1920), np.int16), format="s16", layout="stereo")
                heard.sample_rate, heard.pts, heard.time_base = 48000, i * 1920, Fraction(1, 48000)
                container.mux(tone.encode(heard))
        for stream in (*films, *([tone] if tone else [])):
            container.mux(stream.encode(None))
    return path


def _yuv(picture: np.ndarray, pix_fmt: str, number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    frame.pts, frame.time_base = number, Fraction(1, int(RATE))
    return frame


def _boxes(data: bytes) -> list[bytes]:
    """The boxes that lie one after the other in an mp4 or in one of its boxes."""
    boxes, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at : at + size])
        at += size
    return boxes


def test_a_cover_picture_is_not_the_film_wherever_it_lies(tmp_path):
    path = _streams(tmp_path / "a.mp4", [(96, 64)], cover=True)
    data = _boxes(path.read_bytes())
    moov = next(box for box in data if box[4:8] == b"moov")
    inside = _boxes(moov[8:])
    assert inside[-1][4:8] == b"udta"
    turned = moov[:8] + inside[0] + inside[-1] + b"".join(inside[1:-1])
    (tmp_path / "b.mp4").write_bytes(b"".join(turned if box is moov else box for box in data))
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
    for name in ("a.mp4", "b.mp4"):
        reader = VideoReader(tmp_path / name)
        assert reader.size == (96, 64)
        assert [_number(frame.image) for frame in reader] == list(range(8))


@pytest.mark.parametrize(
    ("sizes", "default", "shown"),
    [
        ([(96, 72), (192, 144)], (), 1),  # a preview before the film
        ([(192, 144), (96, 72)], (), 0),
        ([(96, 72), (192, 144)], (0,), 0),  # as FFmpeg: what the file calls default goes before a larger one
        ([(96, 72), (192, 144)], (0, 1), 1),
    ],
)
def test_of_several_films_the_one_that_players_show_is_read(tmp_path, sizes, default, shown):
    path = _streams(tmp_path / "a.mkv", sizes, default=default)
    reader = VideoReader(path)
    assert reader.size == sizes[shown]
    assert [_number(frame.image) for frame in reader] == list(range(8))


def test_a_film_that_cannot_be_decoded_makes_room_for_the_next(tmp_path):
    path = _streams(tmp_path / "a.mkv", [(192, 144), (96, 72)])
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for at, size in places:
        data[at + 20 : at + size] = bytes(size - 20)
    path.write_bytes(data)
    assert VideoReader(path).size == (96, 72)


def test_a_song_with_a_cover_is_only_sound(tmp_path):
    for name, sound in (("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("b.mp3", "libmp3lame")):
        path = _streams(tmp_path / name, [], sound=sound, cover=name[0] == "a")
        with pytest.raises(VideoError, match="only sound") as caught:
            VideoReader(path)
        assert name in str(caught.value)


def test_the_sound_that_goes_along_is_in_step_with_the_film_that_is_shown(tmp_path):
    path = _streams(tmp_path / "a.mkv", [(96, 72), (192, 144)], sound="aac")
    with VideoWriter(tmp_path / "out.mp4", (192, 144), RATE, sound_from=path) as film:
        for frame in VideoReader(path):
            film.write(frame.image, frame.time_s)
    with av.open(str(tmp_path / "out.mp4")) as container:
        (heard,) = container.streams.audio
        assert float(heard.duration * heard.time_base) == pytest.approx(8 / RATE, abs=0.05)


def test_names_and_what_streams_say_of_themselves_may_be_in_any_encoding(tmp_path):
    path = _clip(tmp_path / "a.mp4", 3)
    path.write_bytes(path.read_bytes().replace(b"VideoHandler", b"Vid\xe9o\xff \x80 tra"))
    other = os.fsencode(tmp_path) + b"/caf\xe9 %03d#?.mp4"
    try:
        Path(os.fsdecode(other)).write_bytes(path.read_bytes())
    except OSError:
        pytest.skip("this file system takes no such names")
    for name in (path, Path(os.fsdecode(other))):
        assert len(list(VideoReader(name))) == 3


def test_a_recording_that_was_cut_off_says_so(tmp_path):
    path = _encoded(tmp_path / "a.mp4", "libx264", "yuv420p")  # its index is at the end
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(VideoError, match="its end is missing"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("name", "sound", "kind"), [("a.mp4", "aac", {}), ("a.mov", "pcm_s16le", {}), ("a.mkv", "libopus", {})]
)
def test_sound_goes_along_in_step(tmp_path, name, sound, kind):
    source = _encoded(tmp_path / name, "libx264", "yuv420p", n=50, sound=sound, **kind)
    reader = VideoReader(source)
    assert reader.has_sound
    with VideoWriter(tmp_path / "out.mp4", reader.size, reader.rate, sound_from=source) as film:
        for frame in reader:
            film.write(frame.image, frame.time_s)
    with av.open(str(tmp_path / "out.mp4")) as container:
        (heard,) = container.streams.audio
        seconds = float(heard.duration * heard.time_base)
        assert heard.codec_context.name == "aac"
        assert seconds == pytest.approx(2.0, abs=0.05)  # of 50 frames; AAC's blocks last 21 ms
        assert float((heard.start_time or 0) * heard.time_base) == pytest.approx(0.0, abs=0.03)
        loud = np.concatenate([f.to_ndarray().ravel() for f in container.decode(heard)])
    assert np.abs(loud).max() > 0.05
    assert len(list(VideoReader(tmp_path / "out.mp4"))) == 50


def test_the_sound_of_a_part_is_of_that_part(tmp_path):
    source = _encoded(tmp_path / "a.mp4", "libx264", "yuv420p", n=75, sound="aac")
    reader = VideoReader(source, start_s=1.0, end_s=2.0)
    with VideoWriter(tmp_path / "out.mp4", reader.size, reader.rate, sound_from=source, sound_start_s=1.0) as film:
        for frame in reader:
            film.write(frame.image, frame.time_s - 1.0)
    with av.open(str(tmp_path / "out.mp4")) as container:
        (heard,) = container.streams.audio
        assert float(heard.duration * heard.time_base) == pytest.approx(1.0, abs=0.05)


def test_a_gif_has_every_frame(tmp_path):
    path = _clip(tmp_path / "a.gif", 12)
    frames = list(VideoReader(path))
    assert [_number(f.image) for f in frames] == list(range(12))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(12) / RATE, atol=0.005)  # hundredths
    assert frames[0].image[2, 2].tolist() == [230, 20, 20]


def test_a_failed_film_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", (64, 48), RATE) as film:  # noqa: PT012
        film.write(np.zeros((48, 64, 3), np.uint8))
        raise RuntimeError
    with pytest.raises(OutputError, match="no picture"), VideoWriter(tmp_path / "b.mp4", (64, 48), RATE):
        pass
    with pytest.raises(ShapeError), VideoWriter(tmp_path / "c.mp4", (64, 48), RATE) as film:
        film.write(np.zeros((64, 48, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_films_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.avi", (64, 48), RATE)
    with pytest.raises(OptionError, match="fps"):
        VideoWriter(tmp_path / "a.mp4", (64, 48), 0.0)
    with pytest.raises(OptionError, match="size"):
        VideoWriter(tmp_path / "a.mp4", (64, 1), RATE)
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        VideoWriter(tmp_path / "file" / "a.mp4", (64, 48), RATE),
    ):
        pass


def test_names_may_hold_anything(tmp_path):
    path = _clip(tmp_path / "a:b %d 'ü'.mp4", 3)
    assert len(list(VideoReader(path))) == 3
