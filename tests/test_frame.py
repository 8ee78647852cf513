"""Pictures of every kind become the same RGB; what is no picture is refused in words."""

from __future__ import annotations

import io
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, features

from bodyfit.errors import ImageError
from bodyfit.images.files import list_folder
from bodyfit.images.frame import exif_focal_px, find_images, image_size, is_animation, read_image

# EXIF tags by number, so that the tests do not lean on the module's own names.
ORIENTATION, EXIF_IFD = 0x0112, 0x8769
FOCAL, FOCAL_35, PLANE_X, PLANE_UNIT, WIDTH, HEIGHT = 0x920A, 0xA405, 0xA20E, 0xA210, 0xA002, 0xA003


@pytest.fixture
def ramp() -> Image.Image:
    """An RGB picture in which no two corners are alike."""
    x, y = np.meshgrid(np.linspace(0, 255, 40), np.linspace(0, 255, 30))
    return Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8))


def _save_with_exif(image: Image.Image, path, *, orientation: int | None = None, lossless=None, **tags) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    names = {"focal": FOCAL, "focal_35": FOCAL_35, "plane_x": PLANE_X, "unit": PLANE_UNIT, "w": WIDTH, "h": HEIGHT}
    exif.get_ifd(EXIF_IFD).update({names[k]: v for k, v in tags.items()})
    exif[EXIF_IFD] = 0  # Pillow puts the place there; without, its TIFF and AVIF leave the tags out
    data = exif.tobytes() if str(path).endswith(".heic") else exif
    image.save(path, exif=data, **({} if lossless is None else {"lossless": lossless}))


def test_png_is_read_exactly(tmp_path, ramp):
    ramp.save(tmp_path / "a.png")
    frame = read_image(tmp_path / "a.png")
    assert np.array_equal(frame.image, np.asarray(ramp))
    assert frame.size == (40, 30)
    assert frame.image.flags.writeable
    assert frame.exif_focal_px is None


_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif", "a.heic"])
def test_exif_orientation_is_undone(tmp_path, ramp, name, orientation):
    """Of every format, and the focal length stays that of the longer side."""
    if name == "a.heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    lossless = {"lossless": True} if name == "a.webp" else {}
    _save_with_exif(ramp, tmp_path / name, orientation=orientation, focal_35=26.0, w=40, h=30, **lossless)
    frame = read_image(tmp_path / name)
    expected = _TURNS[orientation](np.asarray(ramp))
    assert frame.image.shape == expected.shape
    off = np.abs(frame.image.astype(float) - expected).mean()  # any other orientation is off by 60 and more
    assert off == 0 if name in ("a.png", "a.webp", "a.tif") else off < 4
    assert frame.size == image_size(tmp_path / name)
    assert frame.exif_focal_px == pytest.approx(26 / 36 * 40)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "RGBA", "PA", "LAB", "HSV"])
def test_every_mode_becomes_rgb(tmp_path, ramp, mode):
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.tiff" if mode in ("LAB", "PA") else "a.png")
    image = ramp.convert("RGB").convert("LA").convert("PA") if mode == "PA" else None
    if mode == "LAB":
        image = Image.merge("LAB", ramp.split())
    if mode == "HSV":
        image = ramp.convert("HSV").convert("RGB")
    try:
        (image or ramp.convert(mode)).save(path)
    except (OSError, ValueError):
        pytest.skip(f"Pillow writes no {mode}")
    frame = read_image(path)
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (30, 40, 3)


def test_cmyk_keeps_its_colours(tmp_path):
    Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    # JPEG at quality 95 changes a flat colour by a few steps; an inverted CMYK would be off by a hundred.
    assert np.abs(read_image(tmp_path / "a.jpg").image.astype(int) - (200, 30, 60)).max() <= 6


def test_transparency_becomes_white(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255  # opaque black above, fully transparent black below
    rgba[4, :, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png").image
    assert (image[:4] == 0).all()
    assert (image[5:] == 255).all()
    assert (np.abs(image[4].astype(int) - 127) <= 1).all()


def test_palette_and_rgb_transparency_become_white(tmp_path, ramp):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    assert (read_image(tmp_path / "p.png").image == 255).all()
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "rgb.png", transparency=(9, 9, 9))
    assert (read_image(tmp_path / "rgb.png").image == 255).all()


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, kind):
    values = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    image = read_image(tmp_path / f"a.{kind}").image
    assert np.array_equal(image[0, :, 0], np.arange(256))  # 65535 / 255 = 257 exactly
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()


