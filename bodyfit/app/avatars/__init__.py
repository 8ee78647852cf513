"""Avatars and fields of persons from results, pictures and calibrated cameras: views, drawings, scores and files."""
