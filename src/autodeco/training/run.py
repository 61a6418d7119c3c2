"""A whole training run: check, tokenise, train, verify that the base is unchanged, save, and resume if interrupted."""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from autodeco import objectives, provenance
from autodeco.bundled import resolve_model
from autodeco.checkpoint import load_base, load_heads
from autodeco.checkpoint.adapter import is_adapter_weight, plain_name
from autodeco.errors import ModelNotFoundError, TrainingError
from autodeco.heads import DecodingHeads
from autodeco.layers import middle_layer
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.training.batches import RowDataset, collate
from autodeco.training.callbacks import FiniteGradients, LogFile, ProgressBar
from autodeco.training.config import TrainingConfig
from autodeco.training.hidden_states import HiddenStateStore, StoredDataset, collate_stored
from autodeco.training.rows import read_rows
from autodeco.training.run_folder import RUN_FILE, TrainingResult, finished_result, is_finished, read_log
from autodeco.training.stored import stored_states
from autodeco.training.tokenize import TokenizedData, tokenize_rows
from autodeco.training.trainer import AutoDecoTrainer

logger = logging.getLogger(__name__)

_CHECKED_TOKENS = 32


def train(config: TrainingConfig, *, progress: bool = True, say: Callable[[str], None] = logger.info) -> TrainingResult:
    """Trains heads. Run again with the same settings, it goes on from the last checkpoint.

    Args:
        config: all settings.
        progress: show a progress bar.
        say: called with one sentence at each stage.

    Returns:
        The result; the heads are in ``config.output``.

    Raises:
        AutoDecoError: bad data, settings or folder; a loss that is not finite; a base model that changed.
    """
    if is_finished(config):
        return finished_result(config, say)
    tokenizer, end_of_text_ids, max_length = load_tokenizer(config)
    data = _tokenize(config, config.data, tokenizer, end_of_text_ids, max_length)
    say(data.summary())
    eval_data = (
        _tokenize(config, config.eval_data, tokenizer, end_of_text_ids, max_length) if config.eval_data else None
    )

    def make(model: AutoDecoForCausalLM, store: HiddenStateStore | None) -> AutoDecoTrainer:
        return AutoDecoTrainer(
            **trainer_arguments(config, model, data, progress=progress, has_eval=eval_data is not None),
            train_dataset=RowDataset(data.rows)
            if store is None
            else StoredDataset(store, [row.weight for row in data.rows]),
            eval_dataset=RowDataset(eval_data.rows) if eval_data else None,
            data_collator=functools.partial(collate_rows, pad_token_id=pad_token_id(tokenizer)),
        )

    return train_on(config, data, tokenizer, make, examples=len(data.rows), progress=progress, say=say)


def train_on(
    config: TrainingConfig,
    data: TokenizedData,
    tokenizer: Any,
    make_trainer: Callable[[AutoDecoForCausalLM, HiddenStateStore | None], AutoDecoTrainer],
    *,
    examples: int,
    progress: bool,
    say: Callable[[str], None],
    adapt: Callable[[Any], None] | None = None,
    **record: Any,
) -> TrainingResult:
    """The part of a run after its data are read: model, hidden states, training, checks, saving.

    Args:
        config: all settings; its folder has been checked by :func:`is_finished`.
        data: every row that the base runs over.
        tokenizer: of the base.
        make_trainer: makes the trainer of a model, and of a store of ``data``'s hidden states where there is one.
        examples: what a batch counts: the number of rows, or of groups of rows that are used together.
        progress: show a progress bar.
        say: called with one sentence at each stage.
        adapt: what is done to the loaded base before heads are put on it.
        **record: further facts about the data for the provenance file.
    """
    set_seed(config.seed)  # before the heads are initialised
    model = _load_model(config, adapt)
    settings = config.model_dump(mode="json")
    provenance.write(config.output / RUN_FILE, config=settings, status="started")
    first = data.rows[0].input_ids[:_CHECKED_TOKENS]
    model.check_logit_path(torch.tensor([first], device=model.device))
    checksum = base_checksum(model)

    store = stored_states(config, model, tokenizer, data, checksum, examples=examples, progress=progress, say=say)
    trainer = make_trainer(model, store)
    trainer.remove_callback(PrinterCallback)  # prints a dictionary a step; the bar and the log file say it better
    last_checkpoint = get_last_checkpoint(str(config.output))
    if last_checkpoint:
        say(f"going on from {last_checkpoint}")
    try:
        trainer.train(resume_from_checkpoint=last_checkpoint)
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ProgressBar):
                callback.close()
    if base_checksum(model) != checksum:
        raise TrainingError("the base model's weights changed during training. This is a bug in autodeco; report it.")
    model.save_pretrained(config.output)
    facts = {"rows": len(data.rows), "skipped": len(data.skipped), "truncated": data.truncated, **record}
    provenance.write(config.output / RUN_FILE, config=settings, status="finished", base_checksum=checksum, data=facts)
    resumed_from = int(last_checkpoint.rsplit("-", 1)[1]) if last_checkpoint else 0
    return TrainingResult(config.output, data, read_log(config.output), resumed_from)


