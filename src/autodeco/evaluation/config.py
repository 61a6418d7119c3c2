"""EvaluationConfig: every setting of ``autodeco eval``, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from autodeco.errors import ConfigError, did_you_mean
from autodeco.evaluation.entries import is_measured, parse_entries
from autodeco.serving.samplers import ENGINES

_STRICT = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelEntry(BaseModel):
    """One model."""

    model_config = _STRICT

    path: str = Field(description="base, heads, merged or released checkpoint: folder, hub id, or smollm2-135m")
    name: str = Field("", description="what results are filed under; default: the path's last part")
    base: str | None = Field(None, description="base model, instead of the one that heads record")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """What results are filed under."""
        return self.name or Path(self.path).name


class TaskEntry(BaseModel):
    """One task."""

    model_config = _STRICT

    name: str = Field(description="benchmark, demo task, reasoning-gym/FAMILY, JSONL file, or file.py:Class")
    label: str | None = Field(None, description="what results are filed under; default: the task's own name")
    data: Path | None = Field(None, description="a benchmark's local file or folder, instead of the hub")
    verifier: str | None = Field(None, description="of a JSONL task: number, exact, choice or math")
    settings: dict[str, Any] | None = Field(None, description="of a reasoning-gym family or a task of your own")
    split: Literal["train", "validation", "test"] = Field("test", description="train, validation or test")
    problems: int | None = Field(None, ge=1, description="how many, chosen by the seed; default: all")
    max_new_tokens: int | None = Field(None, ge=1, description="longest completion, where this task's own differs")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class EvaluationConfig(BaseModel):
    """Settings of an evaluation."""

    model_config = _STRICT

    models: list[ModelEntry] = Field(min_length=1, description="what to evaluate")
    tasks: list[TaskEntry] = Field(min_length=1, description="on what")
    strategies: list[str] = Field(min_length=1, description="decoding strategies, see docs/evaluation.md")
    output: Path = Field(description="folder of the run")
    samples: int = Field(1, ge=1, description="completions of each problem and strategy; greedy has one")
    block: int = Field(1, ge=1, description="samples of each problem that a strategy draws before the next one's turn")
    seed: int = Field(0, ge=0, description="of problems and sampling")
    max_new_tokens: int = Field(1024, ge=1, description="longest completion, in tokens")
    engine: str = Field("auto", description="vllm, transformers, or auto: vLLM where it is installed")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="precision of the model")
    batch_size: int = Field(64, ge=1, description="completions generated together")
    max_length: int | None = Field(None, ge=2, description="longest prompt and completion together, for vLLM")
    measure_on: Path | None = Field(None, description="JSONL of training trajectories, to measure the heads' means on")

    @field_validator("strategies", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(entry, str | Mapping) for entry in value):
            raise ValueError("a list of strategies is needed, each as text or as a mapping with its 'name'")
        return parse_entries(value)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value not in ENGINES:
            raise ValueError(f"unknown engine.{did_you_mean(value, ENGINES)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> EvaluationConfig:
        if self.samples % self.block:
            raise ValueError(
                f"samples must be a multiple of block, found {self.samples} and {self.block}: then a run that is "
                f"given more samples later goes on with the same blocks"
            )
        labels = [model.label for model in self.models]
        if doubled := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(
                f"models: two are called '{sorted(doubled)[0]}', and their results must not be mixed; give each a name"
            )
        measured = [text for text in self.strategies if is_measured(text)]
        if measured and self.measure_on is None:
            raise ValueError(
                f"strategy '{measured[0]}' is measured on training data: name a JSONL file of trajectories (as "
                f"autodeco rollout writes) as measure_on, or give its numbers"
            )
        return self


def evaluation_config(values: Mapping[str, Any], source: str = "the evaluation's configuration") -> EvaluationConfig:
    """Builds an :class:`EvaluationConfig`.

    Args:
        values: settings by name.
        source: what to call them in an error (a YAML file's path).

    Raises:
        ConfigError: an unknown name (the nearest valid one is suggested), a missing or an invalid value.
    """
    try:
        return EvaluationConfig(**{str(name): value for name, value in values.items()})
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_problem(entry) for entry in error.errors())) from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _problem(entry: Any) -> str:
    location = entry["loc"]
    fields = EvaluationConfig.model_fields
    if len(location) > 2 and location[0] in ("models", "tasks"):
        fields = ModelEntry.model_fields if location[0] == "models" else TaskEntry.model_fields
    name = ".".join(str(part) for part in location)
    if entry["type"] == "extra_forbidden":
        return f"unknown setting '{name}'.{did_you_mean(str(location[-1]), fields)}"
    if entry["type"] == "missing":
        return f"{name} is missing ({fields[str(location[-1])].description})."
    found = "" if not name else f"{name}: found {entry['input']!r}; "
    message = str(entry["msg"]).removeprefix("Value error, ")
    return found + message + ("" if message.endswith((".", "?")) else ".")
