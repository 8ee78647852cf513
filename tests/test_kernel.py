"""The fused CPU path: agreement with the plain tensor operations, derivatives, and what may not change a result."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch.utils._python_dispatch import TorchDispatchMode

from bodyfit.body.kernels.skinning import MeshArrays, posed_joints, posed_mesh, reference_mesh, skin_mesh
from bodyfit.body.lbs import forward_kinematics, rigid_transforms, skin
from bodyfit.body.model import load_model
from bodyfit.errors import ShapeError
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import LAYOUTS

F32, F64 = torch.float32, torch.float64
KINDS = ("none", "blocks", "dense")
CHAIN, STAR = tuple(range(-1, 6)), (-1, *[0] * 6)
MIXED = (2, 0, -1, 2, 1, 3, 2)  # children before their parents, the root in the middle
TREES = {"chain": CHAIN, "star": STAR, "mixed": MIXED}


def make(
    kind: str = "blocks", *, vertices: int = 41, parents: tuple[int, ...] = MIXED, betas: int = 4, dtype=F64
) -> MeshArrays:
    """A random body; its weights are sparse and one vertex has them all."""
    rng = np.random.default_rng(7)
    n_j = len(parents)
    weights = rng.random((vertices, n_j)) * (rng.random((vertices, n_j)) < 0.3)
    weights[np.arange(vertices), rng.integers(0, n_j, vertices)] += 0.5
    weights[3] = rng.random(n_j)
    weights /= weights.sum(1, keepdims=True)
    posedirs = 0.1 * rng.standard_normal((vertices, 3, n_j - 1, 9))
    if kind == "blocks":
        posedirs *= (rng.random((vertices, n_j - 1)) < 0.4)[:, None, :, None]

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=dtype)

    return MeshArrays.of(
        v_template=tensor(rng.standard_normal((vertices, 3))),
        shapedirs=tensor(0.2 * rng.standard_normal((vertices, 3, betas))),
        joints_template=tensor(rng.standard_normal((n_j, 3))),
        joints_shapedirs=tensor(0.2 * rng.standard_normal((n_j, 3, betas))),
        parents=parents,
        weights=tensor(weights),
        posedirs=None if kind == "none" else tensor(posedirs.reshape(vertices, 3, -1)),
        sparse=kind == "blocks",
    )


def inputs(arrays: MeshArrays, batch: int, *, angle: float = 1.0, grad: bool = False) -> list[torch.Tensor]:
    """Coefficients, axis-angles, translations."""
    shapes = ((batch, len(arrays.shapedirs)), (batch, len(arrays.parents), 3), (batch, 3))
    kind, generator = arrays.v_template.dtype, torch.Generator().manual_seed(3)
    values = [torch.randn(shape, generator=generator, dtype=F64) for shape in shapes]
    values[1] *= angle
    return [v.to(kind).requires_grad_(grad) for v in values]


def like(outputs, seed: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(y.shape, generator=generator, dtype=F64).to(y.dtype) for y in outputs]


@contextmanager
def threads(n: int):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Agreement with the functions of lbs.py, whose own agreement with smplx test_model.py checks.


def from_equations(arrays: MeshArrays, coefficients, rotvecs, transl):
    """Loper et al. 2015, eq. 2 to 10, from dense arrays."""
    n_v, n_j = len(arrays.v_template), len(arrays.parents)
    posedirs = torch.zeros(n_v, 3, n_j, 9, dtype=rotvecs.dtype)
    if arrays.posedirs is not None:
        posedirs[:, :, 1:] = arrays.posedirs.T.reshape(n_v, 3, n_j - 1, 9)
    if arrays.block is not None:
        for v in range(n_v):
            for e in range(int(arrays.block_ptr[v]), int(arrays.block_ptr[v + 1])):
                posedirs[v, :, int(arrays.block_joint[e])] += arrays.block[e]
    R = so3_exp(rotvecs)
    rest = arrays.v_template + torch.einsum("svc,bs->bvc", arrays.shapedirs.unflatten(1, (-1, 3)), coefficients)
    rest = rest + torch.einsum("vcjf,bjf->bvc", posedirs, (R - torch.eye(3, dtype=R.dtype)).flatten(2))
    joints_rest = arrays.joints_template + torch.einsum("jcs,bs->bjc", arrays.joints_shapedirs, coefficients)
    R_world, joints = forward_kinematics(R, joints_rest, arrays.parents)
    vertices = skin(rest, rigid_transforms(R_world, joints, joints_rest), arrays.weights)
    return vertices + transl[:, None], joints + transl[:, None]


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [0, 1, 16, 33])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (F32, 2e-5)])
def test_the_kernels_agree_with_the_equations(tree, kind, batch, dtype, tolerance):
    """float32: sums of sixty terms of about 1, along chains of bones metres long; the gradients' are larger."""
    arrays = make(kind, parents=TREES[tree], dtype=dtype)
    given = inputs(arrays, batch, grad=True)
    got, want = posed_mesh(arrays, *given), from_equations(arrays, *given)
    seeds = like(want)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)
    torch.testing.assert_close(posed_joints(arrays, *given), got[1], atol=0, rtol=0)
    for a, b in zip(torch.autograd.grad(got, given, seeds), torch.autograd.grad(want, given, seeds), strict=True):
        torch.testing.assert_close(a, b, atol=100 * tolerance, rtol=10 * tolerance)
    for a, b in zip(reference_mesh(arrays, *given), want, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize("batch", [1, 17])
def test_skinning_of_a_given_rest_pose_agrees_with_the_equations(batch):
    arrays = make("dense")
    _, rotvecs, transl = inputs(arrays, batch, grad=True)
    rest, joints_rest = (x.requires_grad_() for x in like((transl.new_empty(batch, 41, 3), rotvecs)))
    given = (rest, joints_rest, rotvecs, transl)
    R_world, joints = forward_kinematics(so3_exp(rotvecs), joints_rest, arrays.parents)
    vertices = skin(rest, rigid_transforms(R_world, joints, joints_rest), arrays.weights)
    want, got = (vertices + transl[:, None], joints + transl[:, None]), skin_mesh(arrays, *given)
    seeds = like(want)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    pairs = torch.autograd.grad(got, given, seeds), torch.autograd.grad(want, given, seeds)
    torch.testing.assert_close(*pairs, atol=1e-11, rtol=0)


def test_a_large_mesh_in_several_jobs_is_that_of_the_equations():
    arrays = make("blocks", vertices=1501)
    given = inputs(arrays, 70, grad=True)
    want = from_equations(arrays, *given)
    seeds = like(want)
    with threads(3):
        got = posed_mesh(arrays, *given)
        gradients = torch.autograd.grad(got, given, seeds)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients, torch.autograd.grad(want, given, seeds), atol=1e-10, rtol=1e-12)


