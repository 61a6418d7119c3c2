"""The chat's dialogue with its user: reads messages and commands, shows answers as they come. Draws nothing itself.

Answers go to standard output; everything else goes to standard error where output is piped, so that a pipe gets the
answers alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autodeco.chat.conversation import Answer, Conversation
from autodeco.errors import AutoDecoError, DataError, did_you_mean
from autodeco.trace.format import summary, write_trace
from autodeco.trace.stream import StreamedToken
from autodeco.trace.terminal import legend, tinted
from autodeco.trace.text import Vocabulary, visible

_PROMPT = "you> "
_GREETING = "/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves."
_HELP = """\
/retry               answer the last message again
/compare [STRATEGY]  what default sampling, or another strategy, answers to it, side by side
/save FILE           write the last answer's trace, for 'autodeco trace'; after /compare both
/system [TEXT]       set the system message; without TEXT remove it
/new                 begin a new conversation, with the same system message
/help                this list
/quit                leave (Ctrl-D does, too)
Ctrl-C stops an answer. A space before the first / sends the line to the model."""


class Session:
    """One run of ``autodeco chat``.

    Args:
        conversation: what is spoken.
        tokenizer: of the model.
        console: for answers.
        notes: for everything else.
        interactive: whether a person types: then there is a prompt, an error leaves the conversation open, and so does
            Ctrl-C.
    """

    def __init__(
        self, conversation: Conversation, tokenizer: Any, console: Console, notes: Console, *, interactive: bool
    ) -> None:
        self._conversation = conversation
        self._vocabulary = Vocabulary(tokenizer)
        self._console, self._notes = console, notes
        self._interactive = interactive
        self._commands: dict[str, Callable[[str], None]] = {
            "/retry": self._retry,
            "/compare": self._compare,
            "/save": self._save,
            "/system": self._system,
            "/new": self._new,
            "/help": self._help,
        }

    def run(self) -> None:
        """Speaks until the user leaves or the input ends.

        Raises:
            AutoDecoError: an input cannot be used, where nobody types who could mend it.
            KeyboardInterrupt: where nobody types.
        """
        if self._interactive:
            _edit_lines()
            self._note(_GREETING)
        while True:
            try:
                line = self._read()
                if line is None or line.rstrip() == "/quit":
                    return
                self.take(line)
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                self._note("\n/quit leaves.")
            except AutoDecoError as error:
                if not self._interactive:
                    raise
                self._note(f"error: {error}", style="red")

    def take(self, line: str) -> None:
        """Deals with one line: a command or a message.

        Raises:
            AutoDecoError: it cannot be used; nothing has changed.
        """
        if not line.strip():
            return
        if not line.startswith("/"):
            self._finish(self._conversation.say(line, self._show))
            return
        name, _, rest = line.strip().partition(" ")
        if name not in self._commands:
            raise DataError(f"there is no command '{visible(name)}'.{did_you_mean(name, [*self._commands, '/quit'])}")
        self._commands[name](rest.strip())

    def _read(self) -> str | None:
        try:
            line = input(_PROMPT if self._interactive else "")
        except EOFError:
            if self._interactive:
                self._note("")
            return None
        # What is no UTF-8 arrives as halves of surrogate pairs, which no tokenizer takes.
        return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def _show(self, token: StreamedToken) -> None:
        if not self._vocabulary.is_special(token.token_id):
            self._console.print(tinted([token.text], [token.temperature]), end="", soft_wrap=True)

    def _finish(self, answer: Answer) -> None:
        self._console.print()
        if self._interactive:
            self._notes.print(legend(), Text(f" {_described(answer)}"))
        if answer.stopped and not self._interactive:
            raise KeyboardInterrupt

    def _retry(self, _: str) -> None:
        self._finish(self._conversation.retry(self._show))

    def _compare(self, strategy: str) -> None:
        count = 0
        with self._notes.status("") as status:

            def progress(_: StreamedToken) -> None:
                nonlocal count
                count += 1
                status.update(f"answering: {count} tokens")

            turn = self._conversation.compare(strategy or "default", progress)
        if turn.compared is None:
            self._note("stopped before the first token.")
            return
        answers = (turn.answer, turn.compared)
        if not self._console.is_terminal:
            for answer in answers:
                self._console.print(Text(f"[{answer.strategy}]"))
                self._console.print(self._tinted(answer), soft_wrap=True)
            return
        table = Table(*(visible(answer.strategy) for answer in answers), expand=True, show_lines=True)
        table.add_row(*(self._tinted(answer) for answer in answers))
        table.add_row(*(_described(answer) for answer in answers))
        self._console.print(table)

    def _tinted(self, answer: Answer) -> Text:
        tokens = [token for token in answer.tokens if not self._vocabulary.is_special(token.token_id)]
        return tinted([token.text for token in tokens], [token.temperature for token in tokens])

    def _save(self, name: str) -> None:
        if not name:
            raise DataError("/save needs the name of a file to write.")
        traces = self._conversation.traces()
        first = Path(name)
        names = (first, first.with_name(f"{first.stem}-compared{first.suffix}"))
        paths = [_new_file(path) for path in names[: len(traces)]]
        for path, trace in zip(paths, traces, strict=True):
            write_trace(path, trace)
            self._note(f"trace: {path} ({trace.summary})")

    def _system(self, text: str) -> None:
        self._conversation.system = text or None
        self._note("system message set." if text else "no system message.")

    def _new(self, _: str) -> None:
        self._conversation.turns.clear()
        self._note("new conversation.")

    def _help(self, _: str) -> None:
        self._note(_HELP)

    def _note(self, text: str, style: str = "") -> None:
        self._notes.print(Text(visible(text), style=style), soft_wrap=True)


def _described(answer: Answer) -> str:
    return summary(answer.tokens) + (" · stopped" if answer.stopped else "")


def _new_file(path: Path) -> Path:
    """The path, where nothing stands in its way yet."""
    try:
        path = path.expanduser()
        path.lstat()
    except FileNotFoundError:
        return path
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, no such user, a NUL in it
        raise DataError(f"no file can be written there: {visible(str(error))}.") from None
    raise DataError(f"{visible(str(path))} exists; give the name of a new file.")


def _edit_lines() -> None:
    """Line editing and recall. Besides, a terminal without it cuts a pasted line off at 4,096 characters."""
    try:
        import readline  # noqa: F401 (input() uses it once it is imported)
    except ImportError:
        return


def open_session(conversation: Conversation, tokenizer: Any) -> Session:
    """A session on this process's standard input, output and error."""
    console = Console()
    interactive = sys.stdin.isatty() and console.is_terminal
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # a wrong byte must not end the conversation
    notes = console if interactive else Console(stderr=True)
    return Session(conversation, tokenizer, console, notes, interactive=interactive)
