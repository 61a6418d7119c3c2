"""``autodeco playground``: what it says before there is a page, and the page it serves."""

import sys

import pytest

from autodeco.cli import main
from tests.playground.fake_server import fake_server


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["playground", *map(str, arguments)])
    return stopped.value.code


@pytest.fixture
def served(monkeypatch):
    """What would be served."""
    serve = pytest.importorskip("autodeco.playground.serve", reason="Gradio is not installed (extra 'playground')")
    calls = []
    monkeypatch.setattr(serve, "serve", lambda model, report, **options: calls.append((model, report, options)))
    return calls


def test_help_has_examples(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "autodeco playground runs/heads" in out
    assert "--no-browser" in out


def test_nothing_to_show(capsys):
    assert run() == 2
    assert "name a model (such as runs/heads), a server with --server URL, or a run" in capsys.readouterr().err


def test_a_run_that_is_none(capsys, tmp_path, served):
    assert run("--run", tmp_path) == 2
    assert "neither training_log.jsonl" in capsys.readouterr().err
    assert served == []


def test_loopback_by_default_and_a_warning_elsewhere(capsys, base_folder, served):
    assert run(base_folder, "--no-browser") == 0
    assert "warning" not in capsys.readouterr().err
    assert run(base_folder, "--host", "0.0.0.0", "--port", "8080") == 0
    assert "warning: listening on 0.0.0.0" in capsys.readouterr().err
    (model, report, first), (_, _, second) = served
    assert model.name == str(base_folder)
    assert report is None
    assert (first["host"], first["port"], first["browser"]) == ("127.0.0.1", 7860, False)
    assert (second["host"], second["port"], second["browser"]) == ("0.0.0.0", 8080, True)


def test_a_server(capsys, served, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    with fake_server(key="secret") as server:
        assert run("adapter", "--server", f"{server.url}/v1", "--no-browser") == 0
        assert run("other", "--server", server.url) == 2
        assert "the server has no model 'other'" in capsys.readouterr().err
        assert run("--server", server.url, "--api-key", "wrong") == 2
        assert "refuses the API key" in capsys.readouterr().err
        assert run("--server", server.url, "--dtype", "float32") == 2
        assert "--base-model and --dtype" in capsys.readouterr().err
    ((model, _, _),) = served
    assert (model.name, model.strategies[0]) == ("adapter", "default")


def test_without_gradio(capsys, base_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("app", "serve"):
        monkeypatch.delitem(sys.modules, f"autodeco.playground.{name}", raising=False)
    assert run(base_folder) == 2
    assert 'pip install "autodeco[playground]"' in capsys.readouterr().err
