"""TrainingConfig: every setting of ``autodeco train``, checked before anything is loaded."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autodeco.errors import ConfigError, did_you_mean

_Config = TypeVar("_Config", bound="TrainingConfig")


class TrainingConfig(BaseModel):
    """Settings of a training run. Defaults are the paper's (section 4.1), for one device.

    The paper's effective batch of 32 sequences (8 GPUs × 1 × accumulation 4) is one device × 1 × accumulation 32 here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    # What runs did before a setting was there, where that is not its default: such runs are not gone on with unawares.
    FORMER: ClassVar[dict[str, Any]] = {}

    model: str = Field(description="base model: hub id, local folder, or smollm2-135m")
    data: str = Field(description="training data: JSONL file or hub id, with prompt/completion or messages")
    output: Path = Field(description="folder for the heads, checkpoints and logs")
    model_revision: str | None = Field(None, description="hub revision of the base model")
    data_split: str = Field("train", description="split of a hub data set")
    eval_data: str | None = Field(None, description="held-out data for the evaluation loss")
    heads: str | None = Field(None, description="heads to start from instead of new ones")

    objective: Literal["end_to_end", "released"] = Field("end_to_end", description="what is minimised")
    temperature_head: bool = Field(True, description="train a temperature head")
    top_p_head: bool = Field(True, description="train a top-p head")
    statistics_features: bool = Field(True, description="let the top-p head see statistics of the logits")
    temperature_features: bool = Field(False, description="let the temperature head see them, too")
    prompt_summary: bool = Field(
        False, description="let both heads see a summary of the prompt (not to be merged); extends heads to start from"
    )
    prompt_layer: int | None = Field(
        None,
        ge=0,
        description="layer after which the prompt is summarised, counted from 1; 0: after the last; default: of heads "
        "to start from, else one in the middle",
    )
    easy_token_masking: float = Field(0.6, ge=0, le=1, description="share of easy tokens left out of the loss")
    dynamic_fine_tuning: bool = Field(True, description="weight by the base model's probability of the target")
    importance_ratio_cap: float | None = Field(
        None, gt=0, le=1e6, description="weight by the heads' probability of the target over the base's, at most this"
    )
    soft_top_p_decay: float = Field(30.0, gt=0, le=1000, description="α: how fast the soft nucleus decays")
    soft_nucleus: Literal["inclusive", "exclusive"] = Field(
        "inclusive", description="whether its cumulative sum includes the token; exclusive: hard top-p's rule"
    )
    scoring_rule: Literal["logarithmic", "quadratic"] = Field(
        "logarithmic", description="of the temperature part of released: cross-entropy, or Brier's score"
    )

    max_steps: int = Field(400, ge=1, description="optimiser steps")
    learning_rate: float = Field(5e-6, gt=0, le=1, description="peak learning rate of AdamW")
    lr_scheduler: str = Field("linear", description="learning-rate schedule, by its Transformers name")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0 switches it off")
    batch_size: int = Field(1, ge=1, description="sequences a device and micro-step")
    gradient_accumulation: int = Field(32, ge=1, description="micro-steps an optimiser step")
    max_length: int = Field(16384, ge=2, description="tokens a sequence; longer ones are cut, and counted")

    hidden_state_store: Literal["auto", "on", "off"] = Field(
        "auto", description="run the base once and train from its stored hidden states; auto: where rows repeat and fit"
    )
    hidden_state_folder: Path | None = Field(None, description="where they are stored; default: in the output folder")
    hidden_state_limit_gb: float = Field(10.0, ge=0, description="largest store that auto makes")
    repair_store: bool = Field(False, description="compute missing and damaged parts of the store again")

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="precision of the base model")
    seed: int = Field(0, ge=0, description="seed of head initialisation, data order and easy-token draws")
    eval_steps: int = Field(100, ge=1, description="optimiser steps between evaluations")
    save_steps: int = Field(100, ge=1, description="optimiser steps between checkpoints")
    save_total_limit: int = Field(2, ge=1, description="checkpoints to keep")
    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = Field(
        default_factory=list, description="experiment trackers"
    )
    skip_bad_rows: bool = Field(False, description="leave out rows that cannot be used, and count them")

    @model_validator(mode="after")
    def _needs_a_head(self) -> TrainingConfig:
        if not (self.temperature_head or self.top_p_head):
            raise ValueError("temperature_head and top_p_head are both false: there is nothing to train")
        return self

    @model_validator(mode="after")
    def _has_a_temperature_part(self) -> TrainingConfig:
        if self.scoring_rule != "logarithmic" and self.objective != "released":
            raise ValueError(
                f"scoring_rule {self.scoring_rule} is one of the temperature part, which only objective released has, "
                f"not {self.objective}"
            )
        return self


def training_config(values: dict[str, Any], source: str = "the training configuration") -> TrainingConfig:
    """Builds a :class:`TrainingConfig`; see :func:`checked_config`."""
    return checked_config(TrainingConfig, values, source)


def checked_config(kind: type[_Config], values: dict[str, Any], source: str) -> _Config:
    """Builds a training configuration of a kind.

    Args:
        kind: :class:`TrainingConfig` or a subclass.
        values: settings by name.
        source: what to call them in an error (a YAML file's path).

    Raises:
        ConfigError: an unknown name (the nearest valid one is suggested), a missing or an invalid value.
    """
    for name in values:
        if name not in kind.model_fields:
            raise ConfigError(f"{source}: unknown setting '{name}'.{did_you_mean(name, kind.model_fields)}")
    try:
        return kind(**values)
    except ValidationError as error:
        problems = [_problem(kind, entry) for entry in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(problems) + ".") from None


def _problem(kind: type[TrainingConfig], entry: Any) -> str:
    name = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "missing":
        return f"{name} is missing ({kind.model_fields[name].description})"
    found = "" if not name else f"{name}: found {entry['input']!r}; "
    message = str(entry["msg"])
    return found + message[0].lower() + message[1:]


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file of settings.

    Raises:
        ConfigError: the file is missing, is not YAML, or is no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold settings as 'name: value' lines, found {type(values).__name__}.")
    return {str(name): value for name, value in values.items()}


def recipe_names(package: str = "autodeco.training") -> list[str]:
    """Names of a package's recipes; of this one's: the published settings for each of the paper's models."""
    folder = resources.files(package) / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str, package: str = "autodeco.training") -> dict[str, Any]:
    """Settings of a package's recipe.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in recipe_names(package):
        raise ConfigError(f"there is no recipe '{name}'.{did_you_mean(name, recipe_names(package))}")
    text = (resources.files(package) / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values
