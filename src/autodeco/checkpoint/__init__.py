"""Saving, loading, merging and converting checkpoints, in this project's layouts and the released ones."""

from autodeco.checkpoint.base import load_base

__all__ = ["load_base"]
