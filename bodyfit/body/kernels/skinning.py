"""Evaluate the SMPL layer on a CPU: fused blend shapes, forward kinematics and skinning, and their backward pass.

W(T + B_S c + B_P vec(R - I), J, R) (Loper et al. 2015, eq. 2 to 10). Tensor operations write and read every
intermediate mesh; here a block of vertices is blended and skinned while it is in the first-level cache.
Second derivatives, function transforms and other devices use tensor operations (`reference_mesh`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.kernels.arrays import MeshArrays
from bodyfit.body.lbs import forward_kinematics, rigid_transforms, skin
from bodyfit.errors import ShapeError
from bodyfit.geometry.rotation import so3_exp
from bodyfit.runtime.parallel import run

__all__ = ["MeshArrays", "posed_joints", "posed_mesh", "posed_sums", "reference_mesh", "skin_mesh", "without_graph"]


def posed_mesh(
    arrays: MeshArrays,
    coefficients: Float[Tensor, "B S"],
    rotvecs: Float[Tensor, "B J 3"],
    transl: Float[Tensor, "B 3"],
) -> tuple[Float[Tensor, "B V 3"], Float[Tensor, "B J 3"]]:
    """Compute vertices and joints, metres, from coefficients, axis-angles (radians) and translations (metres).

    Differentiable any number of times in all three. Raises `ShapeError`.
    """
    inputs = (coefficients, rotvecs, transl)
    if not _fused(arrays, inputs):
        return reference_mesh(arrays, *inputs)
    vertices, joints = _apply(arrays, True, *inputs, None, None)
    return vertices, joints


def posed_joints(
    arrays: MeshArrays,
    coefficients: Float[Tensor, "B S"],
    rotvecs: Float[Tensor, "B J 3"],
    transl: Float[Tensor, "B 3"],
) -> Float[Tensor, "B J 3"]:
    """Compute only the joints of `posed_mesh`, metres."""
    inputs = (coefficients, rotvecs, transl)
    if not _fused(arrays, inputs):
        return _reference(arrays, False, *inputs, None, None)[1]
    return _apply(arrays, False, *inputs, None, None)[1]


def posed_sums(
    arrays: MeshArrays,
    sums: tuple[np.ndarray, ...],
    coefficients: Float[Tensor, "B S"],
    rotvecs: Float[Tensor, "B J 3"],
    transl: Float[Tensor, "B 3"],
) -> Float[Tensor, "B K 3"]:
    """Compute weighted sums of the joints and vertices of `posed_mesh`, without storing those; needs `without_graph`.

    `sums`: row pointers (K + 1) into the terms, the terms (N: a joint, or a vertex plus J), their weights (N), and the
    constants (K) that the sums are added to. Raises `ShapeError`.
    """
    _check(arrays, coefficients, rotvecs, transl, None, None)
    from bodyfit.body.kernels.loops import keypoints
    from bodyfit.body.kernels.simd import LANES

    n_b, template = len(rotvecs), arrays.v_template.numpy()
    out = np.empty((n_b, len(sums[0]) - 1, 3), template.dtype)
    inputs = (_array(coefficients), _array(rotvecs), _array(transl))
    run(keypoints, -(-n_b // LANES), *inputs, *arrays.tree, template, *arrays.surface, *sums, out, grain=_TILES)
    return torch.from_numpy(out)


def without_graph(arrays: MeshArrays, inputs: tuple[Tensor, ...]) -> bool:
    """Tell whether the kernels accept these inputs and no gradient has to be recorded."""
    return _fused(arrays, inputs) and not (torch.is_grad_enabled() and any(x.requires_grad for x in inputs))


def skin_mesh(
    arrays: MeshArrays,
    rest: Float[Tensor, "B V 3"],
    joints_rest: Float[Tensor, "B J 3"],
    rotvecs: Float[Tensor, "B J 3"],
    transl: Float[Tensor, "B 3"],
) -> tuple[Float[Tensor, "B V 3"], Float[Tensor, "B J 3"]]:
    """Skin given rest vertices and joints, blend shapes included; differentiable in all four. Metres, radians."""
    inputs = (rest.new_empty(len(rest), 0), rotvecs, transl, rest, joints_rest)
    if not _fused(arrays, inputs):
        return _reference(arrays, True, *inputs)
    return _apply(arrays, True, *inputs)


def reference_mesh(
    arrays: MeshArrays,
    coefficients: Float[Tensor, "B S"],
    rotvecs: Float[Tensor, "B J 3"],
    transl: Float[Tensor, "B 3"],
) -> tuple[Float[Tensor, "B V 3"], Float[Tensor, "B J 3"]]:
    """Compute `posed_mesh` by tensor operations, on any device."""
    return _reference(arrays, True, coefficients, rotvecs, transl, None, None)


def _reference(
    arrays: MeshArrays,
    mesh: bool,
    coefficients: Tensor,
    rotvecs: Tensor,
    transl: Tensor,
    rest: Tensor | None,
    joints_rest: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compute vertices (0 of them unless `mesh`) and joints by tensor operations."""
    R_local = so3_exp(rotvecs)
    if joints_rest is None:
        joints_rest = arrays.joints_template + (arrays.joints_shapedirs @ coefficients.T).permute(2, 0, 1)
    R_world, joints = forward_kinematics(R_local, joints_rest, arrays.parents)
    posed = joints + transl[:, None]
    if not mesh:
        return posed[:, :0], posed
    if rest is None:
        rest = arrays.v_template + (coefficients @ arrays.shapedirs).unflatten(1, (-1, 3))
        features = R_local - torch.eye(3, dtype=rotvecs.dtype, device=rotvecs.device)
        if arrays.posedirs is not None:
            rest = rest + (features[:, 1:].flatten(1) @ arrays.posedirs).unflatten(1, (-1, 3))
        if arrays.block is not None and len(arrays.block):
            # Joint by joint: the features of all blocks at once would take three times the memory of the result.
            owners, counts, order, row = arrays.block_groups
            parts = zip(owners, arrays.block[order].split(list(counts)), strict=True)
            offsets = [features[:, j].flatten(1) @ block.flatten(0, 1).T for j, block in parts]
            rest = rest.index_add(1, row, torch.cat(offsets, 1).unflatten(1, (-1, 3)))
    vertices = skin(rest, rigid_transforms(R_world, joints, joints_rest), arrays.weights)
    return vertices + transl[:, None], posed


