"""Options of single requests, and traces: what ``compute_logits`` gets besides hidden states, and what it leaves.

A request carries them in ``vllm_xargs`` (OpenAI server) or ``SamplingParams.extra_args``:

- ``autodeco``: 0 switches the heads off for it;
- ``autodeco_max_temperature``: an upper bound on its temperatures;
- ``autodeco_trace``: a name under which T and P of each of its tokens are kept until they are fetched.

vLLM has two model runners and a public hook in each: V1 calls a custom logits processor's ``update_state`` before every
forward pass (:class:`RequestOptions`), V2 asks the model for a state (``state.py``). Both fill :class:`Rows`.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

from autodeco import distribution
from autodeco.heads import DecodingHeads, RowOptions
from autodeco.serving.vllm.prompts import Prompt, Prompts
from autodeco.strategies import Strategy, get_strategy

# Traces that nobody fetched, beyond which the oldest is dropped.
_KEPT_TRACES = 1000
_NAMES = ("autodeco", "autodeco_max_temperature", "autodeco_trace")

_ROWS: weakref.WeakValueDictionary[int, Rows] = weakref.WeakValueDictionary()


class Options(NamedTuple):
    """Of one request."""

    enabled: bool
    max_temperature: float
    trace: str | None

    @classmethod
    def of(cls, params: SamplingParams) -> Options | None:
        """Reads a request's options; ``None`` if it has none.

        Raises:
            ValueError: an unknown name or a value that cannot be used (the server answers with status 400).
        """
        given = {name: value for name, value in (params.extra_args or {}).items() if name.startswith("autodeco")}
        if not given:
            return None
        unknown = sorted(given.keys() - set(_NAMES))
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; there are {', '.join(_NAMES)}.")
        limit = given.get("autodeco_max_temperature", float("inf"))
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise ValueError(f"autodeco_max_temperature must be a positive number, found {limit!r}.")
        trace = given.get("autodeco_trace")
        if trace is not None and not (isinstance(trace, str) and 0 < len(trace) <= 200):
            raise ValueError(f"autodeco_trace must be a name of at most 200 characters, found {trace!r}.")
        if trace is not None and params.n > 1:
            raise ValueError(f"autodeco_trace is for one completion, found n = {params.n}: send {params.n} requests.")
        return cls(bool(given.get("autodeco", True)), float(limit), trace)


class Rows:
    """What the rows of the coming ``compute_logits`` call are, and the traces of those before.

    Args:
        owner: what it is registered under; kept, so that nothing else gets its identity.
    """

    def __init__(self, owner: object = None) -> None:
        self._owner = owner
        # By row: its options, and its request's tokens so far (V1) or its position (V2).
        self.pending: dict[int, tuple[Options, list[int] | int]] = {}
        self.traces: OrderedDict[str, dict[int, tuple[float, ...]]] = OrderedDict()
        self.prompts = Prompts()  # followed for heads that see them, by PromptOptions
        # The model's, where this process has them, and what stands in their place, if anything does.
        self.heads: DecodingHeads | None = None
        self.strategy: Strategy | None = None

    def set_strategy(self, spec: str | None) -> str | None:
        """Puts another decoding strategy in the heads' place, for all rows from now on; ``None`` puts the heads back.

        Returns:
            The canonical spec.

        Raises:
            ConfigError: there is no such strategy, or it needs a head that is not there; the one before stays.
        """
        strategy = None if spec is None else get_strategy(spec)
        if strategy is not None and self.heads is not None:
            strategy = strategy.bind(self.heads)
        self.strategy = strategy
        return None if strategy is None else strategy.spec

    def shape(self, heads: DecodingHeads, hidden_states: Tensor, logits: Tensor) -> Tensor:
        """Shapes a batch of logits ``[rows, V]`` with the rows' options, and keeps what their traces ask for."""
        rows, self.pending = self.pending, {}  # prompt log-probabilities come later: shaped without options
        shaper = heads if self.strategy is None else self.strategy
        if not rows:
            return shaper.shape(hidden_states, logits).logits
        shaped = shaper.shape(hidden_states, logits, _row_options(rows, logits))
        traced = [row for row, (options, _) in rows.items() if options.trace is not None]
        if traced:
            values = (shaped.temperature[traced], shaped.top_p[traced], distribution.entropy(shaped.logits[traced]))
            for row, own in zip(traced, torch.stack(values, dim=1).tolist(), strict=True):
                options, position = rows[row]
                self._keep(str(options.trace), position if isinstance(position, int) else len(position), tuple(own))
        return shaped.logits

    def _keep(self, name: str, position: int, values: tuple[float, ...]) -> None:
        self.traces.setdefault(name, {})[position] = values
        self.traces.move_to_end(name)
        while len(self.traces) > _KEPT_TRACES:
            self.traces.popitem(last=False)

    def take_trace(self, name: str) -> list[tuple[float, ...]]:
        """T, P and entropy at each token of a request, in order; they are forgotten then."""
        trace = self.traces.pop(name, {})
        return [trace[position] for position in sorted(trace)]


