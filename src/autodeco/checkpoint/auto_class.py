"""Has ``AutoModelForCausalLM.from_pretrained(MERGED, trust_remote_code=True)`` load a merged folder with its heads.

Programs that only know Transformers' auto classes (lm-evaluation-harness, for one) decode with the heads then. A merged
folder names :class:`AutoDecoModel` in its configuration and holds the one-line module that imports it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodeco.modeling import AutoDecoForCausalLM

FILE = "modeling_autodeco.py"
AUTO_CLASS = "AutoModelForCausalLM"
REFERENCE = "modeling_autodeco.AutoDecoModel"
SOURCE = '''\
"""Loads this checkpoint with its decoding heads where Transformers is asked to with trust_remote_code=True."""

from autodeco.checkpoint.auto_class import AutoDecoModel  # pip install autodeco
'''


def with_auto_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """A base's ``config.json`` that also names our class; one that has code of its own keeps that instead."""
    own = dict(config.get("auto_map") or {})
    return dict(config) if AUTO_CLASS in own else {**config, "auto_map": {**own, AUTO_CLASS: REFERENCE}}


def without_auto_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes :func:`with_auto_class`."""
    if not is_ours(config):
        return dict(config)
    others = {key: value for key, value in config["auto_map"].items() if key != AUTO_CLASS}
    rest = {key: value for key, value in config.items() if key != "auto_map"}
    return {**rest, "auto_map": others} if others else rest


def is_ours(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` names our class."""
    return (config.get("auto_map") or {}).get(AUTO_CLASS) == REFERENCE


class AutoDecoModel:
    """What Transformers' auto class finds: it only passes on. Never instantiated."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Called by Transformers; nothing is to be registered."""

    @classmethod
    def from_pretrained(cls, path_or_id: str, *_: Any, **kwargs: Any) -> AutoDecoForCausalLM:
        """As :meth:`AutoDecoForCausalLM.from_pretrained`."""
        from autodeco.modeling import AutoDecoForCausalLM

        for name in ("trust_remote_code", "code_revision", "adapter_kwargs"):
            kwargs.pop(name, None)
        return AutoDecoForCausalLM.from_pretrained(path_or_id, **kwargs)
