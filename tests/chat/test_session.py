"""The dialogue: commands, what is shown, and what of it reaches a terminal."""

import io

import pytest
from rich.console import Console

from autodeco.chat.session import Session
from autodeco.errors import DataError
from autodeco.trace.format import read_trace
from autodeco.trace.text import visible
from tests.chat.test_conversation import conversation
from tests.conftest import byte_tokenizer


class Screen:
    """A session whose output is kept."""

    def __init__(self, spoken, *, interactive=True, **console):
        self.conversation = spoken
        options = {"force_terminal": True, "color_system": "truecolor"} if interactive else {}
        self.console = Console(file=io.StringIO(), width=100, **{**options, **console})
        self.notes = self.console if interactive else Console(file=io.StringIO())
        self.session = Session(spoken, byte_tokenizer(), self.console, self.notes, interactive=interactive)

    def take(self, line):
        before = len(self.console.file.getvalue())
        self.session.take(line)
        return self.console.file.getvalue()[before:]


@pytest.fixture
def screen():
    return Screen(conversation())


def test_an_answer_is_tinted_and_ends_with_legend_and_means(screen):
    out = screen.take("Hi")
    assert "\x1b[37;48;2;" in out
    assert "6 tokens · mean T" in out
    assert "temperature" in out


def test_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Screen(conversation(), color_system="auto").take("Hi")
    assert "48;2;" not in out
    assert "6 tokens · mean T" in out


def test_a_pipe_gets_the_answer_alone():
    screen = Screen(conversation(), interactive=False)
    out = screen.take("Hi")
    turn = screen.conversation.turns[0]
    assert out == visible(screen.conversation.text(turn.answer)) + "\n"
    assert screen.notes.file.getvalue() == ""


def test_what_a_model_writes_does_not_steer_the_terminal(screen, monkeypatch):
    hostile = byte_tokenizer().encode("\x1b[2J\u200b\u202e\x07", add_special_tokens=False)
    model = screen.conversation._model
    original = type(model).generate

    def generate(self, ids, **kwargs):
        def forced(step, scores, at=[0]):  # noqa: B006
            scores = scores.clone().fill_(float("-inf"))
            scores[:, hostile[at[0] % len(hostile)]] = 0
            at[0] += 1
            return scores

        return original(self, ids, logits_processor=[forced], **kwargs)

    monkeypatch.setattr(type(model), "generate", generate)
    screen.conversation.settings = type(screen.conversation.settings)(max_new_tokens=len(hostile))
    for out in (screen.take("\x1b[2J\u200b"), screen.take("/retry"), screen.take("/compare")):
        assert "\x1b[2J" not in out
        assert not {"\x07", "\u200b", "\u202e"} & set(out)
        assert "\\x1b" in out


def test_commands(screen, tmp_path):
    assert "/compare" in screen.take("/help")
    screen.take("/system Be kind.")
    assert screen.conversation.system == "Be kind."
    screen.take("/system")
    assert screen.conversation.system is None
    screen.take("Hi")
    screen.take("/retry")
    assert screen.conversation.turns[0].answer.seed == 1
    out = screen.take("/compare")
    assert "default" in out
    assert out.count("mean T") == 2
    screen.take(f"/save {tmp_path / 'hi.jsonl'}")
    assert read_trace(tmp_path / "hi.jsonl").header.strategy == "autodeco"
    assert read_trace(tmp_path / "hi-compared.jsonl").header.strategy == "default"
    screen.take("/new")
    assert screen.conversation.turns == []


def test_compare_in_a_pipe_names_the_strategies():
    screen = Screen(conversation(), interactive=False)
    screen.take("Hi")
    out = screen.take("/compare static:temperature=0.5")
    assert out.startswith("[autodeco]\n")
    assert "\n[static:temperature=0.5]\n" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/rety", "Did you mean '/retry'"),
        ("/compare defualt", "Did you mean 'default'"),
        ("/save", "needs the name of a file"),
        ("/save {folder}", "exists"),
        ("/save {folder}/" + "x" * 300, "too long"),
        ("/save a\0b", "null"),
        ("/save ~nobody-of-this-name/x", "home"),
        ("\x1b[2J" * 5000, "reads at most 4,096"),
    ],
)
def test_bad_input_changes_nothing(screen, tmp_path, line, message):
    screen.take("Hi")
    answer = screen.conversation.turns[0].answer
    with pytest.raises(ValueError, match=message):
        screen.take(line.format(folder=tmp_path))
    assert [turn.answer for turn in screen.conversation.turns] == [answer]
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_begins_with_a_space_is_a_message(screen):
    screen.take(" /help me")
    assert screen.conversation.turns[0].message == " /help me"
    screen.take("   ")
    assert len(screen.conversation.turns) == 1


@pytest.mark.parametrize("interactive", [True, False])
def test_an_error_leaves_the_conversation_open_where_somebody_types(monkeypatch, interactive):
    lines = iter(["/rety", "Hi", "/quit", "not reached"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    screen = Screen(conversation(), interactive=interactive)
    if not interactive:
        with pytest.raises(DataError, match="Did you mean"):
            screen.session.run()
        return
    screen.session.run()
    assert [turn.message for turn in screen.conversation.turns] == ["Hi"]
    assert "Did you mean" in screen.console.file.getvalue()
