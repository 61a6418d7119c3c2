"""Right answers of two strategies on the same problems, resampled: the mathematics of paired comparisons.

Why not the samples alone: samples of one problem are alike. Why not the problems alone: then nobody sees whether more
samples or more problems are needed. So the variance is taken apart into what lies between problems and what lies
within them, and both are resampled.

Samples that two strategies draw from the same seeds are alike, too: what one gets right, the other often does. They are
compared pair by pair, and only what differs within pairs is noise. Knows nothing of results files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autodeco.statistics import RESAMPLES

_BATCH_ENTRIES = 2_000_000

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedCounts:
    """Right answers of two strategies on the same problems.

    Attributes:
        right: ``[P, 2]``.
        samples: ``[P, 2]``, at least 1; in a paired problem both are the number of pairs.
        strata: ``[P]``, the task of each problem: 0, 1, ...
        both: ``[P]``, pairs of samples that are both right; -1 where samples are not paired, but independent. ``None``
            is -1 everywhere.
    """

    right: NDArray[np.int64]
    samples: NDArray[np.int64]
    strata: NDArray[np.int64]
    both: NDArray[np.int64] | None = None

    @property
    def paired(self) -> NDArray[np.bool_]:
        """``[P]``, whether a problem's samples are compared pair by pair."""
        return np.zeros(len(self.strata), dtype=bool) if self.both is None else self.both >= 0

    @property
    def accuracies(self) -> _Floats:
        """``[P, 2]``."""
        return np.asarray(self.right / self.samples, dtype=np.float64)

    @property
    def differences(self) -> _Floats:
        """``[P]``, first strategy less second."""
        accuracies = self.accuracies
        return np.asarray(accuracies[:, 0] - accuracies[:, 1], dtype=np.float64)

    @property
    def weights(self) -> _Floats:
        """``[P]``, sum 1: every task the same, and within it every problem."""
        sizes = np.bincount(self.strata)
        return np.asarray(1 / (len(sizes) * sizes[self.strata]), dtype=np.float64)

    @property
    def only_one(self) -> _Floats:
        """``[P, 2]``, share of pairs in which the one strategy is right and the other is not; 0 where not paired."""
        both = np.zeros(len(self.strata), dtype=np.int64) if self.both is None else self.both
        shares = (self.right - both[:, None]) / self.samples
        return np.asarray(np.where(self.paired[:, None], shares, 0.0), dtype=np.float64)

    @property
    def scales(self) -> _Floats:
        """``[P, 2]``, what makes the variance among n samples that of the population, ``n / (n - 1)``.

        0 where a problem has one sample: it tells nothing of its own noise. That noise then counts as lying between
        problems, which is right for greedy decoding, which has none, and for other strategies hides that more samples
        would help.
        """
        several = self.samples > 1
        return np.asarray(np.where(several, self.samples / np.where(several, self.samples - 1, 1), 0.0))

    def noise(self, samples: float | None = None) -> _Floats:
        """``[P]``, squared standard error of each problem's difference, as far as its samples make it.

        Args:
            samples: as if each strategy had so many; ``None`` as measured.
        """
        counts = self.samples if samples is None else np.full_like(self.samples, samples, dtype=np.float64)
        chance = self.accuracies
        independent = (chance * (1 - chance) * self.scales / counts).sum(axis=1)
        of_a_pair = (self.only_one.sum(axis=1) - self.differences**2) * self.scales[:, 0]
        return np.asarray(np.where(self.paired, of_a_pair / counts[:, 0], independent), dtype=np.float64)