def _row_options(rows: dict[int, tuple[Options, list[int] | int]], logits: Tensor) -> RowOptions | None:
    """What the heads have to know of single rows; ``None`` where all are as usual (a trace alone changes nothing)."""
    if all(options.enabled and options.max_temperature == float("inf") for options, _ in rows.values()):
        return None
    enabled = torch.ones(len(logits), dtype=torch.bool)
    limit = torch.full((len(logits),), float("inf"))
    for row, (options, _) in rows.items():
        enabled[row], limit[row] = options.enabled, options.max_temperature
    return RowOptions(enabled.to(logits.device), limit.to(logits.device))


def rows_of(vllm_config: VllmConfig) -> Rows:
    """The one :class:`Rows` of an engine in this process, which model, runner and worker share."""
    # By identity of a part that all views of one engine's configuration share: vLLM gives the configuration a new
    # instance_id after the model was built, where the worker has no process of its own (as on a single GPU).
    shared = vllm_config.compilation_config
    rows = _ROWS.get(id(shared))
    if rows is None:
        rows = _ROWS[id(shared)] = Rows(shared)
    return rows


class RequestOptions(LogitsProcessor):  # type: ignore[misc]
    """For the V1 runner: tells :class:`Rows` which row is whose. Never touches logits itself."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Called when a request arrives. Raises :class:`ValueError` if its options cannot be used."""
        Options.of(sampling_params)

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._rows = rows_of(vllm_config)
        self._requests: dict[int, tuple[Options, list[int] | int]] = {}

    def is_argmax_invariant(self) -> bool:
        """It changes nothing."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Called before each forward pass."""
        process_dict_updates(self._requests, batch_update, _new_request)
        self._rows.pending = dict(self._requests)

    def apply(self, logits: Tensor) -> Tensor:
        """Returns the logits as they are."""
        return logits


class PromptOptions(RequestOptions):
    """The same for heads with ``prompt_summary``: also tells :class:`Rows` which row's prompt is how long."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Called when a request arrives. Raises :class:`ValueError` if it asks for what these heads cannot give."""
        super().validate_params(sampling_params)
        if sampling_params.prompt_logprobs is not None:
            raise ValueError(
                "prompt_logprobs (and echo with logprobs): the heads of this model see a summary of the whole prompt, "
                "which is not there yet while the prompt is read. Leave it out."
            )

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        super().__init__(vllm_config, device, is_pin_memory)
        self._prompts: dict[int, Prompt] = {}

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Called before each forward pass. A request that comes back after it had to make room is read anew."""
        super().update_state(batch_update)
        process_dict_updates(self._prompts, batch_update, _new_prompt)
        self._rows.prompts.rows = dict(self._prompts)


def _new_prompt(params: SamplingParams, prompt: list[int] | None, output: list[int]) -> Prompt:
    assert prompt is not None  # prompts without tokens are refused at the start
    return Prompt(len(prompt))


def _new_request(
    params: SamplingParams, prompt: list[int] | None, output: list[int]
) -> tuple[Options, list[int] | int] | None:
    options = Options.of(params)
    return None if options is None else (options, output)


class WorkerExtension:
    """Methods that vLLM's workers get (``--worker-extension-cls``), called by its ``collective_rpc``."""

    vllm_config: VllmConfig

    def autodeco_take_trace(self, name: str) -> list[tuple[float, ...]]:
        """T, P and entropy at each token of a finished request, by the name it gave; empty if this worker has none."""
        return rows_of(self.vllm_config).take_trace(name)

    def autodeco_set_strategy(self, spec: str | None) -> str | None:
        """Decodes with another strategy from now on (``None``: the heads). See :meth:`Rows.set_strategy`.

        Hidden states do not depend on it, so what the engine has cached stays valid.
        """
        return rows_of(self.vllm_config).set_strategy(spec)
