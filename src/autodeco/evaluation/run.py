"""One evaluation: models × tasks × strategies × samples, each completion judged and on disk as soon as it is there.

Strategies take turns, a block of samples at a time, on the same problems and seeds: a run that is stopped half-way has
as many samples of each. What a block's samples are depends on the settings only, so a run goes on after any stop, and
takes further strategies, samples, tasks and models later, without drawing anything twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from autodeco.evaluation.config import EvaluationConfig
from autodeco.evaluation.drawing import Drawing, Job, OnProgress, Progress
from autodeco.evaluation.entries import ORACLE, Planned, is_measured, is_oracle, oracle_split
from autodeco.evaluation.measured import measured_strategies
from autodeco.evaluation.prepare import PreparedModel, PreparedTask, Say, identity_of, prepare_models, prepare_tasks
from autodeco.evaluation.results import ResultsWriter, read_results
from autodeco.evaluation.run_folder import Speeds, guard, locked, write_provenance
from autodeco.evaluation.sweeping import chosen_on_validation, first_stage, oracle
from autodeco.rollouts.sampler import Sampler
from autodeco.serving.samplers import open_sampler

# Rows of the validation split lie in a folder of their own, so that no figure mixes them with the test set's.
VALIDATION_FOLDER = "validation"


def evaluate(
    config: EvaluationConfig,
    *,
    on_progress: OnProgress = lambda _: None,
    say: Say = lambda _: None,
) -> Path:
    """Runs an evaluation, or goes on with one.

    Args:
        config: what to run.
        on_progress: called when something has changed.
        say: called with one sentence at each stage.

    Returns:
        The path of ``results.parquet`` in ``config.output``.

    Raises:
        RunFolderError: the folder holds another evaluation, another process writes it, or the disk is full.
        DataError: a task's data are absent, or a file of the folder is damaged.
        ConfigError: a strategy cannot be run on any of the models.
        ModelNotFoundError: a model is not there.
    """
    tasks = prepare_tasks(config)
    models = prepare_models(config, say)
    with locked(config.output):
        guard(config.output, identity_of(config, models, tasks))
        run = _Run(config, on_progress, say)
        for model in models:
            run.expect(model, tasks)
        for model in models:
            run.model(model, tasks)
        path = run.consolidate()
        # Of all rows, not of this process's alone.
        if errors := int(read_results(path, columns=["correct"])["correct"].isna().sum()):
            say(f"{errors:,} samples could not be judged: they count as neither right nor wrong.")
        return path


class _Run:
    """The state of a run: its files and the model that is loaded."""

    def __init__(self, config: EvaluationConfig, on_progress: OnProgress, say: Say) -> None:
        self.config = config
        self.writer = ResultsWriter(config.output)
        self.progress = Progress()
        self._validation: ResultsWriter | None = None
        self._say = say
        self._recorded = False
        self._on_progress = on_progress
        self._speeds = Speeds(config.output)

    def consolidate(self) -> Path:
        """Writes ``results.parquet`` of the run, and of the validation split where a sweep used it."""
        if self._validation is not None:
            self._validation.consolidate()
        return self.writer.consolidate()

    def expect(self, model: PreparedModel, tasks: Sequence[PreparedTask]) -> None:
        """Counts the samples to come, for the progress bar."""
        problems = sum(len(task.examples) for task in tasks)
        sweep = [planned.spec for planned in first_stage()] if ORACLE in model.strategies else []
        for text in dict.fromkeys([*(text for text in model.strategies if not is_oracle(text)), *sweep]):
            greedy = not is_measured(text) and Planned.of(text).greedy
            self.progress.total += problems * (1 if greedy else self.config.samples)

    def model(self, model: PreparedModel, tasks: Sequence[PreparedTask]) -> None:
        """Runs all tasks on one model, which is loaded when its first sample is drawn."""
        config = self.config
        strategies = self._planned(model, tasks)
        with ExitStack() as stack:
            opened: list[Sampler] = []

            def sampler() -> Sampler:
                if not opened:
                    opened.append(stack.enter_context(self._open(model)))
                return opened[0]

            drawing = Drawing(
                samples=config.samples,
                block=config.block,
                seed=config.seed,
                batch_size=config.batch_size,
                progress=self.progress,
                on_progress=self._on_progress,
                speeds=self._speeds,
                sampler=sampler,
            )
            for task in tasks:
                self._task(drawing, model, task, strategies)

    def _planned(self, model: PreparedModel, tasks: Sequence[PreparedTask]) -> list[Planned]:
        """The strategies that are known before the first sample; measures those that have to be."""
        measured: dict[str, Planned] = {}
        if self.config.measure_on is not None:
            measured = measured_strategies(
                model, tasks, self.config.measure_on, self.config.output, self.config.dtype, self._say
            )
        return [measured.get(text) or Planned.of(text) for text in model.strategies if not is_oracle(text)]

    def _task(self, drawing: Drawing, model: PreparedModel, task: PreparedTask, strategies: Sequence[Planned]) -> None:
        """Runs one task: what is known, with the first stage of the oracle's sweep, then what its results lead to."""
        job, oracles = self._job(model, task), [text for text in model.strategies if is_oracle(text)]
        drawing.draw(job, list(dict.fromkeys([*strategies, *(first_stage() if ORACLE in oracles else [])])))
        for text in oracles:
            if oracle_split(text) is None:
                oracle(drawing, job, self.config.output)
            else:
                validation = self._job(model, task, validation=True)
                chosen_on_validation(drawing, job, validation, self.config.output)

    def _job(self, model: PreparedModel, task: PreparedTask, *, validation: bool = False) -> Job:
        examples, split, writer = task.examples, task.split, self.writer
        if validation:
            if self._validation is None:
                self._validation = ResultsWriter(self.config.output / VALIDATION_FOLDER)
            examples, split, writer = task.validation, "validation", self._validation
        return Job(model.entry.label, task.task, task.label, split, examples, task.max_new_tokens, writer)

    def _open(self, model: PreparedModel) -> AbstractContextManager[Sampler]:
        """A sampler for the model; says so, and records what is about to write to the folder."""
        config = self.config
        if not self._recorded:
            write_provenance(config.output, config.model_dump(mode="json"))
            self._recorded = True
        self._say(f"loading {model.entry.label}")
        return open_sampler(
            model.entry.path,
            base=model.entry.base,
            engine=config.engine,
            dtype=config.dtype,
            batch_size=config.batch_size,
            max_length=config.max_length,
        )
