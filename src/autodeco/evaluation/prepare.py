"""What an evaluation checks before any model is loaded: tasks with their problems, models with their strategies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autodeco.checkpoint import load_heads
from autodeco.checkpoint.source import weights_hash
from autodeco.errors import AutoDecoError, ConfigError, DataError
from autodeco.evaluation.config import EvaluationConfig, ModelEntry, TaskEntry
from autodeco.evaluation.entries import is_measured, is_oracle, needs_heads, oracle_split
from autodeco.evaluation.run_folder import Identity
from autodeco.serving.checkpoint import has_heads
from autodeco.serving.samplers import chosen_engine
from autodeco.strategies import get_strategy
from autodeco.tasks import get_task
from autodeco.tasks.base import Example, Task

Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedTask:
    """A task with its problems.

    Attributes:
        task: whose verifier judges.
        label: what results are filed under.
        split: of the problems.
        examples: the problems.
        validation: problems of the validation split, where a sweep chooses on them; else empty.
        max_new_tokens: longest completion.
    """

    task: Task
    label: str
    split: str
    examples: list[Example]
    validation: list[Example]
    max_new_tokens: int


@dataclass(frozen=True)
class PreparedModel:
    """A model with the strategies that can be run on it.

    Attributes:
        entry: of the configuration.
        strategies: canonical texts (:mod:`autodeco.evaluation.entries`).
        weights: hash of its weights.
    """

    entry: ModelEntry
    strategies: list[str]
    weights: str


def prepare_tasks(config: EvaluationConfig) -> list[PreparedTask]:
    """Reads the problems of every task.

    Raises:
        DataError: an unknown task, or data that are absent; says how to get them.
        ConfigError: two tasks of one name.
    """
    on_validation = any(is_oracle(text) and oracle_split(text) == "validation" for text in config.strategies)
    prepared = [_prepare_task(entry, config, on_validation) for entry in config.tasks]
    labels = [one.label for one in prepared]
    if doubled := {label for label in labels if labels.count(label) > 1}:
        raise ConfigError(
            f"two tasks are called '{sorted(doubled)[0]}', and their results must not be mixed; give each a label."
        )
    return prepared


def _prepare_task(entry: TaskEntry, config: EvaluationConfig, on_validation: bool) -> PreparedTask:
    task = get_task(entry.name, entry.data, entry.verifier, entry.settings)
    validation = []
    if on_validation:
        if entry.split == "validation":
            raise ConfigError(f"task '{task.name}': 'oracle:split=validation' must be evaluated on another split.")
        try:
            validation = task.examples("validation", entry.problems, config.seed)
        except DataError as error:
            raise DataError(f"strategy 'oracle:split=validation' cannot be used: {error}") from None
    return PreparedTask(
        task=task,
        label=entry.label or task.name,
        split=entry.split,
        examples=task.examples(entry.split, entry.problems, config.seed),
        validation=validation,
        max_new_tokens=entry.max_new_tokens or config.max_new_tokens,
    )


def prepare_models(config: EvaluationConfig, say: Say) -> list[PreparedModel]:
    """Finds out which strategies each model can run; says which are left out.

    Raises:
        ModelNotFoundError: a model is not there.
        ConfigError: a strategy needs heads that no model has, or the one head that a model's heads lack.
    """
    with_heads = {model.label: has_heads(model.path) for model in config.models}
    demanding = [text for text in config.strategies if needs_heads(text)]
    if demanding and not any(with_heads.values()):
        raise ConfigError(
            f"strategy '{demanding[0]}' needs decoding heads, and none of the models has any "
            f"({', '.join(model.path for model in config.models)}). Name a model with heads, or leave the strategy out."
        )
    prepared = []
    for model in config.models:
        strategies = [text for text in config.strategies if with_heads[model.label] or text not in demanding]
        if len(strategies) < len(config.strategies):
            say(f"{model.label} has no decoding heads, so it is run without {', '.join(demanding)}.")
        if with_heads[model.label]:
            _check_heads(model, [text for text in strategies if text in demanding])
        prepared.append(PreparedModel(model, strategies, weights_hash(model.path)))
    return prepared


def _check_heads(model: ModelEntry, demanding: list[str]) -> None:
    if not demanding:
        return
    heads = load_heads(model.path)
    for text in demanding:
        if not is_measured(text):
            try:
                get_strategy(text).bind(heads)
            except AutoDecoError as error:
                raise ConfigError(f"model '{model.label}', strategy '{text}': {error}") from None


def identity_of(config: EvaluationConfig, models: list[PreparedModel], tasks: list[PreparedTask]) -> Identity:
    """Everything that samples depend on, for :func:`autodeco.evaluation.run_folder.guard`."""
    engine = chosen_engine(config.engine)
    settings = {
        "engine": engine,
        "seed": config.seed,
        "block": config.block,
        "dtype": config.dtype,
        "max_length": config.max_length,
    }
    if engine == "transformers":  # there, what is generated together shares its random numbers
        settings["batch_size"] = config.batch_size
    entries = {one.label: entry for one, entry in zip(tasks, config.tasks, strict=True)}
    return {
        "settings": settings,
        "models": {one.entry.label: {"weights": one.weights, "base": one.entry.base} for one in models},
        "tasks": {
            one.label: {
                "fingerprint": one.task.identity(),
                "split": one.split,
                "problems": entries[one.label].problems,
                "max_new_tokens": one.max_new_tokens,
            }
            for one in tasks
        },
    }
