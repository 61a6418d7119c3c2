#!/usr/bin/env bash
# Copies what is committed of a model's runs: of every evaluation its results, settings, provenance and report, every
# diagnosis, and the log of every pair of heads. Run from the repository: bash benchmarks/adaptivity/collect.sh smollm2
set -euo pipefail
runs=runs/adaptivity/$1
to=benchmarks/results/adaptivity/$1
for run in "$runs"/*/results.parquet; do
  run=$(dirname "$run")
  mkdir -p "$to/$(basename "$run")"
  cp -r "$run"/{results.parquet,evaluation.json,provenance.json,speed.json} "$to/$(basename "$run")/"
  for also in choices.json report; do [ ! -e "$run/$also" ] || cp -r "$run/$also" "$to/$(basename "$run")/"; done
done
for diagnosis in "$runs"/diagnosis/*/; do
  [ ! -d "$diagnosis" ] || { mkdir -p "$to/diagnosis" && cp -r "$diagnosis" "$to/diagnosis/"; }
done
for log in "$runs"/heads/*/training_log.jsonl; do
  mkdir -p "$to/heads/$(basename "$(dirname "$log")")"
  cp "$log" "$to/heads/$(basename "$(dirname "$log")")/"
done
