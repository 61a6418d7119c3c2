"""Goes over hidden states twice: first to find the constants, then to measure every token against them.

Logits live for one small piece of a chunk. What is kept of a token are some 40 numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodeco import distribution
from autodeco.errors import DataError
from autodeco.evaluation.diagnosis import tokens
from autodeco.evaluation.diagnosis.chunks import Chunk, StoredChunks
from autodeco.evaluation.diagnosis.result import Constants, Diagnosis, MeasuredTokens, summed_up
from autodeco.heads import DecodingHeads
from autodeco.objectives.eager import LMHead
from autodeco.training.hidden_states import HiddenStateStore

_PIECE_ELEMENTS = 4_194_304  # logits at once: 16 MB of float32, and about six temporaries of that size


def diagnose(
    chunks: Iterable[Chunk],
    heads: DecodingHeads,
    lm_head: LMHead,
    *,
    data: str,
    constants: Constants | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Diagnosis:
    """Measures whether the heads' temperature (and top-p) is better than a constant.

    Args:
        chunks: gone over twice, so a list or an object that can be iterated again, not a generator.
        heads: trained, on the same device as the chunks.
        lm_head: ``[V, H]``, or a function from hidden states ``[N, H]``, in the precision they come in, to logits
            ``[N, V]``.
        data: what the tokens are, for the record ("test trajectories of ...").
        constants: temperatures and top-p from elsewhere (training data) to measure against; ``None`` takes the best
            constant and the heads' means on these tokens, which is the hardest comparison for the heads.
        resamples: bootstrap draws over trajectories.
        seed: of those.

    Raises:
        DataError: no tokens, fewer than two trajectories, or ``chunks`` can be iterated only once.
    """
    if iter(chunks) is chunks:
        raise DataError("the diagnosis goes over its chunks twice: give a list or a re-iterable object, no generator.")
    with torch.no_grad():
        survey = _surveyed(chunks, heads, lm_head)
        quintiles = _quintiles(survey.entropy.numpy())
        own_betas = [_best_beta(survey, torch.from_numpy(quintiles == group)) for group in range(5)]
        found = constants or _constants_of(survey, heads, "these tokens")
        group_betas = torch.tensor(own_betas, dtype=torch.float64)[torch.from_numpy(quintiles)]
        guesses = tokens.guessed_beta(survey.slopes)
        measured = _measure_all(chunks, heads, lm_head, found, torch.stack([group_betas, guesses], dim=-1))
    everything = {
        **measured,
        "entropy": survey.entropy.numpy(),
        "temperature": survey.temperature.numpy(),
        "top_p": survey.top_p.numpy(),
    }
    taken = MeasuredTokens(everything, survey.trajectory.numpy(), quintiles, [1 / beta for beta in own_betas])
    return summed_up(taken, found, data, resamples, seed)


def best_constants(chunks: Iterable[Chunk], heads: DecodingHeads, lm_head: LMHead, *, chosen_on: str) -> Constants:
    """The best constant temperature and the heads' means on some tokens, for :func:`diagnose` on others.

    Args:
        chunks: see :func:`diagnose`.
        heads: see :func:`diagnose`.
        lm_head: see :func:`diagnose`.
        chosen_on: what the tokens are, for the record.

    Raises:
        DataError: no tokens.
    """
    with torch.no_grad():
        return _constants_of(_surveyed(chunks, heads, lm_head), heads, chosen_on)


def diagnose_store(
    store: HiddenStateStore,
    heads: DecodingHeads,
    lm_head: LMHead,
    *,
    rows: Sequence[int] | None = None,
    data: str | None = None,
    constants: Constants | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Diagnosis:
    """:func:`diagnose` on a hidden-state store; every row is a trajectory.

    Args:
        store: filled.
        heads: trained, on the CPU like the store's states.
        lm_head: of the base that filled the store; see :func:`diagnose`. A function is given bfloat16.
        rows: only these (held-out ones); ``None`` for all.
        data: what the tokens are; the store's folder if not given.
        constants: see :func:`diagnose`.
        resamples: see :func:`diagnose`.
        seed: see :func:`diagnose`.

    Raises:
        StoreError: a shard cannot be read.
        DataError: see :func:`diagnose`; or the heads see a summary of the prompt, and the store holds no prompts.
    """
    chunks = StoredChunks(store, heads, rows)
    name = data or f"{len(chunks.rows):,} stored trajectories of {store.identity.model}"
    return diagnose(chunks, heads, lm_head, data=name, constants=constants, resamples=resamples, seed=seed)


class _Survey(NamedTuple):
    """What the first pass knows of each token; ``[N]``, the sums ``[N, G]`` float32; on the CPU."""

    trajectory: Tensor
    entropy: Tensor
    temperature: Tensor
    top_p: Tensor
    values: Tensor
    slopes: Tensor


class _Piece(NamedTuple):
    chunk: Chunk
    logits: Tensor  # [n, V] float32 or float64


def _pieces(chunks: Iterable[Chunk], lm_head: LMHead, heads: DecodingHeads) -> Iterator[_Piece]:
    vocab_size = (heads.config.vocab_size or 131_072) if callable(lm_head) else lm_head.shape[0]
    size = max(1, _PIECE_ELEMENTS // vocab_size)
    for chunk in chunks:
        for start in range(0, len(chunk.targets), size):
            piece = chunk.at(slice(start, start + size))
            hidden = piece.hidden_states
            logits = lm_head(hidden) if callable(lm_head) else hidden.to(lm_head.dtype) @ lm_head.T
            yield _Piece(piece, distribution.as_working_precision(logits))


def _heads_values(piece: _Piece, heads: DecodingHeads) -> tuple[Tensor, Tensor]:
    """T ``[n]`` as it divides the logits, and P ``[n]``."""
    seen = heads.input_of(piece.chunk.hidden_states, piece.chunk.summary)
    temperature = heads.temperature(seen, heads.base_statistics(piece.logits))
    rows = distribution.scale_rows(
        piece.logits, temperature, heads.config.min_temperature, statistics=heads.needs_statistics
    )
    top_p = heads.top_p(seen, temperature, rows.statistics)
    return temperature.clamp(min=heads.config.min_temperature), top_p


def _surveyed(chunks: Iterable[Chunk], heads: DecodingHeads, lm_head: LMHead) -> _Survey:
    found = [_survey(piece, heads) for piece in _pieces(chunks, lm_head, heads)]
    if not found:
        raise DataError("the diagnosis found no tokens. Give trajectories with at least one completion token.")
    return _Survey(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _constants_of(survey: _Survey, heads: DecodingHeads, chosen_on: str) -> Constants:
    return Constants(
        temperature=1 / _best_beta(survey, slice(None)),
        mean_temperature=float(survey.temperature.mean()),
        mean_top_p=None if heads.top_p_head is None else float(survey.top_p.mean()),
        chosen_on=chosen_on,
    )


def _survey(piece: _Piece, heads: DecodingHeads) -> _Survey:
    temperature, top_p = _heads_values(piece, heads)
    values, slopes = tokens.on_grid(piece.logits, piece.chunk.targets)
    entropy = tokens.entropy(values, slopes)
    found = (piece.chunk.trajectories, entropy, temperature.double(), top_p.double(), values.float(), slopes.float())
    return _Survey(*(values.cpu() for values in found))


def _best_beta(survey: _Survey, tokens_of: slice | Tensor) -> float:
    values, slopes = survey.values[tokens_of].double().sum(0), survey.slopes[tokens_of].double().sum(0)
    return tokens.best_common_beta(values, slopes)


def _quintiles(entropies: NDArray[np.float64]) -> NDArray[np.int64]:
    """The fifth that each token's entropy is in, 0 to 4; equal entropies may be in two fifths, for equal sizes."""
    ranks = np.empty(len(entropies), dtype=np.int64)
    ranks[np.argsort(entropies, kind="stable")] = np.arange(len(entropies))
    return ranks * 5 // len(entropies)


