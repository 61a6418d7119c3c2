"""One prompt decoded under several commands: the texts with what the heads chose at each token. Shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autodeco.control.commands import load_commands
from autodeco.control.placement import place
from autodeco.errors import DataError
from autodeco.rollouts.sample import TransformersSampler
from autodeco.rollouts.sampler import Message, Sampling
from autodeco.trace.text import token_pieces


@dataclass(frozen=True)
class Decoded:
    """One text.

    Attributes:
        name: of the version, ``"none"`` or what the caller called it.
        command: its text; ``None`` without one.
        text: the completion.
        pieces: the text of each token.
        temperature: T at each token.
        top_p: P at each token.
        entropy: of the distribution that each was drawn from, in nats.
    """

    name: str
    command: str | None
    text: str
    pieces: list[str]
    temperature: list[float]
    top_p: list[float]
    entropy: list[float]

    @property
    def mean_temperature(self) -> float:
        """Mean T."""
        return sum(self.temperature) / len(self.temperature)

    @property
    def mean_top_p(self) -> float:
        """Mean P."""
        return sum(self.top_p) / len(self.top_p)


def published_commands() -> dict[str, str]:
    """The paper's own phrasings for low and high diversity, by those names."""
    return {command.kind: command.text for command in load_commands() if command.subkind == "published"}


def decode_versions(
    model: Any,
    tokenizer: Any,
    prompt: str,
    commands: Mapping[str, str],
    *,
    position: str = "after",
    system: str | None = None,
    max_new_tokens: int = 128,
    seed: int = 0,
) -> list[Decoded]:
    """Decodes a prompt without a command and with each.

    Args:
        model: with heads.
        tokenizer: of its base, with a chat template.
        prompt: of the user.
        commands: text of each command by the name that results are to have.
        position: where they stand (:data:`autodeco.control.placement.POSITIONS`).
        system: a system message.
        max_new_tokens: longest text.
        seed: of the sampling.

    Raises:
        DataError: prompt or command is empty, or the position unknown.
        ConfigError: the model has no heads, or the tokenizer no chat template.
    """
    for name, text in {
        "the prompt": prompt,
        **{f"the command '{name}'": text for name, text in commands.items()},
    }.items():
        if not text.strip():
            raise DataError(f"{name} is empty; give it some words.")
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": prompt})
    prompts = [messages, *(place(text, messages, position) for text in commands.values())]
    sampling = Sampling(max_new_tokens=max_new_tokens, seed=seed, strategy="autodeco", trace=True)
    samples = [sample for batch in TransformersSampler(model, tokenizer).draw(prompts, sampling) for sample in batch]
    found = []
    for sample, (name, command) in zip(
        sorted(samples, key=lambda one: one.prompt_index), [("none", None), *commands.items()], strict=True
    ):
        assert sample.temperature is not None
        assert sample.top_p is not None
        assert sample.entropy is not None
        pieces = token_pieces(tokenizer, sample.completion_ids)
        found.append(Decoded(name, command, sample.text, pieces, sample.temperature, sample.top_p, sample.entropy))
    return found
