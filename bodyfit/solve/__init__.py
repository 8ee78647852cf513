"""Batched Levenberg-Marquardt over residuals and Jacobians."""

from bodyfit.solve.lm import LMConfig, LMSummary, Normal, Problem, minimize

__all__ = ["LMConfig", "LMSummary", "Normal", "Problem", "minimize"]
