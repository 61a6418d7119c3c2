"""``docs/figures.py``, which is no part of a package, as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures = _loaded(Path(__file__).parents[2] / "docs" / "figures.py")
