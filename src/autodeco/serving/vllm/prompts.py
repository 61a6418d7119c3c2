"""What heads with ``prompt_summary`` see of each request's prompt, gathered from vLLM's passes. Follows no rows.

vLLM reads the prompts of many requests in one pass, each whole or in parts. A prompt's states are kept until all of
them are there; then its summary takes their place. ``requests.py`` knows which row is whose.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from vllm.forward_context import get_forward_context

from autodeco.heads import DecodingHeads


class Prompt:
    """The prompt of one request.

    Args:
        length: in tokens.

    Attributes:
        summary: ``[2 m]`` of :meth:`DecodingHeads.summarise_prompt`; ``None`` until the whole prompt was read.
    """

    def __init__(self, length: int) -> None:
        self.summary: Tensor | None = None
        self._length = length
        self._parts: list[Tensor] = []
        self._read = 0

    def read(self, heads: DecodingHeads, states: Tensor, start: int) -> None:
        """Takes what one pass computed.

        Args:
            heads: that see a summary.
            states: ``[tokens, H]`` of the request's tokens in this pass; those beyond the prompt are left out.
            start: position of the first of them.

        Raises:
            RuntimeError: they do not go on where the pass before ended, so there can be no summary.
        """
        if self.summary is not None:
            return
        if start != self._read:
            raise RuntimeError(
                f"a request goes on at position {start}, and its prompt was read up to {self._read}: the summary that "
                f"the heads see (prompt_summary) cannot be computed. Pausing an engine and keeping its requests is one "
                f"way to get here; with these heads, abort them instead."
            )
        own = states[: self._length - start]
        self._read += len(own)
        self._parts.append(own.clone())  # not all of the pass, which a part would keep alive
        if self._read == self._length:
            whole = torch.cat(self._parts).unsqueeze(0)
            mask = torch.ones(1, self._length, dtype=torch.bool, device=whole.device)
            summary = heads.summarise_prompt(whole, mask)
            assert summary is not None
            self.summary, self._parts = summary[0], []


class Prompts:
    """Those of the requests in vLLM's batch.

    Attributes:
        rows: by row of the batch; filled before each forward pass.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Prompt] = {}

    def read(self, heads: DecodingHeads, states: Tensor) -> None:
        """Takes what one pass computed for all requests; nothing in a pass that vLLM makes to measure or to compile.

        Args:
            heads: that see a summary.
            states: ``[tokens, H]``, rows after each other.

        Raises:
            RuntimeError: it cannot be told which states are whose.
        """
        metadata = get_forward_context().attn_metadata
        if metadata is None or not self.rows:
            return
        for row, (begin, end, start) in enumerate(_spans(metadata, len(self.rows))):
            self.rows[row].read(heads, states[begin:end], start)

    def beside(self, heads: DecodingHeads, hidden_states: Tensor) -> Tensor:
        """What the heads take for the rows that are sampled; see :meth:`DecodingHeads.input_of`.

        Args:
            heads: that see a summary.
            hidden_states: ``[rows, H]``, one row a request. Where a prompt was read in part, vLLM throws away what is
                drawn: any summary would do there.

        Raises:
            RuntimeError: there are more or fewer rows than requests.
        """
        if self.rows and len(self.rows) != len(hidden_states):
            raise RuntimeError(
                f"logits of {len(hidden_states)} rows are asked for, and the batch has {len(self.rows)} requests: "
                f"which prompt belongs to which row cannot be told."
            )
        summaries = torch.zeros(len(hidden_states), 2 * heads.config.mlp_hidden_size, device=hidden_states.device)
        for row, prompt in self.rows.items():
            if prompt.summary is not None:
                summaries[row] = prompt.summary
        return heads.input_of(hidden_states, summaries)


def _spans(metadata: Any, requests: int) -> list[tuple[int, int, int]]:
    """Of each request in a pass: its first token, the one after its last, and the position of the first."""
    for layer in metadata.values() if isinstance(metadata, dict) else ():
        starts, lengths = getattr(layer, "query_start_loc", None), getattr(layer, "seq_lens", None)
        if starts is not None and lengths is not None and len(starts) == requests + 1:
            ends = itertools.pairwise(starts.tolist())
            return [
                (begin, end, length - (end - begin))
                for (begin, end), length in zip(ends, lengths.tolist(), strict=True)
            ]
    raise RuntimeError(
        f"vLLM's attention does not tell which tokens belong to which of {requests} requests "
        f"({type(metadata).__name__}), and the heads see a summary of the prompt. Serve them with --engine "
        f"transformers."
    )
