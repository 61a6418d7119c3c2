import pytest

from autodeco.config import AutoDecoConfig
from autodeco.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be a positive whole number, found 0"),
        ({"hidden_size": 8, "max_temperature": -1}, "temperature range"),
        ({"hidden_size": 8, "max_temperature": float("nan")}, "finite number"),
        ({"hidden_size": 8, "min_temperature": 3.0}, "min_temperature=3.0"),
        ({"hidden_size": 8, "temperature_head": False, "top_p_head": False}, "at least one head"),
        ({"hidden_size": 8, "top_p_head": "yes"}, "must be true or false"),
        ({"hidden_size": 8, "statistic_features": True}, "Did you mean 'statistics_features'?"),
        ({}, "hidden_size is missing"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ConfigError, match=r"file\.json") as raised:
        AutoDecoConfig.from_dict(values, "file.json")
    assert message in str(raised.value)


def test_round_trip():
    config = AutoDecoConfig(hidden_size=8, vocab_size=10, statistics_features=False)
    assert AutoDecoConfig.from_dict(config.to_dict()) == config
    assert config.top_p_input_size == 9
