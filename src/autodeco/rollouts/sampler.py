"""What draws completions of prompts: the interface that a model in this process and an inference engine share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from autodeco.errors import ConfigError
from autodeco.strategies import Strategy, get_strategy

Message = dict[str, str]
# Called with the number of samples finished and their total.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        samples_per_prompt: completions of each prompt.
        max_new_tokens: longest completion, in tokens.
        batch_size: completions generated together; an engine has its own limit instead.
        seed: base seed; any whole number.
        strategy: spec of the decoding strategy (see :mod:`autodeco.strategies`): ``"default"`` samples from the base
            model's own distribution, ``"autodeco"`` from the heads'.
        trace: also keep T, P and the entropy at each token.
        log_probs: also keep each token's log-probability under the distribution that it was drawn from.

    Raises:
        ConfigError: a count is not positive, or there is no such strategy.
    """

    samples_per_prompt: int = 1
    max_new_tokens: int = 256
    batch_size: int = 64
    seed: int = 0
    strategy: str = "default"
    trace: bool = False
    log_probs: bool = False

    def __post_init__(self) -> None:
        for name in ("samples_per_prompt", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, found {getattr(self, name)}.")
        get_strategy(self.strategy)

    def strategy_for(self, *, has_heads: bool) -> Strategy:
        """The strategy, for a model with or without decoding heads.

        Raises:
            ConfigError: it needs heads, and there are none.
        """
        strategy = get_strategy(self.strategy)
        if strategy.needs_heads and not has_heads:
            raise ConfigError(
                f"strategy '{strategy}' needs decoding heads, and this is a plain base model. Name a model with heads."
            )
        return strategy


@dataclass(frozen=True)
class Sample:
    """One completion of one prompt.

    Attributes:
        prompt_index: which of the prompts.
        sample_index: which of that prompt's samples.
        prompt_ids: token ids of the prompt, chat template applied.
        completion_ids: new token ids, up to and including the end token if there is one.
        text: the completion without special tokens.
        finish: ``"stop"`` if the model ended it, ``"length"`` if ``max_new_tokens`` did.
        temperature: T at each new token, if a trace was asked for.
        top_p: P at each, likewise.
        entropy: of the distribution that each was drawn from, in nats, likewise.
        log_probs: of each new token under that distribution, if they were asked for.
    """

    prompt_index: int
    sample_index: int
    prompt_ids: list[int]
    completion_ids: list[int]
    text: str
    finish: Literal["stop", "length"]
    temperature: list[float] | None = None
    top_p: list[float] | None = None
    entropy: list[float] | None = None
    log_probs: list[float] | None = None


class Sampler(Protocol):
    """Draws completions.

    Attributes:
        engine: what results are filed under, beside the model: ``"transformers"`` or ``"vllm"``.
    """

    engine: str

    def draw(
        self,
        prompts: Sequence[list[Message]],
        sampling: Sampling,
        *,
        done: Collection[tuple[int, int]] = frozenset(),
        on_progress: OnProgress | None = None,
    ) -> Iterator[list[Sample]]:
        """Yields completions as they finish, some at a time.

        Args:
            prompts: each a list of messages (``role``, ``content``).
            sampling: how to draw them; on one machine and one set of versions it decides every sample, also when a
                call goes on from ``done``.
            done: ``(prompt index, sample index)`` that need not be yielded.
            on_progress: called after whoever takes the samples has dealt with them.

        Raises:
            ConfigError: the tokenizer has no chat template, the strategy needs heads that are not there, or memory
                does not suffice.
        """


def encode(tokenizer: Any, messages: list[Message]) -> list[int]:
    """Token ids of a prompt, by the tokenizer's chat template.

    Raises:
        ConfigError: it has none.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of '{tokenizer.name_or_path}' has no chat template, so messages cannot be turned into a "
            f"prompt. Use an instruction-tuned model, or set tokenizer.chat_template."
        )
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids
