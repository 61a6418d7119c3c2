"""Rows to token ids: TRL's data conventions, the chat template applied exactly once, loss on completions only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from autodeco.errors import DataError
from autodeco.training.rows import Row

Messages = list[dict[str, Any]]
_NEEDED = "'prompt' and 'completion' (both text or both lists of messages), or 'messages'"
_SHOWN_PROBLEMS = 5
_LARGEST_WEIGHT = 1_000_000  # finite in every precision that losses are summed in


@dataclass(frozen=True)
class TokenizedRow:
    """One example: a prompt, which the loss leaves out, and the completion after it."""

    name: str
    input_ids: list[int]
    prompt_length: int
    weight: float = 1.0  # of its tokens' losses


@dataclass
class TokenizedData:
    """All usable examples, and what was left out or cut."""

    rows: list[TokenizedRow] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # one sentence a row
    truncated: int = 0
    truncated_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        """Number of tokens that the loss can count."""
        return sum(len(row.input_ids) - row.prompt_length for row in self.rows)

    def summary(self) -> str:
        """One paragraph for a person: rows, tokens, what was cut, what was skipped and why."""
        tokens = sum(len(row.input_ids) for row in self.rows)
        lines = [f"{len(self.rows):,} rows, {tokens:,} tokens, of which {self.completion_tokens:,} are completion"]
        weights = [row.weight for row in self.rows]
        if any(weight != 1 for weight in weights):
            negative = sum(weight < 0 for weight in weights)
            lines.append(f"rows weigh from {min(weights):g} to {max(weights):g}, {negative:,} of them less than 0")
        if self.truncated:
            lines.append(f"{self.truncated:,} rows cut at the maximum length, {self.truncated_tokens:,} tokens lost")
        if self.skipped:
            lines.append(f"{len(self.skipped):,} bad rows skipped:")
            lines.extend(f"  {problem}" for problem in self.skipped[:_SHOWN_PROBLEMS])
            if len(self.skipped) > _SHOWN_PROBLEMS:
                lines.append(f"  ... and {len(self.skipped) - _SHOWN_PROBLEMS:,} more")
        return "\n".join(lines)


def tokenize_rows(
    rows: Iterable[Row],
    tokenizer: Any,
    max_length: int,
    *,
    end_of_text_ids: set[int],
    skip_bad_rows: bool = False,
    on_row: Callable[[], None] | None = None,
) -> TokenizedData:
    """Tokenises training rows.

    Args:
        rows: as :func:`~autodeco.training.rows.read_rows` yields them; a row's number ``weight`` becomes its weight.
        tokenizer: of the base model.
        max_length: longer examples lose their end, and are counted.
        end_of_text_ids: tokens that end a completion; a template's text after the last of them is not trained on.
        skip_bad_rows: leave bad rows out and count them, instead of stopping at the first.
        on_row: called after each row (progress).

    Raises:
        DataError: a bad row (unless skipped), no usable row at all, or none of a weight other than 0.
    """
    data = TokenizedData()
    for row in rows:
        try:
            example = _tokenize(row, tokenizer, max_length, end_of_text_ids)
        except DataError as error:
            if not skip_bad_rows:
                raise DataError(f"{error} (--skip-bad-rows leaves such rows out and counts them.)") from None
            data.skipped.append(str(error))
        else:
            if (excess := len(example.input_ids) - max_length) > 0:
                data.truncated += 1
                data.truncated_tokens += excess
                example = replace(example, input_ids=example.input_ids[:max_length])
            data.rows.append(example)
        if on_row is not None:
            on_row()
    if not data.rows:
        reason = f" The first: {data.skipped[0]}" if data.skipped else " The data are empty."
        raise DataError(f"no row can be used for training ({len(data.skipped)} bad rows).{reason}")
    if not any(row.weight for row in data.rows):
        raise DataError("every row has weight 0, so there is nothing to train on. Give some rows another weight.")
    return data


def _tokenize(row: Row, tokenizer: Any, max_length: int, end_of_text_ids: set[int]) -> TokenizedRow:
    if row.values is None:
        raise DataError(f"{row.name}: {row.problem}.")
    prompt, completion = _prompt_and_completion(row.name, row.values)
    sampled = _sampled_ids(row.values, completion, tokenizer)
    if sampled is not None:
        prompt_ids, completion_ids = sampled
    elif isinstance(prompt, str):
        prompt_ids = list(tokenizer(prompt).input_ids)
        # The way it is generated: the prompt's tokens first, then the completion's, then the end of text.
        completion_ids = [*tokenizer(completion, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    else:
        prompt_ids, completion_ids = _apply_template(row, prompt, completion, tokenizer, end_of_text_ids)
    if len(prompt_ids) >= max_length:
        raise DataError(
            f"{row.name}: the prompt has {len(prompt_ids):,} tokens, and the maximum length of {max_length:,} leaves "
            f"no room for a completion. Raise max_length or leave the row out."
        )
    if not prompt_ids:
        raise DataError(f"{row.name}: the prompt is empty; the first token of a completion needs one to follow.")
    return TokenizedRow(row.name, [*prompt_ids, *completion_ids], len(prompt_ids), _weight(row.name, row.values))


def _weight(name: str, values: dict[str, Any]) -> float:
    """What the row's losses are multiplied by: 1 where it does not say (data sets fill such columns with ``None``)."""
    weight = values.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) <= _LARGEST_WEIGHT:
        raise DataError(
            f"{name}: 'weight' must be a number from -{_LARGEST_WEIGHT:,} to {_LARGEST_WEIGHT:,} (1 if left out), "
            f"found {weight!r}."
        )
    return float(weight)


