"""Reads what a report shows beside rows: diagnoses, how fast samples were drawn, what sweeps chose, training logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autodeco.errors import DataError
from autodeco.evaluation.diagnosis import Diagnosis
from autodeco.evaluation.run_folder import SPEED_FILE
from autodeco.evaluation.sweeping import CHOICES_FILE
from autodeco.files import read_jsonl
from autodeco.training.callbacks import LOG_FILE

DIAGNOSIS_FILE = "diagnosis.json"
_MOST_REASONS = 3


@dataclass(frozen=True)
class Speed:
    """How fast a strategy's samples were drawn.

    Attributes:
        model: as results name it.
        task: likewise.
        split: of its problems.
        strategy: likewise.
        samples: completions drawn.
        tokens: in them.
        seconds: wall-clock time from the first prompt to the last completion, all turns together.
    """

    model: str
    task: str
    split: str
    strategy: str
    samples: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Tokens/s; ``None`` where there were no tokens or no time."""
        return self.tokens / self.seconds if self.tokens > 0 and self.seconds > 0 else None


@dataclass(frozen=True)
class SweepChoice:
    """What a sweep chose.

    Attributes:
        model: as results name it.
        task: likewise.
        sweep: the configuration's name of it.
        chosen_on: split whose scores decided.
        strategy: the setting, as results name it.
        score: Pass@1 that it was chosen by.
        at_edge: whether its temperature is the highest that was tried.
    """

    model: str
    task: str
    sweep: str
    chosen_on: str
    strategy: str
    score: float
    at_edge: bool


@dataclass(frozen=True)
class Step:
    """One step of the log, or several of them together. Means and spreads are over the step's tokens.

    Attributes:
        step: number, the last one of several.
        loss: of the objective.
        temperature_mean: of the heads' temperature.
        temperature_std: standard deviation over tokens.
        top_p_mean: of the heads' top-p.
        top_p_std: standard deviation over tokens.
    """

    step: int
    loss: float
    temperature_mean: float
    temperature_std: float
    top_p_mean: float
    top_p_std: float


@dataclass(frozen=True)
class TrainingLog:
    """A training run's log; ``name`` is what it is called in figures."""

    name: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Records:
    """What is known beside rows of results.

    Attributes:
        diagnoses: of the heads.
        speeds: of each run, by its name.
        choices: of the sweeps.
        training: logs of training runs.
    """

    diagnoses: Sequence[Diagnosis] = ()
    speeds: Mapping[str, Sequence[Speed]] = field(default_factory=dict)
    choices: Sequence[SweepChoice] = ()
    training: Sequence[TrainingLog] = ()


def read_records(folders: Sequence[Path], training: Sequence[str | Path] = ()) -> Records:
    """Reads what there is.

    Args:
        folders: of evaluation runs.
        training: output folders of training runs.

    Raises:
        DataError: a file is damaged, or a training folder has no log.
    """
    runs = dict(zip(_names(folders), folders, strict=True))
    found = [folder / DIAGNOSIS_FILE for folder in folders if (folder / DIAGNOSIS_FILE).exists()]
    return Records(
        diagnoses=[Diagnosis.read(path) for path in found],
        speeds={name: read_speeds(folder) for name, folder in runs.items()},
        choices=[choice for folder in folders for choice in read_choices(folder)],
        training=[read_training(path, name) for path, name in zip(training, _names(training), strict=True)],
    )


def _names(folders: Sequence[str | Path]) -> list[str]:
    """The folders' own names; their paths where two have the same."""
    names = [Path(folder).resolve().name for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]


def read_speeds(folder: str | Path) -> list[Speed]:
    """Speeds of a run; none if it has recorded none.

    Raises:
        DataError: the file is damaged.
    """
    return _read(Path(folder) / SPEED_FILE, "speeds", Speed)


def read_choices(folder: str | Path) -> list[SweepChoice]:
    """Choices of a run's sweeps; none if it swept nothing.

    Raises:
        DataError: the file is damaged.
    """
    return _read(Path(folder) / CHOICES_FILE, "choices", SweepChoice)


def read_training(folder: str | Path, name: str) -> TrainingLog:
    """Reads the log of a training run, as far as it got.

    Args:
        folder: output folder of ``autodeco train``.
        name: in figures.

    Raises:
        DataError: no log there, a damaged line, or no step in it.
    """
    folder = Path(folder)
    path = folder / LOG_FILE
    if not path.is_file():
        raise DataError(f"{folder}: no {LOG_FILE} here; the output folder of `autodeco train` is needed.")
    steps = []
    for number, row in read_jsonl(path):
        if "temperature_mean" not in row:  # an evaluation's line, or the summary at the end
            continue
        try:
            steps.append(TypeAdapter(Step).validate_python(row))
        except ValidationError as error:
            raise DataError(f"{path}, line {number}: not a step of `autodeco train` ({_reason(error)}).") from None
    if not steps:
        raise DataError(f"{path}: no step has been logged yet. Give the report a run that has begun.")
    return TrainingLog(name, steps)


def _read(path: Path, name: str, kind: Any) -> list[Any]:
    if not path.is_file():
        return []
    try:
        found: list[Any] = TypeAdapter(dict[str, list[kind]]).validate_json(path.read_bytes())[name]
    except (OSError, KeyError, ValidationError) as error:
        raise DataError(
            f"{path}: not what `autodeco eval` writes ({_reason(error)}). Rows of results do not depend on it: move it "
            f"away to have the report without it."
        ) from None
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:_MOST_REASONS])
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
