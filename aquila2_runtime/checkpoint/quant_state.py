"""Quant states: whether bitsandbytes' 4-bit weights have the scales they describe. No model here.

Beside every weight lies a small JSON text, as bytes, with its shape, its type and the sizes of its
blocks. bitsandbytes would stop halfway over what contradicts it, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aquila2_runtime.checkpoint.expected import FLOATS
from aquila2_runtime.checkpoint.prequantized import STATE
from aquila2_runtime.checkpoint.strict_json import parse_json_object
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.headers import TensorInfo
    from aquila2_runtime.checkpoint.prequantized import Prequantized

_BLOCKS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_MAX_STATE: Final = 4096


def check_states(
    form: Prequantized, weights: Mapping[str, tuple[int, int]], found: Mapping[str, TensorInfo]
) -> None:
    """Check that each 4-bit weight's scales are as its own description says.

    Args:
        form: What config.json says.
        weights: Outputs and inputs of every packed projection, by its name.
        found: All tensors, of the right names and types.

    Raises:
        WeightsError: A description is damaged or contradicts config.json, or there are too many or
            too few scales; file and tensor are named.
    """
    if form.method != "nf4":
        return
    texts = _texts({f"{module}.{STATE}": found[f"{module}.{STATE}"] for module in weights})
    for module, shape in weights.items():
        name = f"{module}.{STATE}"
        sizes = _scales(form, found[name].file.name, name, texts[name], shape)
        for part, size in sizes.items():
            info = found[f"{module}.{part}"]
            if info.shape != (size,):
                _fail(
                    info.file.name,
                    f"{module}.{part}",
                    f"holds {info.shape[0]} scales; a weight of {list(shape)} has {size}",
                )


def _texts(states: Mapping[str, TensorInfo]) -> dict[str, bytes]:
    """The descriptions' bytes, file by file."""
    from safetensors import safe_open

    texts: dict[str, bytes] = {}
    by_file: dict[Path, list[str]] = {}
    for name, info in states.items():
        if info.num_bytes > _MAX_STATE:
            _fail(info.file.name, name, f"has {info.num_bytes} bytes; {_MAX_STATE} are the most")
        by_file.setdefault(info.file, []).append(name)
    for file, names in by_file.items():
        with safe_open(file, framework="pt", device="cpu") as opened:
            texts |= {name: bytes(opened.get_tensor(name).tolist()) for name in names}
    return texts


def _scales(
    form: Prequantized, file: str, name: str, text: bytes, shape: tuple[int, int]
) -> dict[str, int]:
    """How many scales a description asks for, by the part that holds them."""
    state = parse_json_object(text, name=f"{file}: tensor {name}", error=WeightsError)
    if state.get("quant_type") != "nf4":
        _fail(file, name, f"says quant_type={state.get('quant_type')!r:.20}; config.json says nf4")
    if state.get("shape") != list(shape):
        _fail(
            file, name, f"is of a weight {state.get('shape')!r:.40}; config.json makes it "
            f"{list(shape)}",
        )  # fmt: skip
    if state.get("dtype") not in FLOATS:
        _fail(file, name, f"says dtype={state.get('dtype')!r:.20}")
    blocks = -(-math.prod(shape) // _block(file, name, state, "blocksize"))
    if not form.nested:
        if "nested_blocksize" in state:
            _fail(file, name, "has nested scales; bnb_4bit_use_double_quant is false")
        return {"weight.absmax": blocks}
    offset = state.get("nested_offset")
    if isinstance(offset, bool) or not isinstance(offset, int | float):
        _fail(file, name, "has no nested_offset; bnb_4bit_use_double_quant is true")
    if state.get("nested_dtype") != "float32":
        _fail(file, name, f"says nested_dtype={state.get('nested_dtype')!r:.20}")
    nested = -(-blocks // _block(file, name, state, "nested_blocksize"))
    return {"weight.absmax": blocks, "weight.nested_absmax": nested}


def _block(file: str, name: str, state: Mapping[str, Any], key: str) -> int:
    size = state.get(key)
    if isinstance(size, bool) or not isinstance(size, int) or size not in _BLOCKS:
        _fail(file, name, f"says {key}={size!r:.20}; powers of two from 32 to 4096 are known")
    return size


def _fail(file: str, tensor: str, problem: str) -> NoReturn:
    raise WeightsError(
        f"{file:.100}: tensor {tensor:.120} {problem}.",
        parameter=tensor,
        value=file,
        hint="Fetch the checkpoint again, or convert the unquantized one anew (aquila2 convert).",
    )
