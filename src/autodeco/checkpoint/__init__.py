"""Saving, loading, merging and converting checkpoints, in this project's layouts and the released ones."""

from autodeco.checkpoint.adapter import saved_adapter
from autodeco.checkpoint.base import load_base
from autodeco.checkpoint.conversion import convert
from autodeco.checkpoint.heads import load_heads, save_heads
from autodeco.checkpoint.hub import push_heads
from autodeco.checkpoint.inspection import Inspection, inspect
from autodeco.checkpoint.layout import Layout
from autodeco.checkpoint.merged import merge, split
from autodeco.checkpoint.model import load_model

__all__ = [
    "Inspection",
    "Layout",
    "convert",
    "inspect",
    "load_base",
    "load_heads",
    "load_model",
    "merge",
    "push_heads",
    "save_heads",
    "saved_adapter",
    "split",
]
