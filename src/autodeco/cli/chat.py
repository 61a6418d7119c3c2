"""``autodeco chat``: a conversation in the terminal, each token tinted by its temperature as it comes."""

from __future__ import annotations

from typing import Annotated

import typer

from autodeco.cli.options import ConfigOption, DtypeOption


def command(
    model: Annotated[str, typer.Argument(help="Heads' folder, merged or released checkpoint, or hub id.")],
    base_model: Annotated[str | None, typer.Option(help="Use this base instead of the recorded one.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 1024,
    temperature: Annotated[float, typer.Option(min=0, help="Multiplies the learned one; 0 is greedy.")] = 1.0,
    strategy: Annotated[str, typer.Option(help="Decode with this strategy in the heads' place.")] = "autodeco",
    seed: Annotated[int, typer.Option(help="Of the first answer; each further one takes the next.")] = 0,
    dtype: DtypeOption = "auto",
    config: ConfigOption = None,
) -> None:
    """Talk with a model; the model chooses temperature and top-p for each token.

    Commands while you talk: /retry, /compare, /save FILE, /system TEXT, /new, /help, /quit. Ctrl-C stops an answer.
    Each line of a pipe is a message, and a pipe gets the answers alone, without colour.

    \b
    Examples:
      autodeco chat runs/heads
      autodeco chat runs/heads --system "Answer in one sentence." --max-new-tokens 100
      echo "Why is the sky blue?" | autodeco chat runs/merged --temperature 0
    """
    from autodeco.chat.conversation import ChatSettings, Conversation
    from autodeco.chat.session import open_session
    from autodeco.serving.load import load_model_and_tokenizer
    from autodeco.strategies import get_strategy

    get_strategy(strategy)  # before the model is loaded
    loaded, tokenizer = load_model_and_tokenizer(model, base_model, dtype=dtype)
    settings = ChatSettings(max_new_tokens=max_new_tokens, temperature=temperature, strategy=strategy, seed=seed)
    conversation = Conversation(loaded, tokenizer, settings, system=system, name=model)
    open_session(conversation, tokenizer).run()
