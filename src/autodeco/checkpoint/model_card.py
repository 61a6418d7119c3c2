"""README.md of what is saved: what it is, what it belongs to, how to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from autodeco.config import AutoDecoConfig

_HEADS = """\
# Decoding heads for {title}

AutoDeco heads ([paper](https://arxiv.org/abs/2510.26697)): {what}
the base model's last hidden state, {values} to sample each token with. {weights}{prompt_summary}

```python
from autodeco import AutoDecoForCausalLM
from transformers import AutoTokenizer

model = AutoDecoForCausalLM.from_pretrained("path/or/id/of/this")
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
inputs = tokenizer("Question: What is 17 + 25?\\nAnswer:", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```

Sample at temperature 1 and top-p 1 (the default here): the heads apply their own. A temperature that is set multiplies
the learned one; greedy decoding is that of the base model.
"""

_WEIGHTS = "The base model's weights are not in here and\nare not changed."
_ADAPTED_WEIGHTS = """They were trained together with
the LoRA adapter beside them (PEFT's `adapter_model.safetensors`), which is loaded with them. The base model's weights
are not in here."""
_PROMPT_SUMMARY = """

They also see a summary of the prompt's hidden states, computed once a request. They cannot be merged into the base
model's folder; vLLM serves them from this folder, on CPUs alone and without an adapter (`autodeco serve`)."""

_MERGED = """\
# {title} with decoding heads

The weights of {base}, {merged_weights}, and AutoDeco heads beside them
([paper](https://arxiv.org/abs/2510.26697)): {what}
the base model's last hidden state, {values} to sample each token with.

```python
from autodeco import AutoDecoForCausalLM
from transformers import AutoTokenizer

model = AutoDecoForCausalLM.from_pretrained("path/or/id/of/this")
tokenizer = AutoTokenizer.from_pretrained("path/or/id/of/this")
inputs = tokenizer("Question: What is 17 + 25?\\nAnswer:", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```

Sample at temperature 1 and top-p 1 (the default here): the heads apply their own. vLLM serves this folder with its
heads where autodeco is installed. So does Transformers' AutoModelForCausalLM with `trust_remote_code=True`; without it
the same folder loads as the base model, without the heads.
"""


def heads_card(config: AutoDecoConfig, tags: Sequence[str] = ()) -> str:
    """Model card of a folder with heads only; ``tags`` are added to the usual ones."""
    return _front_matter(config, "adapter", tags) + _filled(_HEADS, config) + _settings(config)


def merged_card(config: AutoDecoConfig) -> str:
    """Model card of a base model with heads merged in."""
    return _front_matter(config, None, ()) + _filled(_MERGED, config) + _settings(config)


def _front_matter(config: AutoDecoConfig, relation: str | None, tags: Sequence[str]) -> str:
    lines = ["---", "library_name: autodeco", "pipeline_tag: text-generation"]
    # The hub takes only ids here; a path of this machine would be refused, and says nothing elsewhere.
    if _is_hub_id(config.base_model_name_or_path):
        lines.append(f"base_model: {json.dumps(config.base_model_name_or_path)}")
        lines += [f"base_model_relation: {relation}"] if relation else []
    all_tags = dict.fromkeys(["autodeco", "decoding", "sampling", *tags])
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in all_tags)]
    return "\n".join([*lines, "---", "", ""])


def _filled(template: str, config: AutoDecoConfig) -> str:
    adapted = config.adapter_sha256 is not None
    both = config.temperature_head and config.top_p_head
    name = config.base_model_name_or_path
    base = (name if _is_hub_id(name) else Path(name).name) if name else None
    return template.format(
        title=base or "a base model",
        base=base or "the base model",
        tokenizer=name if _is_hub_id(name) else "path/or/id/of/the/base/model",
        what="two small networks that predict, from" if both else "a small network that predicts, from",
        weights=_ADAPTED_WEIGHTS if adapted else _WEIGHTS,
        merged_weights="with a LoRA adapter added to them" if adapted else "unchanged",
        prompt_summary=_PROMPT_SUMMARY if config.prompt_summary else "",
        values="the temperature and top-p" if both else "the temperature" if config.temperature_head else "the top-p",
    )


def _settings(config: AutoDecoConfig) -> str:
    return f"\n```json\n{json.dumps(config.to_dict(), indent=2)}\n```\n"


def _is_hub_id(name: str | None) -> bool:
    return (
        name is not None and name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()
    )
