"""A control training run: rollouts with commands → hidden states of the base → ranking → heads, and a LoRA adapter."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from autodeco.checkpoint.adapter import add_adapter, require_peft
from autodeco.control.command import Command
from autodeco.control.commands import digest, load_commands
from autodeco.control.config import ControlConfig
from autodeco.control.groups import GroupDataset, GroupedData, collate_groups, group_rows
from autodeco.control.trainer import AdapterControlTrainer, ControlTrainer
from autodeco.control.upper_layers import UpperLayers, targets_in
from autodeco.control.versions import Versions
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.training.batches import RowDataset
from autodeco.training.hidden_states import HiddenStateStore, StoredDataset
from autodeco.training.rows import read_rows
from autodeco.training.run import collate_rows, load_tokenizer, pad_token_id, train_on, trainer_arguments
from autodeco.training.run_folder import TrainingResult, finished_result, is_finished
from autodeco.training.tokenize import TokenizedData

logger = logging.getLogger(__name__)


def train_control(
    config: ControlConfig, *, progress: bool = True, say: Callable[[str], None] = logger.info
) -> TrainingResult:
    """Trains heads to follow decoding commands. Run again with the same settings, it goes on where it was.

    Args:
        config: all settings.
        progress: show a progress bar.
        say: called with one sentence at each stage.

    Returns:
        The result; the heads are in ``config.output``.

    Raises:
        AutoDecoError: bad data, commands, settings or folder; a loss that is not finite; a base model that changed; an
            adapter is to be trained, and PEFT is not installed.
    """
    if is_finished(config):
        return finished_result(config, say)
    if config.lora_rank:
        require_peft()
    commands = load_commands(config.commands)
    tokenizer, ends, max_length = load_tokenizer(config)
    grouped = functools.partial(_grouped, config, commands, tokenizer, ends, max_length, say)
    data = grouped(config.data, "train")
    eval_data = grouped(config.eval_data, "validation") if config.eval_data else None
    collator = functools.partial(
        collate_groups, collate_rows=functools.partial(collate_rows, pad_token_id=pad_token_id(tokenizer))
    )

    def make(model: AutoDecoForCausalLM, store: HiddenStateStore | None) -> ControlTrainer:
        of_rows = data.tokens.rows
        rows = RowDataset(of_rows) if store is None else StoredDataset(store, [row.weight for row in of_rows])
        arguments = {
            **trainer_arguments(config, model, data.tokens, progress=progress, has_eval=eval_data is not None),
            "weights": config.weights,
            "sampled_tokens": config.sampled_tokens,
            "prompt_dropout": config.prompt_dropout,
            "train_dataset": GroupDataset(rows, data.groups),
            "eval_dataset": GroupDataset(RowDataset(eval_data.tokens.rows), eval_data.groups) if eval_data else None,
            "data_collator": collator,
        }
        if config.lora_rank:
            return AdapterControlTrainer(
                adapter_learning_rate=config.lora_learning_rate,
                upper_layers=_upper_layers(config, model, data.tokens) if config.lora_layers else None,
                **arguments,
            )
        return ControlTrainer(**arguments)

    def adapt(base: Any) -> None:
        targets = config.lora_targets
        if config.lora_layers:
            targets = targets_in(base, targets, config.lora_layers)
        add_adapter(base, rank=config.lora_rank, alpha=config.lora_alpha, targets=targets)

    return train_on(
        config,
        data.tokens,
        tokenizer,
        make,
        examples=len(data.groups),
        progress=progress,
        say=say,
        adapt=adapt if config.lora_rank else None,
        prompts=len(data.groups),
        commands=digest(commands),
    )


def _upper_layers(config: ControlConfig, model: AutoDecoForCausalLM, data: TokenizedData) -> UpperLayers:
    lengths = [len(row.input_ids) for row in data.rows]
    upper_layers = UpperLayers(model, config.lora_layers, lengths, config.output)
    upper_layers.check(torch.tensor(data.rows[0].input_ids, device=model.device))
    return upper_layers


def _grouped(
    config: ControlConfig,
    commands: Sequence[Command],
    tokenizer: Any,
    ends: set[int],
    max_length: int,
    say: Callable[[str], None],
    source: str,
    split: str,
) -> GroupedData:
    """The groups of a data file, with the commands of a split."""
    found = group_rows(
        read_rows(source, config.data_split),
        tokenizer,
        Versions(commands, split, config.commands_per_prompt, config.positions),
        seed=config.seed,
        max_length=max_length,
        completion_tokens=config.completion_tokens,
        end_of_text_ids=ends,
        skip_bad_rows=config.skip_bad_rows,
    )
    say(found.summary())
    return found
