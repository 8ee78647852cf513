"""Flesh at rest in one pose, brought to equilibrium in another: stable neo-Hookean elements, springs to the bones.

Energy density mu/2 (|F|^2 - 3) - mu (J - 1) + lambda/2 (J - 1)^2 (Smith, De Goes and Kim 2018), which stays finite when
an element turns inside out, as skinned elements do in a crease. Contact is a plane that neither side may cross: the
one that halves the joint's angle. Minimised by L-BFGS with the factored Laplacian as first Hessian (Liu et al. 2017).
"""

from collections import deque
from dataclasses import dataclass

import numba
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from scripts.build.pose_shapes.lattice import Lattice, gradients, stiffness


@dataclass(frozen=True)
class Contact:
    """Embedded skin that must stay on its side of a plane."""

    rows: np.ndarray
    """(C,) which of the lattice's skin."""
    side: np.ndarray
    """(C,) +1 or -1 along the normal."""
    area: np.ndarray
    """(C,) square metres."""


class Flesh:
    """Elements with their rest shape; `solve` finds the equilibrium for given bones."""

    def __init__(self, lattice: Lattice, rest: np.ndarray, pull: np.ndarray, bulk: float, contact_stiffness: float):
        """`rest` (N, 3) is stress-free, `pull` (N,) the stiffness of each node's spring, all over the shear modulus."""
        self.lattice, self.pull, self.bulk, self.contact_stiffness = lattice, pull, bulk, contact_stiffness
        self.slopes, volumes = gradients(rest, lattice.tets)
        # An element that skinning left inside out or nearly flat says nothing about the flesh.
        self.volumes = np.where(volumes > 0, volumes, 0.0) * lattice.fill
        self.slopes[volumes <= 1e-13] = 0.0
        self.laplacian = stiffness(lattice.nodes, lattice.tets, lattice.fill)
        self._factor = splu((self.laplacian * (1 + 0.3 * bulk) + sp.diags(pull + 1e-9)).tocsc())

    def energy(self, x, target, contact, normal, offset):
        """Energy and its gradient (N, 3)."""
        gradient = np.zeros_like(x)
        value = _elastic(x, self.lattice.tets, self.slopes, self.volumes, self.bulk, gradient)
        away = x - target
        value += 0.5 * float((self.pull[:, None] * away * away).sum())
        gradient += self.pull[:, None] * away
        if contact is not None and len(contact.rows):
            points = self.embed_contact @ x
            depth = np.maximum(0.0, 0.0007 - contact.side * (points @ normal - offset))
            stiff = self.contact_stiffness * contact.area * depth
            value += 0.5 * float((stiff * depth).sum())
            gradient += self.embed_contact.T @ (-(stiff * contact.side)[:, None] * normal)
        return value, gradient

    def solve(self, start, target, contact=None, normal=None, offset=0.0, steps=150, tolerance=5e-5):
        """(N, 3) nodes at equilibrium."""
        self.embed_contact = self.lattice.embed[contact.rows] if contact is not None else None
        x = start.copy()
        value, gradient = self.energy(x, target, contact, normal, offset)
        history: deque = deque(maxlen=12)
        for _ in range(steps):
            step = -self._direction(gradient, history)
            slope = float((step * gradient).sum())
            length = min(1.0, 0.02 / max(np.abs(step).max(), 1e-12))
            for _ in range(12):
                trial = x + length * step
                new, new_gradient = self.energy(trial, target, contact, normal, offset)
                if new <= value + 1e-4 * length * slope:
                    break
                length *= 0.4
            else:
                if not history:
                    break
                history.clear()
                continue
            s, y = length * step, new_gradient - gradient
            if (s * y).sum() > 1e-18:
                history.append((s, y))
            x, value, gradient = trial, new, new_gradient
            if np.abs(s).max() < tolerance:
                break
        return x

    def _direction(self, gradient, history):
        q, passed = gradient.copy(), []
        for s, y in reversed(history):
            a = (s * q).sum() / (s * y).sum()
            q -= a * y
            passed.append(a)
        r = self._factor.solve(q)
        for (s, y), a in zip(history, reversed(passed), strict=True):
            r += s * (a - (y * r).sum() / (s * y).sum())
        return r


@numba.njit(cache=True, fastmath=True)
def _elastic(x, tets, slopes, volumes, bulk, gradient):
    total = 0.0
    F = np.zeros((3, 3))
    C = np.zeros((3, 3))
    for t in range(len(tets)):
        volume = volumes[t]
        if volume == 0.0:
            continue
        norm = 0.0
        for i in range(3):
            for j in range(3):
                f = 0.0
                for a in range(4):
                    f += x[tets[t, a], i] * slopes[t, a, j]
                F[i, j] = f
                norm += f * f
        for i in range(3):
            i1, i2 = (i + 1) % 3, (i + 2) % 3
            for j in range(3):
                j1, j2 = (j + 1) % 3, (j + 2) % 3
                C[i, j] = F[i1, j1] * F[i2, j2] - F[i1, j2] * F[i2, j1]
        J = F[0, 0] * C[0, 0] + F[0, 1] * C[0, 1] + F[0, 2] * C[0, 2]
        total += volume * (0.5 * (norm - 3.0) - (J - 1.0) + 0.5 * bulk * (J - 1.0) ** 2)
        pressure = bulk * (J - 1.0) - 1.0
        for i in range(3):
            for j in range(3):
                C[i, j] = volume * (F[i, j] + pressure * C[i, j])
        for a in range(4):
            for i in range(3):
                gradient[tets[t, a], i] += (
                    C[i, 0] * slopes[t, a, 0] + C[i, 1] * slopes[t, a, 1] + C[i, 2] * slopes[t, a, 2]
                )
    return total
