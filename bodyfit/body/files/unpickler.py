"""Run the opcodes of a pickle with inert stand-ins for every name, and at most so many of them."""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, no_type_check

from bodyfit.body.files.dtypes import dtype_of, shape_of, size_of
from bodyfit.body.files.stand_ins import FiledArray, key_of, stand_in

__all__ = ["InertUnpickler"]


def _checking_keys(load: Any, places: slice) -> Any:
    """Return an opcode's function that first checks the keys in these places of the stack."""

    def checked(reader: Any) -> None:
        for key in reader.stack[places]:
            key_of(key)
        load(reader)

    return checked


class _Opcodes(dict):
    """The dispatch table of opcodes, which refuses to run more than `steps` of them."""

    def __init__(self, table: dict[int, Any], steps: int) -> None:
        super().__init__(table)
        self.remaining = self.steps = steps

    @no_type_check  # runs for every opcode: the tests' type checks would take twenty times as long
    def __getitem__(self, opcode: int) -> Any:
        self.remaining -= 1
        if self.remaining < 0:
            raise pickle.UnpicklingError(f"refused a program of more than {self.steps} steps")
        return super().__getitem__(opcode)


# Python's own unpickler: in the C version a single opcode can make the memo many gigabytes long.
class InertUnpickler(pickle._Unpickler):
    """Reads consecutive pickles from a file or bytes; joblib's arrays may lie between opcodes."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(
        self, data: bytes | mmap.mmap, *, steps: int, stored: Callable[[Any], Any] | None = None, at: int = 0
    ) -> None:
        """stored: resolves persistent ids (of torch's files). at: offset of the first pickle."""
        self.file: Any = data if isinstance(data, mmap.mmap) else io.BytesIO(data)
        self.size = len(data)
        self.file.seek(at)
        super().__init__(self.file, encoding="latin1")
        self.dispatch = _Opcodes(type(self).dispatch, steps)  # pyright: ignore[reportIncompatibleVariableOverride, reportAttributeAccessIssue]
        self._stored = stored

    def load(self) -> Any:
        """Read the next pickle, with a memo of its own."""
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
        dispatch[_opcode[0]] = _checking_keys(dispatch[_opcode[0]], _places)

    @no_type_check
    def load_build(self) -> None:
        super().load_build()
        if type(self.stack[-1]) is FiledArray:
            self._skip_numbers(self.stack[-1])

    dispatch[pickle.BUILD[0]] = load_build

    def _skip_numbers(self, array: FiledArray) -> None:
        """Record where an array's numbers are, which follow here, and skip them."""
        state = array.state if isinstance(array.state, dict) else {}
        dtype, shape = dtype_of(state.get("dtype")), shape_of(state.get("shape"))
        frame = self._unframer.current_frame  # type: ignore[attr-defined]
        if frame is not None and frame.read(1):
            raise pickle.UnpicklingError("an array inside a frame of opcodes, where none can be")
        if dtype.hasobject:
            # A pickle with its own memo that shares the count of steps.
            inner = InertUnpickler(b"", steps=0)
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