def test_integers_and_floats_of_32_bits(tmp_path):
    Image.fromarray(np.full((4, 4), 65535, np.int32)).save(tmp_path / "i.tiff")
    assert (read_image(tmp_path / "i.tiff").image == 255).all()
    for white in (1.0, 255.0, 65535.0):
        Image.fromarray(np.array([[0, white], [white / 2, np.nan]], np.float32)).save(tmp_path / "f.tiff")
        assert read_image(tmp_path / "f.tiff").image[..., 0].tolist() == [[0, 255], [128, 0]]


def test_first_frame_of_an_animation(tmp_path, ramp):
    other = Image.new("RGB", ramp.size)
    ramp.save(tmp_path / "a.webp", save_all=True, append_images=[other], lossless=True)
    assert np.array_equal(read_image(tmp_path / "a.webp").image, np.asarray(ramp))


def _bytes(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.jpg", None, "does not exist"),
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"<html>404</html>", "it holds text"),
        ("noise.png", bytes(range(256)) * 4, "give JPEG, PNG"),
        ("phone.heic", b"\x00\x00\x00\x18ftypheic" + bytes(64), "HEIC"),
        ("clip.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(64), "video"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=says) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)


def test_heic_is_read_where_its_reader_is_installed(tmp_path, monkeypatch):
    """By pillow-heif, which the user installs; here by one that knows a single picture."""
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(64))
    assert find_images([tmp_path]) == [path]  # said to be unreadable rather than left out
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        read_image(path)
    picture, opened = Image.new("RGB", (4, 3), "red"), Image.open
    register = SimpleNamespace(
        register_heif_opener=lambda: monkeypatch.setattr(
            Image, "open", lambda _: opened(io.BytesIO(_bytes(picture, "PNG")))
        )
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", register)
    assert read_image(path).size == (4, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.97])
def test_half_a_picture_is_refused(tmp_path, kind, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = _bytes(noise, kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ImageError, match="half"):
        read_image(path)


def test_folder_is_no_picture(tmp_path):
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_null_character_in_a_name():
    with pytest.raises(ImageError):
        read_image("a\0b.jpg")


def test_huge_picture_is_refused_by_its_header(tmp_path):
    # A PNG header of 60000 x 60000 with no data behind: must be refused before memory is asked for.
    whole = bytearray(_bytes(Image.new("L", (1, 1)), "PNG"))
    import struct
    import zlib

    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    whole[12:33] = ihdr + struct.pack(">I", zlib.crc32(ihdr))
    (tmp_path / "bomb.png").write_bytes(bytes(whole))
    with pytest.raises(ImageError, match="million pixels"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path, ramp):
    ramp.save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageError, match="permission"):
        read_image(tmp_path / "a.png")


def test_unreadable_file_as_root_sees_it(tmp_path, ramp, monkeypatch):
    ramp.save(tmp_path / "a.png")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ImageError, match="permission denied"):
        read_image(tmp_path / "a.png")


def test_focal_length_by_exif(tmp_path, ramp):
    big = ramp.resize((400, 300))
    _save_with_exif(big, tmp_path / "35.jpg", focal_35=27)
    assert read_image(tmp_path / "35.jpg").exif_focal_px == pytest.approx(27 / 36 * 400)
    # A sensor of 400 px over 10 mm with a 20 mm lens: 800 px.
    _save_with_exif(big, tmp_path / "cm.jpg", focal=20.0, plane_x=400.0, unit=3)
    assert read_image(tmp_path / "cm.jpg").exif_focal_px == pytest.approx(800)
    _save_with_exif(big, tmp_path / "inch.jpg", focal=20.0, plane_x=1016.0, unit=2)
    assert read_image(tmp_path / "inch.jpg").exif_focal_px == pytest.approx(800)


