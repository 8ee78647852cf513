"""Covariances on a chain: the diagonal blocks of H^-1 (s H + M) H^-1 for a block-banded H with an arrow (`banded`).

The inverse of a banded matrix is full, but its diagonal blocks follow from the Cholesky factor by a recursion from the
last link back (Takahashi, Fagan & Chin 1973; of a Kalman filter the Rauch-Tung-Striebel smoother). With a few links
to a block the matrix is block tridiagonal, A_i its diagonal and O_i its lower blocks, and

    P_1 = A_1,  P_i+1 = A_i+1 - O_i V_i O_i',  V_i = P_i^-1,        Z_i = V_i + V_i (O_i' Z_i+1 O_i) V_i

gives the diagonal blocks Z_i of the inverse. Those of A^-1 M A^-1, M block diagonal, are the derivative of Z_i as A
goes to A - e M, for which the same recursion is differentiated:

    Q_1 = M_1,  Q_i+1 = M_i+1 + O_i Y_i O_i',  Y_i = V_i Q_i V_i
    X_i = Y_i + (V_i E_i) Y_i + Y_i (V_i E_i)' + V_i (O_i' X_i+1 O_i) V_i,  E_i = O_i' Z_i+1 O_i

The variables that all links share are eliminated last. With C the border, W = A^-1 C, R = A^-1 (M_xz - M_xx W) and
U = (-W, 1), the inverse of H is that of A, bordered by 0, plus U S^-1 U' with S = K - C' W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs
from torch import Tensor

from bodyfit.solve.banded import BandedArrow

__all__ = ["ChainCovariance", "Sandwich", "sandwich"]

_potrf, _potri = get_lapack_funcs(("potrf", "potri"), dtype=np.float64)


@dataclass(frozen=True)
class Sandwich:
    """The parts of H^-1 (s H + M) H^-1, float64."""

    links: Float[Tensor, "T N N"]
    """Its diagonal blocks where the shared variables are held: of s A^-1 + A^-1 M A^-1."""
    by_shared: Float[Tensor, "T N M"]
    """W: by how much a link's variables move against the shared ones."""
    mixed: Float[Tensor, "T N M"]
    """R."""
    information: Float[Tensor, "M M"]
    """S: half the curvature by the shared variables, whatever the links are."""
    meat: Float[Tensor, "M M"]
    """U' M U: what M adds to the variance of the gradient by the shared variables, whatever the links are."""


@dataclass(frozen=True)
class ChainCovariance:
    """The covariance of each link's variables and those that links share."""

    links: Float[Tensor, "T N N"]
    across: Float[Tensor, "T N M"]
    """Of a link's variables and the shared ones."""
    shared: Float[Tensor, "M M"]

    @classmethod
    def of(cls, parts: Sandwich, information: Float[Tensor, "M M"], meat: Float[Tensor, "M M"]) -> ChainCovariance:
        """From the parts, and the information and the variance of the gradient by the shared variables: those of the
        parts (s S + U' M U), or what more links say of them. Raises `torch.linalg.LinAlgError` for no information."""
        unit = torch.eye(len(information), dtype=information.dtype)
        inverse = torch.cholesky_solve(unit, torch.linalg.cholesky(information)) if len(unit) else information
        shared = inverse @ meat @ inverse
        along = parts.mixed @ inverse - 0.5 * parts.by_shared @ shared
        own = along @ parts.by_shared.mT
        across = parts.mixed @ inverse - parts.by_shared @ shared
        return cls(parts.links - own - own.mT, across, shared)

    def joined(self) -> Float[Tensor, "T D D"]:
        """The whole covariance of each link's variables, its own first."""
        shared = self.shared.expand(len(self.links), -1, -1)
        return torch.cat([torch.cat([self.links, self.across], 2), torch.cat([self.across.mT, shared], 2)], 1)


def sandwich(H: BandedArrow, scale: float, more: BandedArrow) -> Sandwich | None:
    """The parts of H^-1 (scale H + more) H^-1, or None where H is not positive definite; `more` has no bands. Time and
    memory are linear in the links."""
    blocks = _Blocks.of(H, more)
    factors = _factored(blocks)
    if factors is None:
        return None
    border = H.border.double().cpu().numpy()
    W = _solved(blocks, factors, border)
    M_xx, M_xz = more.diagonal.double().cpu().numpy(), more.border.double().cpu().numpy()
    moved = M_xx @ W
    R = _solved(blocks, factors, M_xz - moved)
    S = H.corner.double().cpu().numpy() - np.einsum("tnm,tnk->mk", border, W)
    crossed = np.einsum("tnm,tnk->mk", W, M_xz)
    meat = np.einsum("tnm,tnk->mk", W, moved) - crossed - crossed.T + more.corner.double().cpu().numpy()
    links = _links(blocks, factors, scale)[: len(H.border)]
    links, W, R, S, meat = (torch.from_numpy(np.ascontiguousarray(v)) for v in (links, W, R, S, meat))
    return Sandwich(links, W, R, (S + S.mT) / 2, meat)


