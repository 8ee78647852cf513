"""Find the most probable shape that has given measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.anthropometry.measure import BODY_DENSITY, TapeMeasure
from bodyfit.errors import OptionError, ShapeError
from bodyfit.skeleton import Skeleton

__all__ = ["Measurable", "shape_from_measurements"]

Value = float | int | Sequence[float | int] | np.ndarray | Tensor | None
"""A measurement: a number, or one for each body."""

_EXACT_M, _EXACT_KG = 1e-3, 0.1
_STEP = 0.05
"""Step of the central difference, in betas: long against float32 rounding, short against the girths' curvature."""
_ITERATIONS = 24


@runtime_checkable
class RestBodies(Protocol):
    """Vertices and joints of bodies in the rest pose, metres."""

    @property
    def vertices(self) -> Tensor: ...
    @property
    def joints(self) -> Tensor: ...


@runtime_checkable
class Measurable(Protocol):
    """The parts of a body model that measuring needs."""

    num_betas: int
    skeleton: Skeleton
    if TYPE_CHECKING:  # buffers: from Python 3.12 on a check at run time does not see what a module keeps there
        faces: Tensor
        v_template: Tensor

    @property
    def weights(self) -> Tensor: ...
    def __call__(self, *, betas: Tensor) -> RestBodies: ...


def shape_from_measurements(
    model: Measurable,
    *,
    height: Value = None,
    mass: Value = None,
    chest: Value = None,
    waist: Value = None,
    hip: Value = None,
    neck: Value = None,
    upper_arm: Value = None,
    thigh: Value = None,
    arm_length: Value = None,
    leg_length: Value = None,
    inseam: Value = None,
    density: float | int = BODY_DENSITY,
    max_sd: float | int = 5.0,
) -> Float[Tensor, "B S"]:
    """Find the betas of the most probable bodies (least |betas|) that have the given `Measurements`.

    Metres and kilograms; numbers for one body, or lists and tensors of B. Accurate to 1 mm and 0.1 kg or better. Raises
    `OptionError` where no body with |betas| up to `max_sd` has them, and names the range that bodies have.
    """
    measurements = dict(height=height, mass=mass, chest=chest, waist=waist, hip=hip, neck=neck, upper_arm=upper_arm)
    measurements |= dict(thigh=thigh, arm_length=arm_length, leg_length=leg_length, inseam=inseam)
    if not max_sd > 0:
        raise OptionError(f"max_sd must be positive, got {max_sd}")
    targets = _checked_targets(measurements)
    solver = _Solver(model, list(targets), density, max_sd)
    target = np.stack(list(targets.values()), 1)
    betas, solved = solver.solve(target)
    if not solved.all():
        raise OptionError(solver.refusal(int(np.argmin(solved)), target))
    return torch.from_numpy(betas).to(model.v_template)


def _checked_targets(measurements: dict[str, Value]) -> dict[str, Float[np.ndarray, " B"]]:
    """Return the measurements that are not None, checked and of one batch size. Raises `OptionError`, `ShapeError`."""
    targets = {}
    for name, value in measurements.items():
        if value is None:
            continue
        try:
            numbers = torch.as_tensor(value, dtype=torch.float64).detach().cpu().numpy()
        except (TypeError, ValueError, RuntimeError) as error:
            raise OptionError(f"{name} must be a number or a list of numbers, got {value!r}") from error
        if numbers.ndim > 1:
            raise ShapeError(f"{name} must be a number or (B,), got {numbers.shape}")
        for number in numbers.reshape(-1).tolist():
            _check_number(name, number)
        targets[name] = np.atleast_1d(numbers)
    if not targets:
        raise OptionError(f"give at least one measurement: {', '.join(measurements)}")
    lengths = {name: len(numbers) for name, numbers in targets.items()}
    batch = max(lengths.values()) if 0 not in lengths.values() else 0
    if not set(lengths.values()) <= {1, batch}:
        raise ShapeError("batches differ: " + ", ".join(f"{name} {n}" for name, n in lengths.items()))
    return {name: np.broadcast_to(numbers, (batch,)) for name, numbers in targets.items()}


def _check_number(name: str, number: float) -> None:
    """Raise `OptionError` where a measurement is not positive, or too large and so in another unit."""
    unit, most = ("kilograms", 1000.0) if name == "mass" else ("metres", 3.0)
    if not np.isfinite(number) or number <= 0:
        raise OptionError(f"{name} must be a positive number of {unit}, got {number:g}")
    if number < most:
        return
    if name == "mass":
        other, right = "grams", number / 1000
    elif name == "height" and number < 9:
        other, right = "feet", number * 0.3048
    else:
        other, right = ("centimetres", number / 100) if number < 300 else ("millimetres", number / 1000)
    raise OptionError(f"{name} is in {unit}; {number:g} looks like {other}; give {right:.2f}")


