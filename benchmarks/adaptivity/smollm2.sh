#!/usr/bin/env bash
# SmolLM2-135M-Instruct: trajectories, two pairs of heads, evaluation. Run from the repository; stop and run again at will.
set -euo pipefail
data=${1:?"usage: smollm2.sh FOLDER_OR_FILE_OF_IFEVAL"}
runs=runs/adaptivity/smollm2
autodeco=.venv/bin/autodeco
engine=.venv-vllm/bin/autodeco

for task in demo-sums demo-products demo-letters; do
  problems=100
  [ "$task" = demo-products ] && problems=60 # there are few different ones
  $engine rollout --model smollm2-135m --task "$task" --problems "$problems" --samples 24 --max-new-tokens 64 \
    --dtype float32 --seed 1 --most-per-problem 8 --output "$runs/rollouts/$task"
done
cat "$runs"/rollouts/*/right.jsonl >"$runs/right.jsonl"

for objective in released end_to_end; do
  $autodeco train --model smollm2-135m --data "$runs/right.jsonl" --objective "$objective" --learning-rate 1e-3 \
    --max-steps 300 --batch-size 8 --gradient-accumulation 1 --max-length 512 --dtype float32 --save-steps 25 --seed 1 \
    --output "$runs/heads-$objective"
  $autodeco diagnose "$runs/heads-$objective" --data "$runs/right.jsonl" --output "$runs/heads-$objective"
done

IFEVAL="$data" envsubst <benchmarks/adaptivity/smollm2.yaml >"$runs/smollm2.yaml"
$engine eval "$runs/smollm2.yaml"
$autodeco report "$runs/eval"
