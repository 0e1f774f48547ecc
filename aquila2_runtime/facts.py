"""Facts about a checkpoint without its weights, for adapters' metadata. It imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.described import Described
from aquila2_runtime.lease import ModelFacts
from aquila2_runtime.message import Message
from aquila2_runtime.templates import Template, get_template

if TYPE_CHECKING:
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.runtime import Aquila2Runtime
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


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
    """Facts of a checkpoint that is not loaded.

    What is not on this machine of its small files is fetched; its weights are not.

    Raises:
        CheckpointError: It cannot be found, or its files are wrong.
    """
    found = Described.of(options, weights=False)
    most = found.config.max_position
    return ModelFacts(
        model=found.resolved.name,
        template=None if found.template is None else found.template.name,
        max_model_len=min(options.max_model_len or most, most),
        template_tokens=_template_tokens(found.tokenizer, found.template),
    )


def _template_tokens(tokenizer: Aquila2Tokenizer, template: Template | None) -> int:
    if template is None:
        return 0
    word = "x"
    rendered = render_messages([Message("user", word)], template)
    around = len(tokenizer.encode_parts(rendered.parts)) - len(tokenizer.encode_ordinary(word))
    # A border token may join text on either side; one more keeps the count an upper bound.
    return around + 1
