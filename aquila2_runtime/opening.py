"""From options to the parts of a runtime: find the checkpoint, read its facts, load its model."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from aquila2_runtime.catalog import scales_positions
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.resolve import resolve
from aquila2_runtime.errors import InvalidLoadOptionError, TokenizerError
from aquila2_runtime.info import RuntimeInfo
from aquila2_runtime.loading import cache_bytes, load_model
from aquila2_runtime.lora_adapters import check_adapters, request_keys
from aquila2_runtime.placement import BLOCK_SIZE, type_name, with_stored_form
from aquila2_runtime.prompts import PromptMaker
from aquila2_runtime.registry import Use
from aquila2_runtime.templates import get_template
from aquila2_runtime.tokenizer import Aquila2Tokenizer

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.registry import LoadedModel

_log = logging.getLogger(__name__)


def open_checkpoint(options: LoadOptions) -> tuple[Use, PromptMaker, RuntimeInfo]:
    """Do everything that ``Aquila2Runtime.load`` promises, cheapest checks first.

    Raises:
        Aquila2Error: Whatever is wrong; nothing stays loaded then.
    """
    given = None if options.template is None else get_template(options.template)
    resolved = resolve(
        options.model,
        source=options.source,
        revision=options.revision,
        cache_dir=options.cache_dir,
        allow_pickle=options.allow_pickle,
        # None leaves it to the environment.
        offline=options.offline or None,
        progress=options.progress,
    )
    config = read_config(resolved.path)
    _warn_of_lost_scaling(config, resolved)
    options = with_stored_form(options, config)
    max_model_len = _max_model_len(options, config)
    tokenizer = Aquila2Tokenizer.load(
        resolved.path,
        vocab_size=config.vocab_size,
        allow_unknown=options.allow_unknown_tokenizer,
    )
    _check_ids(config, tokenizer, resolved)
    adapters = check_adapters(options, config, resolved.name)
    template = given
    if template is None and resolved.template is not None:
        template = get_template(resolved.template)
    prompts = PromptMaker(
        tokenizer=tokenizer,
        template=template,
        max_model_len=max_model_len,
        model=resolved.name,
        trailing_space=options.trailing_space,
        strict_markers=options.strict_markers,
        adapters=request_keys(options, adapters),
    )
    use = load_model(options, resolved, config, tokenizer, max_model_len, adapters)
    model = use.model
    if model is None:
        msg = "a use that was just acquired has its model"
        raise RuntimeError(msg)
    # Every use of a model shares its tokenizer, and with it what was compiled over its vocabulary.
    prompts = dataclasses.replace(prompts, tokenizer=model.tokenizer)
    return use, prompts, _info(options, resolved, prompts, model)


def _warn_of_lost_scaling(config: ModelConfig, resolved: ResolvedCheckpoint) -> None:
    """Say in the log when a 16K model's positions are not scaled.

    The first config.json of AquilaChat2-7B-16K left that out, and older copies still do. Nothing
    else tells: the file describes a model with a shorter context, and the answers are noise.
    """
    if config.rope_factor == 1.0 and scales_positions(resolved.name):
        _log.warning(
            "%s was trained with scaled positions, but config.json has no rope_scaling, as in an "
            "old copy: expect noise. Fetch the released config.json again.",
            resolved.name,
        )


def _max_model_len(options: LoadOptions, config: ModelConfig) -> int:
    asked = options.max_model_len
    if asked is None:
        return config.max_position
    if asked > config.max_position:
        raise InvalidLoadOptionError(
            f"max_model_len={asked}, but the checkpoint was made for {config.max_position} tokens.",
            parameter="max_model_len",
            value=asked,
            hint="Beyond that its answers are noise; use a checkpoint with a longer context.",
        )
    return asked


def _check_ids(
    config: ModelConfig, tokenizer: Aquila2Tokenizer, resolved: ResolvedCheckpoint
) -> None:
    """config.json and the tokenizer files must mean the same token by end of text."""
    if tokenizer.eos_token_id != config.eos_token_id:
        raise TokenizerError(
            f"{resolved.path.name}: config.json says eos_token_id={config.eos_token_id}, but the "
            f"tokenizer files say {tokenizer.eos_token_id}.",
            parameter="eos_token_id",
            value=config.eos_token_id,
            hint="Files of two checkpoints are mixed, or added_tokens.json is missing.",
        )


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
