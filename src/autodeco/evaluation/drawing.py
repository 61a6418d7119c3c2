"""Draws, judges and files the missing samples of some strategies on one task. Knows no configuration of a whole run."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autodeco.evaluation.entries import Planned
from autodeco.evaluation.judging import Judge, Judged
from autodeco.evaluation.results import ResultsWriter, SampleKey
from autodeco.evaluation.run_folder import Speeds
from autodeco.rollouts.sample import batch_seed, dealt_anew
from autodeco.rollouts.sampler import Sample, Sampler, Sampling
from autodeco.strategies import get_strategy
from autodeco.tasks.base import Example, Task, Verdict


@dataclass
class Progress:
    """How far an evaluation is.

    Attributes:
        done: samples on disk.
        total: samples in all, as far as known: a sweep's second stage is known when its first is done.
        what: what is running.
        right: of the samples that this process drew, how many are right.
        judged: of how many.
        errors: on how many the verifier failed.
    """

    done: int = 0
    total: int = 0
    what: str = ""
    right: int = 0
    judged: int = 0
    errors: int = 0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Job:
    """One model on one split of one task.

    Attributes:
        model: name that results are filed under.
        task: whose verifier judges.
        label: what results are filed under.
        split: of the problems.
        examples: the problems.
        max_new_tokens: longest completion.
        writer: of the results.
    """

    model: str
    task: Task
    label: str
    split: str
    examples: Sequence[Example]
    max_new_tokens: int
    writer: ResultsWriter


@dataclass
class Drawing:
    """How samples are drawn, the same for all models and tasks of a run.

    Attributes:
        samples: of each problem; a multiple of ``block``.
        block: samples of each problem that a strategy draws in one turn.
        seed: of the run.
        batch_size: completions generated together.
        progress: kept up to date.
        on_progress: called when it has changed.
        speeds: where tokens and seconds are kept.
        sampler: loads the model, if need be.
    """

    samples: int
    block: int
    seed: int
    batch_size: int
    progress: Progress
    on_progress: OnProgress
    speeds: Speeds
    sampler: Callable[[], Sampler]

    def expect(self, job: Job, strategies: Sequence[Planned]) -> None:
        """Counts samples to come that were not known of before."""
        self.progress.total += len(job.examples) * sum(map(self._samples_of, strategies))

    def is_done(self, job: Job, strategy: Planned) -> bool:
        """Whether all its samples are there."""
        members = itertools.product(range(len(job.examples)), range(self._samples_of(strategy)))
        return all(_key(job, strategy, member, 0) in job.writer.finished for member in members)

    def draw(self, job: Job, strategies: Sequence[Planned]) -> None:
        """Draws what is missing. Strategies take turns; a block's seed is the same for all of them.

        Raises:
            RunFolderError: the disk is full.
            ConfigError: the sampler cannot run a strategy.
        """
        for block in range(self.samples // self.block):
            for strategy in strategies:
                if not (strategy.greedy and block):
                    self._turn(job, strategy, block)

    def _samples_of(self, strategy: Planned) -> int:
        """Samples of each problem. Greedy decoding has one: all others would be the same."""
        return 1 if strategy.greedy else self.samples

    def _turn(self, job: Job, strategy: Planned, block: int) -> None:
        size = 1 if strategy.greedy else self.block
        first = block * size
        members = [(prompt, index) for prompt in range(len(job.examples)) for index in range(size)]
        done = {member for member in members if _key(job, strategy, member, first) in job.writer.finished}
        self.progress.done += len(done)
        self.progress.what = f"{job.model} · {job.label} · {strategy.filed} · sample {first + 1}"
        self.on_progress(self.progress)
        if len(done) == len(members):
            return
        seed = batch_seed(self.seed, f"block {block}")
        sampling = Sampling(
            samples_per_prompt=size,
            max_new_tokens=job.max_new_tokens,
            batch_size=self.batch_size,
            seed=seed,
            strategy=_spec_for(strategy, seed),
            trace=True,
        )

        def take(judged: Judged) -> None:
            job.writer.append([_row(job, strategy, first, seed, sample, verdict) for sample, verdict in judged])
            self._count([verdict for _, verdict in judged])

        self._run(job, strategy, sampling, done, take)

    def _run(
        self,
        job: Job,
        strategy: Planned,
        sampling: Sampling,
        done: set[tuple[int, int]],
        take: Callable[[Judged], None],
    ) -> None:
        sampler = self.sampler()
        prompts = [example.messages for example in job.examples]
        samples, tokens, seconds = 0, 0, 0.0
        started = time.monotonic()
        try:
            with Judge(job.task, job.examples, take, self.batch_size) as judge:
                for batch in sampler.draw(prompts, sampling, done=done):
                    seconds = time.monotonic() - started
                    samples += len(batch)
                    tokens += sum(len(sample.completion_ids) for sample in batch)
                    judge.put(batch)
        finally:
            if samples:
                what = {"model": job.model, "task": job.label, "split": job.split, "strategy": strategy.filed}
                self.speeds.add(samples, tokens, seconds, **what)

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        self.progress.done += len(verdicts)
        self.progress.right += sum(verdict.correct is True for verdict in verdicts)
        self.progress.judged += sum(verdict.correct is not None for verdict in verdicts)
        self.progress.errors += sum(verdict.correct is None for verdict in verdicts)
        self.on_progress(self.progress)


def _spec_for(strategy: Planned, seed: int) -> str:
    """What the sampler is given for one block: Shuffled deals anew in each, or all blocks would have the same deal."""
    return dealt_anew(get_strategy(strategy.spec), str(seed)).spec


def _key(job: Job, strategy: Planned, member: tuple[int, int], first: int) -> SampleKey:
    prompt, index = member
    return SampleKey(job.model, job.label, strategy.filed, job.examples[prompt].id, first + index)


def _row(job: Job, strategy: Planned, first: int, seed: int, sample: Sample, verdict: Verdict) -> dict[str, Any]:
    """One line of the results."""
    key = _key(job, strategy, (sample.prompt_index, sample.sample_index), first)
    return {
        **key._asdict(),
        "split": job.split,
        "seed": seed,
        "correct": None if verdict.correct is None else bool(verdict.correct),
        "error": verdict.error,
        "text": sample.text,
        "answer": None if verdict.answer is None else str(verdict.answer),
        "tokens": len(sample.completion_ids),
        "finish": sample.finish,
        "entropy": _mean(sample.entropy),
        "mean_temperature": _mean(sample.temperature),
        "mean_top_p": _mean(sample.top_p),
        "details": json.dumps(verdict.details, default=str) if verdict.details else None,
    }


def _mean(values: Sequence[float] | None) -> float | None:
    return sum(values) / len(values) if values else None
