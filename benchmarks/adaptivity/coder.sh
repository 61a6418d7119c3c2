#!/usr/bin/env bash
# Qwen2.5-Coder-0.5B-Instruct: trajectories, heads, evaluation. Run from the repository after coder_model.py; stop and
# run again at will. Environments other than those of `make install` and `make vllm`: AUTODECO=…/bin/autodeco
# ENGINE=…/bin/autodeco.
set -euo pipefail
runs=runs/adaptivity/coder
model=runs/models/qwen2.5-coder-0.5b
autodeco=${AUTODECO:-.venv/bin/autodeco}
engine=${ENGINE:-.venv-vllm/bin/autodeco}
families=benchmarks/adaptivity/families.py
mkdir -p "$runs"

# Trained on three families; arithmetic and HumanEval are held out.
for family in LongerSums Products Letters; do
  $engine rollout --model "$model" --task "$families:$family" --split train --problems 150 --samples 2 \
    --max-new-tokens 64 --dtype bfloat16 --seed 1 --engine vllm --output "$runs/train/$family"
done
cat "$runs"/train/*/right.jsonl >"$runs/train.jsonl"

train() { # objective
  $autodeco train --model "$model" --data "$runs/train.jsonl" --objective "$1" --learning-rate 1e-3 --max-steps 200 \
    --batch-size 16 --gradient-accumulation 1 --max-length 512 --dtype bfloat16 --seed 1 --set save_steps=50 \
    --set "hidden_state_folder=$runs/states" --hidden-state-store on --output "$runs/heads/$1"
}
train released

main=(--strategy default --strategy autodeco --strategy mean-shift --strategy greedy)
$engine eval benchmarks/adaptivity/coder.yaml "${main[@]}"  # what matters most comes first
$engine eval benchmarks/adaptivity/coder_humaneval.yaml
$engine eval benchmarks/adaptivity/coder.yaml
$engine eval benchmarks/adaptivity/coder_more.yaml
train end_to_end
$engine eval benchmarks/adaptivity/coder_end_to_end.yaml

for family in LongerSums Products Letters; do  # for the diagnosis alone
  $engine rollout --model "$model" --task "$families:$family" --split validation --problems 100 --samples 2 \
    --max-new-tokens 64 --dtype bfloat16 --seed 1 --engine vllm --output "$runs/validation/$family"
done
cat "$runs"/validation/*/right.jsonl >"$runs/validation.jsonl"
$autodeco diagnose "$runs/heads/end_to_end" --data "$runs/validation.jsonl" --dtype bfloat16 --output "$runs/diagnosis/end_to_end"
$autodeco diagnose "$runs/heads/released" --data "$runs/validation.jsonl" --dtype bfloat16 --output "$runs/eval"
$autodeco report "$runs/eval" --training "$runs/heads/released"
${PYTHON:-.venv/bin/python} benchmarks/adaptivity/where_it_acts.py "$runs/heads/released" "$runs"/validation/*/right.jsonl \
  --dtype bfloat16 >"$runs/where_it_acts.md"
