"""Define a numba type for vectors of `LANES` numbers, because LLVM does not vectorise these loops by itself.

LLVM must assume that numba's arrays overlap, so it guards every short loop by checks or leaves it scalar, ten times
slower. Values of this type stay in registers; LLVM splits them to the width of the processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.errors import TypingError
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "divide",
    "fadd",
    "fma",
    "item",
    "load",
    "mul",
    "prefetch",
    "rint",
    "splat",
    "sqrt",
    "store",
    "transpose_load",
    "transpose_store",
    "widen",
]

LANES = 16
"""Numbers in a vector: the float32 of a 512-bit register."""

_FLAGS = ("contract",)
_intrinsic: Any = intrinsic  # untyped: a type checker would count the typing context among the arguments


class Lanes(types.Type):
    """The numba type of `LANES` values of a floating type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_default(Lanes)
class _LanesModel(models.PrimitiveModel):
    """The data model of `Lanes`: an LLVM vector."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, LANES))


def _vector(context: Any, lanes: Any) -> ir.VectorType:
    """Return the LLVM type of `lanes`."""
    return context.get_value_type(lanes)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return a pointer to an element of a contiguous array, by flat index."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _vector_at(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return a pointer to the vector that begins at an element of a contiguous array, by flat index."""
    vector = _vector(context, Lanes(array_type.dtype))
    return builder.bitcast(_address(context, builder, array_type, array, index), vector.as_pointer())


def _bytes(array_type: Any) -> int:
    """Return the size of an element."""
    return array_type.dtype.bitwidth // 8


@_intrinsic
def load(typingctx, array, row):
    """Load row `row` of a contiguous array whose last axis is `LANES` long, its other axes flattened."""
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError("load needs a contiguous array")

    def codegen(context, builder, signature, args):
        index = builder.mul(args[1], ir.Constant(args[1].type, LANES))
        at = _vector_at(context, builder, signature.args[0], args[0], index)
        value = builder.load(at)
        value.align = _bytes(signature.args[0])
        return value

    return Lanes(array.dtype)(array, types.intp), codegen