def _measure_all(
    chunks: Iterable[Chunk], heads: DecodingHeads, lm_head: LMHead, constants: Constants, betas: Tensor
) -> dict[str, NDArray[np.float64]]:
    found: list[dict[str, Tensor]] = []
    start = 0
    for piece in _pieces(chunks, lm_head, heads):
        end = start + len(piece.chunk.targets)
        found.append(_measure(piece, heads, constants, betas[start:end].to(piece.logits.device)))
        start = end
    return {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}


def _measure(piece: _Piece, heads: DecodingHeads, constants: Constants, betas: Tensor) -> dict[str, Tensor]:
    """Measures tokens; ``betas`` ``[n, 2]`` are those of the entropy fifths and the guesses of the optimum."""
    logits, targets = piece.logits, piece.chunk.targets
    divisor, top_p = _heads_values(piece, heads)
    temperature = divisor.double()
    lowest, highest = (torch.full_like(temperature, bound) for bound in tokens.OPTIMUM_RANGE)
    # The range is widened to the heads' own T, so that the optimum is never worse than the heads.
    low, high = 1 / torch.maximum(highest, temperature), 1 / torch.minimum(lowest, temperature)
    at = {
        "default": torch.ones_like(temperature),
        "constant": torch.full_like(temperature, 1 / constants.temperature),
        "mean": torch.full_like(temperature, 1 / constants.mean_temperature),
        "heads": 1 / temperature,
        "group_constants": betas[:, 0],
        "optimum": tokens.best_beta(logits, targets, low, high, start=betas[:, 1]),
    }
    values = tokens.values_at(logits, targets, torch.stack(list(at.values()), dim=-1))
    found = dict(zip(at, values.unbind(-1), strict=True))
    found["slope"] = tokens.slopes_by_temperature(logits, targets, constants.mean_temperature)
    if constants.mean_top_p is not None:
        for name, threshold in (("heads", top_p), ("constant", torch.full_like(top_p, constants.mean_top_p))):
            found |= _nucleus(piece, divisor, threshold, name)
    return {name: values.cpu() for name, values in found.items()}


def _nucleus(piece: _Piece, divisor: Tensor, top_p: Tensor, name: str) -> dict[str, Tensor]:
    """Log-mass that a nucleus of ``softmax(l / T)`` keeps, and whether the target is outside it."""
    at_targets = piece.chunk.targets.long().unsqueeze(-1)
    rows = distribution.scale_rows(piece.logits, divisor, statistics=False)
    whole, before = rows.logits.logsumexp(-1), rows.logits.gather(-1, at_targets)
    cut = distribution.cut_nucleus(rows, top_p)  # overwrites the rows; without a sort where there are kernels
    outside = before - cut.gather(-1, at_targets) > distribution.NUCLEUS_PENALTY / 2
    return {
        f"log_mass_{name}": (cut.logsumexp(-1) - whole).double(),
        f"outside_{name}": outside.squeeze(-1).double(),
    }
