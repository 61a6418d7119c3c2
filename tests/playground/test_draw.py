"""Answers as they are drawn: the tokens of a plain ``generate``, stopped or not, with their traces."""

import threading
import time

import pytest
import torch

from autodeco.errors import ConfigError, DataError
from autodeco.playground.draw import draw
from autodeco.playground.model import LocalModel
from autodeco.playground.request import Request, Way
from tests.conftest import byte_tokenizer, tiny_autodeco
from tests.playground.models import Scripted, tiny_model

WAYS = [Way(), Way(decoding="certain"), Way("static:temperature=0.7,top_p=0.9")]


@pytest.fixture(scope="module")
def local_model():
    return tiny_model()


def last(model, request, stop=None):
    *_, answers = draw(model, request, stop or threading.Event())
    return answers


def test_answers_are_those_of_generate(local_model):
    request = local_model.fit(Request("Hi", WAYS, max_new_tokens=12, seed=3))
    answers = last(local_model, request)
    model, ids = local_model._model, torch.tensor([local_model.prompt_ids(request)])

    def plain(**options):
        torch.manual_seed(3)
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, **options)
        return out[0, ids.shape[1] :].tolist()

    expected = [plain(), plain(decoding="certain")]
    with model.decode_with("static:temperature=0.7,top_p=0.9"):
        expected.append(plain())
    assert [[token.token_id for token in answer.tokens] for answer in answers] == expected
    assert [answer.trace.header.strategy for answer in answers] == [way.name for way in WAYS]
    for answer in answers:
        for streamed, traced in zip(answer.tokens, answer.trace.tokens, strict=True):
            assert traced.temperature == pytest.approx(streamed.temperature, abs=1e-4)
            assert traced.top_p == pytest.approx(streamed.top_p, abs=1e-4)


def test_tokens_come_one_after_the_other():
    seen = [len(answers[0].tokens) for answers in draw(Scripted("abcd", pause=0.05), Request("Hi", [Way()]), _never())]
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_stopped_keeps_what_there_is():
    stop = threading.Event()
    for answers in draw(Scripted("a" * 2000, pause=0.01), Request("Hi", [Way(), Way("default")]), stop):
        if len(answers[0].tokens) >= 3:
            stop.set()
    first, second = answers
    assert 3 <= len(first.tokens) < 1000
    assert len(first.trace.tokens) == len(first.tokens)
    assert second.tokens == []
    assert second.trace is None


def test_a_generation_that_nobody_waits_for_ends():
    before = set(threading.enumerate())
    drawing = draw(Scripted("a" * 100_000, pause=0.01), Request("Hi", [Way()]), _never())
    next(drawing)
    drawing.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_failures_reach_who_asked():
    with pytest.raises(ConfigError, match="went away"):
        last(Scripted("abcdef", fails_after=3), Request("Hi", [Way()]))
    with pytest.raises(ConfigError, match="at most 2"):
        last(_with_tokenizer(tiny_autodeco), Request("Hi", [Way(decoding={"temperature": 9})]))


def test_a_prompt_longer_than_the_context(local_model):
    with pytest.raises(DataError, match=r"The prompt is 102,4\d\d tokens, and this model reads at most 2,048"):
        local_model.fit(Request("x" * 102_400, [Way()]))
    assert local_model.fit(Request("x" * 2000, [Way()], max_new_tokens=500)).max_new_tokens < 50


def test_a_model_without_heads(base_folder):
    model = LocalModel.load(str(base_folder))
    assert not model.has_heads
    with pytest.raises(ConfigError, match="has no heads, which 'autodeco' needs"):
        model.fit(Request("Hi", [Way()]))
    request = model.fit(Request("Hi", [Way("default")], max_new_tokens=3))
    assert len(last(model, request)[0].trace.tokens) == 3


def test_a_template_that_refuses(local_model):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    with pytest.raises(DataError, match=r"refuses this conversation \(no system message\)"):
        LocalModel(local_model._model, tokenizer, "tiny").fit(Request("Hi", [Way()]))


def test_requests_take_turns(local_model):
    request = local_model.fit(Request("Hi", [Way(), Way("greedy")], max_new_tokens=30, seed=1))
    alone = [[token.token_id for token in answer.tokens] for answer in last(local_model, request)]
    found = [None] * 3

    def ask(index):
        found[index] = [[token.token_id for token in answer.tokens] for answer in last(local_model, request)]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert found == [alone] * 3


def _never() -> threading.Event:
    return threading.Event()


def _with_tokenizer(make):
    tokenizer = byte_tokenizer()
    return LocalModel(make(vocab_size=len(tokenizer)), tokenizer, "tiny")
