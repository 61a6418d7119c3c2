"""``autodeco serve`` as a process: requests of an OpenAI client, options, traces, and how it ends."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
import httpx
from tests.integration.servers import API_KEY, KEY, started

from autodeco.playground.draw import draw
from autodeco.playground.request import Request, Way
from autodeco.playground.server import ServerModel

FLAGS = ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager"]
FLAGS += ["--kv-cache-memory-bytes", str(1 << 27), "--max-num-batched-tokens", "256"]


@pytest.fixture(scope="module")
def server(tiny_checkpoints, tmp_path_factory):
    url, process, log = started(tiny_checkpoints["heads"], FLAGS, tmp_path_factory.mktemp("server") / "log.txt")
    yield url, process, log
    process.kill()


def complete(url, **options):
    body = {"model": "heads", "prompt": "once upon", "max_tokens": 8, "ignore_eos": True, **options}
    return httpx.post(f"{url}/v1/completions", json=body, headers=KEY, timeout=60)


def test_a_request_without_sampling_parameters(server):
    answer = complete(server[0])
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 8


def test_a_chat(server):
    body = {"model": "heads", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    answer = httpx.post(f"{server[0]}/v1/chat/completions", json=body, headers=KEY, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"


def test_a_stream_and_a_client_that_goes_away(server):
    body = {"model": "heads", "prompt": "once", "max_tokens": 100, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server[0]}/v1/completions", json=body, headers=KEY, timeout=60) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    assert complete(server[0]).status_code == 200


def test_a_trace_is_handed_out_once(server):
    url = server[0]
    assert complete(url, vllm_xargs={"autodeco_trace": "mine"}).status_code == 200
    trace = httpx.get(f"{url}/v1/autodeco/traces/mine", headers=KEY)
    assert trace.status_code == 200, f"{trace.text}\n{server[2].read_text()[-4000:]}"
    tokens = trace.json()["tokens"]
    assert len(tokens) == 8
    assert all(0 < token["temperature"] < 2 and 0 < token["top_p"] < 1 for token in tokens)
    assert httpx.get(f"{url}/v1/autodeco/traces/mine", headers=KEY).status_code == 404
    assert httpx.get(f"{url}/v1/autodeco/traces/mine").status_code == 401


def test_a_trace_where_the_worker_has_no_process_of_its_own(tiny_checkpoints, tmp_path):
    """As on a single GPU: vLLM changes its configuration's identity after the model was built."""
    log = tmp_path / "log.txt"
    url, process, _ = started(tiny_checkpoints["heads"], FLAGS, log, VLLM_ENABLE_V1_MULTIPROCESSING="0")
    try:
        assert complete(url, vllm_xargs={"autodeco_trace": "mine"}).status_code == 200
        trace = httpx.get(f"{url}/v1/autodeco/traces/mine", headers=KEY)
        assert trace.status_code == 200, f"{trace.text}\n{log.read_text()[-4000:]}"
        assert len(trace.json()["tokens"]) == 8
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"vllm_xargs": {"autodeco_max_temperature": -1}}, 400),
        ({"vllm_xargs": {"autodeco_temprature": 1}}, 400),
        ({"max_tokens": "many"}, 400),
        ({"prompt": "x" * 2000}, 400),
        ({"model": "another"}, 404),
    ],
)
def test_bad_requests_are_refused_and_the_server_goes_on(server, options, status):
    assert complete(server[0], **options).status_code == status
    assert complete(server[0]).status_code == 200


def test_the_playground_answers_with_it(server):
    model = ServerModel.connect(server[0], api_key=API_KEY)
    request = Request("hi", [Way("autodeco"), Way("default"), Way("greedy")], max_new_tokens=6, seed=1)
    *_, answers = draw(model, model.fit(request), threading.Event())
    assert all(1 <= len(answer.trace.tokens) <= 6 for answer in answers)
    heads, default, _ = (answer.trace.tokens for answer in answers)
    assert all(0 < token.temperature < 2 and 0 < token.top_p < 1 for token in heads)
    assert all(token.temperature == token.top_p == 1 for token in default)


def test_without_the_key_nothing_is_served(server):
    assert httpx.post(f"{server[0]}/v1/completions", json={"model": "heads", "prompt": "x"}).status_code == 401


def test_metrics(server):
    assert "vllm:generation_tokens_total" in httpx.get(f"{server[0]}/metrics").text


def worker_of(process):
    """The engine's worker: the last of the processes below the server."""
    import psutil

    return max(psutil.Process(process.pid).children(recursive=True), key=lambda child: child.memory_info().rss)


def test_it_ends_when_asked_to(server):
    _, process, log = server
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0, log.read_text()[-2000:]


def test_a_killed_worker_gives_clients_an_error_and_the_server_a_status(tiny_checkpoints, tmp_path):
    url, process, log = started(tiny_checkpoints["heads"], FLAGS, tmp_path / "log.txt")
    try:
        assert complete(url).status_code == 200
        worker_of(process).kill()
        with contextlib.suppress(httpx.TransportError):  # gone already
            assert complete(url).status_code >= 500
        assert process.wait(timeout=60) == 1, log.read_text()[-2000:]
    finally:
        process.kill()
