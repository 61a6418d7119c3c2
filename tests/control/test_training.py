import json
import math

import pytest
import torch
from safetensors.torch import load_file

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import load_heads
from autodeco.control import trainer
from autodeco.control.commands import digest, load_commands
from autodeco.control.config import control_config
from autodeco.control.training import train_control
from autodeco.errors import ConfigError, DataError, RunFolderError, StoreError
from autodeco.objectives import fused
from autodeco.training.config import TrainingConfig, load_recipe, recipe_names


def run(settings, **changes):
    return train_control(control_config({**settings, **changes}), progress=False)


def weights(folder):
    return load_file(folder / "autodeco_heads.safetensors")


def interrupt(monkeypatch, settings, calls_before=4, **changes):
    """Runs until the objective is called once more than so many times."""
    original, calls = fused.end_to_end, []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) > calls_before:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(fused, "end_to_end", stops)
        with pytest.raises(KeyboardInterrupt):
            run(settings, **changes)


def test_a_run_logs_its_losses_and_saves_heads_with_provenance(settings):
    result = run(settings)
    entry = result.log[0]
    for name in ("loss", "decoding_loss", "temperature_mean", "temperature_ranking_loss", "temperature_in_order",
                 "temperature_hold_loss", "top_p_ranking_loss", "top_p_in_order", "tokens_per_second"):  # fmt: skip
        assert name in entry
    assert any("temperature_error" in entry for entry in result.log)
    record = json.loads((settings["output"] / "autodeco_run.json").read_text())
    assert record["status"] == "finished"
    assert record["data"]["prompts"] == 8
    assert record["data"]["rows"] == 8 * 8
    assert record["data"]["commands"] == digest(load_commands())
    assert record["config"]["positions"] == ["system", "before", "after"]
    assert set(weights(result.output)) > {"temp_head.mlp.0.weight"}
    assert (settings["output"] / "hidden_states" / "store.json").exists()


def test_the_ranking_loss_falls(settings):
    log = run(settings, max_steps=60, commands_per_prompt={"low": 1, "high": 1}, decoding_weight=0).log
    for head in ("temperature", "top_p"):
        losses = [entry[f"{head}_ranking_loss"] for entry in log if f"{head}_ranking_loss" in entry]
        assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(settings, tmp_path, monkeypatch):
    settings = {**settings, "sampled_tokens": 3}
    whole = run(settings, output=tmp_path / "whole")
    interrupt(monkeypatch, settings)
    resumed = run(settings)
    assert resumed.resumed_from == 3
    for name, tensor in weights(whole.output).items():
        torch.testing.assert_close(weights(resumed.output)[name], tensor, rtol=0, atol=0)
    assert run(settings).data is None  # finished
    with pytest.raises(RunFolderError, match=r"temperature_margin was 0\.2, is 0\.3"):
        run(settings, temperature_margin=0.3)


