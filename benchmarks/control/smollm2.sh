#!/usr/bin/env bash
# Decoding commands on SmolLM2-135M-Instruct: heads on the frozen base, heads that see the prompt, heads with a LoRA
# adapter, and each measured on unseen prompts and phrasings. About three hours on two cores; stop and run again at will.
# Run from the repository after benchmarks/adaptivity/smollm2.sh, whose heads it starts from.
# Environments other than those of `make install` and `make vllm`: AUTODECO=…/bin/autodeco ENGINE=…/bin/autodeco.
set -euo pipefail
runs=runs/control/smollm2
dtype=${DTYPE:-bfloat16}  # of the base in training; float32 on processors without instructions for bfloat16
autodeco=${AUTODECO:-.venv/bin/autodeco}
engine=${ENGINE:-.venv-vllm/bin/autodeco}
# Heads on their way at the published rate: T and P near the middle of their ranges leave room for commands both ways.
# Heads trained to the end have P = 1, where no command can raise it.
start=runs/adaptivity/smollm2/heads/published-rate
mkdir -p "$runs"

$engine rollout --model smollm2-135m --task open-prompts --split train --problems 100 --samples 3 --max-new-tokens 96 \
  --dtype float32 --engine vllm --seed 1 --output "$runs/open"

with_tasks=$runs/open-and-tasks.jsonl
${PYTHON:-.venv/bin/python} benchmarks/control/with_tasks.py "$runs/open/all.jsonl" runs/adaptivity/smollm2/train.jsonl \
  "$with_tasks"

train() { # name, data, steps, settings of autodeco control train
  local name=$1 data=$2 steps=$3
  shift 3
  $autodeco control train --model smollm2-135m --data "$data" --heads "$start" --max-steps "$steps" \
    --seed 1 --set "dtype=$dtype" --set gradient_accumulation=1 --output "$runs/$name" "$@"
}
# frozen in docs/control.md: the same at commit 18ef615, with two samples a prompt, no ceiling, float32.
# Heads that do not see the prompt, and heads that do: more steps, and more commands on every prompt.
train frozen "$runs/open/all.jsonl" 600 --set save_steps=100 --set warmup_steps=10 --set keep_weight=1 --set hold_weight=1
train more-patterns "$with_tasks" 4000 --recipe prompt-summary
# lora-175 beside the results is an earlier adapter's first 175 steps, lora-5e-3 the same with rates of 1e-3 and 5e-3.
train lora "$with_tasks" 1000 --recipe lora

measure() { # name, heads, engine's command and name, conditions
  local name=$1 heads=$2 command=$3 engine_name=$4
  shift 4
  $command control eval "$heads" --engine "$engine_name" --dtype float32 --max-new-tokens 64 --seed 1 \
    --output "$runs/eval/$name" "$@"
}
main=(--condition "none again" --condition low --condition high --condition absolute --condition look-alike)
graded=(--condition "much lower" --condition "slightly lower" --condition "slightly higher" --condition "much higher")
others=(--condition look-alike --condition scoped --condition "low, then high" --condition "high, then low")
for what in "quoted" "other language"; do
  others+=(--condition "$what low" --condition "$what high")
done
measure more-patterns "$runs/more-patterns" "$engine" vllm "${main[@]:0:8}" "${graded[@]}"  # all of main but look-alike
measure more-patterns-other "$runs/more-patterns" "$engine" vllm "${others[@]}"
measure before "$start" "$engine" vllm "${main[@]}"
measure frozen "$runs/frozen" "$engine" vllm "${main[@]}"
measure lora "$runs/lora" "$engine" vllm "${main[@]}"
${PYTHON:-.venv/bin/python} benchmarks/control/steps.py "$runs"/eval/{before,frozen,more-patterns+more-patterns-other,lora}

# What control costs without a command.
$engine eval benchmarks/control/accuracy.yaml
