"""Facts about a checkpoint without its weights, for adapters' metadata. It imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.resolve import resolve
from aquila2_runtime.conversation import render_messages
from aquila2_runtime.lease import ModelFacts
from aquila2_runtime.message import Message
from aquila2_runtime.templates import Template, get_template
from aquila2_runtime.tokenizer import Aquila2Tokenizer

if TYPE_CHECKING:
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.runtime import Aquila2Runtime


def facts_of_runtime(runtime: Aquila2Runtime) -> ModelFacts:
    """Facts of a loaded runtime."""
    info = runtime.info
    template = None if info.template is None else get_template(info.template)
    return ModelFacts(
        model=info.model,
        template=info.template,
        max_model_len=info.max_model_len,
        template_tokens=_template_tokens(runtime.tokenizer, template),
    )


def facts_of_options(options: LoadOptions) -> ModelFacts:
    """Facts of a checkpoint that is not loaded; it is fetched if it is not on this machine.

    Raises:
        CheckpointError: It cannot be found, or its files are wrong.
    """
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
    tokenizer = Aquila2Tokenizer.load(
        resolved.path,
        vocab_size=config.vocab_size,
        allow_unknown=options.allow_unknown_tokenizer,
    )
    name = options.template or resolved.template
    template = None if name is None else get_template(name)
    return ModelFacts(
        model=resolved.name,
        template=name,
        max_model_len=min(options.max_model_len or config.max_position, config.max_position),
        template_tokens=_template_tokens(tokenizer, template),
    )


def _template_tokens(tokenizer: Aquila2Tokenizer, template: Template | None) -> int:
    if template is None:
        return 0
    word = "x"
    rendered = render_messages([Message("user", word)], template)
    around = len(tokenizer.encode_parts(rendered.parts)) - len(tokenizer.encode_ordinary(word))
    # A border token may join text on either side; one more keeps the count an upper bound.
    return around + 1
