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
