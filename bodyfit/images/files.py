"""Which files are pictures: by their names' endings, else by how they begin; none of a folder goes unmentioned."""

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
    return tuple(f".{name}" for name in names.split())


IMAGE_SUFFIXES = _suffixes(
    "jpg jpeg jpe jfif jif pjpeg mpo jp2 j2k jpx jpf jxl png apng webp bmp dib tif tiff gif avif avifs heic heif hif "
    "ppm pgm pbm pnm tga psd"
)
"""Endings of pictures in lower case, those that need another program to be read (JPEG XL, HEIC) included, so that
nobody's pictures are left out unsaid."""
RAW_SUFFIXES = _suffixes("dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw x3f 3fr iiq")
"""Endings of raw pictures as cameras write them, lower case: mostly TIFF files of which Pillow reads the thumbnail."""
CLIP_SUFFIXES = _suffixes(
    "mp4 mov m4v mkv webm avi mpg mpeg m2v mts m2ts ts 3gp 3g2 flv wmv asf ogv mxf vob dv nut ivf h264 264 hevc h265 "
    "265 mjpeg mjpg swf qt"
)
"""Endings of clips, lower case."""
_OTHER_SUFFIXES = _suffixes(
    "txt text md rst log csv tsv json jsonl xml yaml yml toml ini cfg conf html htm css js py ipynb sh bat c cpp h hpp "
    "rs go java pdf doc docx xls xlsx ppt pptx odt ods rtf tex srt vtt npz npy pkl pickle pt pth onnx h5 hdf5 mat zip "
    "tar gz bz2 xz 7z rar exe dll so dylib db sqlite aae xmp lnk url wav mp3 m4a aac flac ogg opus wma aif aiff mid "
    "obj mtl ply glb gltf stl fbx bvh usd usda usdc usdz dae abc blend c3d trc"
)
"""Endings of files that are no pictures whatever they hold."""
_HEADS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
)
"""How pictures begin: JPEG, PNG, GIF, TIFF, BigTIFF, JPEG 2000, Photoshop, JPEG XL."""
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"heif", b"avif", b"avis")
"""Of HEIF files, after ftyp; films have others."""
_HEAD = 16
_NAMED = 8
"""So many files are named in a sentence."""


@dataclass(frozen=True)
class Listing:
    """What is in a folder, each kind in order of name."""

    folder: Path
    """The folder."""
    pictures: tuple[Path, ...]
    """What is a picture by its ending, readable or not, or by how it begins."""
    clips: tuple[Path, ...]
    """What is a clip by its ending."""
    others: tuple[Path, ...]
    """All other files, hidden ones too."""
    folders: tuple[Path, ...]
    """The folders inside."""

    def left_out(self, used: Sequence[Path]) -> str | None:
        """A sentence about all that is not among those used; None if that is nothing."""
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
    """What is in a folder; of files with unknown endings the first bytes are looked at. Raises `ImageError`."""
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
    """The pictures that paths name: a folder stands for the pictures in it, in order of name, without hidden files.

    Pictures are known by their endings or, where these say nothing, by how the file begins; broken links and files
    that cannot be read are kept where they are called pictures. Other paths are kept as they are, existing or not, for
    `read_image` to judge; each picture comes once. Raises `ImageError` for a folder without pictures.
    """
    found: dict[Path, Path] = {}
    for given in map(Path, paths):
        names: Sequence[Path] = [given]
        if given.is_dir():
            listing = list_folder(given)
            names = listing.pictures
            if not names:
                raise ImageError(no_pictures(listing))
        for name in names:
            found.setdefault(name.absolute(), name)
    return list(found.values())


def no_pictures(listing: Listing) -> str:
    """What is said of a folder without pictures."""
    kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    inside = "; folders inside it are not searched"
    files = [*listing.clips, *listing.others]
    has = f"; it has {_names(files)}" if files else ""
    return f"the folder {listing.folder} has no pictures ({kinds}){has}{inside}"


def image_by_name(path: PurePath) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *RAW_SUFFIXES)


def looks_like_image(path: Path) -> bool:
    """Whether a file of no known ending begins like a picture; False for what cannot be opened or is no plain file."""
    suffix = path.suffix.lower()
    return suffix not in _OTHER_SUFFIXES and suffix not in CLIP_SUFFIXES and begins_like_image(path)


def begins_like_image(path: Path) -> bool:
    """Whether a file begins like a picture, whatever it is called; False for what cannot be opened."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    webp, heif = head[:4] + head[8:12] == b"RIFFWEBP", head[4:8] == b"ftyp" and head[8:12] in _BRANDS
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)  # two letters alone begin many a text
    return head.startswith(_HEADS) or webp or heif or bmp


def _names(paths: Sequence[Path]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(path.name for path in paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")
