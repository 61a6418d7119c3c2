"""Rollouts and evaluations at scale: a vLLM engine in the place of a Transformers model.

Each completion is a request of its own with its own seed, so what a sample is does not depend on its neighbours, on
how many run at a time, or on where a run was stopped (as far as the engine's arithmetic is the same in every batch).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from autodeco.generation import TRACED
from autodeco.rollouts.sample import batch_seed
from autodeco.rollouts.sampler import Message, OnProgress, Sample, Sampling, encode
from autodeco.serving.checkpoint import ServedModel, check_vllm, has_heads, served_model, with_adapter_folded
from autodeco.serving.vllm.launch import REQUESTS, cpu_cache_bytes, is_cpu_build, logits_processor, overrides

# Requests that wait in the engine beyond those that run: enough that a place that becomes free is filled at once.
_WAITING = 2


class VllmSampler:
    """Draws completions with a vLLM engine; see :class:`autodeco.rollouts.sampler.Sampler`.

    Args:
        model: a plain base, heads, a merged or a released checkpoint.
        base: base model, instead of the one that heads record.
        dtype: ``auto``, ``bfloat16``, ``float32``.
        batch_size: most completions at a time.
        max_length: longest prompt and completion together, in tokens; ``None`` for what the model can take.
        **settings: further arguments of ``vllm.LLM``.

    Raises:
        ModelNotFoundError: model or base was not found.
        CheckpointError: a file is damaged, or heads and base do not belong together.
    """

    engine = "vllm"

    def __init__(
        self,
        model: str,
        *,
        base: str | None = None,
        dtype: str = "auto",
        batch_size: int = 64,
        max_length: int | None = None,
        **settings: Any,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="autodeco-engine-")
        self._has_heads = has_heads(model)
        self._running = batch_size
        heads = None if self._has_heads else _untrained_heads(model, Path(self._scratch.name) / "untrained")
        on_cpu = is_cpu_build()
        check_vllm(model, heads, on_cpu=on_cpu)
        scratch = Path(self._scratch.name)
        served = with_adapter_folded(served_model(model, heads=heads, base=base, scratch=scratch), scratch, dtype)
        arguments = {
            **_model_arguments(served),
            "generation_config": "vllm",
            "worker_extension_cls": f"{REQUESTS}.WorkerExtension",
            "dtype": dtype,
            "max_num_seqs": batch_size,
            "max_model_len": max_length,
            "seed": 0,
            **(_cpu_arguments(served) if on_cpu else {}),
            **settings,
        }
        # vLLM's scheduler in this process: in one of its own it would go on working after this one was killed.
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        if on_cpu:  # by default one core is kept for the front end, which here waits most of the time
            environment["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
        with _defaults_in_environment(environment):
            from vllm import LLM

            self._llm = LLM(**arguments)
        self.tokenizer = self._llm.get_tokenizer()

    def draw(
        self,
        prompts: Sequence[list[Message]],
        sampling: Sampling,
        *,
        done: Collection[tuple[int, int]] = frozenset(),
        on_progress: OnProgress | None = None,
    ) -> Iterator[list[Sample]]:
        """Yields completions as the engine finishes them."""
        strategy = sampling.strategy_for(has_heads=self._has_heads)
        self._llm.collective_rpc("autodeco_set_strategy", args=(strategy.spec,))
        ids = [encode(self.tokenizer, messages) for messages in prompts]
        wanted = [
            (prompt, index)
            for prompt in range(len(prompts))
            for index in range(sampling.samples_per_prompt)
            if (prompt, index) not in done
        ]
        finished, total = len(done), len(prompts) * sampling.samples_per_prompt
        for outputs in self._run(wanted, ids, sampling, greedy=strategy.greedy):
            yield [self._sample(output, ids, sampling) for output in outputs]
            finished += len(outputs)
            if on_progress is not None:
                on_progress(finished, total)

    def _run(
        self, wanted: list[tuple[int, int]], ids: list[list[int]], sampling: Sampling, *, greedy: bool
    ) -> Iterator[list[Any]]:
        """Keeps the engine full; yields the requests that each step finishes."""
        engine = self._llm.llm_engine
        waiting = iter(wanted)
        inside: set[str] = set()
        try:
            while True:
                while len(inside) < _WAITING * self._running and (member := next(waiting, None)) is not None:
                    name = f"{member[0]}-{member[1]}"
                    prompt = {"prompt_token_ids": ids[member[0]]}
                    engine.add_request(name, prompt, _parameters(member, name, sampling, greedy=greedy))
                    inside.add(name)
                if not inside:
                    return
                finished = [output for output in engine.step() if output.finished]
                inside.difference_update(output.request_id for output in finished)
                if finished:
                    yield finished
        finally:
            if inside:  # whoever takes the samples has stopped
                engine.abort_request(list(inside))

    def _sample(self, output: Any, ids: list[list[int]], sampling: Sampling) -> Sample:
        prompt, index = (int(part) for part in output.request_id.split("-"))
        (completion,) = output.outputs
        token_ids = list(completion.token_ids)
        finish: Literal["stop", "length"] = "length" if completion.finish_reason == "length" else "stop"
        values = self._trace(output.request_id) if sampling.trace else {}
        if sampling.log_probs:
            steps = zip(completion.logprobs, token_ids, strict=True)
            values["log_probs"] = [step[token].logprob for step, token in steps]
        text = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        return Sample(prompt, index, ids[prompt], token_ids, text, finish, **values)

    def _trace(self, name: str) -> dict[str, list[float]]:
        found = self._llm.collective_rpc("autodeco_take_trace", args=(name,))
        columns = zip(*next(filter(None, found)), strict=True)
        return {name: list(values) for name, values in zip(TRACED, columns, strict=True)}

    def close(self) -> None:
        """Ends the engine's processes."""
        self._llm.llm_engine.engine_core.shutdown()
        self._scratch.cleanup()
        gc.collect()


