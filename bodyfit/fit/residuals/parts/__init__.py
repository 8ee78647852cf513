"""Residuals about hands and faces."""
