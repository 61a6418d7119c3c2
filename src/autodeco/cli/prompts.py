"""A person's prompt as token ids: with the chat template, where the tokenizer has one."""

from __future__ import annotations

from typing import Any


def prompt_token_ids(tokenizer: Any, prompt: Any, system: str | None = None, *, raw: bool = False) -> list[int]:
    """Token ids of a prompt.

    Args:
        tokenizer: the model's.
        prompt: text, or a list of messages.
        system: system message, ignored without a chat template.
        raw: give the text (of the last message) as it is.
    """
    if raw or not tokenizer.chat_template:
        text, options = prompt if isinstance(prompt, str) else prompt[-1]["content"], {}
    else:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        options = {"add_special_tokens": False}
    ids: list[int] = tokenizer(text, **options).input_ids
    return ids
