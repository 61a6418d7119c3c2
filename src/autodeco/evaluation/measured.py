"""The numbers of MeanShift and Shuffled: what a model's heads choose on training trajectories, measured once a run.

Never on the test set: a trajectory of a problem that is evaluated is refused.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from autodeco import lm_head
from autodeco.errors import ConfigError, DataError, RunFolderError
from autodeco.evaluation.entries import Planned, is_measured
from autodeco.evaluation.prepare import PreparedModel, PreparedTask, Say
from autodeco.evaluation.specs import kind_of, parameters_of
from autodeco.evaluation.trajectories import Trajectory, choose, read_prompts, read_trajectories, teacher_forced
from autodeco.files import atomic_write_text, sha256_of
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.serving.load import load_model_and_tokenizer
from autodeco.strategies import get_strategy, heads_choices, means_of_trace, save_bank

FOLDER = "measured"
# Far more than a mean to three digits needs; a minute or two for a small model on a CPU.
_MOST_TOKENS = 50_000
_PIECE_ELEMENTS = 16_777_216  # logits at once
_DIGITS = 4


def measured_strategies(
    model: PreparedModel, tasks: Sequence[PreparedTask], data: Path, folder: Path, dtype: str, say: Say
) -> dict[str, Planned]:
    """The model's MeanShift and Shuffled with their numbers, by the texts of the configuration.

    Args:
        model: with heads, if any of its strategies is measured.
        tasks: whose problems must not be among the data.
        data: JSONL of training trajectories.
        folder: of the run; what was measured is kept there, and not measured again.
        dtype: of the model.
        say: told what is going on.

    Raises:
        DataError: the trajectories cannot be used, or are of problems that are evaluated.
        RunFolderError: the folder holds measurements on other data.
    """
    wanted = [text for text in model.strategies if is_measured(text)]
    if not wanted:
        return {}
    place = f"{FOLDER}/{re.sub('[^A-Za-z0-9._-]+', '-', model.entry.label)}"
    record = _measured(model, tasks, data, folder / place, dtype, say)
    gc.collect()  # the model's memory, before an engine takes what is free
    bank = f"{place}/bank.safetensors"
    found = {}
    for text in wanted:
        if kind_of(text) == "mean-shift":
            found[text] = Planned.of(get_strategy({"name": "mean-shift", **record["means"]}).spec)
        else:
            seed = int(parameters_of(text).get("seed", 0))
            specs = [f"shuffled:bank={path},seed={seed}" for path in ((folder / bank).absolute(), bank)]
            found[text] = Planned(*specs)
    return found


def _measured(
    model: PreparedModel, tasks: Sequence[PreparedTask], data: Path, folder: Path, dtype: str, say: Say
) -> dict[str, Any]:
    path = folder / "means.json"
    identity = {"data_sha256": _sha256(data), "weights": model.weights, "base": model.entry.base}
    _refuse_evaluated(tasks, data)  # also where means are there already: tasks may have been added
    if path.is_file():
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if any(record.get(name) != value for name, value in identity.items()):
            raise RunFolderError(
                f"{path} was measured on other data or other heads ({record.get('data')}). Name the same file as "
                f"measure_on to go on, or choose another output folder."
            )
        return record
    say(f"measuring what the heads of {model.entry.label} choose on {data}")
    loaded, tokenizer = load_model_and_tokenizer(model.entry.path, model.entry.base, dtype=dtype)
    chosen = choose(read_trajectories(data, loaded, tokenizer), _MOST_TOKENS)
    temperature, top_p = _choices(loaded, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    save_bank(folder / "bank.safetensors", temperature, top_p)
    means = dict(zip(("temperature", "top_p"), means_of_trace(temperature, top_p), strict=True))
    record = {
        "means": {name: round(value, _DIGITS) for name, value in means.items()},
        "spread": {"temperature": float(temperature.std()), "top_p": float(top_p.std())},
        "tokens": len(temperature),
        "trajectories": len(chosen),
        "data": str(data),
        **identity,
    }
    atomic_write_text(path, json.dumps(record, indent=2) + "\n")
    return record


def _choices(model: AutoDecoForCausalLM, trajectories: Sequence[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
    """Temperature and top-p at every completion token, ``[N]`` each."""
    found = []
    size = max(1, _PIECE_ELEMENTS // lm_head.shape_of(model)[1])
    for own in teacher_forced(model, trajectories):
        for hidden in torch.split(own.hidden_states, size):
            seen = model.decoding_heads.input_of(hidden, own.summary)
            pair = heads_choices(model.decoding_heads, seen, model.compute_logits(hidden))
            found.append([values.float().cpu() for values in pair])
    temperature, top_p = (torch.cat(parts) for parts in zip(*found, strict=True))
    return temperature, top_p


def _refuse_evaluated(tasks: Sequence[PreparedTask], data: Path) -> None:
    evaluated = {_text(example.messages): task.label for task in tasks for example in task.examples}
    for name, prompt in read_prompts(data):
        label = evaluated.get(_text(prompt))
        if label is not None:
            raise DataError(
                f"{name} is a trajectory of a problem that is evaluated here ({label}): means are "
                f"measured on training data, never on the test set. Name other data than {data} as measure_on."
            )


def _text(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt.strip()
    return "\n".join(f"{message['role']}: {str(message['content']).strip()}" for message in prompt)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise ConfigError(f"measure_on: {path} cannot be read ({error.strerror}).") from None
