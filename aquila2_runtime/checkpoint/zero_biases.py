"""Zero biases: what AutoGPTQ writes beside every packed projection. It checks no other tensor.

The tool gives all of its layers a bias, of zeros where the model has none. Aquila2's projections
have none, so that one that holds anything else belongs to another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aquila2_runtime.checkpoint.expected import Expected, projections
from aquila2_runtime.checkpoint.stored import StoredTensor, open_tensors
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.headers import TensorInfo

_BIAS: Final = ".bias"


def possible_biases(config: ModelConfig) -> dict[str, Expected]:
    """The biases that a checkpoint may have beside what its model takes, by name."""
    if config.packing is None or config.packing.method != "gptq":
        return {}
    return {module + _BIAS: Expected((out,)) for module, (out, _) in projections(config).items()}


def check_zeros(found: Mapping[str, TensorInfo]) -> None:
    """Make sure that biases add nothing; all of them are read, some 3 MB of a 7B checkpoint.

    Args:
        found: The biases that are there, by name.

    Raises:
        WeightsError: One is not zero, or cannot be read.
    """
    for file in sorted({info.file for info in found.values()}):
        own = {name: info for name, info in found.items() if info.file == file}
        stored = open_tensors(file, own)
        for name in own:
            bias = stored[name]
            if (bias.values() if isinstance(bias, StoredTensor) else bias).any():
                raise WeightsError(
                    f"{file.name:.100}: tensor {name:.100} is not zero; Aquila2 has no biases.",
                    parameter=name,
                    value=file.name,
                    hint="config.json may be of another checkpoint.",
                )
