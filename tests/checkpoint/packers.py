"""4-bit weights packed number by number, as the GPTQ and AWQ writers lay them out.

Written from the layouts, with Python integers and loops, and shared with nothing that unpacks.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import torch

from tests.fixtures_checkpoint import make_config, make_tensors, write_json, write_weights

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_AWQ = [0, 2, 4, 6, 1, 3, 5, 7]


@dataclasses.dataclass
class Known:
    """A weight of known numbers.

    Attributes:
        numbers: Of each input and output, 0 to 15. ``[in][out]``
        zeros: Of each group and output. ``[groups][out]``
        scales: The same, representable in fp16. ``[groups][out]``
        group: Of each input.
    """

    numbers: list[list[int]]
    zeros: list[list[int]]
    scales: list[list[float]]
    group: list[int]

    def weight(self) -> torch.Tensor:
        """The values, ``[out, in]`` in fp32."""
        rows = [
            [
                self.scales[group][out] * (number - self.zeros[group][out])
                for out, number in enumerate(row)
            ]
            for row, group in zip(self.numbers, self.group, strict=True)
        ]
        return torch.tensor(rows).t().contiguous()


def known(
    out: int, inputs: int, group_size: int, *, act_order: bool = False, seed: int = 0
) -> Known:
    """Draw a weight; zero points are 1 to 15, as 0 cannot be stored in GPTQ's first format."""
    chance = random.Random(seed)
    size = inputs if group_size == -1 else group_size
    groups = -(-inputs // size)
    group = [at // size for at in range(inputs)]
    if act_order:
        chance.shuffle(group)
    return Known(
        [[chance.randrange(16) for _ in range(out)] for _ in range(inputs)],
        [[chance.randrange(1, 16) for _ in range(out)] for _ in range(groups)],
        [[chance.randrange(1, 64) / 4096 for _ in range(out)] for _ in range(groups)],
        group,
    )


def word(numbers: list[int]) -> int:
    """Eight numbers in a signed 32-bit word, the first one lowest."""
    value = 0
    for place, number in enumerate(numbers):
        value += number * 16**place
    return value - 2**32 if value >= 2**31 else value


def gptq(weight: Known, *, less_one: bool) -> dict[str, torch.Tensor]:
    """GPTQ: inputs share a word, and zero points of neighbouring outputs do."""
    inputs, out = len(weight.numbers), len(weight.numbers[0])
    qweight = [
        [word([weight.numbers[at + place][o] for place in range(8)]) for o in range(out)]
        for at in range(0, inputs, 8)
    ]
    qzeros = [
        [
            word([zeros[o + place] - (1 if less_one else 0) for place in range(8)])
            for o in range(0, out, 8)
        ]
        for zeros in weight.zeros
    ]
    return {
        "qweight": torch.tensor(qweight, dtype=torch.int32),
        "qzeros": torch.tensor(qzeros, dtype=torch.int32),
        "scales": torch.tensor(weight.scales, dtype=torch.float16),
        "g_idx": torch.tensor(weight.group, dtype=torch.int32),
    }


def awq(weight: Known) -> dict[str, torch.Tensor]:
    """AWQ (GEMM): neighbouring outputs share a word, in an order of their own."""
    out = len(weight.numbers[0])

    def rows(numbers: list[list[int]]) -> torch.Tensor:
        words = [
            [word([row[o + _AWQ[place]] for place in range(8)]) for o in range(0, out, 8)]
            for row in numbers
        ]
        return torch.tensor(words, dtype=torch.int32)

    return {
        "qweight": rows(weight.numbers),
        "qzeros": rows(weight.zeros),
        "scales": torch.tensor(weight.scales, dtype=torch.float16),
    }


def packed_checkpoint(
    directory: Path,
    method: str,
    *,
    group_size: int = 16,
    act_order: bool = False,
    layout: str = "safetensors",
    settings: dict[str, Any] | None = None,
    old_file: bool = False,
    bias: float | None = None,
) -> dict[str, torch.Tensor]:
    """Write a checkpoint of packed projections; returns what they stand for, by name.

    Args:
        directory: Made if it is not there.
        method: "gptq", "gptq_v2" or "awq".
        group_size: Inputs per scale, -1 for all.
        act_order: GPTQ's desc_act.
        layout: Of the files.
        settings: Instead of those that are true.
        old_file: Settings in a file of their own, as in 2023.
        bias: What the last number of every projection's bias is; None: there are no biases.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = make_config(num_key_value_heads=2)
    plain = make_tensors(config, dtype=torch.float16)
    stored: dict[str, torch.Tensor] = {}
    meant: dict[str, torch.Tensor] = {}
    for seed, (name, tensor) in enumerate(plain.items()):
        if name.split(".")[-2] not in PROJECTIONS:
            stored[name] = meant[name] = tensor
            continue
        weight = known(*tensor.shape, group_size, act_order=act_order, seed=seed)
        meant[name] = weight.weight()
        parts = awq(weight) if method == "awq" else gptq(weight, less_one=method == "gptq")
        if bias is not None:
            parts["bias"] = torch.zeros(len(tensor), dtype=torch.float16)
            parts["bias"][-1] = bias
        stored |= {f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()}
    true: dict[str, Any] = {"bits": 4, "group_size": group_size, "quant_method": "awq"}
    if method == "awq":
        true |= {"version": "gemm", "zero_point": True}
    else:
        true |= {"quant_method": "gptq", "desc_act": act_order, "sym": False, "damp_percent": 0.1}
        if method == "gptq_v2":
            true["checkpoint_format"] = "gptq_v2"
    chosen = true if settings is None else settings
    if old_file:
        old = {key: value for key, value in chosen.items() if key != "quant_method"}
        if method == "awq":
            old = {"w_bit": 4, "q_group_size": group_size, "zero_point": True, "version": "GEMM"}
        name = "quant_config.json" if method == "awq" else "quantize_config.json"
        write_json(directory / name, old)
    else:
        config["quantization_config"] = chosen
    write_json(directory / "config.json", config)
    write_weights(directory, stored, layout)
    return meant
