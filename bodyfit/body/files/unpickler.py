"""Runs the opcodes of a pickle with inert stand-ins for every name, within bounds of steps."""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, no_type_check

from bodyfit.body.files.dtypes import dtype_of, shape_of, size_of
from bodyfit.body.files.stand_ins import FiledArray, key_of, stand_in

__all__ = ["Reader"]


def _with_keys(load: Any, places: slice) -> Any:
    """What an opcode does, once the keys in these places of the stack are seen to be fit."""

    def checked(reader: Any) -> None:
        for key in reader.stack[places]:
            key_of(key)
        load(reader)

    return checked


class _Opcodes(dict):
    """What each opcode does, for so many opcodes."""

    def __init__(self, table: dict[int, Any], steps: int) -> None:
        super().__init__(table)
        self.left = self.steps = steps

    @no_type_check  # it runs for every opcode, and the tests' check of types takes twenty times as long
    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"refused a program of more than {self.steps} steps")
        return super().__getitem__(opcode)


# The reader written in Python: in C a single opcode can make the memo many gigabytes long.
class Reader(pickle._Unpickler):
    """Reads pickles that lie one after another in a file or in bytes; arrays of joblib's may lie between opcodes."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(
        self, data: bytes | mmap.mmap, *, steps: int, stored: Callable[[Any], Any] | None = None, at: int = 0
    ) -> None:
        """stored: what a persistent id stands for (torch's files have them). at: where to begin."""
        self.file: Any = data if isinstance(data, mmap.mmap) else io.BytesIO(data)
        self.size = len(data)
        self.file.seek(at)
        super().__init__(self.file, encoding="latin1")
        self.dispatch = _Opcodes(type(self).dispatch, steps)  # pyright: ignore[reportIncompatibleVariableOverride, reportAttributeAccessIssue]
        self._stored = stored

    def load(self) -> Any:
        """The next object; each has a memo of its own."""
        self.memo: dict[int, Any] = {}
        return super().load()

    def find_class(self, module: str, name: str) -> type:
        return stand_in(module, name)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"refused the registered object {code}")

    def persistent_load(self, pid: Any) -> Any:
        if self._stored is None:
            raise pickle.UnpicklingError("refused an object that is stored elsewhere (a persistent id)")
        return self._stored(pid)

    def load_long4(self) -> None:
        raise pickle.UnpicklingError("refused an integer of more than 255 bytes")

    dispatch[pickle.LONG4[0]] = load_long4
    for _opcode, _places in (
        (pickle.SETITEM, slice(-2, -1)),
        (pickle.SETITEMS, slice(0, None, 2)),
        (pickle.DICT, slice(0, None, 2)),
        (pickle.ADDITEMS, slice(None)),
        (pickle.FROZENSET, slice(None)),
    ):
        dispatch[_opcode[0]] = _with_keys(dispatch[_opcode[0]], _places)

    @no_type_check
    def load_build(self) -> None:
        super().load_build()
        if type(self.stack[-1]) is FiledArray:
            self._take(self.stack[-1])

    dispatch[pickle.BUILD[0]] = load_build

    def _take(self, array: FiledArray) -> None:
        """Note where an array's numbers are, which follow here, and pass them by."""
        state = array.state if isinstance(array.state, dict) else {}
        dtype, shape = dtype_of(state.get("dtype")), shape_of(state.get("shape"))
        frame = self._unframer.current_frame  # type: ignore[attr-defined]
        if frame is not None and frame.read(1):
            raise pickle.UnpicklingError("an array inside a frame of opcodes, where none can be")
        if dtype.hasobject:
            # Of its own, for its memo is, but within the same steps.
            inner = Reader(b"", steps=0)
            inner.file, inner.dispatch = self.file, self.dispatch  # pyright: ignore[reportAttributeAccessIssue]
            inner._file_read, inner._file_readline = self.file.read, self.file.readline  # type: ignore[attr-defined]
            array.objects = inner.load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.seek(self.file.read(1)[0], io.SEEK_CUR)
        start, size = self.file.tell(), size_of(shape) * dtype.itemsize
        if start + size > self.size:
            raise EOFError
        array.place = (start, size)
        self.file.seek(start + size)
