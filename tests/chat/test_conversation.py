"""A conversation: what reaches the model, and what stays when something goes wrong."""

import pytest
import torch

from autodeco.chat.conversation import ChatSettings, Conversation
from autodeco.errors import ConfigError, DataError
from tests.conftest import byte_tokenizer, tiny_autodeco


def conversation(tokenizer=None, *, context=4096, system=None, **settings):
    tokenizer = tokenizer or byte_tokenizer()
    model = tiny_autodeco(vocab_size=len(tokenizer), max_position_embeddings=context)
    model.generation_config.eos_token_id = None  # answers are as long as they may be
    return Conversation(model, tokenizer, ChatSettings(**{"max_new_tokens": 6, **settings}), system=system, name="tiny")


def nothing(_):
    pass


def prompt_of(turn):
    return byte_tokenizer().decode(turn.answer.prompt_ids)


def test_the_prompt_holds_system_message_and_history():
    spoken = conversation(system="Be kind.")
    first = spoken.text(spoken.say("One", nothing))
    spoken.say("Two", nothing)
    assert prompt_of(spoken.turns[1]).removeprefix("<s>") == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nOne<|im_end|>\n"
        f"<|im_start|>assistant\n{first}<|im_end|>\n<|im_start|>user\nTwo<|im_end|>\n<|im_start|>assistant\n"
    )


def test_retry_replaces_the_answer_with_one_of_another_seed():
    spoken = conversation()
    first = spoken.say("One", nothing)
    second = spoken.retry(nothing)
    assert (first.seed, second.seed) == (0, 1)
    assert first.prompt_ids == second.prompt_ids
    assert [turn.answer for turn in spoken.turns] == [second]


def test_compare_draws_from_the_same_prompt_and_seed_and_leaves_the_history():
    spoken = conversation()
    answer = spoken.say("One", nothing)
    turn = spoken.compare("default", nothing)
    assert turn.answer is answer
    assert (turn.compared.prompt_ids, turn.compared.seed) == (answer.prompt_ids, answer.seed)
    assert {(token.temperature, token.top_p) for token in turn.compared.tokens} == {(1.0, 1.0)}
    assert spoken.compare("autodeco", nothing).compared == answer


def test_traces_are_of_both_answers():
    spoken = conversation()
    spoken.say("One", nothing)
    spoken.compare("static:temperature=0.5", nothing)
    traces = spoken.traces()
    assert [trace.header.strategy for trace in traces] == ["autodeco", "static:temperature=0.5"]
    assert traces[0].header.settings == {"seed": 0, "temperature_factor": 1.0}
    for trace, answer in zip(traces, (spoken.turns[0].answer, spoken.turns[0].compared), strict=True):
        assert [token.token_id for token in trace.tokens] == [token.token_id for token in answer.tokens]
        recorded = [token.temperature for token in answer.tokens]
        assert [token.temperature for token in trace.tokens] == pytest.approx(recorded, abs=1e-4)


def test_a_stopped_answer_counts_and_one_without_tokens_does_not():
    spoken = conversation()
    before = []

    def stop_at_two(token):
        before.append(token)
        if len(before) == 2:
            raise KeyboardInterrupt

    answer = spoken.say("One", stop_at_two)
    assert answer.stopped
    assert answer.tokens == before
    spoken.say("Two", nothing)
    assert "One" in prompt_of(spoken.turns[1])
    spoken._model.forward = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    assert spoken.say("Three", nothing).tokens == []
    assert [turn.message for turn in spoken.turns] == ["One", "Two"]


def test_a_prompt_longer_than_the_context_changes_nothing():
    spoken = conversation(context=128)
    spoken.say("One", nothing)
    with pytest.raises(DataError, match=r"reads at most 128.*unchanged"):
        spoken.say("x" * 100_000, nothing)
    assert [turn.message for turn in spoken.turns] == ["One"]
    spoken.turns.clear()
    spoken.say("Two", nothing)


def test_an_answer_ends_where_the_context_does():
    spoken = conversation(context=64, max_new_tokens=1000)
    answer = spoken.say("One", nothing)
    assert len(answer.prompt_ids) + len(answer.tokens) == 64


def test_memory_that_does_not_suffice_changes_nothing(monkeypatch):
    spoken = conversation()
    answer = spoken.say("One", nothing)
    with monkeypatch.context() as patch:
        failing = torch.OutOfMemoryError("out of memory")
        patch.setattr(spoken._model, "forward", lambda *_, **__: (_ for _ in ()).throw(failing))
        for draw in (lambda: spoken.say("Two", nothing), lambda: spoken.retry(nothing)):
            with pytest.raises(ConfigError, match="memory does not suffice"):
                draw()
    assert [turn.answer for turn in spoken.turns] == [answer]
    assert spoken.say("Two", nothing).tokens


def test_templates():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        conversation(tokenizer)
    tokenizer.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    spoken = conversation(tokenizer, system="Be kind.")
    with pytest.raises(DataError, match="no system"):
        spoken.say("One", nothing)
    spoken.system = None
    assert spoken.say("One", nothing).tokens


def test_nothing_to_retry_compare_or_trace():
    spoken = conversation()
    for refused in (lambda: spoken.retry(nothing), lambda: spoken.compare("default", nothing), spoken.traces):
        with pytest.raises(DataError, match="nothing has been answered"):
            refused()
    with pytest.raises(ConfigError, match="Did you mean"):
        conversation(strategy="defualt")
