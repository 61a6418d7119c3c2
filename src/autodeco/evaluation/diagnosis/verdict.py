"""The diagnosis in one paragraph: what a user reads."""

from __future__ import annotations

from autodeco.evaluation.diagnosis.result import Diagnosis, Interval


def conclusion(diagnosis: Diagnosis) -> str:
    """One clause, from the interval of the gain over the best constant."""
    gain = diagnosis.overall.heads_over_constant
    if gain.low > 0:
        return "the heads adapt: their temperature is better than any constant one"
    if gain.high < 0:
        return "the heads are worse than a constant temperature"
    return "the heads are no better than a constant temperature, as far as these tokens can tell"


def verdict(diagnosis: Diagnosis) -> str:
    """One paragraph: the conclusion, then the figures it rests on, in nats a token with 95 % intervals."""
    overall, constants = diagnosis.overall, diagnosis.constants
    sentences = [
        f"On {overall.tokens:,} tokens of {diagnosis.trajectories:,} trajectories ({diagnosis.data}), "
        f"{conclusion(diagnosis)}.",
        f"The heads' T has mean {overall.heads_temperature:.3f} and spread {diagnosis.spread:.3f}; the best constant "
        f"is T = {constants.temperature:.3f} (chosen on {constants.chosen_on}).",
        f"The heads gain {_nats(overall.heads_over_constant)} nats a token over that constant and "
        f"{_nats(overall.heads_over_mean)} over their own mean.",
        f"One constant for each fifth of the entropy would gain {_nats(overall.fifths_over_constant)}, the best T of "
        f"each token, which knows the target, {_nats(overall.optimum_over_constant)}.",
    ]
    if overall.share is not None:
        share = overall.share
        sentences.append(f"Of that last gain the heads take {share.value:.1%} ({share.low:.1%} to {share.high:.1%}).")
    sentences += [_alignment(diagnosis), *_nucleus(diagnosis)]
    return " ".join(sentences)


def _alignment(diagnosis: Diagnosis) -> str:
    found = diagnosis.alignment
    if found is None:
        return "Their T does not vary, so there is nothing to align."
    meaning = "towards" if found.low > 0 else "against" if found.high < 0 else "neither towards nor against"
    return (
        f"Their deviations from the mean point {meaning} what the targets want (correlation with the slope of the "
        f"log-probability {found.value:+.3f}, {found.low:+.3f} to {found.high:+.3f})."
    )


def _nucleus(diagnosis: Diagnosis) -> list[str]:
    found = diagnosis.nucleus
    if found is None:
        return []
    return [
        f"Their P has mean {diagnosis.constants.mean_top_p:.3f} and spread {found.spread:.3f} and cuts off "
        f"{found.outside_heads.value:.2%} of the targets; the mean P everywhere would cut off "
        f"{found.outside_constant.value:.2%} (difference {100 * found.outside_difference.low:+.2f} to "
        f"{100 * found.outside_difference.high:+.2f} points)."
    ]


def _nats(gain: Interval) -> str:
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