class _Solver:
    """Gauss-Newton for the betas of least norm under the measurements as constraints.

    Each step goes to the least-norm solution of the linearised measurements, so that at convergence the betas lie in
    the span of the measurements' gradients.
    """

    def __init__(self, model: Measurable, names: list[str], density: float | int, max_sd: float | int) -> None:
        self._model, self._names, self._density, self._max_sd = model, names, density, max_sd
        self._tape = TapeMeasure(model.faces, model.weights, model.skeleton)
        self._unit = np.array([_EXACT_KG if name == "mass" else _EXACT_M for name in names])

    def measure(self, betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, "B M"]:
        """Measure bodies, in units of the tolerance; in chunks, for differences take 21 bodies a person."""
        parts = []
        for some in torch.from_numpy(betas).to(self._model.v_template).split(256):
            with torch.no_grad():
                rest = self._model(betas=some)
            parts.append(self._tape.values(self._names, rest.vertices, rest.joints, density=self._density))
        return np.concatenate(parts) / self._unit

    def linearise(
        self, betas: Float[np.ndarray, "B S"], target: Float[np.ndarray, "B M"]
    ) -> tuple[Float[np.ndarray, "B M"], Float[np.ndarray, "B M S"]]:
        """Return the residual to the target and the Jacobian of the measurements by betas (central differences)."""
        batch, count = betas.shape
        steps = np.concatenate([np.zeros((1, count)), _STEP * np.eye(count), -_STEP * np.eye(count)])
        values = self.measure((betas[:, None] + steps).reshape(-1, count)).reshape(batch, 2 * count + 1, -1)
        slope = (values[:, 1 : count + 1] - values[:, count + 1 :]).swapaxes(1, 2) / (2 * _STEP)
        # A body that cannot be measured (NaN) is not moved, and is not a solution.
        return np.nan_to_num(target / self._unit - values[:, 0]), np.nan_to_num(slope)

    def solve(self, target: Float[np.ndarray, "B M"]) -> tuple[Float[np.ndarray, "B S"], Bool[np.ndarray, " B"]]:
        """Solve for betas; also return which have the measurements within the tolerance and |betas| up to `max_sd`."""
        betas = np.zeros((len(target), self._model.num_betas))
        active = np.arange(len(target))
        for iteration in range(_ITERATIONS):
            if not len(active):
                break
            current = betas[active]
            residual, slope = self.linearise(current, target[active])
            # A girth that is a maximum over levels has a kink where another level becomes the largest, and the least
            # norm may lie on one, where steps oscillate. In the second half, steps go to the nearest solution instead.
            least_norm = iteration < _ITERATIONS // 2
            step = _least(slope, residual + least_norm * _times(slope, current)) - least_norm * current
            length = np.linalg.norm(step, axis=1, keepdims=True)
            current = current + step * np.minimum(1, 2 / np.maximum(length, 1e-9))
            norm = np.linalg.norm(current, axis=1, keepdims=True)
            betas[active] = current * np.minimum(1, 2 * self._max_sd / np.maximum(norm, 1e-9))  # far beyond max_sd
            active = active[(np.abs(residual).max(1) > 0.1) | (length[:, 0] > 1e-3)]
        exact = np.abs(self.measure(betas) - target / self._unit).max(1) <= 1
        return betas, exact & (np.linalg.norm(betas, axis=1) <= self._max_sd)

    def reach(self, index: int, others: list[int], target: Float[np.ndarray, " M"]) -> str | None:
        """Describe the range of one measurement over bodies within `max_sd` that have the others, or None."""
        ends = []
        for sign in (-1.0, 1.0):
            betas = np.zeros((1, self._model.num_betas))
            for _ in range(5):
                residual, slope = self.linearise(betas, target[None])
                fixed = slope[:, others]
                betas = _least(fixed, residual[:, others] + _times(fixed, betas))
                room = self._max_sd**2 - float((betas**2).sum())
                if room < 0:
                    return None
                free = slope[:, index] - _least(fixed, _times(fixed, slope[:, index]))
                betas = betas + sign * np.sqrt(room) * free / max(float(np.linalg.norm(free)), 1e-12)
            ends.append(float(self.measure(betas)[0, index] * self._unit[index]))
        name = self._names[index]
        return f"{_text(name, min(ends))} to {_text(name, max(ends)).removeprefix(f'{name}=')}"

    def refusal(self, item: int, target: Float[np.ndarray, "B M"]) -> str:
        """Explain why no body has the measurements, and which ranges bodies have."""
        values, every = target[item], range(len(self._names))
        texts = [_text(name, value) for name, value in zip(self._names, values, strict=True)]
        where = f" (body {item})" if len(target) > 1 else ""
        reasons = [f"no believable body has {', '.join(texts)}{where}"]
        for others_too in (True, False):
            for k in every:
                others = [i for i in every if i != k and others_too]
                span = self.reach(k, others, values)
                if span is not None:
                    rest = f"with {', '.join(texts[i] for i in others)} " if others else ""
                    reasons.append(f"{rest}this model reaches {span}")
            if len(reasons) > 1:  # otherwise no single measurement is out of range
                break
        return "; ".join(reasons) + f" (within max_sd={self._max_sd:g} standard deviations of its mean)"


def _times(slope: Float[np.ndarray, "B M S"], betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, "B M"]:
    """Return slope @ betas."""
    return np.einsum("bms,bs->bm", slope, betas)


def _least(slope: Float[np.ndarray, "B M S"], value: Float[np.ndarray, "B M"]) -> Float[np.ndarray, "B S"]:
    """Return the least-norm solutions of slope @ betas = value."""
    return np.einsum("bsm,bm->bs", np.linalg.pinv(slope, rcond=1e-6), value)


def _text(name: str, value: float) -> str:
    """Return a measurement with its name and unit."""
    return f"{name}={value:.1f} kg" if name == "mass" else f"{name}={value:.3f} m"
