"""Answers of a server: what is asked of it, what is made of what it says, and how it fails."""

import subprocess
import sys
import threading

import pytest

from autodeco.errors import ConfigError, ServerError
from autodeco.playground.draw import draw
from autodeco.playground.request import Request, Way
from autodeco.playground.server import ServedToken, ServerModel, _tokens
from autodeco.trace.format import read_trace, write_trace
from autodeco.trace.page import render_page
from tests.integration.servers import free_port
from tests.playground.fake_server import WORDS, fake_server

STATIC = Way("static:temperature=0.6,top_p=0.95,top_k=20")


@pytest.fixture
def served():
    """Starts servers and connects to them."""
    contexts = []

    def serve(**settings):
        contexts.append(fake_server(**settings))
        server = contexts[-1].__enter__()
        return server, ServerModel.connect(server.url, api_key=server.key)

    yield serve
    for context in contexts:
        context.__exit__(None, None, None)


def answers_of(model, *ways, stop=None):
    *_, answers = draw(model, model.fit(Request("Hi", ways, seed=3, max_new_tokens=9)), stop or threading.Event())
    return answers


def test_what_is_asked(served):
    server, model = served()
    answers_of(model, Way(), Way("default"), STATIC, Way("greedy"))
    common = {"model": "heads", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "seed": 3}
    common |= {"stream": True, "return_token_ids": True, "logprobs": True}
    names = [body["vllm_xargs"].pop("autodeco_trace") for body in server.asked]
    assert len(set(names)) == 4
    bare = {"vllm_xargs": {"autodeco": 0}}
    assert server.asked == [
        {**common, "vllm_xargs": {}},
        {**common, **bare, "temperature": 1.0, "top_p": 1.0},
        {**common, **bare, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0},
        {**common, "vllm_xargs": {}, "temperature": 0},
    ]
    assert server.kept == {}  # all traces were fetched


def test_traces_hold_what_the_server_says_and_no_more(served, tmp_path):
    heads, default, static = (answer.trace for answer in answers_of(served()[1], Way(), Way("default"), STATIC))
    assert heads.text == "".join(WORDS)
    assert [token.temperature for token in heads.tokens] == [0.0, 0.2, 0.4, 0.6, 0.8]
    second = heads.tokens[1]
    assert (second.token_id, second.top_p, second.entropy) == (1, 0.5, 1.25)
    assert (second.base_entropy, second.probability, second.rank, second.alternatives) == (None, None, None, ())
    first = default.tokens[0]
    assert (first.temperature, first.top_p, first.base_entropy, first.entropy) == (1.0, 1.0, 1.25, 1.25)
    first = static.tokens[0]
    assert (first.temperature, first.top_p, first.base_entropy, first.entropy) == (0.6, 0.95, 1.25, None)
    write_trace(tmp_path / "kept.jsonl", heads)
    assert read_trace(tmp_path / "kept.jsonl") == heads
    assert "upon" in render_page([heads, default, static])


@pytest.mark.parametrize("per_part", [1, 2, 5])
def test_parts_of_several_tokens(served, per_part):
    (answer,) = answers_of(served(per_part=per_part)[1], Way())
    assert [token.text for token in answer.tokens] == WORDS
    assert [token.token_id for token in answer.tokens] == [0, 1, 2, 3, 4]


def test_a_character_of_several_tokens_belongs_to_the_last():
    pieces = [{"token": "\ufffd"}, {"token": "\ufffd"}]
    choice = {"delta": {"content": "é"}, "token_ids": [5, 6], "logprobs": {"content": pieces}}
    assert _tokens(choice) == [ServedToken("", 5), ServedToken("é", 6)]
    assert _tokens({"delta": {"content": None, "reasoning_content": "Hm"}}) == [ServedToken("Hm")]
    assert _tokens({"delta": {}}) == []


def test_a_server_that_gives_text_alone(served):
    server, model = served(traces=False)
    answers = answers_of(model, Way(), Way("greedy"))
    assert [token.text for token in answers[0].tokens] == WORDS
    assert [answer.trace for answer in answers] == [None, None]
    common = {"model": "heads", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "seed": 3}
    assert server.asked == [{**common, "stream": True}, {**common, "stream": True, "temperature": 0}]
    assert "text alone" in model.notice
    with pytest.raises(ConfigError, match=r"cannot decode with 'default'.*autodeco and greedy alone"):
        model.fit(Request("Hi", [Way("default")]))


