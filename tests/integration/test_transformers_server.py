"""``autodeco serve`` on Transformers' own server, as a process: what it answers is what ``generate`` gives."""

from __future__ import annotations

import signal
import threading

import pytest
import torch

pytest.importorskip("fastapi", reason="needs pip install 'autodeco[serve]'")
import httpx
from tests.conftest import byte_tokenizer, tiny_llama
from tests.integration.servers import KEY, started

from autodeco import AutoDecoForCausalLM
from autodeco.playground.draw import draw
from autodeco.playground.request import Request, Way
from autodeco.playground.server import ServerModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    AutoDecoForCausalLM.from_base(str(folder / "base")).save_pretrained(folder / "heads")
    return folder


@pytest.fixture(scope="module")
def server(folders):
    url, process, log = started(
        folders / "heads", ["--engine", "transformers", "--dtype", "float32"], folders / "log.txt"
    )
    yield url, process, log
    process.kill()


def complete(url, **options):
    body = {"model": "heads", "prompt": "once upon", "max_tokens": 8, **options}
    return httpx.post(f"{url}/v1/completions", json=body, headers=KEY, timeout=60)


def test_greedy_answers_are_those_of_generate(server, folders):
    model = AutoDecoForCausalLM.from_pretrained(folders / "heads", dtype="float32")
    tokenizer = byte_tokenizer()
    inputs = tokenizer("once upon", return_tensors="pt")
    expected = model.generate(
        input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=8, do_sample=False
    )
    text = tokenizer.decode(expected[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    assert complete(server[0], temperature=0).json()["choices"][0]["text"] == text


def test_sampling_repeats_with_a_seed_and_needs_no_parameters(server):
    one, two, other = (complete(server[0], seed=seed).json()["choices"][0]["text"] for seed in (1, 1, 2))
    assert one == two != other
    assert complete(server[0]).json()["usage"]["completion_tokens"] <= 8


def test_a_chat_and_a_stream(server):
    body = {"model": "heads", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    url = f"{server[0]}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=KEY, timeout=60)
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    with httpx.stream("POST", url, json={**body, "stream": True}, headers=KEY, timeout=60) as stream:
        assert any(line.startswith("data: ") for line in stream.iter_lines())


@pytest.mark.parametrize(
    ("options", "status"),
    [({"temperature": "hot"}, 400), ({"prompt": 3}, 400), ({"model": "another"}, 400), ({"unheard_of": 1}, 422)],
)
def test_bad_requests_are_refused_and_the_server_goes_on(server, options, status):
    assert complete(server[0], **options).status_code == status
    assert complete(server[0]).status_code == 200


def test_the_key_guards_the_api_and_nothing_unloads_the_model(server):
    url = server[0]
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert [model["id"] for model in httpx.get(f"{url}/v1/models", headers=KEY).json()["data"]] == ["heads"]
    assert httpx.post(f"{url}/reset", headers=KEY).status_code == 404


def test_the_playground_decodes_with_it(server):
    model = ServerModel.connect(server[0], api_key="secret")
    assert model.name == "heads"
    request = Request("once upon", [Way(), Way("greedy")], max_new_tokens=8, seed=1)
    *_, answers = draw(model, model.fit(request), threading.Event())
    for answer, options in zip(answers, ({"seed": 1}, {"temperature": 0}), strict=True):
        body = {"model": "heads", "messages": request.messages, "max_tokens": 8, **options}
        reply = httpx.post(f"{server[0]}/v1/chat/completions", json=body, headers=KEY, timeout=60).json()
        whole = reply["choices"][0]["message"]["content"].rstrip("\ufffd")  # a stream leaves half a character out
        assert "".join(token.text for token in answer.tokens) == whole
        assert answer.trace is None


def test_metrics(server):
    complete(server[0])
    assert 'handler="/v1/completions"' in httpx.get(f"{server[0]}/metrics").text


def test_it_ends_when_asked_to(server):
    _, process, log = server
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0, log.read_text()[-2000:]