# Derivatives.


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind, angle):
    arrays = make(kind, vertices=6)
    given = inputs(arrays, 2, angle=angle, grad=True)
    assert torch.autograd.gradcheck(lambda *x: posed_mesh(arrays, *x), given)
    assert torch.autograd.gradcheck(lambda *x: posed_joints(arrays, *x), given)


@pytest.mark.parametrize("angle", [0.0, 1.0])
def test_gradients_of_skinning_are_those_of_finite_differences(angle):
    arrays = make(vertices=5)
    _, rotvecs, transl = inputs(arrays, 2, angle=angle, grad=True)
    rest, joints_rest = (x.requires_grad_() for x in like((transl.new_empty(2, 5, 3), rotvecs)))
    assert torch.autograd.gradcheck(lambda *x: skin_mesh(arrays, *x), (rest, joints_rest, rotvecs, transl))


@pytest.mark.parametrize("angle", [0.0, 1.0])
def test_second_derivatives_are_those_of_finite_differences(angle):
    arrays = make("blocks", vertices=4, parents=CHAIN[:3], betas=2)
    given = inputs(arrays, 1, angle=angle, grad=True)
    assert torch.autograd.gradgradcheck(lambda *x: posed_mesh(arrays, *x), given)
    assert torch.autograd.gradgradcheck(lambda *x: posed_joints(arrays, *x), given)


