"""AutoDecoConfig: everything needed to rebuild the heads, and nothing about how they were trained."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from autodeco.errors import CheckpointError, ConfigError, did_you_mean
from autodeco.version import __version__

# softmax(l_t / T_t): max probability, entropy, variance, sum of the five largest (method of the released heads).
NUM_STATISTICS = 4
# Settings that give a head more to see than the hidden state.
_FEATURES = ("statistics_features", "temperature_features", "prompt_summary")


@dataclass(frozen=True)
class AutoDecoConfig:
    """Shape of the two heads and the base model they belong to.

    Attributes:
        hidden_size: width of the base model's last hidden state (the input of its ``lm_head``).
        vocab_size: number of logits of the base model; ``None`` skips that check.
        temperature_head: whether there is a temperature head; without it ``T = 1``.
        top_p_head: whether there is a top-p head; without it ``P = 1`` and no token is cut.
        statistics_features: whether the top-p head also sees four statistics of ``softmax(l / T)``
            (the released heads do; equation 4 of the paper alone does not).
        temperature_features: whether the temperature head also sees the same four statistics, of ``softmax(l)``: its
            own T is not known yet. Neither the paper's nor the released heads do; the released layouts cannot hold it.
        prompt_summary: whether each head also sees a summary of the prompt, pooled by attention from the prompt's
            hidden states once a request. Neither the paper's nor the released heads do, and only this project's layout
            of heads alone can hold it.
        prompt_layer: the layer after which those hidden states are taken, counted from 1; 0 takes the last ones.
        mlp_hidden_size: width of each head's hidden layer.
        max_temperature: ``T = max_temperature * sigmoid(.)``; 2 in the paper (equation 3).
        min_temperature: logits are never divided by less than this; 0.01 in the released code.
        base_model_name_or_path: hub id or folder of the base model.
        base_model_revision: hub revision of the base model, if one was asked for.
        adapter_sha256: of the LoRA adapter's weights that the heads were trained with and are saved beside; ``None``
            for heads of the base as it is.
        autodeco_version: version of this package that wrote the configuration.

    Raises:
        ConfigError: a value is out of bounds, or both heads are absent.
    """

    hidden_size: int
    vocab_size: int | None = None
    temperature_head: bool = True
    top_p_head: bool = True
    statistics_features: bool = True
    temperature_features: bool = False
    prompt_summary: bool = False
    prompt_layer: int = 0
    mlp_hidden_size: int = 256
    max_temperature: float = 2.0
    min_temperature: float = 0.01
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    adapter_sha256: str | None = None
    autodeco_version: str = __version__

    def __post_init__(self) -> None:
        for name in ("hidden_size", "mlp_hidden_size", "vocab_size"):
            value = getattr(self, name)
            if name == "vocab_size" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a positive whole number, found {value!r}.")
        if not isinstance(self.prompt_layer, int) or isinstance(self.prompt_layer, bool) or self.prompt_layer < 0:
            raise ConfigError(f"prompt_layer must be a whole number from 0, found {self.prompt_layer!r}.")
        for name in ("temperature_head", "top_p_head", *_FEATURES):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, found {getattr(self, name)!r}.")
        if not (self.temperature_head or self.top_p_head):
            raise ConfigError("temperature_head and top_p_head are both false: at least one head is needed.")
        for name in ("min_temperature", "max_temperature"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, found {value!r}.")
        if not 1e-3 <= self.min_temperature < self.max_temperature <= 100:
            raise ConfigError(
                f"the temperature range must satisfy 0.001 <= min_temperature < max_temperature <= 100, found "
                f"min_temperature={self.min_temperature}, max_temperature={self.max_temperature}."
            )

    @property
    def temperature_input_size(self) -> int:
        """Width of the temperature head's input: hidden state and, if enabled, the statistics."""
        return self.hidden_size + (NUM_STATISTICS if self.temperature_features else 0)

    @property
    def top_p_input_size(self) -> int:
        """Width of the top-p head's input: hidden state, temperature and, if enabled, the statistics."""
        return self.hidden_size + 1 + (NUM_STATISTICS if self.statistics_features else 0)

    def check_fits(self, hidden_size: int, vocab_size: int, base: str) -> None:
        """Compares the heads' sizes with those of a base model.

        Args:
            hidden_size: the base's.
            vocab_size: the base's.
            base: what to call it in the error.

        Raises:
            CheckpointError: they differ.
        """
        for what, found, needed in (
            ("hidden size", self.hidden_size, hidden_size),
            ("vocabulary size", self.vocab_size, vocab_size),
        ):
            if found is not None and found != needed:
                raise CheckpointError(
                    f"these heads are for {what} {found}, but base model {base} has {needed}. Heads belong to the "
                    f"model they were trained on ({self.base_model_name_or_path or 'not recorded'})."
                )

    def check_prompt_layer(self, layers: int) -> None:
        """Checks that a base has the layer after which these heads summarise the prompt.

        Args:
            layers: how many it has.

        Raises:
            CheckpointError: it has fewer.
        """
        if self.prompt_layer > layers:
            raise CheckpointError(
                f"these heads summarise the prompt as it is after layer {self.prompt_layer} (prompt_layer), and the "
                f"base has {layers} layers. Heads belong to the model they were trained on."
            )

    def check_merged(self, where: str) -> None:
        """Checks that a merged checkpoint can hold these heads.

        Args:
            where: what to call them in the error.

        Raises:
            CheckpointError: it cannot.
        """
        if self.prompt_summary:
            raise CheckpointError(
                f"{where}: these heads see a summary of the prompt (prompt_summary is true), which merged checkpoints "
                f"cannot hold: they are for programs that load them with nothing to set. Use the heads' folder as it "
                f"is: autodeco serve, or AutoDecoForCausalLM.from_pretrained."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the AutoDeco configuration") -> AutoDecoConfig:
        """Builds a configuration from :meth:`to_dict`'s form.

        Args:
            values: the settings by name.
            source: what to call the input in an error (a file's path).

        Raises:
            ConfigError: an unknown or missing setting, or a value out of bounds.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"{source}: unknown setting '{name}'.{did_you_mean(name, known)}")
        if "hidden_size" not in values:
            raise ConfigError(f"{source}: hidden_size is missing, and the heads cannot be built without it.")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
