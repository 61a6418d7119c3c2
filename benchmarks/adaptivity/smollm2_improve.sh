#!/usr/bin/env bash
# Other ways to train the heads, chosen by validation problems; run after smollm2.sh, stop and run again at will.
set -euo pipefail
runs=runs/adaptivity/smollm2
autodeco=${AUTODECO:-.venv/bin/autodeco}
engine=${ENGINE:-.venv-vllm/bin/autodeco}
python=${PYTHON:-.venv/bin/python}
families=benchmarks/adaptivity/families.py

train() { # name, data, settings of autodeco train
  local name=$1 data=$2 states=$runs/states dtype=float32
  if [ "$data" != "$runs/train.jsonl" ]; then  # a store is of one file's rows; these were made in a fifth of the time
    states+=-$(basename "$data" .jsonl)
    dtype=bfloat16
  fi
  shift 2
  $autodeco train --model smollm2-135m --data "$data" --objective end_to_end --learning-rate 1e-3 --max-steps 300 \
    --batch-size 16 --gradient-accumulation 1 --max-length 512 --dtype "$dtype" --seed 1 --set save_steps=50 \
    --set easy_token_masking=0 --set dynamic_fine_tuning=false --skip-bad-rows \
    --set "hidden_state_folder=$states" --hidden-state-store on --output "$runs/heads/$name" "$@"
}

# Plain cross-entropy on right trajectories, and what may be changed about it.
train plain "$runs/train.jsonl"
train plain-exclusive "$runs/train.jsonl" --set soft_nucleus=exclusive
train plain-features "$runs/train.jsonl" --set temperature_features=true
# Brier's score of the whole distribution instead of the target's log-probability, for the temperature head.
train quadratic "$runs/train.jsonl" --objective released --set scoring_rule=quadratic
# Expert iteration: sample with the last round's heads, verify, train those heads further.
last=plain-features
for round in 1 2 3 4; do
  for family in Sums LongSums Letters; do
    $engine rollout --model "$runs/heads/$last" --task "$families:$family" --problems 120 --samples 10 --engine vllm \
      --max-new-tokens 64 --dtype float32 --seed "1$round" --most-per-problem 6 --output "$runs/round-$round/$family"
  done
  cat "$runs/round-$round"/*/right.jsonl >"$runs/round-$round.jsonl"
  train "round-$round" "$runs/round-$round.jsonl" --set temperature_features=true --set "heads=$runs/heads/$last"
  last=round-$round
done

# Right and wrong trajectories by their advantage.
[ -e "$runs/advantage.jsonl" ] || $python benchmarks/adaptivity/advantage.py "$runs/advantage.jsonl" "$runs"/train/*/all.jsonl
train advantage "$runs/advantage.jsonl" --set importance_ratio_cap=1 --set temperature_features=true
# The same a short way from heads that are on right trajectories already.
train advantage-short "$runs/advantage.jsonl" --set importance_ratio_cap=1 --set temperature_features=true \
  --set "heads=$runs/heads/plain-features" --learning-rate 1e-4 --max-steps 60

$engine eval benchmarks/adaptivity/smollm2_improve_static.yaml
$engine eval benchmarks/adaptivity/smollm2_improve.yaml
$python benchmarks/adaptivity/heads_compared.py "$runs"/improve{,-static}
$engine eval benchmarks/adaptivity/smollm2_improved.yaml  # what that chose after one round, on test problems
$engine eval benchmarks/adaptivity/smollm2_rounds.yaml  # and after four
$python benchmarks/adaptivity/heads_compared.py "$runs"/eval{,-improved,-rounds}
