"""Texts of tokens: split characters, leading spaces, and characters that steer, hide or reorder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autodeco.trace.text import Vocabulary, shown, token_pieces, visible
from tests.conftest import byte_tokenizer

TOKENIZER = byte_tokenizer()


def byte_ids(data: bytes) -> list[int]:
    letters = {byte: letter for letter, byte in _letters().items()}
    return TOKENIZER.convert_tokens_to_ids([letters[byte] for byte in data])


def _letters():
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """A vocabulary like Llama 2's: spaces as ▁, bytes as <0x..>, and a decoder that drops the first space."""
    words = ["<unk>", "▁the", "▁a", "b", "▁", "a", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_a_character_belongs_to_the_token_that_completes_it():
    assert token_pieces(TOKENIZER, byte_ids("añ€x".encode())) == ["a", "", "ñ", "", "", "€", "x"]


def test_bytes_that_never_become_a_character_belong_to_the_last_token():
    assert token_pieces(TOKENIZER, byte_ids(b"a\xe2\x82")) == ["a", "", "\ufffd"]


def test_spaces_of_vocabularies_that_drop_the_first_one():
    tokenizer = sentencepiece_like()
    ids = tokenizer.convert_tokens_to_ids(["▁the", "▁a", "b", "▁the", "<0xC3>", "<0xB1>", "▁a"])
    assert token_pieces(tokenizer, ids) == ["the", " a", "b", " the", "", "ñ", " a"]


def test_a_tokenizer_whose_text_changes_backwards():
    class Joining:  # drops a space before a full stop, as clean-up does
        def decode(self, ids, **_):
            return "".join({1: "Yes", 2: " ", 3: "."}[token_id] for token_id in ids).replace(" .", ".")

    assert "".join(token_pieces(Joining(), [1, 2, 3, 2, 1])) == "Yes. Yes"


@given(st.lists(st.integers(0, 255) | st.sampled_from(list("€😀\u202eשש\ufffd".encode())), max_size=40))
def test_pieces_of_any_bytes_join_to_the_decoded_text(data):
    ids = byte_ids(bytes(data))
    pieces = token_pieces(TOKENIZER, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids, clean_up_tokenization_spaces=False)


@given(st.text(max_size=20))
def test_pieces_of_any_text_join_to_it(text):
    ids = byte_ids(text.encode())
    assert "".join(token_pieces(TOKENIZER, ids)) == text


@pytest.mark.real_model
def test_pieces_of_a_real_vocabulary(smollm2):
    from autodeco.serving.load import load_tokenizer

    tokenizer = load_tokenizer(smollm2)
    text = "<|im_start|>user\nשלום, 你好 👩‍👩‍👧 naïve\u2028 don't !<|im_end|>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = token_pieces(tokenizer, ids)
    assert "".join(pieces) == text
    vocabulary = Vocabulary(tokenizer)
    assert [vocabulary.is_special(ids[0]), vocabulary.is_special(ids[1]), vocabulary.is_special(ids[-1])] == [1, 0, 1]
    assert vocabulary.text(tokenizer.encode("a the")[-1]) == " the"
    whole = b"".join(vocabulary.partial_bytes(one) or vocabulary.text(one).encode() for one in ids)
    assert whole.decode() == text


def test_a_token_by_itself():
    vocabulary = Vocabulary(TOKENIZER)
    first, last = byte_ids("é".encode())
    assert vocabulary.partial_bytes(first) == b"\xc3"
    assert vocabulary.partial_bytes(last) == b"\xa9"
    assert vocabulary.partial_bytes(byte_ids(b"a")[0]) is None
    assert vocabulary.is_special(TOKENIZER.eos_token_id)
    fallback = sentencepiece_like()
    others = Vocabulary(fallback)
    assert others.text(fallback.convert_tokens_to_ids("▁the")) == " the"
    assert others.partial_bytes(fallback.convert_tokens_to_ids("<0xE2>")) == b"\xe2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u200bb\u200d\ufeff", "a\\u200bb\\u200d\\ufeff"),  # zero-width
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),  # reorders what follows
        ("\u2028\u2029\x85\r", "\\u2028\\u2029\\x85\\r"),  # line ends that are no newline
        ("\U000e0041\u3164\U000e0100", "\\U000e0041\\u3164\\U000e0100"),  # takes no room
        ("\ud800", "\\ud800"),  # half of a surrogate pair
        (
            "é e\u0301 שלום مرحبا 你好 ＡＢ 👍🏽 ❤️ \u00a0\u3000|\n\t",
            "é e\u0301 שלום مرحبا 你好 ＡＢ 👍🏽 ❤️ \u00a0\u3000|\n\t",
        ),
    ],
)
def test_what_steers_hides_or_reorders_is_shown_and_letters_stay(text, expected):
    assert visible(text) == expected


@given(st.text())
def test_nothing_invisible_is_left(text):
    assert all(character in "\n\t" or character.isprintable() or character.isspace() for character in visible(text))
    assert not {"\x1b", "\x9b", "\r", "\x00", "\u202e", "\u200b"} & set(visible(text))


def test_a_token_shown_in_one_line():
    assert shown(" a\n\t") == " a↵⇥"
    assert shown("\ufffd", "e282") == "<e2 82>"
