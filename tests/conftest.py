"""Fixtures shared by all tests: golden files, tiny models, the bundled real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when Transformers is imported: a hub that is not there is not asked
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # likewise: without a GPU, Triton's kernels run in its interpreter

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from autodeco import AutoDecoForCausalLM
from autodeco.kernels import cpu

# Every machine runs the same examples, so that a change fails because of what it changed. To search for new ones:
# pytest --hypothesis-profile=search (No deadlines: a busy machine is not a mistake.)
settings.register_profile("same-everywhere", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, max_examples=2000, deadline=None)
settings.load_profile("same-everywhere")

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"


@pytest.fixture
def golden() -> Path:
    """Folder of numbers computed by the authors' own code."""
    if not GOLDEN.is_dir():
        pytest.skip(f"the authors' golden files are not at {GOLDEN}")
    return GOLDEN


BENCHMARK_DATA = Path(os.environ.get("AUTODECO_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """Folder of the benchmarks' problems, which the project does not hold copies of."""
    if not BENCHMARK_DATA.is_dir():
        pytest.skip(f"the benchmarks' problems are not at {BENCHMARK_DATA} (AUTODECO_TEST_DATA names another folder)")
    return BENCHMARK_DATA


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation site, built once, with warnings as errors."""
    pytest.importorskip("mkdocs", reason="MkDocs is not installed (extra 'dev')")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as a terminal has it, here and in what a test starts: jobs in a shell's background have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["kernels", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to go over the vocabulary: compiled kernels, where this machine has a compiler, and PyTorch."""
    if request.param == "torch":
        monkeypatch.setattr(cpu, "load", lambda: None)
    elif cpu.load() is None:
        pytest.skip("no C compiler here")
    return str(request.param)


def tiny_llama(**overrides: object) -> LlamaForCausalLM:
    """A randomly initialised Llama: for shapes and numbers, never as evidence that something works."""
    settings = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,  # spread-out logits: a flat distribution would hide mistakes
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **overrides})).eval()


def tiny_autodeco(**overrides: object) -> AutoDecoForCausalLM:
    """A tiny Llama with random heads whose temperatures and top-p differ visibly from token to token."""
    model = AutoDecoForCausalLM.from_base(tiny_llama(**overrides))
    with torch.no_grad():
        for parameter in model.decoding_heads.parameters():
            parameter.mul_(3)
    return model


@pytest.fixture
def model() -> AutoDecoForCausalLM:
    return tiny_autodeco()


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes and five special tokens, with a ChatML template; it adds a BOS token by itself."""
    specials = ["<pad>", "<s>", "<|im_end|>", "<|im_start|>", "<unk>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*specials, *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A tiny base model with its tokenizer, as a folder on disk."""
    folder = tmp_path / "base"
    tokenizer = byte_tokenizer()
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> str:
    """Folder of the bundled real model."""
    from autodeco.bundled import BUNDLED_MODEL, resolve_model

    return resolve_model(BUNDLED_MODEL)
