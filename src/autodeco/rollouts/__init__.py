"""Rollouts: sample completions, verify them, keep the right ones. The training data of the heads."""

from autodeco.rollouts.filter import Kept, keep, write_kept
from autodeco.rollouts.run import RolloutSettings, RolloutSummary, rollout, summarise
from autodeco.rollouts.sample import Sample, sample, sample_batches

__all__ = [
    "Kept",
    "RolloutSettings",
    "RolloutSummary",
    "Sample",
    "keep",
    "rollout",
    "sample",
    "sample_batches",
    "summarise",
    "write_kept",
]
