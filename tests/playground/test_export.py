"""What is handed out: traces that can be read, and Python that draws the same text."""

import ast
import subprocess
import sys
import threading

import pytest

from autodeco import AutoDecoForCausalLM
from autodeco.playground.draw import Answer, draw
from autodeco.playground.export import server_script, write_files
from autodeco.playground.model import LocalModel
from autodeco.playground.request import Request, Way
from autodeco.trace.format import read_trace
from tests.playground.models import tiny_model
from tests.trace.test_page import NASTY
from tests.trace.traces import token, trace


@pytest.fixture(scope="module")
def local_model():
    return tiny_model()


@pytest.mark.parametrize("has_heads", [True, False])
def test_the_script_draws_the_same(tmp_path, base_folder, has_heads):
    path = base_folder
    ways = [Way("static:temperature=0.7,top_p=0.9")]
    if has_heads:
        path = tmp_path / "heads"
        AutoDecoForCausalLM.from_base(base_folder).save_pretrained(path)
        ways = [Way(), Way(decoding={"temperature": 0.4}), *ways]
    model = LocalModel.load(str(path))
    request = model.fit(
        Request("Hi", ways, system="Be 'brief' {now}.", command="Surprise me.", max_new_tokens=9, seed=5)
    )
    *_, answers = draw(model, request, threading.Event())
    (tmp_path / "run.py").write_text(model.script(request), encoding="ascii")
    done = subprocess.run([sys.executable, tmp_path / "run.py"], capture_output=True, timeout=300, check=True)
    texts = [
        model._tokenizer.decode([one.token_id for one in each.tokens], skip_special_tokens=True) for each in answers
    ]
    assert done.stdout.decode() == "".join(text + "\n" for text in texts)


def test_no_text_becomes_code(local_model):
    for text in [*NASTY, '"""', "'''", "\\", "{seed}", "\n\nimport os"]:
        code = local_model.script(Request(text, [Way()], system=text, command=text))
        assert _shape(code) == _shape(local_model.script(Request("a", [Way()])))
        code = server_script(f"http://{text}", [{"messages": [{"role": "user", "content": text}]}], with_key=True)
        assert _shape(code) == _shape(server_script("http://a", [{}], with_key=True))


def _shape(code):
    assert code.isascii()
    return [type(node) for node in ast.parse(code).body]


def test_files(tmp_path):
    steered = Way(decoding={"temperature": 0.5})
    answers = [Answer(Way(), [], trace([token("a")])), Answer(steered, [], trace([token("b")])), Answer(Way("default"))]
    paths = write_files(tmp_path, answers, "pass\n")
    names = ["1-autodeco.jsonl", "2-autodeco-decoding-temperature-0.5.jsonl", "reproduce.py"]
    assert [path.removeprefix(f"{tmp_path}/") for path in paths] == names
    assert read_trace(paths[1]).text == "b"
