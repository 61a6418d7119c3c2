import io

import pytest
from rich.console import Console

from autodeco.trace.format import TracedToken
from autodeco.trace.terminal import legend, print_trace, tinted, token_table
from tests.trace.traces import token, trace


def printed(content, **options) -> str:
    console = Console(file=io.StringIO(), width=120, **options)
    print_trace(console, content) if hasattr(content, "tokens") else console.print(content)
    return console.file.getvalue()


IN_COLOUR = {"force_terminal": True, "color_system": "truecolor"}


def test_escape_sequences_of_a_model_do_not_reach_the_terminal():
    out = printed(tinted(["\x1b[2J", "[bold]", "\x07", "\x9b31m"], [0.1, 1.0, 1.9, 0.2]), **IN_COLOUR)
    assert "\x1b[2J" not in out
    assert not {"\x07", "\x9b"} & set(out)
    assert "[bold]" in out
    assert "\\x1b" in out


@pytest.mark.parametrize("field", ["model", "strategy"])
def test_nor_do_those_of_a_header(field):
    out = printed(trace([token("a")], **{field: "m\x1b]0;title\x07[red]x"}), **IN_COLOUR)
    assert "\x1b]0" not in out
    assert "[red]x" in out


def test_temperatures_have_different_colours():
    styles = {str(span.style) for span in tinted(["a", "b", "c"], [0.0, 1.0, 2.0]).spans}
    assert len(styles) == 3
    assert "0.9" in legend().plain


def test_a_pipe_gets_the_text_alone():
    text = "one long line " * 30
    assert printed(trace([token(text), token("\n"), token("[i]two")])) == f"{text}\n[i]two\n"


def test_no_color_drops_colour_and_keeps_the_text(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = printed(trace([token("Hello", temperature=0.5), token(" you", temperature=1.5)]), force_terminal=True)
    assert "Hello you" in out
    assert "2 tokens · mean T 1.00 · mean P 0.90" in out
    assert "38;" not in out
    assert "48;" not in out


def test_the_table_says_in_numbers_what_the_tint_says():
    rows = printed(token_table(trace([token(" a\n", temperature=0.25), token("", partial_bytes="f09f")]))).splitlines()
    assert rows[1].split()[:4] == ["1", "a↵", "0.25", "0.90"]
    assert "<f0 9f>" in rows[2]


def test_the_table_has_dashes_for_what_a_server_does_not_say():
    served = TracedToken(token_id=1, text="a", temperature=0.25, top_p=0.9, entropy=1.5)
    rows = printed(token_table(trace([served]))).splitlines()
    assert rows[1].split() == ["1", "a", "0.25", "0.90", "–", "–", "1.50", "–", "–", "–"]