def _prompt_and_completion(name: str, values: dict[str, Any]) -> tuple[str | Messages, str | Messages]:
    """The two parts of a row in either convention. Of ``messages``, the last (the assistant's) is the completion."""
    if "messages" in values:
        messages = _checked_messages(name, "messages", values["messages"])
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise DataError(f"{name}: 'messages' must end with an assistant message that follows at least one other.")
        prompt: Any = messages[:-1]
        completion: Any = messages[-1:]
    elif "prompt" in values and "completion" in values:
        prompt, completion = values["prompt"], values["completion"]
        if isinstance(prompt, str) != isinstance(completion, str):
            raise DataError(f"{name}: 'prompt' and 'completion' must both be text or both be lists of messages.")
        if not isinstance(prompt, str):
            prompt = _checked_messages(name, "prompt", prompt)
            completion = _checked_messages(name, "completion", completion)
    else:
        raise DataError(f"{name}: found the keys {', '.join(sorted(values)) or '(none)'}; needed {_NEEDED}.")
    text = completion if isinstance(completion, str) else "".join(str(m["content"] or "") for m in completion)
    if not text.strip():
        raise DataError(f"{name}: the completion is empty.")
    return prompt, completion


def _checked_messages(name: str, key: str, value: Any) -> Messages:
    if not isinstance(value, list) or not value:
        raise DataError(f"{name}: '{key}' must be a list of messages, found {type(value).__name__}.")
    for message in value:
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise DataError(f"{name}: each message in '{key}' needs 'role' and 'content', found {message!r}.")
    return value


def _sampled_ids(
    values: dict[str, Any], completion: str | Messages, tokenizer: Any
) -> tuple[list[int], list[int]] | None:
    """The very token ids a rollout sampled, if the row has them and this tokenizer reads them as the same text."""
    prompt_ids, completion_ids = values.get("prompt_ids"), values.get("completion_ids")
    if not prompt_ids or not completion_ids or max(*prompt_ids, *completion_ids) >= len(tokenizer):
        return None
    text = completion if isinstance(completion, str) else str(completion[-1]["content"])
    if tokenizer.decode(completion_ids, skip_special_tokens=True).strip() != text.strip():
        return None  # sampled with another tokenizer
    return list(prompt_ids), list(completion_ids)


def _apply_template(
    row: Row, prompt: Any, completion: Any, tokenizer: Any, end_of_text_ids: set[int]
) -> tuple[list[int], list[int]]:
    """Prompt and completion ids of a conversation, from one rendering of the chat template."""
    if not tokenizer.chat_template:
        raise DataError(
            f"{row.name}: the row is a conversation, and the base model's tokenizer has no chat template. Give text "
            f"prompts and completions, or a model with a template."
        )
    tools = (row.values or {}).get("tools")
    prompt_text = tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, tokenize=False)
    text = tokenizer.apply_chat_template([*prompt, *completion], tools=tools, tokenize=False)
    if not text.startswith(prompt_text):
        raise DataError(
            f"{row.name}: the model's chat template renders the prompt differently once the answer is there, so the "
            f"completion's first token is unclear. Give the row as text: 'prompt' rendered, 'completion' as generated."
        )
    # The template has written every special token, a beginning-of-text token included: none may be added here.
    prompt_ids = list(tokenizer(prompt_text, add_special_tokens=False).input_ids)
    completion_ids = list(tokenizer(text[len(prompt_text) :], add_special_tokens=False).input_ids)
    ends = [index for index, token_id in enumerate(completion_ids) if token_id in end_of_text_ids]
    return prompt_ids, completion_ids[: ends[-1] + 1] if ends else completion_ids
