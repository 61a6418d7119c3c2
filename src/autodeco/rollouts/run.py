"""One rollout: sample a task's problems, verify each completion, append it to a JSONL file; go on after any stop.

Rows follow TRL's conversational prompt/completion convention and also keep the exact token ids. Beside ``NAME.jsonl``
lies ``NAME.meta.json`` with everything the rows depend on: a file is only ever continued with the same settings.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout

from autodeco.errors import DataError, RunFolderError
from autodeco.files import append_jsonl, atomic_write_text, read_jsonl, recover_jsonl
from autodeco.identity import differences, read_record
from autodeco.rollouts.sampler import OnProgress, Sample, Sampler, Sampling
from autodeco.statistics import wilson_interval
from autodeco.strategies import get_strategy
from autodeco.tasks.base import Example, Task
from autodeco.version import __version__


@dataclass(frozen=True)
class RolloutSettings:
    """How a rollout samples.

    Attributes:
        problems: number of different problems; ``None`` for all of the split.
        samples_per_problem: completions of each.
        split: the task's split that they come from.
        seed: of the problems and of the sampling.
        max_new_tokens: longest completion, in tokens.
        batch_size: completions generated together; part of what decides the samples of a seed.
        strategy: spec of the decoding strategy (see :mod:`autodeco.strategies`).
        trace: keep T, P and the entropy at each token in the rows.
        log_probs: keep the log-probability of each token.
    """

    problems: int | None
    samples_per_problem: int = 8
    split: str = "train"
    seed: int = 0
    max_new_tokens: int = 256
    batch_size: int = 64
    strategy: str = "default"
    trace: bool = False
    log_probs: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", str(get_strategy(self.strategy)))  # one setting has one name

    @property
    def sampling(self) -> Sampling:
        """How a sampler is to draw."""
        names = ("max_new_tokens", "batch_size", "seed", "strategy", "trace", "log_probs")
        return Sampling(self.samples_per_problem, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class RolloutSummary:
    """What a rollout found.

    Attributes:
        task: the task's name.
        samples: number of completions.
        correct: how many were right.
        errors: on how many the verifier itself failed: neither right nor wrong.
        accuracy: ``correct / (samples - errors)``; NaN if the verifier failed on all.
        accuracy_interval: Wilson 95 % interval, which treats samples as independent; samples of one problem are not
            quite, so it is somewhat too narrow.
        stopped: how many the model ended itself.
        mean_tokens: mean length of a completion, end token included.
    """

    task: str
    samples: int
    correct: int
    errors: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    stopped: int
    mean_tokens: float


def rollout(
    task: Task,
    sampler: Sampler,
    output_path: str | Path,
    settings: RolloutSettings,
    *,
    model_name: str,
    model_state: Mapping[str, str] = MappingProxyType({}),
    on_progress: OnProgress | None = None,
) -> RolloutSummary:
    """Samples and verifies; continues what ``output_path`` already holds, losing and doubling nothing.

    Rows are on disk as soon as their batch is done. After Ctrl-C, a kill or a full disk, the same call goes on from
    there; on the same machine and versions it ends with the very rows an undisturbed run would have given.

    Args:
        task: where problems and verification come from.
        sampler: a model or an engine.
        output_path: the ``.jsonl`` file to write or continue.
        settings: how to sample.
        model_name: what to record as the model.
        model_state: what else tells it from another of that name, such as a hash of its weights and its dtype.
        on_progress: called with samples finished and their total, first with what was there already.

    Raises:
        RunFolderError: the file holds another rollout, another process is writing it, or the disk is full.
        DataError: the task has not so many problems, or a row of the file is damaged.
    """
    path = Path(output_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        examples, done = _checked(path, task, settings, {"model": model_name, **model_state, "engine": sampler.engine})
        total = len(examples) * settings.samples_per_problem
        if on_progress is not None:
            on_progress(len(done), total)
        if len(done) < total:
            prompts = [example.messages for example in examples]
            for batch in sampler.draw(prompts, settings.sampling, done=done, on_progress=on_progress):
                append_jsonl(path, [to_row(task, examples[drawn.prompt_index], drawn) for drawn in batch])
    return summarise(row for _, row in read_jsonl(path))


def finished_rollout(
    task: Task,
    output_path: str | Path,
    settings: RolloutSettings,
    *,
    model_name: str,
    model_state: Mapping[str, str] = MappingProxyType({}),
    engine: str,
) -> RolloutSummary | None:
    """The summary of a rollout that is there already, whole: to be asked for before a model is loaded.

    Args:
        task: where problems come from.
        output_path: the rollout's file.
        settings: how it is to sample.
        model_name: recorded as the model.
        model_state: recorded beside it.
        engine: name of the sampler that would go on with it.

    Returns:
        ``None`` where :func:`rollout` has something to draw.

    Raises:
        RunFolderError: the file holds another rollout.
        DataError: the task has not so many problems, or a row of the file is damaged.
    """
    path = Path(output_path)
    if not path.is_file() or not path.with_suffix(".meta.json").is_file():
        return None
    with _locked(path):
        examples, done = _checked(path, task, settings, {"model": model_name, **model_state, "engine": engine})
        if len(done) < len(examples) * settings.samples_per_problem:
            return None
    return summarise(row for _, row in read_jsonl(path))


def summarise(rows: Iterable[dict[str, Any]]) -> RolloutSummary:
    """Counts a rollout's rows, at least one."""
    kept = [(row["task"], row["correct"], row["finish"] == "stop", len(row["completion_ids"])) for row in rows]
    correct = sum(row[1] is True for row in kept)
    judged = sum(row[1] is not None for row in kept)
    return RolloutSummary(
        task=kept[0][0],
        samples=len(kept),
        correct=correct,
        errors=len(kept) - judged,
        accuracy=correct / judged if judged else math.nan,
        accuracy_interval=wilson_interval(correct, judged) if judged else (0.0, 1.0),
        stopped=sum(row[2] for row in kept),
        mean_tokens=sum(row[3] for row in kept) / len(kept),
    )


