"""The playground's server without a browser: what it gives to nobody, and that nothing of it stays."""

import os
import re
import signal
import stat
import subprocess
import sys

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed (extra 'playground')")
import httpx

from autodeco.playground.gradio_server import build, start
from autodeco.playground.serve import private_folder
from tests.evaluation.report.test_training import log_line, write_log
from tests.integration.servers import free_port


@pytest.fixture(scope="module")
def url():
    with private_folder() as folder:
        page = build(None, lambda: "<p>fine</p>", folder)
        yield start(page, "127.0.0.1", None)[1]
        page.close(verbose=False)


@pytest.mark.parametrize("path", ["file=https://example.org/", "file=HTTP://example.org/", "proxy=https://a.hf.space/"])
def test_it_fetches_nothing_for_others(url, path):
    assert httpx.get(f"{url}gradio_api/{path}").status_code == 403


@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "../pyproject.toml"])
def test_files_of_this_machine_are_not_given(url, path):
    assert httpx.get(f"{url}gradio_api/file={path}").status_code in (403, 404)


def test_nothing_can_be_uploaded(url):
    answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.html", b"<p>much</p>")})
    assert answer.status_code == 413


def test_a_private_folder_that_goes(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert not folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "before"


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_when_it_is_ended(tmp_path, how):
    run = write_log(tmp_path / "run", [log_line(1, 1.0, 0.5)])
    (temporary := tmp_path / "temporary").mkdir()
    command = [sys.executable, "-c", "from autodeco.cli import main; main()", "playground", "--run", str(run)]
    with subprocess.Popen(
        [*command, "--no-browser", "--port", str(free_port())],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            next(line for line in process.stderr if re.search(r"http://\S+", line))
            assert len(list(temporary.glob("autodeco-playground-*"))) == 1
            process.send_signal(how)
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert not list(temporary.glob("autodeco-playground-*"))
    assert not (temporary / "gradio").exists()
