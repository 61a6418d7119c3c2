import json

import pytest
import torch
from safetensors.torch import load_file

from autodeco import AutoDecoForCausalLM
from autodeco.errors import DataError, ModelNotFoundError, RunFolderError, TrainingError
from autodeco.objectives import fused
from autodeco.training import train, training_config
from autodeco.training.run import base_checksum
from tests.conftest import tiny_autodeco


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def settings(tmp_path, base_folder, data):
    return {
        "model": str(base_folder),
        "data": str(data),
        "output": tmp_path / "run",
        "max_steps": 6,
        "batch_size": 2,
        "gradient_accumulation": 2,
        "learning_rate": 1e-2,
        "save_steps": 3,
        "max_length": 64,
    }


def run(settings, **changes):
    return train(training_config({**settings, **changes}), progress=False)


def weights(folder):
    return load_file(folder / "autodeco_heads.safetensors")


@pytest.mark.parametrize("soft_nucleus", ["inclusive", "exclusive"])
@pytest.mark.parametrize("objective", ["end_to_end", "released"])
def test_training_lowers_the_loss_and_leaves_the_base_alone(settings, objective, soft_nucleus):
    before = base_checksum(AutoDecoForCausalLM.from_base(settings["model"]))
    result = run(settings, objective=objective, soft_nucleus=soft_nucleus, max_steps=30, easy_token_masking=0.0)
    model = AutoDecoForCausalLM.from_pretrained(result.output)
    assert base_checksum(model) == before
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_every_step_is_logged(settings):
    log = run(settings, objective="released").log
    entry = log[0]
    for name in ("step", "loss", "temperature_loss", "top_p_loss", "temperature_mean", "temperature_std", "top_p_mean",
                 "top_p_std", "easy_share", "tokens_per_second", "learning_rate", "grad_norm"):  # fmt: skip
        assert name in entry
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4, 5, 6]


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(settings, tmp_path, monkeypatch):
    original = fused.end_to_end
    draws = {"whole": [], "resumed": []}

    def recording(kind):
        return lambda *args, **kwargs: draws[kind].append(args[4]) or original(*args, **kwargs)

    monkeypatch.setattr(fused, "end_to_end", recording("whole"))
    whole = run(settings, output=tmp_path / "whole")
    calls = 0

    def stops_in_step_five(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 9:  # two micro-steps a step: the first one of step 5
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(fused, "end_to_end", stops_in_step_five)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    monkeypatch.setattr(fused, "end_to_end", recording("resumed"))
    resumed = run(settings)
    # The tiny model has few easy tokens, so the weights alone would not show other draws.
    assert len(draws["resumed"]) == 6
    for one, other in zip(draws["whole"][6:], draws["resumed"], strict=True):
        assert one.equal(other)
    assert resumed.resumed_from == 3
    for name, tensor in weights(whole.output).items():
        assert tensor.equal(weights(resumed.output)[name]), name
    assert [entry["step"] for entry in resumed.log if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert [e.get("loss") for e in resumed.log][:6] == [e.get("loss") for e in whole.log][:6]


def test_checkpoints_hold_heads_and_optimiser_only(settings):
    output = run(settings).output
    checkpoint = output / "checkpoint-6"
    assert set(weights(checkpoint)) == {f"{head}.mlp.{layer}.{kind}" for head in ("temp_head", "top_p_head")
                                        for layer in (0, 2) for kind in ("weight", "bias")}  # fmt: skip
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) < 500_000
    assert not list(checkpoint.glob("*.bin"))


def test_a_finished_run_is_not_done_again(settings):
    run(settings)
    assert run(settings).data is None


def test_another_run_in_the_folder_is_refused(settings):
    run(settings)
    with pytest.raises(RunFolderError, match=r"holds another run \(learning_rate was 0.01, is 0.02\)"):
        run(settings, learning_rate=0.02)


def test_a_run_from_before_a_setting_existed_had_its_default(settings):
    output = run(settings).output
    record = json.loads((output / "autodeco_run.json").read_text())
    del record["config"]["soft_nucleus"]
    (output / "autodeco_run.json").write_text(json.dumps(record))
    assert run(settings).data is None  # finished
    with pytest.raises(RunFolderError, match=r"soft_nucleus was 'inclusive', is 'exclusive'"):
        run(settings, soft_nucleus="exclusive")


def test_a_folder_of_something_else_is_refused(settings, tmp_path):
    settings["output"].mkdir()
    (settings["output"] / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match="holds files of something else"):
        run(settings)
    assert (settings["output"] / "thesis.tex").read_text() == "precious"


def test_bad_data_leave_no_folder_behind(settings, data):
    data.write_text('{"prompt": "a"}\n')
    with pytest.raises(DataError, match=r"data.jsonl:1: found the keys prompt"):
        run(settings)
    assert not settings["output"].exists()


def test_an_unknown_model_is_named(settings):
    with pytest.raises(ModelNotFoundError, match="nobody/nothing"):
        run(settings, model="nobody/nothing")


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_row(settings, monkeypatch):
    original = AutoDecoForCausalLM.lm_head_inputs

    def poisoned(self, input_ids, attention_mask=None, **kwargs):
        hidden = original(self, input_ids, attention_mask, **kwargs)
        return hidden if attention_mask is None else hidden.index_fill(0, torch.tensor([1]), float("nan"))

    monkeypatch.setattr(AutoDecoForCausalLM, "lm_head_inputs", poisoned)
    with pytest.raises(TrainingError, match=r"not finite at step 1, in .*data.jsonl:\d+\. The optimiser") as raised:
        run(settings, hidden_state_store="off")
    assert str(raised.value).count("data.jsonl") == 1  # the other row of the batch is not blamed


def test_an_evaluation_loss(settings, data):
    log = run(settings, eval_data=str(data), eval_steps=3).log
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)