def test_what_no_server_can_do(served):
    _, model = served()
    with pytest.raises(ConfigError, match="cannot decode with 'p-less'"):
        model.fit(Request("Hi", [Way("p-less")]))
    with pytest.raises(ConfigError, match="'decoding'"):
        model.fit(Request("Hi", [Way(decoding="certain")]))


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("dies", r"127\.0\.0\.1:\d+ went away .*Is the server still running"),
        ("ends", "ended the answer before its end"),
        ("in the midst", 'failed in the midst of the answer: .*CUDA "out" of memory'),
    ],
)
def test_a_server_that_fails_in_mid_stream(served, fails, message):
    _, model = served(fails=fails)
    drawing = draw(model, Request("Hi", [Way()]), threading.Event())
    answers = next(drawing)
    with pytest.raises(ServerError, match=message):
        list(drawing)
    assert [token.text for token in answers[0].tokens] == WORDS[:2]


def test_a_server_that_refuses(served):
    server, model = served(fails="500")
    with pytest.raises(ServerError, match=r"/v1/chat/completions answers with status 500: out of <memory>"):
        answers_of(model, Way())
    server.fails, server.key = None, "another"
    with pytest.raises(ServerError, match=r"wants an API key \(status 401\): .* --api-key"):
        answers_of(model, Way())


def test_a_trace_that_is_not_of_the_answer(served):
    server, model = served()
    (answer,) = answers_of(model, Way())
    request, name = Request("Hi", [Way()]), answer.tokens[0].trace
    with pytest.raises(ServerError, match="there is no trace"):
        model.trace(request, Way(), answer.tokens)
    server.kept[name] = [{"temperature": 1.0, "top_p": 0.5, "entropy": 1.0}]
    with pytest.raises(ServerError, match="gave 5 tokens, and its trace of them has 1"):
        model.trace(request, Way(), answer.tokens)
    server.kept[name] = [{"temperature": "hot"}] * 5
    with pytest.raises(ServerError, match="cannot be read"):
        model.trace(request, Way(), answer.tokens)


def test_stopped_ends_the_request_and_traces_what_there_is(served):
    server, model = served(words=["a"] * 20_000, pause=0.01)
    stop = threading.Event()
    for answers in draw(model, Request("Hi", [Way()]), stop):
        if len(answers[0].tokens) >= 3:
            stop.set()
    assert 3 <= len(answers[0].tokens) < 20_000
    assert len(answers[0].trace.tokens) == len(answers[0].tokens)
    assert server.streams_cut.wait(60)


def test_stopped_while_the_server_is_silent(served):
    _, model = served(pause=120)
    stop = threading.Event()
    stop.set()
    (answer,) = answers_of(model, Way(), stop=stop)
    assert answer.tokens == []
    threading.Timer(0.5, (stop := threading.Event()).set).start()
    (answer,) = answers_of(model, Way(), stop=stop)  # ends long before the first token
    assert answer.tokens == []


def test_names_of_models(served):
    server, model = served()
    assert model.name == "heads"
    assert ServerModel.connect(f"{server.url}/v1/", "adapter").name == "adapter"
    with pytest.raises(ConfigError, match=r"no model 'adaptor'. Did you mean 'adapter'\?"):
        ServerModel.connect(server.url, "adaptor")


def test_keys(served):
    server, model = served(key="secret")
    assert answers_of(model, Way())[0].trace is not None
    with pytest.raises(ServerError, match="wants an API key"):
        ServerModel.connect(server.url)
    with pytest.raises(ServerError, match="refuses the API key") as refused:
        ServerModel.connect(server.url, api_key="wrong")
    assert "wrong" not in str(refused.value)
    with pytest.raises(ServerError, match="refuses the API key"):
        ServerModel.connect(server.url, api_key="clé")
    with pytest.raises(ConfigError, match="cannot be sent") as refused:
        ServerModel.connect(server.url, api_key="wrong\nkey")
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "", "http://", "http://\n", "http://u:p@host"])
def test_urls_that_are_none(url):
    with pytest.raises(ConfigError):
        ServerModel.connect(url)


def test_servers_that_are_none(served):
    with pytest.raises(ServerError, match=r"nothing answers at http://127.0.0.1:\d+ .*autodeco serve"):
        ServerModel.connect(f"http://127.0.0.1:{free_port()}")
    server, _ = served()
    server.models = []
    with pytest.raises(ServerError, match="lists no model"):
        ServerModel.connect(server.url)
    with pytest.raises(ServerError, match="status 404: Not Found"):
        ServerModel.connect(f"{server.url}/elsewhere")


@pytest.mark.parametrize("key", [None, "secret"])
def test_the_script_asks_the_same(served, tmp_path, key, monkeypatch):
    server, model = served(key=key)
    if key is not None:
        monkeypatch.setenv("VLLM_API_KEY", key)
    request = Request('It\'s "{so}"', [Way(), STATIC], seed=4)
    (tmp_path / "run.py").write_text(model.script(request), encoding="ascii")
    assert "secret" not in model.script(request)
    command = [sys.executable, tmp_path / "run.py"]
    done = subprocess.run(command, capture_output=True, timeout=300, check=True, text=True)
    assert done.stdout == 2 * ("".join(WORDS) + "\n")
    assert server.asked == [model.body(request, way) for way in request.ways]