def _untrained_heads(model: str, folder: Path) -> str:
    """Heads for a plain base, which make it an AutoDeco model; another strategy always stands in their place."""
    from autodeco.bundled import resolve_model
    from autodeco.checkpoint import save_heads
    from autodeco.checkpoint.layout import CONFIG
    from autodeco.checkpoint.released import base_sizes
    from autodeco.checkpoint.source import Source, read_json
    from autodeco.config import AutoDecoConfig
    from autodeco.heads import DecodingHeads

    source = Source.open(resolve_model(model))
    hidden_size, vocab_size = base_sizes(read_json(source.need(CONFIG)), source.label(CONFIG))
    save_heads(DecodingHeads(AutoDecoConfig(hidden_size=hidden_size, vocab_size=vocab_size)), folder)
    return str(folder)


def _model_arguments(served: ServedModel) -> dict[str, Any]:
    arguments: dict[str, Any] = {"model": served.path, "revision": served.revision}
    if served.heads is not None:
        arguments["hf_overrides"] = overrides(served)
    return arguments


@contextlib.contextmanager
def _defaults_in_environment(defaults: dict[str, str]) -> Iterator[None]:
    """Sets variables that are not set, and unsets them again: a server started later must not inherit them."""
    added = defaults.keys() - os.environ.keys()
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _cpu_arguments(served: ServedModel) -> dict[str, Any]:
    """What vLLM needs on CPUs: the V1 runner's reader of options, and whole prompts, without which seeds stop it.

    Only whole blocks of a prompt are kept for the next sample of it: 32 tokens, not vLLM's 128, as a task's prompts are
    often a few hundred tokens, alike but for their end. For heads that see a summary of the prompt none are kept.
    """
    return {
        "block_size": 32,
        "logits_processors": [logits_processor(served)],
        **({"enable_prefix_caching": False, "enforce_eager": True} if served.prompt_summary else {}),
        "enable_chunked_prefill": False,
        "kv_cache_memory_bytes": cpu_cache_bytes(),
    }


def _parameters(member: tuple[int, int], name: str, sampling: Sampling, *, greedy: bool) -> Any:
    from vllm import SamplingParams

    seed = batch_seed(sampling.seed, json.dumps(member))
    return SamplingParams(
        max_tokens=sampling.max_new_tokens,
        temperature=0.0 if greedy else 1.0,
        seed=None if greedy else seed,
        logprobs=0 if sampling.log_probs else None,
        detokenize=False,
        extra_args={"autodeco_trace": name} if sampling.trace else None,
    )
