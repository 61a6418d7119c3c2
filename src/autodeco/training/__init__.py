"""Training the heads on a frozen base: data → token ids → Transformers' Trainer → heads."""

from autodeco.training.config import TrainingConfig, load_recipe, load_yaml, recipe_names, training_config
from autodeco.training.run import train
from autodeco.training.run_folder import TrainingResult

__all__ = [
    "TrainingConfig",
    "TrainingResult",
    "load_recipe",
    "load_yaml",
    "recipe_names",
    "train",
    "training_config",
]
