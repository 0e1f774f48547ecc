"""Fields: what an Aquila2 model is specified by, with defaults. It checks and does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.function_calling import FunctionCallingLLM


class Fields(FunctionCallingLLM):
    """The fields of an Aquila2 model, beside those of LlamaIndex's ``LLM``.

    Attributes:
        model: A released name in any letter case, ``owner/name``, or a directory.
        quantization: None, "nf4" or "int8"; this and the next ones are the keywords of
            ``Aquila2Runtime.load``.
        temperature: 0 is greedy; this and the next ones are the fields of ``SamplingParams``.
        max_tokens: Most new tokens. None means 512 or a quarter of a small context, less where
            less is left. ``num_output`` and ``max_new_tokens`` are taken as other names for it.
        adapter: Which of ``adapters`` answers; None is the model itself.
        fit: How to shorten conversations that are too long: "drop_oldest" or "middle"; None
            refuses them. Shortened until ``max_tokens``, or its default, is left for the answer.
            Plain text is never shortened.
        timeout: Seconds a call may take; None for no limit.
        is_chat_model: Whether there is a chat template to use. None decides by the released
            checkpoint: False for the base models, True for everything else.
        is_function_calling_model: What LlamaIndex's metadata say, by which agents and programs
            choose their way. Aquila2 was not trained for tools, hence False; they work either way.
        system_prompt: Goes before the system messages of every conversation.
    """

    model: str
    quantization: str | None = None
    device: str | list[str] = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    template: str | None = None
    adapters: Mapping[str, str] | tuple[tuple[str, str], ...] | None = None
    merge_adapter: str | None = None
    revision: str | None = None
    source: str | None = None
    cache_dir: str | None = None
    offline: bool = False
    allow_pickle: bool = True
    allow_unknown_tokenizer: bool = False
    kv_cache_memory: int | str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    prefix_cache: bool | None = None
    speculation: str | None = None
    attention: str = "auto"
    cuda_graphs: bool | None = None
    nf4_copy: bool = False
    trailing_space: bool = False
    strict_markers: bool = False
    engine: str = "torch"
    base_url: str | None = None
    remote_model: str | None = None
    progress: Any = Field(default=None, exclude=True)

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 0.1
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None
    logprobs: int | None = None

    adapter: str | None = None
    fit: str | None = None
    timeout: float | None = None
    is_chat_model: bool | None = None
    is_function_calling_model: bool = False
