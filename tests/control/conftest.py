import json

import pytest


@pytest.fixture
def rollouts(tmp_path):
    """Rows as autodeco rollout writes them, without token ids."""
    path = tmp_path / "rollouts.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Name {number} birds."}],
            "completion": [{"role": "assistant", "content": "A robin, a wren and a crow."[: 8 + number]}],
        }
        for number in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def settings(tmp_path, base_folder, rollouts):
    """Of a control training run of a few steps."""
    return {
        "model": str(base_folder),
        "data": str(rollouts),
        "output": tmp_path / "run",
        "max_steps": 6,
        "batch_size": 2,
        "gradient_accumulation": 1,
        "learning_rate": 1e-2,
        "save_steps": 3,
        "max_length": 256,
        "completion_tokens": 8,
    }
