"""Name the kind of a file that is not a file of arrays, for errors."""

from __future__ import annotations

__all__ = ["foreign_kind"]

_AGAIN = "the download failed or needs a login; fetch the file again"
_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"glTF", "a mesh (GLB)"),
    (b"Kaydara FBX", "a scene (FBX)"),
    (b"HIERARCHY", "a motion (BVH), which is written by bodyfit and not read"),
    (b"ply\n", "a mesh (PLY)"),
    (b"\x89HDF", "an HDF5 file (.h5, .mat, .hdf5), which is not read; convert it to npz"),
    (b"MATLAB 5.0", "a MATLAB file, which is not read; save its arrays as npz"),
    (b"Rar!", "a RAR archive; unpack it and give a file in it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it and give a file in it"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program (Windows)"),
    (b"#!", "a script, which is not run"),
    (b"SQLite format", "a database"),
    (b"BC\xc0\xde", "a compiled program"),
)


def foreign_kind(head: bytes, size: int) -> str | None:
    """Name the kind of a file by its size and first bytes; None where it may be a file of arrays."""
    if size == 0:
        return f"an empty file; {_AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the file itself was not fetched; run git lfs pull, or fetch it from the page"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    low = start[:200].lower()
    if low.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")) or b"<html" in low:
        return f"a web page (HTML): {_AGAIN}"
    if low.startswith((b"<?xml", b"<error", b"<svg")):
        return f"an XML document: {_AGAIN}"
    for magic, words in _HEADS:
        if head.startswith(magic):
            return words
    if head[4:8] == b"ftyp":
        return "a film (MP4)"
    if head[:4] == b"RIFF":
        return "a film, sound or picture (RIFF)"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it and give a file in it"
    if not head.strip(b"\0"):
        return f"a file of zeros: {_AGAIN}"
    return None