@pytest.mark.parametrize("absent", ["temperature_head", "top_p_head"])
def test_one_head_alone(settings, absent):
    output = run(settings, **{absent: False}).output
    model = AutoDecoForCausalLM.from_pretrained(output)
    assert getattr(model.autodeco_config, absent) is False


@pytest.mark.parametrize("store", ["off", "on"])
def test_temperature_features_are_trained_and_decoded_with(settings, store):
    output = run(settings, temperature_features=True, hidden_state_store=store).output
    model = AutoDecoForCausalLM.from_pretrained(output)
    torch.manual_seed(0)
    before = AutoDecoForCausalLM.from_base(settings["model"], temperature_features=True).decoding_heads
    trained, new = (heads.temp_head.mlp[0].weight[:, -4:] for heads in (model.decoding_heads, before))
    assert trained.shape == (256, 4)
    assert not trained.equal(new)
    traced = model.generate(torch.tensor([[1, 5, 9]]), max_new_tokens=5, do_sample=True, trace=True)
    assert ((traced.temperature > 0) & (traced.temperature < 2)).all()


@pytest.mark.parametrize("store", ["off", "on"])
def test_a_summary_of_the_prompt_is_trained_and_decoded_with(settings, store):
    # With the other tests' 1e-2 a summary moves T to its very end, 2.
    output = run(settings, prompt_summary=True, hidden_state_store=store, learning_rate=1e-3).output
    model = AutoDecoForCausalLM.from_pretrained(output)
    for head in (model.decoding_heads.temp_head, model.decoding_heads.top_p_head):
        assert head.prompt.up.abs().sum() > 0
        assert head.prompt.query.abs().sum() > 0
    traced = model.generate(torch.tensor([[1, 5, 9]]), max_new_tokens=5, do_sample=True, trace=True)
    assert ((traced.temperature > 0) & (traced.temperature < 2)).all()


def test_a_summary_of_the_prompt_from_the_store_as_by_streaming(settings, tmp_path):
    options = {"easy_token_masking": 0.0, "max_steps": 12, "prompt_summary": True, "dtype": "float32"}
    losses = []
    for store in ("off", "on"):
        log = run(settings, output=tmp_path / store, hidden_state_store=store, **options).log
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # stored states are bfloat16


def test_trained_heads_are_extended_by_a_summary(settings, tmp_path):
    first = run(settings).output
    second = run(settings, heads=str(first), prompt_summary=True, output=tmp_path / "second", learning_rate=1e-9).output
    before, after = weights(first), weights(second)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-4, atol=1e-6)
    assert {name for name in after if name not in before} == {
        f"{head}.prompt.{part}"
        for head in ("temp_head", "top_p_head")
        for part in ("query", "read", "read_bias", "down", "up")
    }
    third = run(settings, heads=str(second), output=tmp_path / "third", learning_rate=1e-9).output
    assert weights(third).keys() == after.keys()  # heads that have one keep it


