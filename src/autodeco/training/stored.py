"""Whether a training run uses a hidden-state store, and which: decides, opens, checks and fills it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from accelerate import PartialState
from rich.console import Console

from autodeco import lm_head
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.progress import counting
from autodeco.training.config import TrainingConfig
from autodeco.training.hidden_states import HiddenStateStore, StoreIdentity, estimated_bytes, fill_store
from autodeco.training.tokenize import TokenizedData

STORE_FOLDER = "hidden_states"


def stored_states(
    config: TrainingConfig,
    model: AutoDecoForCausalLM,
    tokenizer: Any,
    data: TokenizedData,
    base_checksum: str,
    *,
    examples: int,
    progress: bool,
    say: Callable[[str], None],
) -> HiddenStateStore | None:
    """The filled store that the settings ask for; ``None`` to run the base at every step.

    ``examples`` is what a batch counts: the number of rows, or of groups of rows that are used together.

    Raises:
        StoreError: there is one, of something else or damaged.
        RunFolderError: the disk has no room for it.
    """
    hidden_size, _ = lm_head.shape_of(model)
    prompts = model.autodeco_config.prompt_summary
    size = estimated_bytes(data.rows, hidden_size, prompts=prompts)
    if not _wanted(config, examples, size, say):
        return None
    folder = config.hidden_state_folder or config.output / STORE_FOLDER
    identity = StoreIdentity(
        model=config.model,
        revision=config.model_revision,
        base_checksum=base_checksum,
        dtype=str(model.dtype).removeprefix("torch."),
        tokenizer=_digest(tokenizer.get_vocab()),
        chat_template=_digest(tokenizer.chat_template),
        hidden_size=hidden_size,
        prompts=prompts,
        prompt_layer=model.autodeco_config.prompt_layer,
    )
    with PartialState().main_process_first():  # the others find it full
        store = HiddenStateStore(folder, identity)
        if not config.repair_store:
            store.check(data.rows)
        if store.rows < len(data.rows) or config.repair_store:
            say(f"hidden states of {len(data.rows):,} rows ({size / 1e9:.2f} GB) go to {folder}, once")
            bar = counting(Console(stderr=True), "hidden states") if progress else nullcontext(lambda *_: None)
            with bar as on_row:
                fill_store(store, model, data.rows, repair=config.repair_store, on_row=on_row)
            if config.repair_store:
                store.check(data.rows)
    say(f"training from {store.positions:,} stored hidden states in {folder}")
    return store


def _wanted(config: TrainingConfig, examples: int, size: int, say: Callable[[str], None]) -> bool:
    if config.hidden_state_store != "auto":
        return config.hidden_state_store == "on"
    used = config.max_steps * config.batch_size * config.gradient_accumulation
    if used <= examples:
        return False  # no row is used twice
    if size > config.hidden_state_limit_gb * 1e9:
        say(
            f"hidden states are not stored: they would take {size / 1e9:.1f} GB, more than hidden_state_limit_gb "
            f"{config.hidden_state_limit_gb:g}. Storing them (hidden_state_store: on) makes every pass after the first "
            f"several times faster."
        )
        return False
    return True


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
