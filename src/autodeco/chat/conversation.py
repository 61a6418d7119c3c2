"""A conversation with a model: its turns, and how the next answer is drawn. Prints nothing and reads no commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jinja2 import TemplateError

from autodeco.errors import ConfigError, DataError
from autodeco.rollouts.sampler import Message, encode
from autodeco.serving.load import context_length
from autodeco.strategies import get_strategy
from autodeco.trace.format import Trace
from autodeco.trace.make import trace_text
from autodeco.trace.stream import StreamedToken, stream_tokens

OnToken = Callable[[StreamedToken], None]


@dataclass(frozen=True)
class ChatSettings:
    """How answers are drawn.

    Attributes:
        max_new_tokens: longest answer.
        temperature: of the user, multiplies the learned one; 0 is greedy.
        strategy: spec of the decoding strategy.
        seed: of the first answer; each further one takes the next.
    """

    max_new_tokens: int = 1024
    temperature: float = 1.0
    strategy: str = "autodeco"
    seed: int = 0


@dataclass
class Answer:
    """An answer, or the beginning of one that was stopped.

    Attributes:
        prompt_ids: token ids that it continues.
        strategy: spec of the strategy that it was drawn with.
        seed: of its sampling.
        tokens: so far.
        stopped: whether it was cut short by the user.
    """

    prompt_ids: Sequence[int]
    strategy: str
    seed: int
    tokens: list[StreamedToken] = field(default_factory=list)
    stopped: bool = False


@dataclass
class Turn:
    """What the user said and what was answered.

    Attributes:
        message: of the user.
        answer: of the model.
        compared: the same prompt's answer under another strategy, if one was asked for.
    """

    message: str
    answer: Answer
    compared: Answer | None = None


class Conversation:
    """The turns so far; a turn is there once its answer has a token.

    Args:
        model: with heads.
        tokenizer: of its base, with a chat template.
        settings: how answers are drawn.
        system: the system message.
        name: of the model, for traces.

    Raises:
        ConfigError: the strategy is unknown, or the tokenizer has no chat template.
    """

    def __init__(
        self, model: Any, tokenizer: Any, settings: ChatSettings, *, system: str | None = None, name: str | None = None
    ) -> None:
        get_strategy(settings.strategy)
        self.turns: list[Turn] = []
        self.system = system
        self.settings = settings
        self._model, self._tokenizer, self._name = model, tokenizer, name
        self._next_seed = settings.seed
        self._encode([{"role": "user", "content": ""}])  # has it a template?

    @property
    def context(self) -> int | None:
        """Tokens that the model reads at most, prompt and answer together; ``None`` if its configuration has none."""
        return context_length(self._model)

    def say(self, message: str, on_token: OnToken) -> Answer:
        """Answers a message. A KeyboardInterrupt ends the answer, and what there is of it counts.

        Args:
            message: of the user.
            on_token: called with each token of the answer.

        Raises:
            DataError: the conversation does not fit the model's context, or its template refuses it; nothing changes.
            ConfigError: the device's memory does not suffice; nothing changes.
        """
        answer = self._draw(self._prompt(self.turns, message), self.settings.strategy, self._new_seed(), on_token)
        if answer.tokens:
            self.turns.append(Turn(message, answer))
        return answer

    def retry(self, on_token: OnToken) -> Answer:
        """Answers the last message again, with another seed; as :meth:`say`. Replaces the answer.

        Raises:
            DataError: as :meth:`say`, and where there is no turn yet.
        """
        turn = self._last_turn()
        prompt = self._prompt(self.turns[:-1], turn.message)  # the system message may be another by now
        answer = self._draw(prompt, self.settings.strategy, self._new_seed(), on_token)
        if answer.tokens:
            self.turns[-1] = Turn(turn.message, answer)
        return answer

    def compare(self, strategy: str, on_token: OnToken) -> Turn:
        """Draws what another strategy answers to the last prompt, with the same seed. The history stays.

        Raises:
            DataError: there is no turn yet.
            ConfigError: there is no such strategy.
        """
        turn = self._last_turn()
        answer = self._draw(turn.answer.prompt_ids, strategy, turn.answer.seed, on_token)
        if answer.tokens:
            turn.compared = answer
        return turn

    def traces(self) -> list[Trace]:
        """Traces of the last answer and, after :meth:`compare`, of the one beside it.

        Raises:
            DataError: there is no turn yet.
        """
        turn = self._last_turn()
        return [self._trace(answer) for answer in (turn.answer, turn.compared) if answer is not None]

    def text(self, answer: Answer) -> str:
        """The text of an answer, without special tokens."""
        ids = [token.token_id for token in answer.tokens]
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _draw(self, prompt_ids: Sequence[int], strategy: str, seed: int, on_token: OnToken) -> Answer:
        answer = Answer(prompt_ids, strategy, seed)

        def take(token: StreamedToken) -> None:
            answer.tokens.append(token)
            on_token(token)

        room = self.settings.max_new_tokens if self.context is None else self.context - len(prompt_ids)
        try:
            with self._model.decode_with(strategy):
                stream_tokens(
                    self._model,
                    self._tokenizer,
                    prompt_ids,
                    take,
                    max_new_tokens=min(self.settings.max_new_tokens, room),
                    temperature=self.settings.temperature,
                    seed=seed,
                )
        except KeyboardInterrupt:
            answer.stopped = True
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the device's memory does not suffice for {len(prompt_ids):,} tokens and an answer ({error!s:.200}). "
                f"Begin a new conversation with /new, or shorten the message. The conversation is unchanged."
            ) from None
        return answer

    def _prompt(self, turns: Sequence[Turn], message: str) -> list[int]:
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for turn in turns:
            messages.append({"role": "user", "content": turn.message})
            messages.append({"role": "assistant", "content": self.text(turn.answer)})
        ids = self._encode([*messages, {"role": "user", "content": message}])
        if self.context is not None and len(ids) >= self.context:
            raise DataError(
                f"with this message the conversation is {len(ids):,} tokens, and this model reads at most "
                f"{self.context:,}, its answer included. Shorten the message (or the system message), or begin a new "
                f"conversation with /new. The conversation is unchanged."
            )
        return ids

    def _encode(self, messages: list[Message]) -> list[int]:
        try:
            return encode(self._tokenizer, messages)
        except TemplateError as error:
            raise DataError(
                f"the model's chat template refuses this conversation ({error}). Some know no system message: "
                f"/system without text removes it."
            ) from None

    def _trace(self, answer: Answer) -> Trace:
        with self._model.decode_with(answer.strategy):
            return trace_text(
                self._model,
                self._tokenizer,
                answer.prompt_ids,
                [token.token_id for token in answer.tokens],
                temperature=self.settings.temperature,
                name=self._name,
                settings={"seed": answer.seed},
            )

    def _new_seed(self) -> int:
        self._next_seed += 1
        return self._next_seed - 1

    def _last_turn(self) -> Turn:
        if not self.turns:
            raise DataError("nothing has been answered yet; say something first.")
        return self.turns[-1]
