"""Specs: round trips, one name for one setting, errors that say what was meant."""

from __future__ import annotations

import pytest

from autodeco.errors import ConfigError
from autodeco.strategies import Default, MeanShift, PLess, Static, get_strategy, strategy_names


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("default", "default"),
        ("static", "default"),
        ("static:temperature=1,top_p=1.0", "default"),
        (" greedy ", "greedy"),
        ("static:temperature=0.70,top_p=.9", "static:temperature=0.7,top_p=0.9"),
        ("static:top_k=20, min_p=0.05", "static:top_k=20,min_p=0.05"),
        ("min-p", "static:min_p=0.1"),
        ("p-less", "p-less"),
        ("p-less-norm:temperature=2", "p-less-norm:temperature=2"),
        ("mean-shift:temperature=1,top_p=0.93", "mean-shift:temperature=1,top_p=0.93"),
        ("min-k", "min-k:tau=3"),
        ("top-n-sigma", "top-n-sigma:n=1"),
        ("top-n-sigma:n=1.5,temperature=2", "top-n-sigma:temperature=2,n=1.5"),
        ("edt:theta=0.5", "edt:theta=0.5,base=0.8"),
        ("dynatemp:range=0.5", "dynatemp:range=0.5,exponent=1"),
        ("autodeco", "autodeco"),
        ("temperature-head", "temperature-head"),
        ({"name": "static", "temperature": 0.7}, "static:temperature=0.7"),
        ({"name": "static", "temperature": "0.7"}, "static:temperature=0.7"),
        ("static:temperature=0.123456789", "static:temperature=0.123456789"),
    ],
)
def test_spec_is_canonical_and_reads_back(written, canonical):
    strategy = get_strategy(written)
    assert str(strategy) == canonical
    assert get_strategy(str(strategy)) == strategy


def test_spec_of_shuffled_keeps_a_path_with_commas(bank):
    strategy = get_strategy(f"shuffled:bank={bank},seed=3")
    assert strategy.bank == str(bank)
    assert str(strategy) == f"shuffled:bank={bank},seed=3"


def test_a_strategy_is_returned_as_it_is():
    strategy = PLess()
    assert get_strategy(strategy) is strategy
    assert isinstance(get_strategy("default"), Default)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("p-les", "unknown strategy 'p-les'. Did you mean 'p-less'?"),
        ("zzz", "Valid names: autodeco, default,"),
        ("", "unknown strategy ''"),
        ("static:temprature=0.7", "no parameter 'temprature'. Did you mean 'temperature'?"),
        ("greedy:temperature=2", "no parameter 'temperature'. It takes none."),
        ("static:temperature", "expected NAME or NAME:PARAMETER=VALUE"),
        ("static:", "expected NAME or NAME:PARAMETER=VALUE"),
        ("static:temperature=0.7,temperature=0.8", "sets temperature twice"),
        ("static:temperature=hot", "temperature must be a number, found 'hot'"),
        ("static:temperature=nan", "temperature must be a number at least 0.01, found nan"),
        ("static:temperature=inf", "temperature must be a number at least 0.01, found inf"),
        ("static:temperature=0", "use the strategy 'greedy'"),
        ("static:temperature=-1", "at least 0.01, found -1.0"),
        ("static:top_p=0", "top_p must be a number above 0 and at most 1, found 0.0"),
        ("static:top_p=1.1", "above 0 and at most 1, found 1.1"),
        ("static:top_k=2.5", "top_k must be a whole number, found '2.5'"),
        ("static:top_k=-1", "top_k must be a number at least 0, found -1"),
        ("static:min_p=2", "min_p must be a number at least 0 and at most 1"),
        ("mean-shift:temperature=0.6", "needs top_p"),
        ("mean-shift", "needs temperature and top_p"),
        ("shuffled:bank=/no/such/file", "no bank of pairs at '/no/such/file'"),
        ("shuffled", "needs bank"),
        ("edt", "needs theta"),
        ("edt:theta=0", "theta must be a number above 0"),
        ("edt:theta=1,base=1.5", "base must be a number above 0 and at most 1"),
        ("dynatemp", "needs range"),
        ("dynatemp:range=0", "range must be a number above 0"),
        ("min-k:tau=-1", "tau must be a number at least 0"),
        ("top-n-sigma:n=0", "n must be a number above 0"),
        ({"temperature": 0.7}, "needs its 'name'"),
        ({"name": "static", "temperature": True}, "must be a number, found True"),
        ({"name": "static", "top_k": 2.0}, "must be a whole number, found 2.0"),
        (7, "given as text or as a mapping"),
    ],
)
def test_errors_say_what_was_found_and_meant(spec, message):
    with pytest.raises(ConfigError) as raised:
        get_strategy(spec)
    assert message in str(raised.value)


def test_python_values_are_checked_too():
    with pytest.raises(ConfigError, match="whole number"):
        Static(top_k=2.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="top_p"):
        MeanShift(temperature=0.6, top_p=0.0)


def test_every_name_is_listed():
    assert {"greedy", "static", "p-less", "min-k", "top-n-sigma", "edt", "autodeco"} <= set(strategy_names())
