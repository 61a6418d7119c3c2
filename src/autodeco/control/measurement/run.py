"""Draws the texts that control is measured on, a row each, and files what the heads chose; goes on after any stop."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autodeco.checkpoint.source import weights_hash
from autodeco.control.commands import load_commands
from autodeco.control.measurement.cases import CONDITIONS, PLAIN, Case, make_cases
from autodeco.control.measurement.results import ControlResults, analyse
from autodeco.control.measurement.tables import document
from autodeco.control.measurement.teacher_forced import COMPLETION, completions, forced_cases, read_under_commands
from autodeco.control.placement import POSITIONS, Position
from autodeco.errors import ConfigError, DataError
from autodeco.evaluation.report.markdown import render
from autodeco.evaluation.run_folder import guard, locked, write_provenance
from autodeco.files import append_jsonl, atomic_write_text, read_jsonl, recover_jsonl
from autodeco.rollouts.sampler import OnProgress, Sample, Sampling
from autodeco.serving.checkpoint import has_heads
from autodeco.serving.load import load_model_and_tokenizer
from autodeco.serving.samplers import chosen_engine, open_sampler
from autodeco.tasks import get_task

ROWS_FILE, RESULTS_FILE, TABLES_FILE = "control.jsonl", "control.json", "control.md"
FORCED_FILE = "control_forced.jsonl"


@dataclass(frozen=True)
class MeasureSettings:
    """How control is measured.

    Attributes:
        model: heads, a merged or a released checkpoint.
        output: folder of the rows and results.
        prompts: number of test prompts; the paper's Table 4 has 100.
        task: whose test prompts.
        data: a local file or folder of that task.
        samples: texts of each prompt and condition.
        max_new_tokens: longest text.
        seed: of commands and sampling.
        commands: own commands, a YAML file.
        split: whose prompts and phrasings are used.
        positions: where commands are placed.
        conditions: which are measured, beside no command.
        engine: ``"vllm"``, ``"transformers"`` or ``"auto"``.
        batch_size: texts drawn together.
        base: base model, instead of the one that heads record.
        dtype: of the base.
    """

    model: str
    output: Path
    prompts: int = 100
    task: str = "open-prompts"
    data: Path | None = None
    samples: int = 1
    max_new_tokens: int = 128
    seed: int = 0
    commands: Path | None = None
    split: str = "test"
    positions: tuple[Position, ...] = POSITIONS
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    engine: str = "auto"
    batch_size: int = 64
    base: str | None = None
    dtype: str = "auto"


def measure(settings: MeasureSettings, on_progress: OnProgress | None = None) -> ControlResults:
    """Draws what is missing, reads the texts without a command again under every command, and analyses all.

    Args:
        settings: how.
        on_progress: called with texts drawn and read, and their total.

    Returns:
        The results, which are in the output folder too, as JSON and as Markdown.

    Raises:
        ConfigError: the model has no heads, or there is no such condition.
        DataError: prompts or commands cannot be used.
        RunFolderError: the folder holds another measurement.
    """
    if not has_heads(settings.model):
        raise ConfigError(f"'{settings.model}' has no decoding heads, so nothing can be steered. Name one with heads.")
    examples = get_task(settings.task, data=settings.data).examples(settings.split, settings.prompts, settings.seed)
    commands = load_commands(settings.commands)
    cases = make_cases(commands, examples, settings.split, settings.seed, settings.positions, settings.conditions)
    path = settings.output / ROWS_FILE
    forced_path = settings.output / FORCED_FILE
    with locked(settings.output):
        guard(settings.output, {"settings": {"control": _identity(settings, cases)}})
        plain = json.loads(json.dumps(asdict(settings), default=str))
        write_provenance(settings.output, plain)
        recover_jsonl(path)
        recover_jsonl(forced_path)
        _draw(settings, cases, path, on_progress)
        _read_under_commands(settings, cases, path, forced_path, on_progress)
        results = analyse(_rows(path), _rows(forced_path))
        atomic_write_text(settings.output / RESULTS_FILE, json.dumps(results.record(), indent=2) + "\n")
        atomic_write_text(settings.output / TABLES_FILE, render(document(results, settings.model), "."))
    return results


def _identity(settings: MeasureSettings, cases: Sequence[Case]) -> dict[str, Any]:
    """What the rows depend on. The cases stand for prompts, phrasings, positions and the seed of their choice."""
    names = ("model", "task", "prompts", "samples", "max_new_tokens", "seed", "split", "batch_size", "base", "dtype")
    content = json.dumps([case.record() for case in cases]).encode()
    return {
        **{name: getattr(settings, name) for name in names},
        "engine": chosen_engine(settings.engine),
        "weights": weights_hash(settings.model),
        "cases": hashlib.sha256(content).hexdigest(),
    }


def _draw(settings: MeasureSettings, cases: Sequence[Case], path: Path, on_progress: OnProgress | None) -> None:
    done = _done(path, len(cases)) if path.is_file() else set()
    drawn, total = len(cases) * settings.samples, _total(settings, cases)
    if on_progress is not None:
        on_progress(len(done), total)
    if len(done) == drawn:
        return

    def on_drawn(finished: int, _: int) -> None:
        if on_progress is not None:
            on_progress(finished, total)

    sampling = Sampling(
        samples_per_prompt=settings.samples,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        seed=settings.seed,
        strategy="autodeco",
        trace=True,
    )
    with open_sampler(
        settings.model,
        base=settings.base,
        engine=settings.engine,
        dtype=settings.dtype,
        batch_size=settings.batch_size,
    ) as sampler:
        prompts = [case.messages for case in cases]
        for batch in sampler.draw(prompts, sampling, done=done, on_progress=on_drawn):
            append_jsonl(path, [_row(cases[sample.prompt_index], sample) for sample in batch])


def _total(settings: MeasureSettings, cases: Sequence[Case]) -> int:
    """Texts to draw and to read."""
    return len(cases) * settings.samples + len(forced_cases(cases))


def _read_under_commands(
    settings: MeasureSettings, cases: Sequence[Case], path: Path, forced_path: Path, on_progress: OnProgress | None
) -> None:
    done = {row["case"] for row in _rows(forced_path)} if forced_path.is_file() else set()
    missing = [index for index in forced_cases(cases) if index not in done]
    finished = itertools.count(_total(settings, cases) - len(missing) + 1)

    def on_row() -> None:
        if on_progress is not None:
            on_progress(next(finished), _total(settings, cases))

    if missing:
        of_prompts = completions(_rows(path))
        model, tokenizer = load_model_and_tokenizer(settings.model, settings.base, dtype=settings.dtype)
        read_under_commands(model, tokenizer, cases, missing, of_prompts, forced_path, on_row)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in read_jsonl(path))


def _done(path: Path, count: int) -> set[tuple[int, int]]:
    found = set()
    for number, row in read_jsonl(path):
        case, sample = row.get("case"), row.get("sample")
        if not isinstance(case, int) or not isinstance(sample, int) or case >= count:
            raise DataError(f"{path}, line {number}: not a row of this measurement. Choose another output folder.")
        found.add((case, sample))
    return found


def _row(case: Case, sample: Sample) -> dict[str, Any]:
    """One line: the case, the text, and means of what the heads chose; of scoped commands by the answer's parts."""
    assert sample.temperature is not None
    assert sample.top_p is not None
    assert sample.entropy is not None
    parts = max(1, len(case.scope) or 2)
    return {
        "case": sample.prompt_index,
        "sample": sample.sample_index,
        **case.record(),
        "text": sample.text,
        **({COMPLETION: sample.completion_ids} if case.condition == PLAIN else {}),
        "tokens": len(sample.completion_ids),
        "finish": sample.finish,
        "mean_temperature": _mean(sample.temperature),
        "mean_top_p": _mean(sample.top_p),
        "mean_entropy": _mean(sample.entropy),
        "temperature_of_parts": _means_of_parts(sample.temperature, parts),
        "top_p_of_parts": _means_of_parts(sample.top_p, parts),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _means_of_parts(values: Sequence[float], parts: int) -> list[float] | None:
    """Means of so many equal parts of a text; ``None`` for a text that is shorter."""
    edges = [len(values) * index // parts for index in range(parts + 1)]
    pairs = list(itertools.pairwise(edges))
    return None if any(start == end for start, end in pairs) else [_mean(values[start:end]) for start, end in pairs]
