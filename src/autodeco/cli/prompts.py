"""A person's prompt as token ids: with the chat template, where the tokenizer has one."""

from __future__ import annotations

from typing import Any

from autodeco.rollouts.sampler import encode


def prompt_token_ids(tokenizer: Any, prompt: Any, system: str | None = None, *, raw: bool = False) -> list[int]:
    """Token ids of a prompt.

    Args:
        tokenizer: the model's.
        prompt: text, or a list of messages.
        system: system message, ignored without a chat template.
        raw: give the text (of the last message) as it is.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if raw or not tokenizer.chat_template:
        ids: list[int] = tokenizer(messages[-1]["content"]).input_ids
        return ids
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return encode(tokenizer, messages)
