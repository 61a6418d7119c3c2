#!/usr/bin/env bash
# SmolLM2-135M-Instruct: trajectories, heads, evaluation. Run from the repository; stop and run again at will.
# Environments other than those of `make install` and `make vllm`: AUTODECO=…/bin/autodeco ENGINE=…/bin/autodeco.
set -euo pipefail
runs=runs/adaptivity/smollm2
autodeco=${AUTODECO:-.venv/bin/autodeco}
engine=${ENGINE:-.venv-vllm/bin/autodeco}
families=benchmarks/adaptivity/families.py
mkdir -p "$runs"

# Trained on three families; arithmetic and IFEval are held out. Validation rollouts are for the diagnosis alone.
for family in Sums LongSums Letters; do
  for split in train validation; do
    problems=120
    [ "$split" = validation ] && problems=60
    $engine rollout --model smollm2-135m --task "$families:$family" --split "$split" --problems "$problems" \
      --samples 10 --max-new-tokens 64 --dtype float32 --seed 1 --most-per-problem 6 --engine vllm \
      --output "$runs/$split/$family"
  done
done
for split in train validation; do cat "$runs/$split"/*/right.jsonl >"$runs/$split.jsonl"; done

train() { # name, settings of autodeco train
  local name=$1
  shift
  $autodeco train --model smollm2-135m --data "$runs/train.jsonl" --learning-rate 1e-3 --max-steps 300 --batch-size 16 \
    --gradient-accumulation 1 --max-length 512 --dtype float32 --seed 1 --set save_steps=50 \
    --set "hidden_state_folder=$runs/states" --hidden-state-store on --output "$runs/heads/$name" "$@"
}
train released --objective released
train end-to-end --objective end_to_end
# What each part of the released objective does.
train alpha-10 --objective released --set soft_top_p_decay=10
train alpha-100 --objective released --set soft_top_p_decay=100
train no-masking --objective released --set easy_token_masking=0
train no-dft --objective released --set dynamic_fine_tuning=false
train cross-entropy --objective released --set dynamic_fine_tuning=false --set easy_token_masking=0
# The published learning rate and number of steps: are the published means a stop on the way?
train published-rate --objective end_to_end --learning-rate 5e-6 --max-steps 400
train published-rate-released --objective released --learning-rate 5e-6 --max-steps 1200

$engine eval benchmarks/adaptivity/smollm2.yaml  # --samples 4 goes on with two more of each strategy
$engine eval benchmarks/adaptivity/smollm2_end_to_end.yaml

for name in end-to-end cross-entropy; do
  $autodeco diagnose "$runs/heads/$name" --data "$runs/validation.jsonl" --dtype float32 --output "$runs/diagnosis/$name"
done
$autodeco diagnose "$runs/heads/released" --data "$runs/validation.jsonl" --dtype float32 --output "$runs/eval"
$autodeco report "$runs/eval" --training "$runs/heads/released" --training "$runs/heads/published-rate-released"
$autodeco report "$runs/eval-end-to-end" --training "$runs/heads/end-to-end"
