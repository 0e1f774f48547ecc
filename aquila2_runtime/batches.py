"""What a batch is: a list of prompts, with one set of parameters for all or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aquila2_runtime.errors import InvalidPromptError, InvalidSamplingParamsError
from aquila2_runtime.sampling import SamplingParams

ParamsOrMany = SamplingParams | Sequence[SamplingParams] | None


def one_each(params: ParamsOrMany, prompts: Sequence[Any]) -> list[SamplingParams | None]:
    """One entry per prompt, from one for all or one for each."""
    if not isinstance(prompts, (list, tuple)):
        raise InvalidPromptError(
            f"A batch is a list of prompts or conversations, not {type(prompts).__name__}.",
            parameter="prompts",
        )
    count = len(prompts)
    if params is None or isinstance(params, SamplingParams):
        return [params] * count
    if not isinstance(params, (list, tuple)):
        raise InvalidSamplingParamsError(
            f"params must be SamplingParams or a list of them, not {type(params).__name__}.",
            parameter="params",
        )
    if len(params) != count:
        raise InvalidSamplingParamsError(
            f"{len(params)} params for {count} prompts; give one for all or one for each.",
            parameter="params",
            value=len(params),
        )
    return list(params)