def to_row(task: Task, example: Example, drawn: Sample) -> dict[str, Any]:
    """One line of a rollout: TRL's ``prompt`` and ``completion`` messages, the token ids and the verdict.

    ``"correct"`` is ``None``, and ``"error"`` is there, where the verifier failed.
    """
    verdict = task.judge(example, drawn.text)
    row = {
        "id": example.id,
        "sample": drawn.sample_index,
        "task": task.name,
        "prompt": example.messages,
        "completion": [{"role": "assistant", "content": drawn.text}],
        "prompt_ids": drawn.prompt_ids,
        "completion_ids": drawn.completion_ids,
        "correct": verdict.correct,
        "finish": drawn.finish,
        "answer": example.answer,
    }
    if verdict.error is not None:
        row["error"] = verdict.error
    values = {name: getattr(drawn, name) for name in ("temperature", "top_p", "entropy", "log_probs")}
    return row | {name: value for name, value in values.items() if value is not None}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise RunFolderError(
            f"{path}: another process is writing this rollout. Wait for it, or choose another output file."
        ) from None


def _checked(
    path: Path, task: Task, settings: RolloutSettings, drawn_by: dict[str, str]
) -> tuple[list[Example], set[tuple[int, int]]]:
    """The task's problems, and what a locked file, found to be of this rollout and mended, holds of their samples."""
    examples = task.examples(settings.split, settings.problems, settings.seed)
    _guard(path, _identity(task, settings, drawn_by))
    recover_jsonl(path)
    return examples, _finished(path, examples)


def _finished(path: Path, examples: Sequence[Example]) -> set[tuple[int, int]]:
    if not path.is_file():
        return set()
    index_of = {example.id: index for index, example in enumerate(examples)}
    done = set()
    for number, row in read_jsonl(path):
        if row.get("id") not in index_of or not isinstance(row.get("sample"), int):
            raise DataError(
                f"{path}, line {number}: not a row of this rollout (problem {row.get('id')!r}, sample "
                f"{row.get('sample')!r}). The file was changed by something else, or the task's problems have changed "
                f"with a newer version; choose another output file."
            )
        done.add((index_of[row["id"]], row["sample"]))
    return done


def _identity(task: Task, settings: RolloutSettings, drawn_by: dict[str, str]) -> dict[str, Any]:
    chosen = asdict(settings)
    del chosen["log_probs"]  # more columns, the same samples
    identity = {"task": task.identity(), **drawn_by, "settings": chosen}
    plain: dict[str, Any] = json.loads(json.dumps(identity))  # as it will be read back: tuples become lists
    return plain


def _guard(path: Path, identity: dict[str, Any]) -> None:
    """Writes the provenance file, or checks that the one there belongs to the same rollout."""
    meta = path.with_suffix(".meta.json")
    if meta.is_file():
        found = read_record(meta, meta.stem, "file")
        earlier = found.get("rollout")
        if isinstance(earlier, dict):  # what records did not hold when it was made cannot be compared
            identity = {name: value for name, value in identity.items() if name in earlier}
            earlier.get("settings", {}).pop("log_probs", None)
        different = sorted(differences(earlier, identity))
        if different:
            raise RunFolderError(
                f"{path} holds another rollout: {'; '.join(different)}. Use the same settings to go on with it, or "
                f"choose another output file."
            )
        return
    if path.exists() and path.stat().st_size:
        raise RunFolderError(
            f"{path} exists, and {meta.name}, which would say how it was made, does not: it cannot be continued. "
            f"Choose another output file."
        )
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    provenance = {"rollout": identity, "versions": {"autodeco": __version__, **versions}}
    atomic_write_text(meta, json.dumps(provenance, indent=2) + "\n")
