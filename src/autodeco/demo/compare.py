"""Decoding strategies side by side on the same held-out problems, with intervals."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from autodeco.bundled import BUNDLED_MODEL
from autodeco.files import atomic_write_text, read_jsonl
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.progress import counting
from autodeco.rollouts import RolloutSettings, TransformersSampler, rollout
from autodeco.rollouts.sampler import encode
from autodeco.statistics import bootstrap_over_problems
from autodeco.tasks import Example, Task
from autodeco.trace.terminal import legend, tinted
from autodeco.trace.text import token_pieces

_MAX_NEW_TOKENS = 48
_BATCH_SIZE = 64
_TEST_SEED = 1


@dataclass(frozen=True)
class Shown:
    """A decoding strategy as the demo shows it.

    Attributes:
        name: in the table.
        setting: what it does, in a few words.
        spec: of the strategy (see :mod:`autodeco.strategies`).
    """

    name: str
    setting: str
    spec: str


def compare(
    model: AutoDecoForCausalLM,
    tokenizer: Any,
    tasks: list[Task],
    problems: dict[str, int],
    samples: int,
    strategies: list[Shown],
    output: Path,
    console: Console,
) -> list[dict[str, Any]]:
    """Samples and verifies every strategy on the same problems with the same seeds.

    Returns:
        For each strategy: name, setting, counts, accuracy with its 95 % interval, mean T and P of the heads, mean
        length.
    """
    results = []
    sampler = TransformersSampler(model, tokenizer)
    for number, strategy in enumerate(strategies):
        rows = []
        for task in tasks:
            path = (
                output / "comparison" / f"{number}-{strategy.name.replace(' ', '-').replace(',', '')}-{task.name}.jsonl"
            )
            settings = RolloutSettings(
                problems=problems[task.name],
                samples_per_problem=samples,
                split="test",
                seed=_TEST_SEED,
                max_new_tokens=_MAX_NEW_TOKENS,
                batch_size=_BATCH_SIZE,
                strategy=strategy.spec,
                trace=strategy.spec == "autodeco",
            )
            with counting(console, f"{strategy.name}, {task.name}") as progress:
                rollout(task, sampler, path, settings, model_name=BUNDLED_MODEL, on_progress=progress)
            rows += [row for _, row in read_jsonl(path)]
        results.append({"name": strategy.name, "setting": strategy.setting, **_summary(rows)})
    return results


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    by_problem: dict[str, list[float]] = defaultdict(list)
    by_task: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_problem[row["id"]].append(float(row["correct"]))
        by_task[row["task"]].append(float(row["correct"]))
    summary: dict[str, Any] = {
        "samples": len(rows),
        "problems": len(by_problem),
        "correct": sum(int(row["correct"]) for row in rows),
        "accuracy": sum(row["correct"] for row in rows) / len(rows),
        "interval": bootstrap_over_problems(list(by_problem.values())),
        "accuracy_by_task": {name: sum(scores) / len(scores) for name, scores in by_task.items()},
        "mean_tokens": sum(len(row["completion_ids"]) for row in rows) / len(rows),
    }
    for name in ("temperature", "top_p"):
        values = [value for row in rows for value in row.get(name) or []]
        summary[f"mean_{name}"] = sum(values) / len(values) if values else None
    return summary


def comparison_table(results: list[dict[str, Any]]) -> Table:
    """The results as a table for the terminal."""
    table = Table(title=f"{results[0]['problems']} held-out problems, {results[0]['samples']} answers of each strategy")
    for column in ("strategy", "setting", "right", "95 % interval", "mean T", "mean P"):
        table.add_column(column, justify="left" if column in ("strategy", "setting") else "right")
    for result in results:
        low, high = result["interval"]
        table.add_row(
            result["name"],
            result["setting"],
            f"{result['accuracy']:.1%}",
            f"{low:.1%} to {high:.1%}",
            "" if result["mean_temperature"] is None else f"{result['mean_temperature']:.3f}",
            "" if result["mean_top_p"] is None else f"{result['mean_top_p']:.3f}",
        )
    return table


def answers(model: AutoDecoForCausalLM, tokenizer: Any, example: Example, strategies: list[Shown]) -> Group:
    """One answer of each strategy, every token on the colour of its temperature, to print."""
    lines = [Text(f"{example.messages[-1]['content']}  (right: {example.answer})", style="bold")]
    ids = torch.tensor([encode(tokenizer, example.messages)])
    for strategy in strategies:
        torch.manual_seed(_TEST_SEED)
        with model.decode_with(strategy.spec):
            output: Any = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=_MAX_NEW_TOKENS, trace=True
            )
        new_ids = output.sequences[0, ids.shape[1] :].tolist()
        temperatures = output.temperature[0].tolist()
        lines.append(Text(f"{strategy.name}:", style="bold"))
        lines.append(tinted(token_pieces(tokenizer, new_ids), temperatures))
    return Group(*lines, legend())


def save_picture(content: Group, path: Path, title: str) -> None:
    """Saves what was printed as an SVG picture."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(content)
    atomic_write_text(path, console.export_svg(title=title))