def test_a_graph_of_the_gradient_has_the_same_gradient():
    arrays = make("dense")
    given = inputs(arrays, 3, grad=True)
    once = torch.autograd.grad(posed_mesh(arrays, *given), given, seeds := like(posed_mesh(arrays, *given)))
    again = torch.autograd.grad(posed_mesh(arrays, *given), given, seeds, create_graph=True)
    torch.testing.assert_close(once, again, atol=1e-11, rtol=0)


def test_function_transforms_take_the_plain_operations():
    arrays = make()
    c, r, t = inputs(arrays, 2)
    got = torch.func.jacfwd(lambda r: posed_mesh(arrays, c, r, t)[0])(r)
    want = torch.func.jacrev(lambda r: posed_mesh(arrays, c, r, t)[0])(r)
    torch.testing.assert_close(got, want, atol=1e-11, rtol=0)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_some_inputs_are_those_of_all(wanted):
    arrays = make()
    given = inputs(arrays, 3, grad=True)
    seeds = like(posed_mesh(arrays, *given))
    every = torch.autograd.grad(posed_mesh(arrays, *given), given, seeds)
    some = [x if i in wanted else x.detach() for i, x in enumerate(given)]
    found = torch.autograd.grad(posed_mesh(arrays, *some), [some[i] for i in wanted], seeds)
    torch.testing.assert_close(found, tuple(every[i] for i in wanted), atol=0, rtol=0)


def test_the_gradient_of_one_output_leaves_the_other_out():
    arrays = make()
    given = inputs(arrays, 3, grad=True)
    for i, seed in enumerate(like(posed_mesh(arrays, *given))):
        got = torch.autograd.grad(posed_mesh(arrays, *given)[i], given, seed, allow_unused=True)
        want = torch.autograd.grad(from_equations(arrays, *given)[i], given, seed)
        torch.testing.assert_close(got, want, atol=1e-11, rtol=0)


# What a result may not depend on.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_body_is_the_same_to_the_bit_in_any_batch_and_by_any_number_of_threads(kind, dtype):
    arrays = make(kind, vertices=1100, dtype=dtype)
    given = inputs(arrays, 70, grad=True)
    seeds = like(posed_mesh(arrays, *given))

    def run(items: slice) -> list[torch.Tensor]:
        some = [x[items].detach().requires_grad_() for x in given]
        outputs = posed_mesh(arrays, *some)
        return [*outputs, *torch.autograd.grad(outputs, some, [s[items] for s in seeds])]

    every = run(slice(None))
    for count, items in ((1, slice(37, 38)), (1, slice(5, 49)), (4, slice(0, 70)), (3, slice(64, 70))):
        with threads(count):
            for a, b in zip(run(items), every, strict=True):
                torch.testing.assert_close(a, b[items], atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", range(3))
def test_what_is_not_finite_stays_with_its_body(kind, bad, which):
    arrays = make(kind)
    given = inputs(arrays, 5)
    clean = [x.clone().requires_grad_() for x in given]
    given[which][2] = bad
    spoilt = [x.requires_grad_() for x in given]
    outputs, seeds = posed_mesh(arrays, *spoilt), like(posed_mesh(arrays, *clean))
    assert not outputs[0][2].isfinite().any()
    rest = [0, 1, 3, 4]
    torch.testing.assert_close([y[rest] for y in outputs], [y[rest] for y in posed_mesh(arrays, *clean)])
    got = torch.autograd.grad(outputs, spoilt, seeds)
    want = torch.autograd.grad(posed_mesh(arrays, *clean), clean, seeds)
    torch.testing.assert_close([g[rest] for g in got], [g[rest] for g in want])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_rows_of_the_whole(kind):
    arrays = make(kind)
    index = torch.tensor([40, 3, 0, 3, 17])
    few, given = arrays.rows(index), inputs(arrays, 18)
    whole, joints = posed_mesh(arrays, *given)
    torch.testing.assert_close(posed_mesh(few, *given), (whole[:, index], joints), atol=0, rtol=0)
    assert posed_mesh(arrays.rows(index[:0]), *given)[0].shape == (18, 0, 3)


def test_inputs_may_lie_anyhow_in_memory_and_are_not_changed():
    arrays = make("dense")
    plain = [x[:1].expand(4, *x.shape[1:]).clone() for x in inputs(arrays, 1)]
    expanded = [x[:1].expand(4, *x.shape[1:]) for x in plain]
    strided = [torch.stack([x, x], -1)[..., 0] for x in plain]
    before = [x.clone() for x in plain]
    want = posed_mesh(arrays, *plain)
    for form in (expanded, strided):
        torch.testing.assert_close(posed_mesh(arrays, *form), want, atol=0, rtol=0)
    given = [x.requires_grad_() for x in plain]
    posed_mesh(arrays, *given)[0].sum().backward()  # the gradient of a sum has no memory of its own
    (posed_mesh(arrays, *given)[0] * torch.ones(41, 3, dtype=F64)).sum().backward()
    torch.testing.assert_close(plain, before, atol=0, rtol=0, check_stride=False)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in given)


