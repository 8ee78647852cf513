"""Minimise least-squares objectives by Levenberg-Marquardt: batches of small problems, and chains."""

from bodyfit.solve.banded import BandedArrow, solve_banded_arrow
from bodyfit.solve.chain import ChainNormal, ChainProblem, ChainSummary, minimize_chain
from bodyfit.solve.elimination import solve_eliminated
from bodyfit.solve.lm import LMConfig, LMSummary, Normal, Problem, minimize
from bodyfit.solve.marginals import ChainCovariance, Sandwich, sandwich

__all__ = [
    "BandedArrow",
    "ChainCovariance",
    "ChainNormal",
    "ChainProblem",
    "ChainSummary",
    "LMConfig",
    "LMSummary",
    "Normal",
    "Problem",
    "Sandwich",
    "minimize",
    "minimize_chain",
    "sandwich",
    "solve_banded_arrow",
    "solve_eliminated",
]
