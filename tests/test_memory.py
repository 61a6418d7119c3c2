import torch

from autodeco import memory


def test_free_memory_is_that_of_the_container_where_it_is_less(tmp_path, monkeypatch):
    everything = memory.free_memory(torch.device("cpu"))
    assert everything > 10_000_000
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert memory.free_memory(torch.device("cpu")) == 2_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(torch.device("cpu")) > 10_000_000
