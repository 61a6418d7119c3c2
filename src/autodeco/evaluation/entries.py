"""Strategies as an evaluation's configuration names them: specs, and words that stand for specs not known before it.

==========================================  ==========================================================================
``static-sweep[:low=,high=,step=]``         static temperatures at top-p 1: 0.1 to 1.5 in steps of 0.1
``mean-shift`` without numbers              the heads' own means, measured on training data
``shuffled[:seed=]`` without a bank         the heads' own pairs, recorded on training data
``oracle[:split=validation]``               the published sweep; on the test set itself if no split is named
==========================================  ==========================================================================

Runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autodeco.errors import ConfigError, did_you_mean
from autodeco.evaluation.specs import kind_of, parameters_of
from autodeco.strategies import get_strategy, strategy_names

ORACLE = "oracle"
SWEEP = "static-sweep"
_OPTIONS = {ORACLE: ("split",), SWEEP: ("low", "high", "step"), "shuffled": ("seed",), "mean-shift": ()}
_MOST_STEPS = 100


@dataclass(frozen=True)
class Planned:
    """A strategy to be run.

    Attributes:
        spec: what the sampler is given.
        filed: what its results are filed under: the same, but for a bank the path within the run's folder.
    """

    spec: str
    filed: str

    @classmethod
    def of(cls, spec: str) -> Planned:
        """A strategy that is filed under its spec."""
        return cls(spec, spec)

    @property
    def greedy(self) -> bool:
        """Whether all its samples of a problem are the same."""
        return get_strategy(self.spec).greedy


def parse_entries(entries: Sequence[str | Mapping[str, Any]]) -> list[str]:
    """Canonical texts of a configuration's strategies, sweeps spelt out, each once, in their order.

    Raises:
        ConfigError: an unknown strategy (the nearest name is suggested) or setting, or a value out of range.
    """
    texts: dict[str, None] = {}
    for entry in entries:
        texts.update(dict.fromkeys(_parse(entry)))
    return list(texts)


def is_measured(text: str) -> bool:
    """Whether its numbers come from the heads' own choices on training data."""
    given = parameters_of(text)
    return text == "mean-shift" or (kind_of(text) == "shuffled" and "bank" not in given)


def is_oracle(text: str) -> bool:
    """Whether it stands for the published sweep."""
    return kind_of(text) == ORACLE


def oracle_split(text: str) -> str | None:
    """The split that a sweep chooses on; ``None`` for the very problems it is evaluated on."""
    return parameters_of(text).get("split")


def needs_heads(text: str) -> bool:
    """Whether it can be run only on a model with heads."""
    return is_measured(text) or (not is_oracle(text) and get_strategy(text).needs_heads)


def _parse(entry: str | Mapping[str, Any]) -> list[str]:
    if isinstance(entry, Mapping):
        given = dict(entry)
        name = str(given.pop("name", None))
        text = name + (":" if given else "") + ",".join(f"{key}={value}" for key, value in given.items())
    else:
        text = "".join(entry.split()) if kind_of(entry).strip() in (ORACLE, SWEEP) else entry.strip()
    name = kind_of(text).strip()
    known = [*strategy_names(), ORACLE, SWEEP]
    if name not in known:
        raise ConfigError(f"unknown strategy '{name}'.{did_you_mean(name, known)}")
    given = parameters_of(text)
    if name in (ORACLE, SWEEP) or (name == "mean-shift" and not given) or (name == "shuffled" and "bank" not in given):
        return _symbolic(name, given)
    return [get_strategy(entry).spec]


def _symbolic(name: str, given: Mapping[str, str]) -> list[str]:
    for option in given:
        if option not in _OPTIONS[name]:
            hint = did_you_mean(option, _OPTIONS[name]) if _OPTIONS[name] else " It takes none."
            raise ConfigError(f"strategy '{name}' has no setting '{option}'.{hint}")
    if name == SWEEP:
        return _sweep(*(_number(given, option, default) for option, default in _SWEEP_DEFAULTS.items()))
    if name == ORACLE:
        split = given.get("split", "test")
        if split not in ("test", "validation"):
            raise ConfigError(f"strategy 'oracle': split must be test or validation, found '{split}'.")
        return [ORACLE if split == "test" else f"{ORACLE}:split={split}"]
    if name == "shuffled":
        seed = given.get("seed", "0")
        if not seed.isdecimal():
            raise ConfigError(f"strategy 'shuffled': seed must be a whole number of at least 0, found '{seed}'.")
        return [f"shuffled:seed={int(seed)}"]
    return [name]


_SWEEP_DEFAULTS = {"low": 0.1, "high": 1.5, "step": 0.1}


def _number(given: Mapping[str, str], option: str, default: float) -> float:
    try:
        return float(given.get(option, default))
    except ValueError:
        raise ConfigError(f"strategy '{SWEEP}': {option} must be a number, found '{given[option]}'.") from None


def _sweep(low: float, high: float, step: float) -> list[str]:
    if not (0 < low <= high and step > 0 and (high - low) / step < _MOST_STEPS):
        raise ConfigError(
            f"strategy '{SWEEP}': 0 < low <= high and a step that gives at most {_MOST_STEPS} temperatures are needed, "
            f"found low={low:g}, high={high:g}, step={step:g}."
        )
    count = int((high - low) / step + 1e-6) + 1
    temperatures = [round(low + place * step, 6) for place in range(count)]
    return [get_strategy({"name": "static", "temperature": temperature}).spec for temperature in temperatures]
