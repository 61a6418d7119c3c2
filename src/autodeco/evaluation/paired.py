"""Right answers of two strategies on the same problems, resampled: the mathematics of paired comparisons.

Why not the samples alone: samples of one problem are alike. Why not the problems alone: then nobody sees whether more
samples or more problems are needed. So the variance is taken apart into what lies between problems and what lies
within them, and both are resampled. Knows nothing of results files.
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
        samples: ``[P, 2]``, at least 1.
        strata: ``[P]``, the task of each problem: 0, 1, ...
    """

    right: NDArray[np.int64]
    samples: NDArray[np.int64]
    strata: NDArray[np.int64]

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
    def sample_variances(self) -> _Floats:
        """``[P, 2]``, of one sample, unbiased. 0 where a problem has one sample: it tells nothing of its own noise.

        That noise then counts as lying between problems, which is right for greedy decoding, which has none, and for
        other strategies hides that more samples would help.
        """
        chance = self.accuracies
        several = self.samples > 1
        scale = np.where(several, self.samples / np.where(several, self.samples - 1, 1), 0.0)
        return np.asarray(chance * (1 - chance) * scale, dtype=np.float64)


def hierarchical_bootstrap(counts: PairedCounts, resamples: int = RESAMPLES, seed: int = 0) -> _Floats:
    """Draws of the mean difference, resampling problems and then the samples of each problem and strategy.

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
    chance = counts.accuracies
    several = counts.samples > 1
    inflation = np.where(several, np.sqrt(counts.samples / np.where(several, counts.samples - 1, 1)), 0.0)
    members = [np.flatnonzero(counts.strata == stratum) for stratum in range(counts.strata.max() + 1)]
    size = max(1, _BATCH_ENTRIES // len(counts.strata))
    found = []
    for start in range(0, resamples, size):
        total = np.zeros(min(size, resamples - start))
        for own in members:
            chosen = own[draws.integers(len(own), size=(len(total), len(own)))]
            values = effects[chosen]
            for side, sign in ((0, 1.0), (1, -1.0)):
                n, p = counts.samples[chosen, side], chance[chosen, side]
                values += sign * (draws.binomial(n, p) / n - p) * inflation[chosen, side]
            total += values.mean(axis=1) / len(members)
        found.append(total)
    return np.concatenate(found)


def problem_effects(counts: PairedCounts) -> tuple[_Floats, _Floats]:
    """Takes the noise of samples out of the differences.

    Returns:
        ``[P]`` each: the mean difference of a problem's task, and the problem's own deviation from it, scaled so that
        its variance within a task is what lies between problems.
    """
    differences = counts.differences
    noise = (counts.sample_variances / counts.samples).sum(axis=1)
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
