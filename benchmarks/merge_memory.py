"""Memory and time of merging: does memory grow with the model, and what does a copy cost over ``shutil.copyfile``?

Makes synthetic sharded checkpoints of two sizes (random bytes under a real header) and runs each way of writing them in
a fresh process, all ways once in each repeat, so that a slow minute of the machine hits all of them:

- ``link``: ``merge`` with hard links;             - ``copy``: ``merge`` with links switched off;
- ``rewrite``: ``convert`` to the released full layout, which renames every tensor;
- ``copyfile``: plain ``shutil.copyfile`` of the same shards;
- ``load_and_save``: all tensors loaded and saved with the safetensors library, as a merge script usually does.

Memory is the peak of resident memory during the operation, above what the process held when its imports were done.

    python benchmarks/merge_memory.py            # about 3 minutes; 6.5 GB of disk for a while
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import PeakMemory, spread

from autodeco import provenance

SIZES = {"200 MB": 200_000_000, "2 GB": 2_000_000_000}
WAYS = ("link", "copy", "rewrite", "copyfile", "load_and_save")
SHARDS, HIDDEN, VOCABULARY = 4, 1024, 32_000
RESULTS = Path(__file__).parent / "results" / "merge_memory"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "vocab_size": VOCABULARY,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 4096,
}


def make_base(folder: Path, size: int) -> None:
    """A sharded bfloat16 checkpoint of about ``size`` bytes, written in chunks."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    rows = size // SHARDS // 8 // (2 * HIDDEN)
    weight_map, nbytes = {}, rows * HIDDEN * 2
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        names = [f"model.layers.{shard * 8 + index}.weight" for index in range(8)]
        weight_map |= dict.fromkeys(names, name)
        header = {
            tensor: {"dtype": "BF16", "shape": [rows, HIDDEN], "data_offsets": [index * nbytes, (index + 1) * nbytes]}
            for index, tensor in enumerate(names)
        }
        body = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(len(body).to_bytes(8, "little") + body)
            for left in range(8 * nbytes, 0, -(1 << 22)):
                file.write(os.urandom(min(left, 1 << 22)))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def work(way: str, base: Path, heads: Path, output: Path) -> dict[str, float]:
    """One operation in this process: seconds, and memory in MB."""
    from safetensors.torch import load_file, save_file
    from transformers import GenerationConfig, LlamaConfig  # noqa: F401  loaded on first use otherwise, at 1.3 s and 90 MB

    from autodeco.checkpoint import convert, merge

    def copy_shards() -> None:
        output.mkdir()
        for path in base.glob("*.safetensors"):
            shutil.copyfile(path, output / path.name)

    def load_and_save() -> None:
        output.mkdir()
        loaded = {path.name: load_file(path) for path in base.glob("*.safetensors")}
        for name, tensors in loaded.items():
            save_file(tensors, output / name)

    operations = {
        "link": lambda: merge(base, heads, output),
        "copy": lambda: merge(base, heads, output, link=False),
        "rewrite": lambda: convert(heads, output, "released-full", base=base),
        "copyfile": copy_shards,
        "load_and_save": load_and_save,
    }
    with PeakMemory() as extra:
        started = time.perf_counter()
        operations[way]()
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "extra_mb": extra.megabytes, "peak_mb": peak}


def measure(size: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Every way, ``repeats`` times, in turn."""
    with tempfile.TemporaryDirectory(prefix="autodeco-merge-") as name:
        folder = Path(name)
        make_base(folder / "base", size)
        make_heads(folder / "heads", folder / "base")
        found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
        for repeat in range(repeats):
            for way in WAYS:
                os.sync()  # or one way's dirty pages are written back in the next one's time
                command = [sys.executable, __file__, "--worker", way, str(folder)]
                result = subprocess.run(command, check=True, capture_output=True, text=True)
                for key, value in json.loads(result.stdout.splitlines()[-1]).items():
                    found[way].setdefault(key, []).append(value)
                shutil.rmtree(folder / "output")
            print(f"{size / 1e9:g} GB: repeat {repeat + 1} of {repeats} done", flush=True)
    return found


def make_heads(folder: Path, base: Path) -> None:
    from autodeco import AutoDecoConfig, DecodingHeads
    from autodeco.checkpoint import save_heads

    config = AutoDecoConfig(hidden_size=HIDDEN, vocab_size=VOCABULARY, base_model_name_or_path=str(base))
    save_heads(DecodingHeads(config), folder)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["| model | way | seconds (min / median / max) | memory above imports, MB | peak of the process, MB |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for size, ways in results.items():
        for way, found in ways.items():
            seconds, extra, peak = (
                " / ".join(f"{value:.{digits}f}" for value in found[key])
                for key, digits in (("seconds", 3), ("extra_mb", 1), ("peak_mb", 0))
            )
            lines.append(f"| {size} | {way} | {seconds} | {extra} | {peak} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small and unsaved: only whether it runs")
    parser.add_argument("--worker", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        way, name = arguments.worker
        folder = Path(name)
        print(json.dumps(work(way, folder / "base", folder / "heads", folder / "output")))
        return
    sizes = {"20 MB": 20_000_000} if arguments.quick else SIZES
    results = {
        label: {
            way: {key: spread(values) for key, values in found.items()}
            for way, found in measure(size, 1 if arguments.quick else arguments.repeats).items()
        }
        for label, size in sizes.items()
    }
    if arguments.quick:
        print(table(results))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    plain = {
        size: {way: {key: value._asdict() for key, value in found.items()} for way, found in ways.items()}
        for size, ways in results.items()
    }
    record = {"results": plain, "provenance": provenance.collect(repeats=arguments.repeats, shards=SHARDS)}
    (RESULTS / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "README.md").write_text(f"# Merging: memory and time\n\n{table(results)}\n")
    print(table(results))


if __name__ == "__main__":
    main()
