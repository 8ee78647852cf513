"""Decompress files that are compressed as a whole, as joblib and gzip write them, within bounds."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from bodyfit.body.files.limits import Limits
from bodyfit.errors import AssetError

__all__ = ["compression_of", "unpack", "unpack_zfile"]

_HEADS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda: zlib.decompressobj(31)),
    b"BZh": ("bz2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMADecompressor),
    b"\x5d\x00\x00": ("lzma", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
    b"\x04\x22\x4d\x18": ("lz4", lambda: _lz4()),
    b"\x78\x01": ("zlib", zlib.decompressobj),
    b"\x78\x5e": ("zlib", zlib.decompressobj),
    b"\x78\x9c": ("zlib", zlib.decompressobj),
    b"\x78\xda": ("zlib", zlib.decompressobj),
}
_ZFILE = b"ZF0x"
"""Magic bytes of joblib before 0.10; the length in hexadecimal digits follows, then a zlib stream."""
_ZFILE_HEADER = 21
_PIECE = 1 << 20


def _lz4() -> Any:
    """Make an lz4 decompressor. Raises `AssetError` where lz4 is not installed."""
    try:
        from lz4.frame import LZ4FrameDecompressor  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise AssetError("compressed by lz4, which needs: pip install lz4") from None
    return LZ4FrameDecompressor()


def compression_of(head: bytes) -> str | None:
    """Detect the compression by a file's first bytes: gzip, bz2, xz, lzma, lz4, zlib or zfile; None for others."""
    if head.startswith(_ZFILE):
        return "zfile"
    return next((name for magic, (name, _) in _HEADS.items() if head.startswith(magic)), None)


def unpack(data: bytes, limits: Limits) -> bytes:
    """Decompress a file's bytes. Raises `AssetError` if it is damaged or larger than the limits."""
    if data.startswith(_ZFILE):
        return unpack_zfile(data, limits)
    make = next(make for magic, (_, make) in _HEADS.items() if data.startswith(magic))
    pieces, room, rest = [], limits.unpacked_bytes, data
    try:
        while rest:  # gzip and bz2 files may hold several streams
            decompressor = make()
            while not decompressor.eof:
                piece = decompressor.decompress(rest, _PIECE)
                rest = getattr(decompressor, "unconsumed_tail", b"")
                room -= len(piece)
                if room < 0:
                    raise AssetError(f"more than {limits.unpacked_bytes >> 20} MiB when unpacked; refused")
                if not piece and not rest and getattr(decompressor, "needs_input", True):
                    raise AssetError("a compressed file that is cut short; fetch it again")
                pieces.append(piece)
            rest = getattr(decompressor, "unused_data", b"").lstrip(b"\0")
            if rest and not any(rest.startswith(magic) for magic in _HEADS):
                break
    except (zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError) as error:
        raise AssetError(f"a damaged compressed file: {ascii(str(error)[:120])[1:-1]}") from None
    return b"".join(pieces)


def unpack_zfile(data: bytes, limits: Limits) -> bytes:
    """Decompress a file of joblib before 0.10. Raises `AssetError`."""
    try:
        size = int(data[2:_ZFILE_HEADER], 16)
    except ValueError:
        raise AssetError("a damaged compressed file of an old joblib") from None
    stream = data[_ZFILE_HEADER:].removeprefix(b" ")  # joblib on Python 2 wrote one more blank
    if not 0 <= size <= limits.unpacked_bytes:
        raise AssetError(f"more than {limits.unpacked_bytes >> 20} MiB when unpacked; refused")
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(stream, size + 1)
    except zlib.error as error:
        raise AssetError(f"a damaged compressed file: {ascii(str(error)[:120])[1:-1]}") from None
    if len(content) != size:
        raise AssetError("a compressed file that is cut short; fetch it again")
    return content
