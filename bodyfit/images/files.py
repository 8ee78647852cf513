"""Find pictures by their suffixes or first bytes, and report the files of a folder that are left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from bodyfit.errors import ImageError

__all__ = [
    "CLIP_SUFFIXES",
    "IMAGE_SUFFIXES",
    "RAW_SUFFIXES",
    "Listing",
    "begins_like_image",
    "find_images",
    "image_by_name",
    "list_folder",
    "looks_like_image",
    "no_pictures",
]


def _suffixes(names: str) -> tuple[str, ...]:
    """Return suffixes with their dots."""
    return tuple(f".{name}" for name in names.split())


IMAGE_SUFFIXES = _suffixes(
    "jpg jpeg jpe jfif jif pjpeg mpo jp2 j2k jpx jpf jxl png apng webp bmp dib tif tiff gif avif avifs heic heif hif "
    "ppm pgm pbm pnm tga psd"
)
"""Suffixes of pictures, lower case, including formats that need another program (JPEG XL, HEIC), so that no picture is
skipped silently."""
RAW_SUFFIXES = _suffixes("dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw x3f 3fr iiq")
"""Suffixes of cameras' raw pictures, lower case: mostly TIFF files of which Pillow reads only the thumbnail."""
CLIP_SUFFIXES = _suffixes(
    "mp4 mov m4v mkv webm avi mpg mpeg m2v mts m2ts ts 3gp 3g2 flv wmv asf ogv mxf vob dv nut ivf h264 264 hevc h265 "
    "265 mjpeg mjpg swf qt"
)
"""Suffixes of clips, lower case."""
_OTHER_SUFFIXES = _suffixes(
    "txt text md rst log csv tsv json jsonl xml yaml yml toml ini cfg conf html htm css js py ipynb sh bat c cpp h hpp "
    "rs go java pdf doc docx xls xlsx ppt pptx odt ods rtf tex srt vtt npz npy pkl pickle pt pth onnx h5 hdf5 mat zip "
    "tar gz bz2 xz 7z rar exe dll so dylib db sqlite aae xmp lnk url wav mp3 m4a aac flac ogg opus wma aif aiff mid "
    "obj mtl ply glb gltf stl fbx bvh usd usda usdc usdz dae abc blend c3d trc"
)
"""Suffixes of files that are not pictures, whatever their content."""
_HEADS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
)
"""First bytes of pictures: JPEG, PNG, GIF, TIFF, BigTIFF, JPEG 2000, Photoshop, JPEG XL."""
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"heif", b"avif", b"avis")
"""Brands of HEIF files, after ftyp; videos have others."""
_HEAD = 16
_MAX_NAMES = 8
"""Most files that a sentence names."""


@dataclass(frozen=True)
class Listing:
    """The content of a folder by kind, each in order of name."""

    folder: Path
    """The folder."""
    pictures: tuple[Path, ...]
    """Pictures by suffix, readable or not, or by first bytes."""
    clips: tuple[Path, ...]
    """Clips by suffix."""
    others: tuple[Path, ...]
    """All other files, hidden ones too."""
    folders: tuple[Path, ...]
    """Subfolders."""

    def describe_unused(self, used: Sequence[Path]) -> str | None:
        """Describe in a sentence the files that are not in `used`, and subfolders; None if there are none."""
        rest = set(self.pictures) | set(self.clips) | set(self.others)
        files = sorted(rest - set(used))
        clips = [] if set(self.clips) & set(used) else [path for path in files if path in self.clips]
        words = []
        if files:
            what = "1 file is" if len(files) == 1 else f"{len(files)} files are"
            words.append(f"{what} left out: {_names(files)}{' (clips are for bodyfit video)' if clips else ''}")
        if self.folders:
            what = "1 folder inside is" if len(self.folders) == 1 else f"{len(self.folders)} folders inside are"
            words.append(f"{what} not searched: {_names(self.folders)}")
        return f"{self.folder}: {'; '.join(words)}" if words else None


def list_folder(folder: Path) -> Listing:
    """List a folder's content; files with unknown suffixes are classified by first bytes. Raises `ImageError`."""
    pictures, clips, others, folders = [], [], [], []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ImageError(f"the folder {folder} cannot be listed: {error.strerror or error}") from None
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            (folders if not entry.name.startswith(".") else others).append(path)
        elif entry.name.startswith("."):
            others.append(path)
        elif image_by_name(path):
            pictures.append(path)
        elif path.suffix.lower() in CLIP_SUFFIXES:
            clips.append(path)
        else:
            (pictures if looks_like_image(path) else others).append(path)
    return Listing(folder, tuple(pictures), tuple(clips), tuple(others), tuple(folders))


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """List the pictures of paths; a folder stands for the pictures in it, in order of name, without hidden files.

    Pictures are recognised by suffix or, where that is unknown, by first bytes; broken links and unreadable files with
    a picture's suffix are included. Other paths are passed through for `read_image` to check; duplicates are removed.
    Raises `ImageError` for a folder without pictures.
    """
    pictures: dict[Path, Path] = {}
    for path in map(Path, paths):
        names: Sequence[Path] = [path]
        if path.is_dir():
            listing = list_folder(path)
            names = listing.pictures
            if not names:
                raise ImageError(no_pictures(listing))
        for name in names:
            pictures.setdefault(name.absolute(), name)
    return list(pictures.values())


def no_pictures(listing: Listing) -> str:
    """Make the error text for a folder without pictures."""
    kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    inside = "; folders inside it are not searched"
    files = [*listing.clips, *listing.others]
    has = f"; it has {_names(files)}" if files else ""
    return f"the folder {listing.folder} has no pictures ({kinds}){has}{inside}"


def image_by_name(path: PurePath) -> bool:
    """Tell whether a file has a picture's suffix."""
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *RAW_SUFFIXES)


def looks_like_image(path: Path) -> bool:
    """Tell whether a file of unknown suffix has a picture's first bytes; False if it cannot be opened."""
    suffix = path.suffix.lower()
    return suffix not in _OTHER_SUFFIXES and suffix not in CLIP_SUFFIXES and begins_like_image(path)


def begins_like_image(path: Path) -> bool:
    """Tell whether a file has a picture's first bytes; False if it cannot be opened or is not a plain file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    webp, heif = head[:4] + head[8:12] == b"RIFFWEBP", head[4:8] == b"ftyp" and head[8:12] in _BRANDS
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)  # two letters alone are too weak a signature
    return head.startswith(_HEADS) or webp or heif or bmp


def _names(paths: Sequence[Path]) -> str:
    """List file names, at most `_MAX_NAMES` of them."""
    more = len(paths) - _MAX_NAMES
    return ", ".join(path.name for path in paths[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
