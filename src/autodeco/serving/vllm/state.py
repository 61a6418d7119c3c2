"""For vLLM's V2 model runner: the model's own state sees each request's sampling parameters.

Written to vLLM 0.32's interface; that runner needs Triton with a device, so it has not been run yet.
"""

from __future__ import annotations

from typing import Any

from autodeco.serving.vllm.requests import Options, Rows


def state_class(rows: Rows, base: Any) -> type:
    """Subclasses the ModelState that the base model would have had.

    Args:
        rows: to be filled before each forward pass.
        base: vLLM's class.
    """

    class AutoDecoState(base):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._options: dict[int, Options] = {}

        def add_request(self, req_index: int, new_req_data: Any) -> None:
            super().add_request(req_index, new_req_data)
            params = new_req_data.sampling_params
            options = None if params is None else Options.of(params)
            self._options.pop(req_index, None)
            if options is not None:
                self._options[req_index] = options

        def prepare_inputs(self, input_batch: Any, req_states: Any) -> Any:
            rows.pending = {}
            if self._options:
                slots = input_batch.expanded_idx_mapping.tolist()  # one a row, draft rows included
                positions = input_batch.positions[input_batch.logits_indices].tolist()
                rows.pending = {
                    row: (self._options[slot], int(positions[row]))
                    for row, slot in enumerate(slots)
                    if slot in self._options
                }
            return super().prepare_inputs(input_batch, req_states)

    return AutoDecoState
