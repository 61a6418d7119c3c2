"""Strategies by their spec: short text or a mapping, with errors that say what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from autodeco.errors import ConfigError, did_you_mean
from autodeco.strategies.base import Strategy, spec_parameters
from autodeco.strategies.entropy import Dynatemp, EntropyDynamicTemperature
from autodeco.strategies.learned import AutoDeco, TemperatureHeadAlone, TopPHeadAlone
from autodeco.strategies.logit_shape import MinK, TopNSigma
from autodeco.strategies.p_less import PLess, PLessNorm
from autodeco.strategies.shuffled import Shuffled
from autodeco.strategies.static import Default, Greedy, MeanShift, Static, min_p

_STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "greedy": Greedy,
    "default": Default,
    "static": Static,
    "min-p": min_p,
    "p-less": PLess,
    "p-less-norm": PLessNorm,
    "min-k": MinK,
    "top-n-sigma": TopNSigma,
    "edt": EntropyDynamicTemperature,
    "dynatemp": Dynatemp,
    "autodeco": AutoDeco,
    "temperature-head": TemperatureHeadAlone,
    "top-p-head": TopPHeadAlone,
    "mean-shift": MeanShift,
    "shuffled": Shuffled,
}


def strategy_names() -> list[str]:
    """Names that a spec can begin with."""
    return list(_STRATEGIES)


def get_strategy(spec: str | Mapping[str, Any] | Strategy) -> Strategy:
    """Makes a strategy of its spec.

    Args:
        spec: ``"p-less"``, ``"static:temperature=0.7,top_p=0.9"``, or the same as a mapping,
            ``{"name": "static", "temperature": 0.7, "top_p": 0.9}``; a strategy is returned as it is.

    Returns:
        The strategy; ``str()`` of it is the canonical spec (two ways to write one setting give one text).

    Raises:
        ConfigError: the name or a parameter is unknown, missing, or out of range.
    """
    if isinstance(spec, Strategy):
        return spec
    name, given = _parts(spec)
    if name not in _STRATEGIES:
        raise ConfigError(f"unknown strategy '{name}'.{did_you_mean(name, _STRATEGIES)}")
    factory = _STRATEGIES[name]
    known = spec_parameters(factory)
    for parameter in given:
        if parameter not in known:
            hint = did_you_mean(parameter, known) if known else " It takes none."
            raise ConfigError(f"strategy '{name}' has no parameter '{parameter}'.{hint}")
    missing = [one.name for one in known.values() if one.default is one.empty and one.name not in given]
    if missing:
        raise ConfigError(f"strategy '{name}' needs {' and '.join(missing)}: '{name}:{missing[0]}=...'.")
    values = {key: _value(name, key, value, str(known[key].annotation)) for key, value in given.items()}
    strategy = factory(**values)
    return Default() if strategy == Static() else strategy  # one setting, one name


def _parts(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the parameters as they were written."""
    if isinstance(spec, Mapping):
        given = dict(spec)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"a strategy given as a mapping needs its 'name', found {name!r}.")
        return name, given
    if not isinstance(spec, str):
        raise ConfigError(f"a strategy is given as text or as a mapping, found {spec!r}.")
    name, colon, rest = spec.strip().partition(":")
    given = {}
    # A value ends where the next 'name=' begins, so that a file's name may hold a comma.
    for part in re.split(r",\s*(?=\w+\s*=)", rest) if colon else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise ConfigError(f"'{spec}' is no strategy: expected NAME or NAME:PARAMETER=VALUE,...; found '{part}'.")
        if key in given:
            raise ConfigError(f"'{spec}' sets {key} twice.")
        given[key] = value
    return name.strip(), given


def _value(strategy: str, name: str, value: Any, kind: str) -> float | int | str:
    """A parameter's value as its type. Numbers may come as text."""
    wanted = {"float": "a number", "int": "a whole number", "str": "text"}[kind]
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if kind == "str":
            return str(value)
        if kind == "int" and not isinstance(value, float):
            return int(value)
        if kind == "float":
            return float(value)
        raise ValueError
    except ValueError:
        raise ConfigError(f"strategy '{strategy}': {name} must be {wanted}, found {value!r}.") from None
