"""autodeco: language models that choose their own temperature and top-p for every token.

The public names are imported on first use, so that ``autodeco --help`` does not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from autodeco.version import __version__

if TYPE_CHECKING:
    from autodeco.config import AutoDecoConfig
    from autodeco.heads import DecodingHeads
    from autodeco.modeling import AutoDecoForCausalLM

__all__ = ["AutoDecoConfig", "AutoDecoForCausalLM", "DecodingHeads", "__version__"]

_MODULES = {
    "AutoDecoConfig": "autodeco.config",
    "AutoDecoForCausalLM": "autodeco.modeling",
    "DecodingHeads": "autodeco.heads",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'autodeco' has no attribute '{name}'")