def test_from_the_store_as_by_streaming(settings, tmp_path):
    losses = [
        [
            entry["loss"]
            for entry in run(settings, output=tmp_path / store, hidden_state_store=store, easy_token_masking=0.0).log
            if "loss" in entry
        ]
        for store in ("on", "off")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # stored states are bfloat16


def test_heads_that_see_the_prompt_learn_commands_from_the_store_as_by_streaming(settings, tmp_path, heads):
    options = {"heads": heads, "prompt_summary": True, "easy_token_masking": 0.0, "sampled_tokens": 3,
               "eval_data": settings["data"], "eval_steps": 3, "learning_rate": 2e-3}  # fmt: skip
    logs = [run(settings, output=tmp_path / store, hidden_state_store=store, **options).log for store in ("on", "off")]
    losses = [[entry["loss"] for entry in log if "loss" in entry] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    distances = [entry["temperature_keep_loss"] for entry in logs[0] if "temperature_keep_loss" in entry]
    assert distances[0] == 0  # a summary that starts at nothing
    assert weights(tmp_path / "on")["temp_head.prompt.up"].abs().sum() > 0
    layers = [load_heads(tmp_path / store).config.prompt_layer for store in ("on", "off")]
    assert layers == [2, 2]  # of two: in the middle
    last = run(settings, output=tmp_path / "last", prompt_layer=0, **options)
    assert load_heads(last.output).config.prompt_layer == 0


def test_settings_reach_the_losses_and_the_steps(settings, tmp_path, heads, monkeypatch):
    seen = []
    original = trainer.control

    def noting(*args, prompts, weights, **kwargs):
        seen.append((prompts.mask.sum().item(), weights.margin_ceiling))
        return original(*args, prompts=prompts, weights=weights, **kwargs)

    monkeypatch.setattr(trainer, "control", noting)
    options = {"heads": heads, "prompt_summary": True, "max_steps": 2, "eval_data": settings["data"], "eval_steps": 2}
    masks = {}
    for share in (0.0, 0.5):
        seen.clear()
        run(
            settings, output=tmp_path / str(share), prompt_dropout=share, margin_ceiling=None if share else 3, **options
        )
        masks[share] = [mask for mask, _ in seen]
        assert {ceiling for _, ceiling in seen} == {math.inf if share else 3}
    steps = 2 * settings.get("gradient_accumulation", 2)
    assert all(half < 0.7 * whole for half, whole in zip(masks[0.5][:steps], masks[0.0][:steps], strict=True))
    assert masks[0.5][steps:] == masks[0.0][steps:]  # of evaluations
    assert len(masks[0.0]) > steps


def test_earlier_runs_had_no_ceiling(settings):
    run(settings, max_steps=2)
    record_path = settings["output"] / "autodeco_run.json"
    record = json.loads(record_path.read_text())
    del record["config"]["margin_ceiling"]
    record_path.write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match=r"margin_ceiling was None, is 2\.0"):
        run(settings, max_steps=2)
    assert run(settings, max_steps=2, margin_ceiling=None).data is None


def test_one_head_alone_and_evaluation_with_validation_phrasings(settings, rollouts):
    log = run(settings, steer=["temperature"], eval_data=str(rollouts), eval_steps=3).log
    assert sum("eval_loss" in entry for entry in log) == 2
    assert not [name for entry in log for name in entry if name.startswith("top_p_ranking")]


@pytest.fixture
def heads(tmp_path, base_folder):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    return str(tmp_path / "heads")


def test_trained_heads_are_kept_without_a_command_unless_set_otherwise(settings, heads):
    fresh, trained = control_config(settings).weights, control_config({**settings, "heads": heads}).weights
    assert (fresh.decoding, fresh.keep) == (1, 0)
    assert (trained.decoding, trained.keep) == (0, 3)
    both = control_config({**settings, "heads": heads, "decoding_weight": 0.5, "keep_weight": 2}).weights
    assert (both.decoding, both.keep) == (0.5, 2)
    log = run(settings, heads=heads, max_steps=3).log
    distances = [entry["temperature_keep_loss"] for entry in log if "temperature_keep_loss" in entry]
    assert distances[0] == 0  # nothing has moved at the first step
    assert distances[1] > 0


def test_a_resumed_run_keeps_to_the_heads_that_it_was_begun_with(settings, heads, tmp_path, monkeypatch):
    whole = run(settings, heads=heads, output=tmp_path / "whole")
    interrupt(monkeypatch, settings, heads=heads)
    resumed = run(settings, heads=heads)
    assert resumed.resumed_from == 3
    for name, tensor in weights(whole.output).items():
        torch.testing.assert_close(weights(resumed.output)[name], tensor, rtol=0, atol=0)


def test_a_run_of_an_earlier_version_without_the_setting_is_known_again(settings):
    run(settings)
    path = settings["output"] / "autodeco_run.json"
    record = json.loads(path.read_text())
    del record["config"]["keep_weight"]
    path.write_text(json.dumps(record))
    assert run(settings).data is None


def test_own_commands(settings, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("- {kind: low, train: [Calm down.]}\n- {kind: high, train: [Liven up.]}\n")
    result = run(settings, commands=own, commands_per_prompt={"low": 1, "high": 1})
    assert {row.name.split("(")[-1] for row in result.data.rows if "(" in row.name} == {
        "low/low/en1)",
        "high/high/en1)",
    }
    with pytest.raises(ConfigError, match="asks for 'graded', and the commands have none"):
        run(settings, commands=own, output=tmp_path / "other")


def test_an_interrupted_run_refuses_other_commands_than_it_was_begun_with(settings, tmp_path, monkeypatch):
    own = tmp_path / "own.yaml"
    own.write_text("- {kind: low, train: [Calm down.]}\n")
    changes = {"commands": own, "commands_per_prompt": {"low": 1}}
    interrupt(monkeypatch, settings, calls_before=0, **changes)
    own.write_text("- {kind: low, train: [Cool down.]}\n")
    with pytest.raises(StoreError, match="are of other data"):
        run(settings, **changes)


def test_bad_data_and_commands_leave_no_folder_behind(settings, tmp_path):
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(DataError, match="is empty"):
        run(settings, commands=empty)
    assert not settings["output"].exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature_margin": 3}, "temperature_margin: found 3; input should be less than or equal to 2"),
        ({"ranking_weigth": 1}, "Did you mean 'ranking_weight'"),
        ({"positions": ["user"]}, "positions.0: found 'user'"),
        ({"positions": []}, "positions: found"),
        ({"commands_per_prompt": {"low": 0}}, "one at least above 0"),
        ({"commands_per_prompt": {"lower": 1}}, "commands_per_prompt.lower"),
        ({"keep_weight": 1}, "keep_weight keeps uncommanded rows where the heads named by 'heads' put them"),
        ({"steer": ["top_p"], "top_p_head": False}, "steer names top_p, and top_p_head is false"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ConfigError) as raised:
        control_config({"model": "m", "data": "d", "output": "o", **changes}, "control.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("control.yaml: ")


def test_a_control_configuration_is_a_training_configuration():
    assert issubclass(type(control_config({"model": "m", "data": "d", "output": "o"})), TrainingConfig)


@pytest.mark.parametrize("name", recipe_names("autodeco.control"))
def test_every_recipe_is_a_valid_configuration(name):
    values = load_recipe(name, "autodeco.control")
    given = {"model": "m", "heads": "h", "data": "d.jsonl", "output": "o"}
    assert control_config({**values, **given}, name).weights == control_config({**given, **_weights(values)}).weights


def _weights(values):
    return {name: value for name, value in values.items() if name in ("absolute_weight", "prompt_summary")}
