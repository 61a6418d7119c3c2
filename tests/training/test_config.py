import pytest

from autodeco.errors import ConfigError
from autodeco.training.config import load_recipe, load_yaml, recipe_names, training_config

NEEDED = {"model": "m", "data": "d.jsonl", "output": "o"}


def test_the_papers_settings_are_the_defaults():
    config = training_config(NEEDED)
    assert (config.learning_rate, config.max_steps, config.batch_size * config.gradient_accumulation) == (5e-6, 400, 32)
    assert (config.easy_token_masking, config.soft_top_p_decay, config.dynamic_fine_tuning) == (0.6, 30, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learnig_rate": 1}, "unknown setting 'learnig_rate'. Did you mean 'learning_rate'?"),
        ({"soft_top_p_decay": 0}, "soft_top_p_decay: found 0; input should be greater than 0"),
        ({"soft_top_p_decay": "steep"}, "soft_top_p_decay: found 'steep'"),
        ({"objective": "paper"}, "objective: found 'paper'; input should be 'end_to_end' or 'released'"),
        ({"importance_ratio_cap": 0}, "importance_ratio_cap: found 0; input should be greater than 0"),
        ({"soft_nucleus": "open"}, "soft_nucleus: found 'open'; input should be 'inclusive' or 'exclusive'"),
        ({"easy_token_masking": 1.5}, "easy_token_masking: found 1.5"),
        ({"temperature_head": False, "top_p_head": False}, "nothing to train"),
        ({"scoring_rule": "quadratic"}, "scoring_rule quadratic is one of the temperature part, which only"),
    ],
)
def test_bad_settings_are_named_with_their_source(values, message):
    with pytest.raises(ConfigError) as raised:
        training_config({**NEEDED, **values}, "train.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("train.yaml: ")


def test_missing_settings_are_named_with_their_meaning():
    with pytest.raises(ConfigError, match=r"data is missing \(training data"):
        training_config({"model": "m", "output": "o"})


def test_yaml_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="found list"):
        load_yaml(tmp_path / "list.yaml")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_valid_configuration(name):
    config = training_config({**load_recipe(name), "data": "d.jsonl", "output": "o"}, name)
    assert config.batch_size * config.gradient_accumulation == 32


def test_there_is_a_recipe_for_each_published_model():
    assert len(recipe_names()) == 4
    with pytest.raises(ConfigError, match="Did you mean 'gpt-oss-20b'"):
        load_recipe("gpt-oss-20")