@_intrinsic
def store(typingctx, array, row, value):
    """Store a vector to row `row` of such an array (see `load`), rounded to its dtype where that is narrower."""

    def codegen(context, builder, signature, args):
        index = builder.mul(args[1], ir.Constant(args[1].type, LANES))
        at, number = _vector_at(context, builder, signature.args[0], args[0], index), args[2]
        if number.type != at.type.pointee:
            number = builder.fptrunc(number, at.type.pointee)
        builder.store(number, at, align=_bytes(signature.args[0]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@_intrinsic
def widen(typingctx, value):
    """Convert a vector to float64."""
    double = Lanes(types.float64)

    def codegen(context, builder, signature, args):
        return args[0] if value == double else builder.fpext(args[0], _vector(context, double))

    return double(value), codegen


@_intrinsic
def item(typingctx, array, index):
    """Load array.flat[index] without numba's test for a negative index, which needs a register for each number."""

    def codegen(context, builder, signature, args):
        return builder.load(_address(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp), codegen


@_intrinsic
def prefetch(typingctx, array, index):
    """Prefetch the cache line of array.flat[index], which may be past the end."""

    def codegen(context, builder, signature, args):
        at = _address(context, builder, signature.args[0], *args)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        builder.call(function, [builder.bitcast(at, byte), *(ir.Constant(number, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _splat(context: Any, builder: Any, value: Any) -> Any:
    """Emit code that broadcasts a number to all lanes."""
    vector = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


@_intrinsic
def splat(typingctx, value):
    """Broadcast a number to all lanes."""

    def codegen(context, builder, signature, args):
        return _splat(context, builder, args[0])

    return Lanes(value)(value), codegen


@_intrinsic
def mul(typingctx, factor, value):
    """Multiply lane by lane; the factor is a number or a vector."""
    wide = isinstance(factor, Lanes)

    def codegen(context, builder, signature, args):
        left = args[0] if wide else _splat(context, builder, args[0])
        return builder.fmul(left, args[1], flags=_FLAGS)

    return value(factor if wide else value.dtype, value), codegen


@_intrinsic
def divide(typingctx, left, right):
    """Divide lane by lane."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(args[0], args[1])

    return left(left, right), codegen


def _each(name: str, value: Any) -> tuple[Any, Any]:
    """Apply one of LLVM's unary intrinsics lane by lane."""

    def codegen(context, builder, signature, args):
        vector = args[0].type
        function = ir.FunctionType(vector, [vector])
        full = f"llvm.{name}.v{LANES}f{value.dtype.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, full), args)

    return value(value), codegen


@_intrinsic
def sqrt(typingctx, value):
    """Take the square root of each lane."""
    return _each("sqrt", value)


@_intrinsic
def rint(typingctx, value):
    """Round each lane to the nearest integer."""
    return _each("rint", value)


@_intrinsic
def fadd(typingctx, left, right):
    """Add lane by lane."""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], args[1], flags=_FLAGS)

    return left(left, right), codegen


@_intrinsic
def fma(typingctx, factor, value, total):
    """Compute total + factor * value lane by lane; the factor is a number or a vector."""
    wide = isinstance(factor, Lanes)

    def codegen(context, builder, signature, args):
        left = args[0] if wide else _splat(context, builder, args[0])
        return builder.fadd(builder.fmul(left, args[1], flags=_FLAGS), args[2], flags=_FLAGS)

    return value(factor if wide else value.dtype, value, value), codegen


def _transpose(builder: Any, vectors: list[Any]) -> list[Any]:
    """Transpose a square of vectors in log2(LANES) rounds that interleave its first half with its second."""
    half = LANES // 2
    index = ir.VectorType(ir.IntType(32), LANES)
    low = ir.Constant(index, [i // 2 + LANES * (i % 2) for i in range(LANES)])
    high = ir.Constant(index, [half + i // 2 + LANES * (i % 2) for i in range(LANES)])
    for _ in range(LANES.bit_length() - 1):
        vectors = [
            builder.shuffle_vector(vectors[i], vectors[i + half], mask) for i in range(half) for mask in (low, high)
        ]
    return vectors


def _clamped(builder: Any, lane: int, live: Any) -> Any:
    """Return the lane's index, or the last live one's for an idle lane."""
    this, last = ir.Constant(live.type, lane), builder.sub(live, ir.Constant(live.type, 1))
    return builder.select(builder.icmp_signed("<", this, live), this, last)


@_intrinsic
def transpose_store(typingctx, source, row, target, index, stride, live):
    """Store row `row + i` of source to target.flat[index + stride * lane + i], for i < `LANES` and lane < `live`."""

    def codegen(context, builder, signature, args):
        source, row, target, index, stride, live = args
        source_type, target_type = signature.args[0], signature.args[2]
        rows = []
        for i in range(LANES):
            flat = builder.mul(builder.add(row, ir.Constant(row.type, i)), ir.Constant(row.type, LANES))
            rows.append(builder.load(_vector_at(context, builder, source_type, source, flat)))
            rows[-1].align = _bytes(source_type)
        # Without a branch: idle lanes are stored where the last live one is, before it overwrites them.
        for lane, value in reversed(list(enumerate(_transpose(builder, rows)))):
            flat = builder.add(index, builder.mul(stride, _clamped(builder, lane, live)))
            builder.store(value, _vector_at(context, builder, target_type, target, flat), align=_bytes(target_type))
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp, types.intp), codegen


@_intrinsic
def transpose_load(typingctx, target, row, source, index, stride, live):
    """Load source.flat[index + stride * lane + i] to row `row + i` of target, for i < `LANES`; idle lanes repeat."""

    def codegen(context, builder, signature, args):
        target, row, source, index, stride, live = args
        target_type, source_type = signature.args[0], signature.args[2]
        rows = []
        for lane in range(LANES):
            flat = builder.add(index, builder.mul(stride, _clamped(builder, lane, live)))
            rows.append(builder.load(_vector_at(context, builder, source_type, source, flat)))
            rows[-1].align = _bytes(source_type)
        for i, value in enumerate(_transpose(builder, rows)):
            flat = builder.mul(builder.add(row, ir.Constant(row.type, i)), ir.Constant(row.type, LANES))
            builder.store(value, _vector_at(context, builder, target_type, target, flat), align=_bytes(target_type))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp, types.intp), codegen
