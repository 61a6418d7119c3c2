from rich.console import Console

from autodeco.trace.terminal import legend, tinted, token_pieces, visible
from tests.conftest import byte_tokenizer


def test_pieces_join_to_the_text_and_never_split_a_character():
    tokenizer = byte_tokenizer()
    ids = tokenizer("añ€x", add_special_tokens=False).input_ids
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == "añ€x"
    assert pieces == ["a", "", "ñ", "", "", "€", "x"]


def test_escape_sequences_of_a_model_do_not_reach_the_terminal():
    console = Console(force_terminal=True, color_system="truecolor", record=True, width=80)
    text = tinted(["\x1b[2J", "[bold]", "\x07"], [0.1, 1.0, 1.9])
    with console.capture() as capture:
        console.print(text)
    shown = capture.get()
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "[bold]" in shown
    assert visible("\x1b[31m") == "\\x1b[31m"


def test_temperatures_have_different_colours():
    styles = {str(span.style) for span in tinted(["a", "b", "c"], [0.0, 1.0, 2.0]).spans}
    assert len(styles) == 3
    assert "0.9" in legend().plain
