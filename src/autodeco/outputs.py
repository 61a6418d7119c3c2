"""Transformers output objects with AutoDeco's fields added, and the trace that a generation collects."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from autodeco.objectives.output import ObjectiveOutput

# For each forward pass: temperature, top-p and entropy of its last position, each [B].
Trace = list[tuple[Tensor, ...]]

_STATE = threading.local()
# Output classes made so far, by base class and added fields. A plain dictionary, because torch.compile traces through
# it, and not through functools.cache.
_EXTENDED: dict[tuple[type[ModelOutput], tuple[str, ...]], type[ModelOutput]] = {}


@dataclasses.dataclass
class TrainingOutput(ModelOutput):  # type: ignore[misc]
    """What the model returns when it is given an objective.

    Attributes:
        loss: scalar to minimise.
        objective: the parts and per-token values behind it.
    """

    loss: Tensor | None = None
    objective: ObjectiveOutput | None = None


def extend(output: ModelOutput, **fields: Any) -> ModelOutput:
    """Returns ``output`` with fields replaced or added; its class becomes a subclass of its own class."""
    base = type(output)
    added = tuple(name for name in fields if name not in base.__dataclass_fields__)
    if (base, added) not in _EXTENDED:
        _EXTENDED[base, added] = dataclasses.make_dataclass(
            f"AutoDeco{base.__name__}",
            [(name, Tensor | None, dataclasses.field(default=None)) for name in added],
            bases=(base,),
            namespace={"__module__": __name__},
        )
    return _EXTENDED[base, added](**{**dict(output), **fields})


def active_trace() -> Trace | None:
    """The trace that this thread is recording, if any."""
    return getattr(_STATE, "trace", None)


@contextmanager
def recording() -> Iterator[Trace]:
    """Collects temperature, top-p and entropy at the last position of every AutoDeco forward pass in this thread."""
    previous = active_trace()
    trace: Trace = []
    _STATE.trace = trace
    try:
        yield trace
    finally:
        _STATE.trace = previous
