"""The published expert-guided sweep of static settings: which to score, and which is chosen. Runs nothing itself.

Temperature in steps of 0.1 at top-p 1, then top-p in steps of 0.1 at the best temperature (AutoDeco, arXiv 2510.26697,
evaluation protocol). Chosen by scores on the test set it is an oracle: nobody can decode with it, and its score is
biased upwards, being the largest of many noisy ones. Chosen on a validation split it is what a careful user gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autodeco.errors import ConfigError, DataError
from autodeco.strategies import Static, get_strategy


def _tenths(first: int, last: int) -> tuple[float, ...]:
    return tuple(tenth / 10 for tenth in range(first, last + 1))


@dataclass(frozen=True)
class Choice:
    """What a sweep chose.

    Attributes:
        spec: of the chosen setting, as results are filed.
        score: of it, by the scores that it was chosen by.
        at_edge: whether its temperature is the sweep's highest, so that a higher one might be better still.
    """

    spec: str
    score: float
    at_edge: bool


@dataclass(frozen=True)
class Sweep:
    """The sweep over static settings.

    Attributes:
        temperatures: tried at top-p 1. The paper states the step, not the ends; these are ours.
        top_ps: tried at the best of those temperatures; 1 has been tried by then.
    """

    temperatures: tuple[float, ...] = _tenths(1, 15)
    top_ps: tuple[float, ...] = _tenths(1, 9)

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise ConfigError("a sweep needs at least one temperature.")
        for temperature in self.temperatures:
            for top_p in self.top_ps or (1.0,):
                Static(temperature, top_p)  # checks both

    def first_stage(self) -> list[str]:
        """Specs of the temperatures at top-p 1."""
        return [_spec(temperature) for temperature in self.temperatures]

    def second_stage(self, scores: Mapping[str, float]) -> list[str]:
        """Specs of the top-ps at the best temperature.

        Args:
            scores: by spec, of the whole first stage.

        Raises:
            DataError: scores of the first stage are missing.
        """
        return [_spec(self._best_temperature(scores), top_p) for top_p in self.top_ps]

    def missing(self, scores: Mapping[str, float]) -> list[str]:
        """Specs to score next: what is left of the first stage, then of the second; none when the sweep is done."""
        first = [spec for spec in self.first_stage() if spec not in scores]
        return first or [spec for spec in self.second_stage(scores) if spec not in scores]

    def choose(self, scores: Mapping[str, float]) -> Choice:
        """The setting that the sweep ends at. Of equal scores, the one nearer to default sampling wins.

        Args:
            scores: by spec, of both stages; others are not looked at.

        Raises:
            DataError: scores are missing.
        """
        temperature = self._best_temperature(scores)
        specs = [_spec(temperature), *reversed(self.second_stage(scores))]
        _check(specs, scores)
        spec = max(specs, key=lambda one: scores[one])  # max keeps the first of equals: the largest top-p
        return Choice(spec, scores[spec], temperature == max(self.temperatures))

    def run(self, score: Callable[[str], float]) -> Choice:
        """Sweeps with a function that scores one spec.

        Args:
            score: from a spec to its score; larger is better. Called once for each spec.
        """
        scores: dict[str, float] = {}
        while specs := self.missing(scores):
            scores.update({spec: score(spec) for spec in specs})
        return self.choose(scores)

    def _best_temperature(self, scores: Mapping[str, float]) -> float:
        _check(self.first_stage(), scores)
        nearest_first = sorted(self.temperatures, key=lambda temperature: abs(temperature - 1))
        return max(nearest_first, key=lambda temperature: scores[_spec(temperature)])


def _spec(temperature: float, top_p: float = 1.0) -> str:
    return get_strategy({"name": "static", "temperature": temperature, "top_p": top_p}).spec


def _check(specs: list[str], scores: Mapping[str, float]) -> None:
    absent = [spec for spec in specs if spec not in scores]
    if absent:
        raise DataError(f"the sweep has no score of {', '.join(absent)}. Evaluate these strategies first.")
    if not_numbers := [spec for spec in specs if scores[spec] != scores[spec]]:
        raise DataError(f"the sweep's score of {', '.join(not_numbers)} is NaN.")