def test_the_plain_operations_hold_no_more_than_some_meshes_at_once():
    """The features of every block, nine numbers for three, were three meshes and more where blocks are many."""
    arrays = make("blocks", vertices=1000, parents=STAR, dtype=F32)
    given = inputs(arrays, 64)
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    with Largest():
        vertices, _ = reference_mesh(arrays, *given)
    blocks = 64 * 3 * 4 * len(arrays.block)
    assert largest <= max(blocks, 4 / 3 * vertices.nbytes)
    torch.testing.assert_close(vertices, posed_mesh(arrays, *given)[0], atol=2e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_by_torch_the_body_is_the_same(kind):
    """In a process of its own, for torch cannot trace the tests' check of shapes."""
    code = (
        "import torch, test_kernel as t\n"
        f"a = t.make({kind!r}); x = t.inputs(a, 3, grad=True)\n"
        "y, z = t.posed_mesh(a, *x), torch.compile(t.posed_mesh, backend='aot_eager')(a, *x)\n"
        "g, h = (torch.autograd.grad(o, x, t.like(y)) for o in (y, z))\n"
        "torch.testing.assert_close((*z, *h), (*y, *g), atol=1e-11, rtol=0); print('same')\n"
    )
    assert b"same" in _alone(code)


def test_keypoints_without_the_mesh_are_those_of_the_mesh():
    model = load_model("open", dtype=F64)
    generator = torch.Generator().manual_seed(1)
    pose = (0.4 * torch.randn(3, 69, generator=generator, dtype=F64)).requires_grad_()
    params = model.params(body_pose=pose, betas=torch.randn(3, 10, generator=generator, dtype=F64))
    for layout in ("coco17", "openpose25", "wholebody133"):
        few, whole = model.keypoints(params, layout), model.keypoints(model(**params), layout)
        torch.testing.assert_close(few, whole, atol=1e-12, rtol=0, equal_nan=True)
        a, b = (torch.autograd.grad(x.nan_to_num().square().sum(), pose)[0] for x in (few, whole))
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    assert whole.isnan().any(), "some points of the face have no name"
    out = model(**params)
    for row, name in enumerate(LAYOUTS["coco17"][:5]):
        torch.testing.assert_close(model.keypoints(out, "coco17")[:, row], model.point(out, name), atol=1e-12, rtol=0)


@pytest.mark.parametrize("layout", ["coco17", "wholebody133"])
@pytest.mark.parametrize("name", ["open", "open-x"])
def test_keypoints_without_gradients_are_those_with_them_in_any_batch_and_by_any_number_of_threads(name, layout):
    """One kernel against the two of a gradient and the sums of torch: they differ by the rounding of a sum."""
    model = load_model(name)
    generator = torch.Generator().manual_seed(2)
    wide = {k: 0.4 * torch.randn(2100, v.shape[1], generator=generator) for k, v in model.params().items()}
    params = model.params(**wide)
    with torch.no_grad():
        every, joints = model.keypoints(params, layout), model.joints(params)
        for count, items in ((1, slice(37, 38)), (1, slice(5, 49)), (2, slice(0, 2100))):
            with threads(count):
                few = params.select(items)
                torch.testing.assert_close(model.keypoints(few, layout), every[items], atol=0, rtol=0, equal_nan=True)
                torch.testing.assert_close(model.joints(few), joints[items], atol=0, rtol=0)
    params.body_pose.requires_grad_()
    torch.testing.assert_close(model.keypoints(params, layout), every, atol=2e-6, rtol=0, equal_nan=True)


@pytest.mark.parametrize("turns", [0, 1, 7, 1000])
def test_joints_after_whole_turns_are_the_same(turns):
    """The kernel takes whole turns of pi out of half the angle; 1000 turns of float64 leave 1e-12 of them."""
    arrays = make("none")
    c, r, t = inputs(arrays, 18)
    more = r * (1 + 2 * torch.pi * turns / r.norm(dim=-1, keepdim=True))
    want = from_equations(arrays, c, r, t)[1]
    torch.testing.assert_close(posed_joints(arrays, c, more, t), want, atol=1e-11, rtol=0)


def test_without_gradients_nothing_is_kept():
    arrays = make()
    given = inputs(arrays, 3, grad=True)
    with torch.no_grad():
        assert posed_mesh(arrays, *given)[0].grad_fn is None
    with torch.inference_mode():
        posed_mesh(arrays, *given)
    vertices, _ = posed_mesh(arrays, *given)
    vertices.mul_(2)  # a tensor like any other
    vertices.sum().backward()


@pytest.mark.parametrize("which", range(3))
def test_inputs_of_different_batches_are_refused(which):
    arrays = make()
    given = inputs(arrays, 3)
    given[which] = given[which][:2]
    with pytest.raises((ShapeError, TypeCheckError)):  # the tests' own check of shapes comes first
        posed_mesh(arrays, *given)


def test_too_few_coefficients_are_refused():
    arrays = make()
    c, r, t = inputs(arrays, 3)
    with pytest.raises(ShapeError, match=r"coefficients must be \(3, 4\), got \(3, 3\)"):
        posed_mesh(arrays, c[:, :3], r, t)


def test_several_python_threads_may_call_at_once():
    arrays = make("blocks", vertices=1500)
    given = inputs(arrays, 40)
    want = posed_mesh(arrays, *given)[0]
    with threads(2), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: posed_mesh(arrays, *given)[0], range(16)))
    assert all(torch.equal(x, want) for x in found)
    assert torch.get_num_threads() == 1


