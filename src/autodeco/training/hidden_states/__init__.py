"""The hidden-state store: the frozen base runs over the data once, and every epoch, ablation and sweep reads that.

A store is a folder: ``store.json`` (what it was made from, and the shards with their checksums) and
``states-00000.safetensors`` and so on, each holding, for some rows of the data one after the other,

- ``hidden_states`` ``[N, H]`` bfloat16, the input of ``lm_head`` at the positions that the loss uses,
- ``targets`` ``[N]`` int32, the token that follows each,
- ``lengths`` ``[R]`` int32, how many positions each row has.

For heads with ``prompt_summary`` it also holds each prompt: ``prompt_states`` bfloat16, the states that the summary is
made of at all of its positions, and ``prompt_lengths`` ``[R]`` int32, how many of them each row has.
"""

from autodeco.training.hidden_states.dataset import StoredDataset, collate_stored
from autodeco.training.hidden_states.fill import estimated_bytes, fill_store
from autodeco.training.hidden_states.store import HiddenStateStore, RowStates, StoreIdentity

__all__ = [
    "HiddenStateStore",
    "RowStates",
    "StoreIdentity",
    "StoredDataset",
    "collate_stored",
    "estimated_bytes",
    "fill_store",
]