def base_checksum(model: AutoDecoForCausalLM) -> str:
    """CRC-32 over the bytes of every parameter and buffer of the base model, in order of name; an adapter is not it."""
    checksum = 0
    for name, tensor in sorted(model.state_dict().items(), key=lambda item: plain_name(item[0])):
        if not name.startswith("decoding_heads.") and not is_adapter_weight(name):
            contents = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            checksum = zlib.crc32(memoryview(contents), zlib.crc32(plain_name(name).encode(), checksum))
    return f"{checksum:08x}"


def load_tokenizer(config: TrainingConfig) -> tuple[Any, set[int], int]:
    """Tokenizer, the ids that end a text, and the longest sequence that settings and model both allow."""
    folder = resolve_model(config.model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=config.model_revision)
        model_config = AutoConfig.from_pretrained(folder, revision=config.model_revision).get_text_config()
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"no tokenizer and configuration found for '{config.model}': it is neither a local model folder nor a hub "
            f"id that can be reached ({str(error).splitlines()[0]})."
        ) from None
    try:
        generation = GenerationConfig.from_pretrained(folder, revision=config.model_revision)
        ends = generation.eos_token_id
    except OSError:
        ends = None
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    longest = getattr(model_config, "max_position_embeddings", None) or config.max_length
    return tokenizer, {*ends, tokenizer.eos_token_id} - {None}, min(config.max_length, longest)


def _tokenize(config: TrainingConfig, source: str, tokenizer: Any, ends: set[int], max_length: int) -> TokenizedData:
    rows = read_rows(source, config.data_split)
    return tokenize_rows(rows, tokenizer, max_length, end_of_text_ids=ends, skip_bad_rows=config.skip_bad_rows)


def _load_model(config: TrainingConfig, adapt: Callable[[Any], None] | None) -> AutoDecoForCausalLM:
    heads = load_heads(config.heads) if config.heads else None  # before the base: seconds, where it may take minutes
    base = load_base(config.model, revision=config.model_revision, dtype=config.dtype)
    layer = _prompt_layer(config, heads, base, is_adapted=adapt is not None)
    if heads is not None and config.prompt_summary:
        heads = heads.with_prompt_summary(layer)
    if adapt is not None:
        adapt(base)
    return AutoDecoForCausalLM.from_base(
        base,
        heads=heads,
        revision=config.model_revision,
        temperature_head=config.temperature_head,
        top_p_head=config.top_p_head,
        statistics_features=config.statistics_features,
        temperature_features=config.temperature_features,
        prompt_summary=config.prompt_summary,
        prompt_layer=layer,
    )


def _prompt_layer(config: TrainingConfig, heads: DecodingHeads | None, base: Any, *, is_adapted: bool) -> int:
    """The layer that is summarised: the one asked for, that of trained heads, or one in the middle.

    The middle, because it says most of what the prompt asks for (docs/control.md). An adapter changes it, so an adapted
    base is summarised at its end.
    """
    if config.prompt_layer is not None:
        return config.prompt_layer
    if heads is not None and heads.config.prompt_summary:
        return int(heads.config.prompt_layer)
    return middle_layer(base) if config.prompt_summary and not is_adapted else 0


def trainer_arguments(
    config: TrainingConfig, model: AutoDecoForCausalLM, data: TokenizedData, *, progress: bool, has_eval: bool
) -> dict[str, Any]:
    """Arguments of :class:`AutoDecoTrainer` that settings and data decide; all but the data sets and the collator."""
    own = {"scoring_rule": config.scoring_rule} if config.objective == "released" else {}
    objective = functools.partial(
        getattr(objectives.fused, config.objective),
        **own,
        easy_token_masking=config.easy_token_masking,
        dynamic_fine_tuning=config.dynamic_fine_tuning,
        importance_ratio_cap=config.importance_ratio_cap,
        decay=config.soft_top_p_decay,
        soft_nucleus=config.soft_nucleus,
    )
    return {
        "objective": objective,
        "row_names": [row.name for row in data.rows],
        "model": model,
        "args": _training_arguments(config, has_eval=has_eval),
        "callbacks": [LogFile(config.output), FiniteGradients(), *([ProgressBar()] if progress else [])],
    }


def pad_token_id(tokenizer: Any) -> int:
    """The token that fills batches up; what it is does not matter, because it is masked."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return found or 0


def collate_rows(examples: list[dict[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Batches rows of token ids, or of stored hidden states."""
    return collate_stored(examples) if "hidden_states" in examples[0] else collate(examples, pad_token_id)


def _training_arguments(config: TrainingConfig, has_eval: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(config.output),
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if has_eval else "no",
        eval_steps=config.eval_steps,
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        report_to=list(config.report_to) or "none",
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