def _in_child(arrays: MeshArrays, given: list[torch.Tensor], answer) -> None:
    torch.set_num_threads(2)
    # The sum is NumPy's, for torch's own threads do not outlive a fork: its sum waits for them for ever.
    answer.put(posed_mesh(arrays, *given)[0].numpy().sum().item())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_may_call():
    arrays = make("blocks", vertices=1500)
    given = inputs(arrays, 40)
    with threads(2):
        want = posed_mesh(arrays, *given)[0].numpy().sum().item()  # the parent's pool is up
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_in_child, args=(arrays, given, answer), daemon=True)
    child.start()
    found = answer.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert found == pytest.approx(want, rel=1e-12)


@pytest.mark.slow
def test_where_no_cache_can_be_written_the_kernels_still_run():
    """A package folder and a home that cannot be written."""
    code = (
        "import numba.core.caching as c\n"
        "c._CacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError('read-only'))\n"
        "import torch, test_kernel as t\n"
        "a = t.make(); print(t.posed_mesh(a, *t.inputs(a, 2))[0].shape)\n"
    )
    assert b"[2, 41, 3]" in _alone(code)


def _alone(code: str) -> bytes:
    """What a process prints that has this package and this file to import."""
    import bodyfit

    path = os.pathsep.join([str(Path(bodyfit.__file__).parents[1]), str(Path(__file__).parent)])
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
