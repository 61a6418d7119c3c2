import struct

import pytest

from autodeco.control.comparison import Decoded, decode_versions, published_commands
from autodeco.control.figure import draw_panels
from autodeco.errors import ConfigError, DataError
from tests.conftest import tiny_autodeco, tiny_llama


@pytest.fixture
def model(tokenizer):
    return tiny_autodeco(vocab_size=len(tokenizer), max_position_embeddings=512)


def test_versions_come_in_order_with_their_traces(model, tokenizer):
    found = decode_versions(model, tokenizer, "Name a bird.", published_commands(), max_new_tokens=12)
    assert [one.name for one in found] == ["none", "low", "high"]
    assert found[0].command is None
    assert found[2].command == "I hope the answers can be more innovative and diverse"
    for one in found:
        assert len(one.pieces) == len(one.temperature) == len(one.top_p) == len(one.entropy) <= 12
        assert "".join(one.pieces).startswith(one.text[:3])
    assert found[0].mean_temperature == pytest.approx(sum(found[0].temperature) / len(found[0].temperature))
    assert decode_versions(model, tokenizer, "Name a bird.", published_commands(), max_new_tokens=12) == found


@pytest.mark.parametrize(
    ("prompt", "commands", "position", "message"),
    [
        (" ", {"low": "Be calm."}, "after", "the prompt is empty"),
        ("Hello.", {"low": ""}, "after", "the command 'low' is empty"),
        ("Hello.", {"low": "Be calm."}, "under", "unknown position 'under'"),
    ],
)
def test_what_cannot_be_decoded(model, tokenizer, prompt, commands, position, message):
    with pytest.raises(DataError, match=message):
        decode_versions(model, tokenizer, prompt, commands, position=position)


def test_a_model_without_heads(tokenizer):
    with pytest.raises(ConfigError, match="needs decoding heads"):
        decode_versions(tiny_llama(vocab_size=len(tokenizer)), tokenizer, "Hello.", {"low": "Be calm."})


VERSIONS = [
    Decoded("none", None, "a b", ["a", " b"], [0.7, 0.9], [0.8, 0.6], [1.0, 1.0]),
    Decoded("low", "Be calm." * 40, "a", ["a"], [0.5], [0.4], [0.2]),
    Decoded("high", "<Go> & wild", "a b c", ["a", " b", " c"], [1.2, 1.3, 1.1], [0.9, 0.9, 0.9], [2.0, 2.0, 2.0]),
]


def test_a_figure_has_a_panel_for_each_version(tmp_path):
    pytest.importorskip("vl_convert")
    draw_panels(VERSIONS, tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert all(f"mean T {mean}, mean P" in svg for mean in ("0.80", "0.50", "1.20"))
    assert "no command  (mean T 0.80, mean P 0.70)" in svg
    assert "&lt;Go&gt; &amp; wild" in svg
    assert "…" in svg
    draw_panels(VERSIONS, tmp_path / "figure.png")
    content = (tmp_path / "figure.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 600
    assert height > 400


def test_other_kinds_of_figures_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"written as \.svg or \.png, found '\.pdf'"):
        draw_panels(VERSIONS, tmp_path / "figure.pdf")
    assert not list(tmp_path.iterdir())
