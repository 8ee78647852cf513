"""Avatars of calibrated cameras, and surfaces of masks alone: from results and pictures to files."""
