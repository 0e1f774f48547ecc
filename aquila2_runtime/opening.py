"""From options to the parts of a runtime: find the checkpoint, read its facts, load its model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from aquila2_runtime.described import Described
from aquila2_runtime.info import RuntimeInfo
from aquila2_runtime.loading import cache_bytes, load_model
from aquila2_runtime.lora_adapters import check_adapters, request_keys
from aquila2_runtime.placement import BLOCK_SIZE, type_name, with_stored_form
from aquila2_runtime.prompts import PromptMaker

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.loaded import Claim
    from aquila2_runtime.registry import LoadedModel


def open_checkpoint(options: LoadOptions) -> tuple[Claim, PromptMaker, RuntimeInfo]:
    """Do everything that ``Aquila2Runtime.load`` promises, cheapest checks first.

    Raises:
        Aquila2Error: Whatever is wrong; nothing stays loaded then.
    """
    if options.engine == "openai":
        from aquila2_runtime.served import open_served

        return open_served(options)
    found = Described.of(
        options, weights=True, check=lambda config: with_stored_form(options, config)
    )
    found.warn_of_lost_scaling()
    resolved, config = found.resolved, found.config
    options = with_stored_form(options, config)
    max_model_len = found.max_model_len(options.max_model_len)
    adapters = check_adapters(options, config, resolved.name)
    prompts = found.prompts(options, max_model_len, request_keys(options, adapters))
    use = load_model(options, resolved, config, found.tokenizer, max_model_len, adapters)
    model = use.model
    if model is None:
        msg = "a use that was just acquired has its model"
        raise RuntimeError(msg)
    # Every use of a model shares its tokenizer, and with it what was compiled over its vocabulary.
    prompts = dataclasses.replace(prompts, tokenizer=model.tokenizer)
    return use, prompts, _info(options, resolved, prompts, model)


def _info(
    options: LoadOptions, resolved: ResolvedCheckpoint, prompts: PromptMaker, model: LoadedModel
) -> RuntimeInfo:
    placement, config = model.placement, model.config
    reasons = dict(placement.reasons)
    reasons["kv_cache_bytes"] = model.cache_reason
    if config.packing is not None:
        held = options.quantization or type_name(placement.dtype)
        reasons["quantization"] = f"{config.packing.label} weights were unpacked into {held}"
    if config.prequantized is not None:
        reasons["quantization"] = f"the files hold {config.prequantized.label} weights"
    reasons["template"] = (
        "asked for"
        if options.template
        else "the released model's own"
        if prompts.template
        else "none is known for this checkpoint; chat needs template="
    )
    reasons["max_model_len"] = "asked for" if options.max_model_len else "the checkpoint's context"
    return RuntimeInfo(
        model=resolved.name,
        revision=resolved.revision,
        source=resolved.source,
        template=prompts.template.name if prompts.template else None,
        context_length=config.max_position,
        max_model_len=prompts.max_model_len,
        device=", ".join(str(stage.device) for stage in placement.stages),
        dtype=type_name(placement.dtype),
        quantization=options.quantization,
        attention=placement.attention,
        cuda_graphs=placement.cuda_graphs,
        kv_cache_dtype=type_name(placement.kv_dtype),
        kv_cache_bytes=cache_bytes(model),
        kv_cache_tokens=model.num_blocks * BLOCK_SIZE,
        block_size=BLOCK_SIZE,
        weight_bytes=model.weight_bytes,
        max_num_seqs=placement.max_num_seqs,
        max_step_tokens=placement.max_step_tokens,
        max_prefill_beside_decode=placement.max_prefill_beside_decode,
        prefix_cache=placement.prefix_cache,
        speculation=placement.speculation,
        vocab_size=config.vocab_size,
        adapters=tuple(prompts.adapters),
        merged_adapter=options.merge_adapter,
        reasons=reasons,
    )
