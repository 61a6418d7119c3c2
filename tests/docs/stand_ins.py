"""What the pages' blocks take for granted: folders of finished runs and names, all of a tiny model. Runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from autodeco import AutoDecoForCausalLM
from autodeco.training.hidden_states import HiddenStateStore, RowStates, StoreIdentity
from autodeco.training.tokenize import TokenizedRow
from tests.conftest import byte_tokenizer, tiny_llama

PROMPT = "Why is the sky blue?"
IFEVAL = {
    "key": 1,
    "prompt": "Answer without commas.",
    "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{}],
}


def prepare(folder: Path) -> None:
    """Fills a folder as the commands that a page assumes to have been run would."""
    tokenizer = byte_tokenizer()
    base = folder / "YOUR_MODEL"
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = AutoDecoForCausalLM.from_base(str(base))
    for heads in ("runs/heads", "demo-run/heads"):
        model.save_pretrained(folder / heads)
    (folder / "runs" / "eval").mkdir()
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "ifeval.jsonl").write_text(json.dumps(IFEVAL), encoding="utf-8")


def names(folder: Path) -> dict[str, Any]:
    """Names that blocks use without defining them."""
    model, tokenizer = AutoDecoForCausalLM.from_pretrained(folder / "runs" / "heads"), byte_tokenizer()
    inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        hidden_states = model.base_model(inputs.input_ids).last_hidden_state[0]
    return {
        "model": model,
        "tokenizer": tokenizer,
        "inputs": inputs,
        "input_ids": inputs.input_ids,
        "hidden_states": hidden_states,
        "logits": model.compute_logits(hidden_states).detach(),
        "store": _store(folder / "store", hidden_states.shape[-1], len(tokenizer)),
        "held_out": [0, 2],
    }


def _store(folder: Path, hidden_size: int, vocab_size: int) -> HiddenStateStore:
    store = HiddenStateStore(folder, StoreIdentity("tiny", None, "0", "float32", "t", "c", hidden_size))
    targets = [torch.randint(0, vocab_size, (20,)) for _ in range(4)]
    rows = [TokenizedRow(f"row {at}", [0, *own.tolist()], 1) for at, own in enumerate(targets)]
    store.write(rows, [RowStates(torch.randn(20, hidden_size), own) for own in targets])
    return store
