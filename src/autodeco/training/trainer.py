"""AutoDecoTrainer: Transformers' Trainer with AutoDeco's objective, metrics, and checkpoints of the heads only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from autodeco.checkpoint import load_heads
from autodeco.errors import TrainingError
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.objectives import ObjectiveOutput
from autodeco.objectives.eager import IGNORED

# (heads, hidden states, lm_head, labels, easy-token draws, row_weights=...) → losses; the settings are bound already.
Objective = Callable[..., ObjectiveOutput]


class AutoDecoTrainer(Trainer):  # type: ignore[misc]
    """Trains the decoding heads of an :class:`AutoDecoForCausalLM`; its base's own weights stay frozen.

    Args:
        objective: one of :mod:`autodeco.objectives`, its settings bound.
        row_names: what to call each training row in an error.
        **kwargs: Transformers' own.
    """

    def __init__(self, *, objective: Objective, row_names: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The objective averages over each micro-batch's own positions, so Trainer has to average over micro-batches,
        # which it does not for models whose forward takes **kwargs unless told so.
        self.model_accepts_loss_kwargs = False
        self._objective = objective
        self._row_names = row_names
        self._metrics: list[dict[str, Tensor | int]] = []
        self._further_metrics: dict[str, list[Tensor]] = defaultdict(list)  # by name, of the objective's own
        self._draws_made = (-1, 0)  # optimiser step, micro-steps of it so far
        self._logged_at = time.perf_counter()

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        """Returns the objective's loss of one micro-batch, and keeps its metrics for the log.

        Raises:
            TrainingError: the loss is not finite; the optimiser has not taken a step with it.
        """
        draws = None
        if model.training:
            generator = self._generator()
            inputs = self._sampled(inputs, generator)
            draws = _easy_token_draws(inputs["labels"], generator)
        # Through the (possibly wrapped) model's forward, so that gradients are synchronised across devices.
        names = (
            "hidden_states",
            "input_ids",
            "attention_mask",
            "labels",
            "row_weights",
            "prompt_mask",
            "prompt_states",
        )
        given = {name: inputs[name] for name in names if name in inputs}
        output = model(**given, objective=self._objective_of(inputs), easy_token_draws=draws)
        if not torch.isfinite(output.loss):
            raise TrainingError(self._not_finite(output.objective, inputs["row"]))
        if model.training:
            self._keep_metrics(output, inputs)
        return (output.loss, output) if return_outputs else output.loss

    def _objective_of(self, inputs: dict[str, Tensor]) -> Objective:
        """The objective of one micro-batch; subclasses bind what else their batches hold."""
        return self._objective

    def _sampled(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """What a training step sees of a micro-batch; subclasses draw a part of it."""
        return inputs

    def prediction_step(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        """Evaluation loss: no easy-token masking, so that it does not vary by chance."""
        with torch.no_grad():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the objective's parts, temperatures, top-p and speed since the last log."""
        if "loss" in logs and self._metrics:
            logs = {**logs, **self._mean_metrics()}
        super().log(logs, *args, **kwargs)

    def _generator(self) -> torch.Generator:
        """The generator of a micro-step's own draws.

        Seeded by seed, device and step, so that a resumed run draws what an uninterrupted one would have drawn.
        """
        step, micro_step = self._draws_made
        micro_step = micro_step + 1 if step == self.state.global_step else 0
        self._draws_made = (self.state.global_step, micro_step)
        seed = hash((self.args.seed, self.args.process_index, self.state.global_step, micro_step)) % 2**63
        return torch.Generator().manual_seed(seed)

    def _keep_metrics(self, output: Any, inputs: dict[str, Tensor]) -> None:
        objective: ObjectiveOutput = output.objective
        values: dict[str, Tensor | int] = {
            "temperature_sum": objective.temperature.double().sum(),
            "temperature_square_sum": objective.temperature.double().square().sum(),
            "top_p_sum": objective.top_p.double().sum(),
            "top_p_square_sum": objective.top_p.double().square().sum(),
            "easy_sum": objective.easy.sum(),
            "positions": len(objective.easy),
            # A stored row counts with the positions that it has.
            "tokens": inputs["attention_mask"].sum() if "attention_mask" in inputs else _label_count(inputs["labels"]),
        }
        if objective.temperature_loss is not None and objective.top_p_loss is not None:
            values["temperature_loss"] = objective.temperature_loss.detach()
            values["top_p_loss"] = objective.top_p_loss.detach()
        self._metrics.append(values)
        for name, value in objective.metrics.items():
            self._further_metrics[name].append(value)

    def _mean_metrics(self) -> dict[str, float]:
        """Metrics of the micro-steps since the last log, of this process."""

        def total(name: str) -> float:
            return float(sum(float(values[name]) for values in self._metrics))

        positions = max(1.0, total("positions"))
        means: dict[str, float] = {}
        for name in ("temperature", "top_p"):
            mean = total(f"{name}_sum") / positions
            means[f"{name}_mean"] = mean
            means[f"{name}_std"] = max(0.0, total(f"{name}_square_sum") / positions - mean**2) ** 0.5
        if "temperature_loss" in self._metrics[0]:
            for name in ("temperature_loss", "top_p_loss"):
                means[name] = total(name) / len(self._metrics)
        means |= {name: float(torch.stack(values).mean()) for name, values in self._further_metrics.items()}
        now = time.perf_counter()
        means["easy_share"] = total("easy_sum") / positions
        means["tokens_per_second"] = total("tokens") / max(1e-9, now - self._logged_at)
        self._logged_at = now
        self._metrics.clear()
        self._further_metrics.clear()
        return means

    def _not_finite(self, objective: ObjectiveOutput, rows: Tensor) -> str:
        bad = sorted(set(objective.rows[~torch.isfinite(objective.token_losses)].tolist()))
        names = [self._row_names[int(rows[index])] for index in bad or range(len(rows))]
        return (
            f"the loss is not finite at step {self.state.global_step + 1}, in {', '.join(names)}. The optimiser has "
            f"not used it. Look at that row and at the base model's logits on it (dtype float16 overflows easily); "
            f"run the same command again to go on from the last checkpoint."
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Saves the heads and their adapter only; the base is never copied into a checkpoint."""
        if self.args.should_save:
            self._autodeco_model.save_pretrained(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        heads = load_heads(resume_from_checkpoint)
        self._autodeco_model.decoding_heads.load_state_dict(heads.state_dict())

    @property
    def _autodeco_model(self) -> AutoDecoForCausalLM:
        model: AutoDecoForCausalLM = self.accelerator.unwrap_model(self.model)
        return model


def _easy_token_draws(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform draws ``[B, S-1]``."""
    return torch.rand(labels.shape[0], labels.shape[1] - 1, generator=generator).to(labels.device)


def _label_count(labels: Tensor) -> Tensor:
    return (labels[:, 1:] != IGNORED).sum()