def test_training_can_start_from_heads(settings, tmp_path):
    first = run(settings).output
    second = run(settings, heads=str(first), output=tmp_path / "second", learning_rate=1e-9).output
    for name, tensor in weights(first).items():
        torch.testing.assert_close(tensor, weights(second)[name], rtol=1e-4, atol=1e-6)


def test_tensorboard(settings):
    pytest.importorskip("tensorboard")
    output = run(settings, report_to=["tensorboard"]).output
    assert list(output.rglob("events.out.tfevents.*"))


def test_base_checksum_sees_one_changed_number():
    model = tiny_autodeco()
    before = base_checksum(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[3, 3] += 1e-3
    assert base_checksum(model) != before


def test_from_the_store_as_by_streaming(settings, tmp_path):
    """Same losses up to the rounding of stored states to bfloat16."""
    options = {"easy_token_masking": 0.0, "max_steps": 12, "batch_size": 1}
    streamed = run(settings, output=tmp_path / "streamed", hidden_state_store="off", **options)
    stored = run(settings, output=tmp_path / "stored", hidden_state_store="on", **options)
    assert (tmp_path / "stored" / "hidden_states" / "store.json").exists()
    assert not (tmp_path / "streamed" / "hidden_states").exists()
    losses = [[entry["loss"] for entry in result.log if "loss" in entry] for result in (streamed, stored)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_one_store_serves_several_runs(settings, tmp_path, monkeypatch):
    folder = tmp_path / "states"
    run(settings, output=tmp_path / "one", hidden_state_store="on", hidden_state_folder=folder)
    monkeypatch.setattr("autodeco.training.hidden_states.fill._states", lambda *_: pytest.fail("computed again"))
    result = run(settings, output=tmp_path / "two", hidden_state_folder=folder, learning_rate=1e-3)
    assert result.log


@pytest.mark.parametrize(
    ("changes", "stored"), [({}, True), ({"max_steps": 3}, False), ({"hidden_state_limit_gb": 0}, False)]
)
def test_rows_are_stored_by_default_where_they_repeat_and_fit(settings, changes, stored):
    said = []
    config = training_config({**settings, **changes})
    train(config, progress=False, say=said.append)
    assert (config.output / "hidden_states").exists() == stored
    if changes.get("hidden_state_limit_gb") == 0:
        assert any("hidden states are not stored" in text for text in said)


def test_a_resumed_run_from_the_store_ends_with_the_same_weights(settings, tmp_path, monkeypatch):
    whole = run(settings, output=tmp_path / "whole", hidden_state_store="on")
    original, calls = fused.end_to_end, []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(fused, "end_to_end", stops)
    with pytest.raises(KeyboardInterrupt):
        run(settings, output=tmp_path / "resumed", hidden_state_store="on")
    monkeypatch.setattr(fused, "end_to_end", original)
    resumed = run(settings, output=tmp_path / "resumed", hidden_state_store="on")
    assert resumed.resumed_from == 3
    for name, tensor in weights(whole.output).items():
        torch.testing.assert_close(weights(resumed.output)[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("store", ["off", "on"])
def test_weights_of_rows_reach_the_objective(settings, data, monkeypatch, store):
    """Row n weighs n - 4: found again beside its own tokens, whatever the order of the batches."""
    rows = [{"prompt": f"{n}+{n}=", "completion": str(n), "weight": n - 4} for n in range(9)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    original, seen = fused.end_to_end, []

    def recording(*args, **kwargs):
        first = [row[row != -100][0] for row in args[3]]  # each completion is one digit
        seen.extend(zip((int(token) for token in first), kwargs["row_weights"].tolist(), strict=True))
        return original(*args, **kwargs)

    monkeypatch.setattr(fused, "end_to_end", recording)
    result = run(settings, hidden_state_store=store)
    assert "weigh from -4 to 4, 4 of them less than 0" in result.data.summary()
    zero = min(token for token, _ in seen)
    assert {token - zero - 4 for token, _ in seen} == set(range(-4, 5))
    assert all(token - zero - 4 == weight for token, weight in seen)