def hierarchical_bootstrap(counts: PairedCounts, resamples: int = RESAMPLES, seed: int = 0) -> _Floats:
    """Draws of the mean difference, resampling problems and then the samples, or pairs of samples, of each.

    The measured difference of a problem holds the noise of its samples already. Resampling samples on top would count
    that noise twice (and cover 99 % instead of 95 where it is most of the variance), so problems are first drawn
    towards their mean until their variance is what lies between problems alone (Davison and Hinkley 1997, "Bootstrap
    Methods and their Application", section 3.8).

    Args:
        counts: of both strategies.
        resamples: R.
        seed: of the draws.

    Returns:
        ``[R]``.
    """
    draws = np.random.default_rng(seed)
    centres, scales = problem_effects(counts)
    effects = centres + scales
    members = [np.flatnonzero(counts.strata == stratum) for stratum in range(counts.strata.max() + 1)]
    size = max(1, _BATCH_ENTRIES // len(counts.strata))
    found = []
    for start in range(0, resamples, size):
        total = np.zeros(min(size, resamples - start))
        for own in members:
            chosen = own[draws.integers(len(own), size=(len(total), len(own)))]
            values = effects[chosen] + _noise_of_pairs(counts, chosen, draws)
            for side, sign in ((0, 1.0), (1, -1.0)):
                values += sign * _noise_of_samples(counts, side, chosen, draws)
            total += values.mean(axis=1) / len(members)
        found.append(total)
    return np.concatenate(found)


def _noise_of_samples(
    counts: PairedCounts, side: int, chosen: NDArray[np.int64], draws: np.random.Generator
) -> _Floats:
    """Resampled accuracies of one strategy less the measured ones, 0 where samples are paired."""
    if counts.paired.all():
        return np.zeros(chosen.shape)
    n, p = counts.samples[chosen, side], counts.accuracies[chosen, side]
    inflation = np.where(counts.paired, 0.0, np.sqrt(counts.scales[:, side]))
    return np.asarray((draws.binomial(n, p) / n - p) * inflation[chosen])


def _noise_of_pairs(counts: PairedCounts, chosen: NDArray[np.int64], draws: np.random.Generator) -> _Floats:
    """Resampled differences less the measured ones, 0 where samples are not paired."""
    if not counts.paired.any():
        return np.zeros(chosen.shape)
    n, first, second = counts.samples[chosen, 0], *np.moveaxis(counts.only_one[chosen], -1, 0)
    won = draws.binomial(n, first)
    lost = draws.binomial(n - won, np.clip(second / np.maximum(1 - first, 1e-12), 0, 1))
    return np.asarray(((won - lost) / n - (first - second)) * np.sqrt(counts.scales[chosen, 0]))


def problem_effects(counts: PairedCounts) -> tuple[_Floats, _Floats]:
    """Takes the noise of samples out of the differences.

    Returns:
        ``[P]`` each: the mean difference of a problem's task, and the problem's own deviation from it, scaled so that
        its variance within a task is what lies between problems.
    """
    differences = counts.differences
    noise = counts.noise()
    centres, deviations = np.zeros_like(differences), np.zeros_like(differences)
    for stratum in range(counts.strata.max() + 1):
        own = counts.strata == stratum
        observed = differences[own].var(ddof=1)
        share = max(0.0, observed - noise[own].mean()) / observed if observed > 0 else 0.0
        centres[own] = differences[own].mean()
        deviations[own] = math.sqrt(share) * (differences[own] - centres[own])
    return centres, deviations


def sign_flip_test(counts: PairedCounts, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of «the strategies do not differ»: then each problem's difference may as well be its negative.

    Exact (up to the random choice of flips) where both strategies have equally many samples of a problem, however few
    the problems.

    Args:
        counts: of both strategies.
        resamples: random flips.
        seed: of those.
    """
    terms = counts.weights * counts.differences
    observed = abs(terms.sum()) * (1 - 1e-9)
    draws = np.random.default_rng(seed)
    size = max(1, _BATCH_ENTRIES // len(terms))
    as_far = 0
    for start in range(0, resamples, size):
        signs = draws.integers(0, 2, size=(min(size, resamples - start), len(terms))) * 2 - 1
        as_far += int((np.abs(signs @ terms) >= observed).sum())
    return (as_far + 1) / (resamples + 1)
