#!/usr/bin/env bash
# Decoding commands on SmolLM2-135M-Instruct with a frozen base: Table 4's measurement before and after training.
# Run from the repository after benchmarks/adaptivity/smollm2.sh, whose heads it starts from; stop and run again at will.
set -euo pipefail
runs=runs/control/smollm2
autodeco=${AUTODECO:-.venv/bin/autodeco}
engine=${ENGINE:-.venv-vllm/bin/autodeco}
# Heads on their way at the published rate: T and P near the middle of their ranges leave room for commands both ways.
# Heads trained to the end have P = 1, where no command can raise it.
heads=runs/adaptivity/smollm2/heads/published-rate
mkdir -p "$runs"

$engine rollout --model smollm2-135m --task open-prompts --split train --problems 100 --samples 2 --max-new-tokens 96 \
  --dtype float32 --engine vllm --seed 1 --output "$runs/open"
$autodeco control train --model smollm2-135m --data "$runs/open/all.jsonl" --heads "$heads" --max-steps 400 --seed 1 \
  --set dtype=float32 --output "$runs/heads"
$autodeco control eval "$heads" --dtype float32 --output "$runs/before" --seed 1
$autodeco control eval "$runs/heads" --dtype float32 --output "$runs/after" --seed 1