def test_focal_length_follows_a_resize_and_not_a_crop():
    tags = {FOCAL: 20.0, PLANE_X: 4000.0, PLANE_UNIT: 3, WIDTH: 4000, HEIGHT: 3000}
    assert exif_focal_px(tags, (4000, 3000)) == pytest.approx(8000)
    assert exif_focal_px(tags, (1000, 750)) == pytest.approx(2000)
    assert exif_focal_px(tags, (750, 1000)) == pytest.approx(2000)  # upright, by EXIF's rotation
    assert exif_focal_px(tags, (1000, 1000)) == pytest.approx(8000)
    of_35 = {FOCAL_35: 36, WIDTH: 4000, HEIGHT: 3000}
    assert exif_focal_px(of_35, (1000, 750)) == pytest.approx(1000)
    assert exif_focal_px(of_35, (1000, 1000)) == pytest.approx(4000)
    assert exif_focal_px(of_35, (9000, 1000)) == pytest.approx(9000)  # EXIF's size cannot be true


@pytest.mark.parametrize("value", [0, -5, float("nan"), "wide", None, (1, 2)])
def test_nonsense_in_exif_is_passed_over(value):
    assert exif_focal_px({FOCAL_35: value}, (400, 300)) is None
    assert exif_focal_px({FOCAL: value, PLANE_X: value, PLANE_UNIT: value}, (400, 300)) is None


def test_damaged_exif_does_not_cost_the_picture(tmp_path, ramp):
    ramp.save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert read_image(tmp_path / "a.jpg").size == (40, 30)


def test_find_images_expands_folders_in_order(tmp_path, ramp):
    for name in ("b.JPG", "a.png", "c.tif", ".hidden.jpg", "notes.txt"):
        ramp.convert("RGB").save(tmp_path / name, "PNG")
    (tmp_path / "deep.jpg").mkdir()
    names = [p.name for p in find_images([tmp_path])]
    assert names == ["a.png", "b.JPG", "c.tif"]
    again = find_images([tmp_path / "c.tif", tmp_path, tmp_path / "a.png", tmp_path / "missing.jpg"])
    assert [p.name for p in again] == ["c.tif", "a.png", "b.JPG", "missing.jpg"]


def test_no_file_of_a_folder_goes_unmentioned(tmp_path, ramp):
    """Every file is a picture, found by its ending or its first bytes, or in the sentence about the others."""
    pictures = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.mpo": "MPO", "d.jp2": "JPEG2000", "e.dat": "PNG", "f": "WEBP"}
    for name, kind in pictures.items():
        ramp.save(tmp_path / name, kind)
    (tmp_path / "g.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "h.png").write_bytes(b"")
    (tmp_path / "i.CR2").write_bytes(b"II*\0" + bytes(100))
    for name in ("notes.txt", "film.mp4", "zero", ".hidden.jpg", "data.bin"):
        (tmp_path / name).write_bytes(b"" if name == "zero" else b"some words")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "more").mkdir()
    found = find_images([tmp_path])
    assert [path.name for path in found] == [*pictures, "g.jpg", "h.png", "i.CR2", "pipe.jpg"]
    for path in found[: len(pictures)]:
        assert read_image(path).size == (40, 30)
    for name, says in {"g.jpg": "nowhere.jpg, which does not exist", "h.png": "0 bytes", "i.CR2": "raw"}.items():
        with pytest.raises(ImageError, match=says):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="no plain file"):
        read_image(tmp_path / "pipe.jpg")
    said = list_folder(tmp_path).describe_unused(found)
    assert said is not None
    assert "6 files" in said
    for name in ("notes.txt", "film.mp4", "zero", ".hidden.jpg", "data.bin", "pipe", "1 folder inside", "more"):
        assert name in said
    assert "bodyfit video" in said


def test_what_else_a_file_holds_is_said(tmp_path, ramp):
    others = [ramp.transpose(turn) for turn in (Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT)]
    more = {"save_all": True, "append_images": others}
    for name, says in (
        ("a.tif", "3 pages"),
        ("a.gif", "3 frames"),
        ("a.webp", "3 frames"),
        ("a.png", "3 frames"),
        ("a.mpo", "3 pictures of one moment"),
    ):
        ramp.save(tmp_path / name, **more)
        assert says in read_image(tmp_path / name).note
        assert is_animation(tmp_path / name) == ("frames" in says)
    ramp.save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").note is None
    assert not is_animation(tmp_path / "one.png")


def test_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(ImageError, match="has no pictures"):
        find_images([tmp_path])
