"""Clips: people who move before one camera, with labels of every frame."""
