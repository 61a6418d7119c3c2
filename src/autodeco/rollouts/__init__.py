"""Rollouts: sample completions, verify them, keep the right ones. The training data of the heads."""

from autodeco.rollouts.filter import Kept, keep, write_kept
from autodeco.rollouts.run import RolloutSettings, RolloutSummary, finished_rollout, rollout, summarise
from autodeco.rollouts.sample import TransformersSampler
from autodeco.rollouts.sampler import Sample, Sampler, Sampling
from autodeco.rollouts.weights import weighted_by_advantage

__all__ = [
    "Kept",
    "RolloutSettings",
    "RolloutSummary",
    "Sample",
    "Sampler",
    "Sampling",
    "TransformersSampler",
    "finished_rollout",
    "keep",
    "rollout",
    "summarise",
    "weighted_by_advantage",
    "write_kept",
]
