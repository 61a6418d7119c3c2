"""How many samples or problems would settle a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from autodeco.evaluation.paired import PairedCounts, problem_effects


@dataclass(frozen=True)
class Variance:
    """The squared standard error of a difference, in two parts.

    Attributes:
        between: by which problems were taken: only more problems lower it.
        within: by which samples were drawn: more samples a problem, or more problems, lower it.
    """

    between: float
    within: float

    @property
    def total(self) -> float:
        """The squared standard error."""
        return self.between + self.within


@dataclass(frozen=True)
class PowerNote:
    """What it would take to know more. ``None``: no number is enough.

    Attributes:
        variance: of the difference as measured.
        half_width: of the 95 % interval, as measured.
        target: half-width that is wanted.
        samples_for_target: samples a problem, at these problems, for that half-width.
        problems_for_target: problems, at these samples a problem, for it.
        samples_for_difference: samples a problem for the interval to leave out 0, if the difference stays what it is.
        problems_for_difference: problems for it.
    """

    variance: Variance
    half_width: float
    target: float
    samples_for_target: int | None
    problems_for_target: int | None
    samples_for_difference: int | None
    problems_for_difference: int | None


def variance_of(counts: PairedCounts, samples: float | None = None) -> Variance:
    """The squared standard error of the mean difference, in parts.

    Args:
        counts: of both strategies.
        samples: as if each problem had so many of each strategy; ``None`` as measured.
    """
    _, deviations = problem_effects(counts)
    noise = counts.noise(samples)
    tasks = counts.strata.max() + 1
    between = within = 0.0
    for stratum in range(tasks):
        own = counts.strata == stratum
        between += deviations[own].var(ddof=1) / own.sum() / tasks**2
        within += noise[own].mean() / own.sum() / tasks**2
    return Variance(float(between), float(within))


def power_note(counts: PairedCounts, difference: float, half_width: float, target: float) -> PowerNote:
    """How many samples or problems would bring the interval to ``target``, or make it leave out 0."""
    measured = variance_of(counts)
    of_one_sample = variance_of(counts, samples=1).within
    quantile = float(stats.t.ppf(0.975, len(counts.strata) - counts.strata.max() - 1))

    def samples_for(width: float) -> int | None:
        spare = (width / quantile) ** 2 - measured.between
        return max(1, math.ceil(of_one_sample / spare)) if spare > 0 else None

    def problems_for(width: float) -> int | None:
        return math.ceil(len(counts.strata) * measured.total / (width / quantile) ** 2) if width > 0 else None

    size = abs(difference)
    return PowerNote(
        variance=measured,
        half_width=half_width,
        target=target,
        samples_for_target=samples_for(target),
        problems_for_target=problems_for(target),
        samples_for_difference=samples_for(size) if size > 0 else None,
        problems_for_difference=problems_for(size),
    )


def describe(
    note: PowerNote,
    difference: float,
    interval: tuple[float, float],
    problems: int,
    samples: tuple[float, float],
    several: bool,
) -> str:
    """The note in words.

    Args:
        note: of a comparison.
        difference: measured, as a share.
        interval: of it.
        problems: compared.
        samples: a problem, of either strategy.
        several: whether both have several samples of a problem, or none by chance: else their noise is not known.
    """
    share = note.variance.between / note.variance.total if note.variance.total > 0 else 0.0
    numbers = " and ".join(dict.fromkeys(f"{own:.3g}" for own in samples))
    text = f"The interval is ±{100 * note.half_width:.1f} points with {problems:,} problems and {numbers} "
    text += "sample" if numbers == "1" else "samples"
    if several:
        text += f" of each; {share:.0%} of its variance lies between problems."
    else:
        text += " of each, which cannot tell how much more samples would narrow it."
    if note.half_width > note.target:
        wanted = _either(note.samples_for_target, note.problems_for_target, several)
        text += f" For ±{100 * note.target:.1f} points: {wanted}."
    if interval[0] > 0 or interval[1] < 0:
        return f"{text} It leaves out 0."
    if abs(difference) > note.half_width:  # a skewed interval that reaches 0 with its long side
        return text
    if note.problems_for_difference is None:
        return f"{text} The difference is 0: nothing would make it significant."
    wanted = _either(note.samples_for_difference, note.problems_for_difference, several)
    return f"{text} For the interval to leave out 0, if the difference stays {100 * difference:+.2f} points: {wanted}."


def _either(samples: int | None, problems: int | None, several: bool) -> str:
    more_problems = "" if problems is None else f"{problems:,} problems with as many samples as now"
    if not several:
        return more_problems
    if samples is None:
        return f"no number of samples is enough at these problems; {more_problems} would be"
    return f"{samples:,} samples a problem, or {more_problems}"
