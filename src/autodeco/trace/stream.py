"""A running generation, token by token: its text, T and P as soon as each token is drawn.

Transformers' own ``generate`` with one of its streamers. Knows nothing of chats, and of how tokens are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers.generation.streamers import BaseStreamer

from autodeco import outputs
from autodeco.trace.text import PieceStream

if TYPE_CHECKING:
    from autodeco.modeling import AutoDecoForCausalLM


class StreamedToken(NamedTuple):
    """One token of a running generation.

    Attributes:
        token_id: its id.
        text: what it adds to the text; empty in the middle of a character.
        temperature: ``T``.
        top_p: ``P``.
    """

    token_id: int
    text: str
    temperature: float
    top_p: float


def stream_tokens(
    model: AutoDecoForCausalLM,
    tokenizer: Any,
    prompt_ids: Sequence[int],
    on_token: Callable[[StreamedToken], None],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> None:
    """Generates under the strategy that is active (see ``model.decode_with``) and hands out each token at once.

    ``on_token`` is called in this thread, between two forward passes: what it raises, and a KeyboardInterrupt at any
    time, ends the generation. The model can be used again after it.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prompt_ids: token ids of the prompt.
        on_token: called with every new token, special ones included.
        max_new_tokens: longest completion.
        temperature: a user's own, which multiplies the learned one; 0 is greedy.
        seed: of the sampling.
    """
    ids = torch.tensor([list(prompt_ids)], device=model.device)
    torch.manual_seed(seed)
    sampling = {"do_sample": False} if temperature == 0 else {"temperature": temperature}
    with outputs.recording() as trace:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            streamer=_Streamer(tokenizer, trace, on_token),
            **sampling,
        )


class _Streamer(BaseStreamer):  # type: ignore[misc]
    """Joins the tokens that ``generate`` hands out with what the forward passes recorded."""

    def __init__(self, tokenizer: Any, trace: outputs.Trace, on_token: Callable[[StreamedToken], None]) -> None:
        self._pieces = PieceStream(tokenizer)
        self._trace = trace
        self._on_token = on_token
        self._count: int | None = None  # of tokens so far; the prompt comes before the first

    def put(self, value: torch.Tensor) -> None:
        """See ``transformers.generation.streamers.BaseStreamer``."""
        if self._count is None:
            self._count = 0
            return
        # By number (the first pass reads the prompt) rather than the last: some devices hand out tokens a step late.
        temperature, top_p, _ = self._trace[self._count]
        self._count += 1
        token_id = int(value)
        self._on_token(StreamedToken(token_id, self._pieces.add(token_id), float(temperature), float(top_p)))

    def end(self) -> None:
        """See ``transformers.generation.streamers.BaseStreamer``."""