def _fused(arrays: MeshArrays, inputs: tuple[Tensor, ...]) -> bool:
    """Tell whether the kernels accept these: plain CPU tensors of the model's dtype, outside torch's transforms."""
    dtype = arrays.v_template.dtype
    for x in (arrays.v_template, *inputs):
        if type(x) not in (Tensor, torch.nn.Parameter) or x.dtype != dtype or not x.is_cpu:
            return False
    return (
        dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def _apply(arrays: MeshArrays, mesh: bool, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the kernels, recording a graph where an input needs a gradient. Raises `ShapeError`."""
    _check(arrays, *inputs)  # pyright: ignore[reportArgumentType]
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    apply: Any = _Posed.apply if save else _evaluate
    return apply(arrays, mesh, *inputs) if save else apply(arrays, mesh, False, *inputs)[:2]


def _check(
    arrays: MeshArrays,
    coefficients: Tensor,
    rotvecs: Tensor,
    transl: Tensor,
    rest: Tensor | None,
    joints_rest: Tensor | None,
) -> None:
    """Check shapes, for the loops would read beyond the end of a short array. Raises `ShapeError`."""
    n_j, n_b = len(arrays.parents), transl.shape[0]
    expected = [
        ("coefficients", coefficients, (n_b, arrays.shapedirs.shape[0] if rest is None else 0)),
        ("rotvecs", rotvecs, (n_b, n_j, 3)),
        ("transl", transl, (n_b, 3)),
    ]
    if rest is not None:
        expected += [("rest", rest, (n_b, *arrays.v_template.shape)), ("joints_rest", joints_rest, (n_b, n_j, 3))]
    for name, value, shape in expected:
        if value is not None and value.shape != shape:
            raise ShapeError(f"{name} must be {shape}, got {tuple(value.shape)}; give every input the same batch")


def _chunks(vertices: int) -> tuple[int, int]:
    """Return the size and number of the chunks of vertices, at most eight, independent of the number of threads."""
    size = max(512, -(-vertices // 256) * 32)
    return size, -(-vertices // size)


def _array(tensor: Tensor) -> np.ndarray:
    """Return a contiguous array of the tensor's values."""
    return (tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy()


def _evaluate(
    arrays: MeshArrays,
    mesh: bool,
    save: bool,
    coefficients: Tensor,
    rotvecs: Tensor,
    transl: Tensor,
    rest: Tensor | None,
    joints_rest: Tensor | None,
) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """Run the kernels: vertices, joints, and for the backward pass the tiles' state and rest vertices (if `save`)."""
    from bodyfit.body.kernels.pose import LANES, pose

    n_b, n_j, n_v = len(rotvecs), len(arrays.parents), len(arrays.v_template) if mesh else 0
    tiles, dtype = -(-n_b // LANES), arrays.surface[0].dtype
    c, state = _array(coefficients), np.empty((tiles if n_v else 0, 21 * n_j + coefficients.shape[1] + 3, LANES), dtype)
    joints = np.empty((n_b, n_j, 3), dtype)
    input_joints = np.empty((0, n_j, 3), dtype) if joints_rest is None else _array(joints_rest)
    run(pose, tiles, c, _array(rotvecs), _array(transl), input_joints, *arrays.tree, state, joints, grain=_TILES)
    if not (n_b and n_v):
        return rotvecs.new_empty(n_b, n_v, 3), torch.from_numpy(joints), state, np.empty((0, LANES), dtype)
    from bodyfit.body.kernels.loops import GROUP
    from bodyfit.body.kernels.loops import mesh as posed_vertices

    # NumPy asks the system for huge pages, torch does not: page faults are a good part of a mesh's cost.
    vertices = np.empty((n_b, n_v, 3), dtype)
    input_rest = np.empty((0, 3 * n_v), dtype) if rest is None else _array(rest).reshape(n_b, 3 * n_v)
    rest_tiles = np.empty((3 * n_v * tiles if save and rest is None else 0, LANES), dtype)
    surface = arrays.surface if rest is None else arrays.skinning
    size, chunks = _chunks(n_v)
    template, out = arrays.v_template.numpy().reshape(-1), vertices.reshape(n_b, 3 * n_v)
    run(posed_vertices, -(-tiles // GROUP) * chunks, size, template, *surface, state, input_rest, out, rest_tiles)
    return torch.from_numpy(vertices), torch.from_numpy(joints), state, rest_tiles


class _Posed(torch.autograd.Function):
    """Compute vertices and joints by the kernels; second derivatives come from tensor operations."""

    @staticmethod
    def forward(ctx: Any, arrays: MeshArrays, mesh: bool, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        vertices, joints, state, rest_tiles = _evaluate(arrays, mesh, True, *inputs)  # pyright: ignore[reportArgumentType]
        ctx.save_for_backward(*inputs, torch.from_numpy(state), torch.from_numpy(rest_tiles))
        ctx.arrays, ctx.mesh = arrays, mesh
        ctx.set_materialize_grads(False)
        return vertices, joints

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, state, rest_tiles = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, *_plain_gradients(ctx.arrays, ctx.mesh, inputs, ctx.needs_input_grad[2:], grads)
        grads_in = _gradients(ctx.arrays, inputs, grads, state.numpy(), rest_tiles.numpy())
        return (
            None,
            None,
            *(g if needed else None for g, needed in zip(grads_in, ctx.needs_input_grad[2:], strict=True)),
        )


def _plain_gradients(
    arrays: MeshArrays, mesh: bool, inputs: list[Any], needed: tuple[bool, ...], grads: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Compute gradients that can be differentiated again, by tensor operations."""
    outputs = _reference(arrays, mesh, *inputs)
    pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if g is not None]
    variables = [x for x, need in zip(inputs, needed, strict=True) if need]
    if not pairs:
        return [None] * len(inputs)
    tops, seeds = zip(*pairs, strict=True)
    gradients = iter(torch.autograd.grad(tops, variables, seeds, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]


def _gradients(
    arrays: MeshArrays, inputs: list[Any], grads: tuple[Tensor | None, ...], state: np.ndarray, rest_tiles: np.ndarray
) -> tuple[Tensor | None, ...]:
    """Pull gradients back to coefficients, rotvecs, transl, rest and joints_rest (None where they were not given)."""
    from bodyfit.body.kernels import loops as loops
    from bodyfit.body.kernels import tree as tree

    coefficients, rotvecs, transl, rest, joints_rest = inputs
    n_b, n_j, n_v = len(rotvecs), len(arrays.parents), len(arrays.v_template)
    tiles, rows, lanes = state.shape
    size, chunks = _chunks(n_v) if tiles and grads[0] is not None else (0, 0)
    partial = np.zeros((len(state), chunks, rows, lanes), state.dtype)
    if not tiles:  # only joints were computed
        partial = np.zeros((-(-n_b // loops.LANES), 0, 21 * n_j + coefficients.shape[1] + 3, loops.LANES), state.dtype)
    d_rest = None if rest is None else torch.zeros_like(rest, memory_format=torch.contiguous_format)
    if chunks and n_b and grads[0] is not None:
        surface = arrays.surface if rest is None else arrays.skinning
        none = np.empty((0, 3 * n_v), state.dtype)
        input_rest = none if rest is None else _array(rest).reshape(n_b, 3 * n_v)
        out_rest = none if d_rest is None else d_rest.numpy().reshape(n_b, 3 * n_v)
        grad = _array(grads[0]).reshape(n_b, 3 * n_v)
        run(
            loops.mesh_backward,
            -(-tiles // loops.GROUP) * chunks,
            size,
            *surface,
            state,
            input_rest,
            rest_tiles,
            grad,
            partial,
            out_rest,
        )
    grad_joints = np.zeros((n_b, n_j, 3), state.dtype) if grads[1] is None else _array(grads[1])
    out = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (coefficients, rotvecs, transl)]
    input_joints = rotvecs.new_empty(0, n_j, 3) if joints_rest is None else joints_rest
    d_joints_rest = torch.empty_like(input_joints, memory_format=torch.contiguous_format)
    run(
        tree.pose_backward, n_b, _array(coefficients), _array(rotvecs), _array(input_joints), *arrays.tree, partial,
        grad_joints, *(x.numpy() for x in out), d_joints_rest.numpy(), grain=_ITEMS
    )  # fmt: skip
    return *out, d_rest, None if joints_rest is None else d_joints_rest


_TILES = 64  # fewest tiles that are worth a thread for the joints
_ITEMS = 32  # fewest items that are worth a thread for the joints' gradients
