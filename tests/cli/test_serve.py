import pytest

from autodeco.cli import main
from autodeco.serving import transformers
from autodeco.serving.vllm import launch


@pytest.fixture
def no_vllm(monkeypatch):
    monkeypatch.setattr(launch, "_version", lambda: None)


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *arguments])
    return stopped.value.code


def test_without_any_engine_the_error_says_how_to_get_one(no_vllm, capsys, monkeypatch):
    monkeypatch.setattr(transformers, "_NEEDED", ("no_such_module",))
    assert run("anything") == 2
    assert "pip install 'autodeco[serve]'" in (error := capsys.readouterr().err)
    assert "pip install 'autodeco[vllm]'" in error


def test_an_unknown_engine_is_named(capsys):
    assert run("anything", "--engine", "vlm") == 2
    assert "unknown engine 'vlm'. Did you mean 'vllm'?" in capsys.readouterr().err


def test_vllm_that_is_asked_for_must_be_there(no_vllm, capsys):
    assert run("anything", "--engine", "vllm") == 2
    assert "vLLM None" not in (error := capsys.readouterr().err)
    assert "pip install" in error


def test_flags_that_only_vllm_has_are_refused_without_it(no_vllm, capsys, base_folder, tmp_path):
    from autodeco import AutoDecoForCausalLM

    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    assert run(str(tmp_path / "heads"), "--max-model-len", "64") == 2
    assert "no --max-model-len" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False), ("::1", False)])
def test_an_open_server_without_a_key_is_warned_of(no_vllm, capsys, monkeypatch, host, warned):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    run("anything", "--host", host)
    assert ("without an API key" in capsys.readouterr().err) == warned
    run("anything", "--host", host, "--api-key", "secret")
    assert "without an API key" not in capsys.readouterr().err


@pytest.mark.parametrize("version", ["0.10.2", "0.40.0"])
def test_other_versions_of_vllm_are_refused(monkeypatch, capsys, version):
    monkeypatch.setattr(launch, "_version", lambda: version)
    assert run("anything") == 2
    assert f"vLLM {version} is installed" in capsys.readouterr().err


def test_flags_of_vllm_reach_it(monkeypatch, base_folder, tmp_path):
    from autodeco import AutoDecoForCausalLM

    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    seen = []
    monkeypatch.setattr(launch, "_version", lambda: "0.32.0")
    monkeypatch.setattr(launch, "is_cpu_build", lambda: True)
    monkeypatch.setattr(launch, "serve", lambda argv: seen.append(argv) or 1)
    assert run(str(tmp_path / "heads"), "--port", "9000", "--max-model-len", "64", "--enforce-eager") == 1
    assert seen[0][seen[0].index("--port") + 1] == "9000"
    assert seen[0][-3:] == ["--max-model-len", "64", "--enforce-eager"]


def test_heads_that_see_a_summary_of_the_prompt_need_an_engine_on_cpus(monkeypatch, capsys, base_folder, tmp_path):
    from autodeco import AutoDecoForCausalLM

    AutoDecoForCausalLM.from_base(str(base_folder), prompt_summary=True).save_pretrained(tmp_path / "heads")
    seen = []
    monkeypatch.setattr(launch, "_version", lambda: "0.32.0")
    monkeypatch.setattr(launch, "serve", lambda argv: seen.append(argv) or 0)
    for arguments in ((str(tmp_path / "heads"),), (str(base_folder), "--heads", str(tmp_path / "heads"))):
        monkeypatch.setattr(launch, "is_cpu_build", lambda: False)
        assert run(*arguments) == 2
        assert "which the plug-in gives them on CPUs alone" in (error := capsys.readouterr().err)
        assert "--engine transformers" in error
        assert not seen
        monkeypatch.setattr(launch, "is_cpu_build", lambda: True)
        assert run(*arguments) == 0
        argv = seen.pop()
        assert {"--no-enable-prefix-caching", "--enforce-eager"} <= set(argv)
        assert argv[argv.index("--logits-processors") + 1].endswith(":PromptOptions")