@dataclass(frozen=True)
class _Blocks:
    """A chain without its arrow as a block tridiagonal matrix of a few links each, the last filled up with units."""

    size: int
    """Of a link."""
    reach: int
    """Links to a block: to so many before it a link is coupled."""
    links: int
    A: Float[np.ndarray, "I L L"]
    M: Float[np.ndarray, "I L L"]
    bands: tuple[Float[np.ndarray, "_ G E E"], ...]

    @classmethod
    def of(cls, H: BandedArrow, more: BandedArrow) -> _Blocks:
        n_t, n, _ = H.border.shape
        bands = tuple(band.double().cpu().numpy() for band in H.bands)
        reach = max([1, *(k for k, band in enumerate(bands, 1) if len(band))])
        count = -(-n_t // reach)
        A, M = (np.zeros((count, reach, n, reach, n)) for _ in range(2))
        for out, diagonal in ((A, H.diagonal), (M, more.diagonal)):
            values = diagonal.double().cpu().numpy()
            for p in range(reach):
                at = values[p::reach]
                out[: len(at), p, :, p] = at
        for missing in range(n_t, count * reach):
            A[-1, missing % reach, :, missing % reach] = np.eye(n)
        for k, band in enumerate(bands, 1):
            for t in range(len(band)):
                if t % reach + k < reach:
                    _put(A[t // reach, t % reach + k, :, t % reach], band[t])
                    _put(A[t // reach, t % reach, :, t % reach + k], band[t].swapaxes(1, 2))
        size = reach * n
        return cls(n, reach, n_t, A.reshape(count, size, size), M.reshape(count, size, size), bands)

    def couplings(self, i: int) -> list[tuple[slice, slice, np.ndarray]]:
        """O_i, sparse: rows of block i + 1, columns of block i, and the groups on the diagonal of what couples them."""
        found = []
        for k, band in enumerate(self.bands, 1):
            for p in range(max(0, self.reach - k), self.reach):
                t = i * self.reach + p
                if t < len(band):
                    row, moved = p + k - self.reach, band.shape[1] * band.shape[2]
                    rows = slice(row * self.size, row * self.size + moved)
                    found.append((rows, slice(p * self.size, p * self.size + moved), band[t]))
        return found


def _put(block: np.ndarray, groups: np.ndarray) -> None:
    """Groups on the diagonal of a block."""
    for g, own in enumerate(groups):
        at = slice(g * len(own), (g + 1) * len(own))
        block[at, at] = own


def _times(couplings: list[tuple[slice, slice, np.ndarray]], value: np.ndarray, *, transposed: bool) -> np.ndarray:
    """O value, or O' value."""
    out = np.zeros_like(value)
    for rows, columns, groups in couplings:
        to, from_ = (columns, rows) if transposed else (rows, columns)
        parts = value[from_].reshape(len(groups), groups.shape[1], -1)
        out[to] += ((groups.swapaxes(1, 2) if transposed else groups) @ parts).reshape(-1, value.shape[1])
    return out


def _both(couplings: list[tuple[slice, slice, np.ndarray]], value: np.ndarray, *, transposed: bool) -> np.ndarray:
    """O value O', or O' value O, of a symmetric value."""
    half = _times(couplings, value, transposed=transposed)
    return _times(couplings, np.ascontiguousarray(half.T), transposed=transposed)


def _factored(blocks: _Blocks) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    """V_i and Y_i."""
    V, Y, carried, meat = [], [], 0.0, 0.0
    for i in range(len(blocks.A)):
        factor, info = _potrf(blocks.A[i] - carried, lower=1, overwrite_a=1)
        if info:
            return None
        inverse, _ = _potri(factor, lower=1, overwrite_c=1)
        lower = np.tril(inverse)
        inverse = lower + np.tril(inverse, -1).T
        Y.append(inverse @ (blocks.M[i] + meat) @ inverse)
        V.append(inverse)
        if i + 1 < len(blocks.A):
            couplings = blocks.couplings(i)
            carried = _both(couplings, inverse, transposed=False)
            meat = _both(couplings, Y[-1], transposed=False)
    return V, Y


def _solved(
    blocks: _Blocks, factors: tuple[list[np.ndarray], list[np.ndarray]], right: Float[np.ndarray, "T N M"]
) -> Float[np.ndarray, "T N M"]:
    """A^-1 of some columns."""
    V, _ = factors
    n_t, n, m = right.shape
    if m == 0:
        return right
    full = np.zeros((len(V) * blocks.reach, n, m))
    full[:n_t] = right
    b = full.reshape(len(V), blocks.reach * n, m)
    for i in range(len(V) - 1):
        b[i + 1] -= _times(blocks.couplings(i), V[i] @ b[i], transposed=False)
    for i in reversed(range(len(V))):
        if i + 1 < len(V):
            b[i] -= _times(blocks.couplings(i), b[i + 1], transposed=True)
        b[i] = V[i] @ b[i]
    return full[:n_t]


def _links(
    blocks: _Blocks, factors: tuple[list[np.ndarray], list[np.ndarray]], scale: float
) -> Float[np.ndarray, "T N N"]:
    """The diagonal blocks of scale A^-1 + A^-1 M A^-1, a link each."""
    V, Y = factors
    out = np.empty((len(V), blocks.reach, blocks.size, blocks.size))
    Z = X = np.zeros(0)
    for i in reversed(range(len(V))):
        if i + 1 < len(V):
            couplings = blocks.couplings(i)
            E, F = (_both(couplings, v, transposed=True) for v in (Z, X))
            VE = V[i] @ E
            moved = VE @ Y[i]
            Z = V[i] + VE @ V[i]
            X = Y[i] + moved + moved.T + V[i] @ F @ V[i]
        else:
            Z, X = V[i], Y[i]
        both = (scale * Z + X).reshape(blocks.reach, blocks.size, blocks.reach, blocks.size)
        for p in range(blocks.reach):
            out[i, p] = (both[p, :, p] + both[p, :, p].T) / 2
    return out.reshape(-1, blocks.size, blocks.size)
