"""The hidden-state store: the frozen base runs over the data once, and every epoch, ablation and sweep reads that.

A store is a folder: ``store.json`` (what it was made from, and the shards with their checksums) and
``states-00000.safetensors`` and so on, each holding, for some rows of the data one after the other,

- ``hidden_states`` ``[N, H]`` bfloat16, the input of ``lm_head`` at the positions that the loss uses,
- ``targets`` ``[N]`` int32, the token that follows each,
- ``lengths`` ``[R]`` int32, how many positions each row has.

For heads with ``prompt_summary`` it also holds the rest of each prompt: ``hidden_states`` then has ``prompt_lengths``
``[R]`` int32 more of each row, before those that the loss uses.
"""

from autodeco.training.hidden_states.dataset import StoredDataset, collate_stored
from autodeco.training.hidden_states.fill import estimated_bytes, fill_store
from autodeco.training.hidden_states.store import HiddenStateStore, StoreIdentity

__all__ = [
    "HiddenStateStore",
    "StoreIdentity",
    "StoredDataset",
    "collate_stored",
    "estimated_bytes",
    "fill_store",
]
