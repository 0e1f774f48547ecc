"""A checkpoint that a server computes: what is read here, what is checked there. It loads nothing.

Here are the small files: templates, tokenization and all that guards prompts are as for weights on
this machine. There are the weights, asked for ids (``engine/openai_engine.py``).
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aquila2_runtime.described import Described
from aquila2_runtime.engine.openai_engine import OpenAIEngine
from aquila2_runtime.engine.remote import Remote, ServedModel
from aquila2_runtime.errors import InvalidLoadOptionError
from aquila2_runtime.info import RuntimeInfo
from aquila2_runtime.prompts import PromptMaker
from aquila2_runtime.server_address import server_key
from aquila2_runtime.shown import shown

if TYPE_CHECKING:
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.loaded import Claim
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

_MAX_NUM_SEQS: Final = 256
# What only the server knows of itself.
_THEIRS: Final = "as the server has it"


@dataclasses.dataclass(frozen=True, slots=True)
class AtServer:
    """A model at a server.

    Attributes:
        engine: Asks it.
        tokenizer: Of the checkpoint.
    """

    engine: OpenAIEngine
    tokenizer: Aquila2Tokenizer


class ServedUse:
    """A runtime's claim on a model at a server; ``give_back`` runs at collection too."""

    def __init__(self, model: AtServer) -> None:
        self._model: AtServer | None = model
        self._finalizer = weakref.finalize(self, model.engine.close_soon)
        self._finalizer.atexit = False

    @property
    def model(self) -> AtServer | None:
        """The model; None once given back."""
        return self._model

    def give_back(self) -> None:
        """End it, and the connections with it."""
        model, self._model = self._model, None
        if model is not None and self._finalizer.detach() is not None:
            model.engine.close()


def open_served(options: LoadOptions) -> tuple[Claim, PromptMaker, RuntimeInfo]:
    """Read the small files, and see that the server has the model.

    Raises:
        CheckpointError: The checkpoint cannot be found, or its files are wrong.
        InvalidLoadOptionError: The server has no such model or adapter, or wants another key.
        ServerError: The server cannot be reached, or is none of its kind.
    """
    found = Described.of(options, weights=False)
    remote = Remote(options.base_url or "", key=server_key())
    listed = {model.name: model for model in remote.models()}
    chosen = _chosen(options, found, listed)
    for name, served in options.adapter_pairs:
        if served not in listed:
            raise _absent("adapters", f"{name}={served}", listed)
        if listed[served].parent is None:
            raise InvalidLoadOptionError(
                f"adapters: {shown(served)} is a model of its own at the server, and no adapter.",
                parameter="adapters",
                value=served,
                hint="Another model's ids are not this one's.",
            )
    max_model_len = _max_model_len(options, found, chosen)
    prompts = found.prompts(options, max_model_len, dict(options.adapter_pairs))
    engine = OpenAIEngine(
        dataclasses.replace(remote, model=chosen.name),
        name=found.resolved.name,
        n_vocab=found.tokenizer.n_vocab,
        max_num_seqs=options.max_num_seqs or _MAX_NUM_SEQS,
    )
    use = ServedUse(AtServer(engine, found.tokenizer))
    return use, prompts, _info(options, found, prompts, chosen)


def _chosen(
    options: LoadOptions, found: Described, listed: Mapping[str, ServedModel]
) -> ServedModel:
    """The model to ask: the one that is named, the only one, or the one of the same name."""
    if options.remote_model is not None:
        if options.remote_model not in listed:
            raise _absent("remote_model", options.remote_model, listed)
        return listed[options.remote_model]
    own = [model for model in listed.values() if model.parent is None]
    if len(own) == 1:
        return own[0]
    wanted = found.resolved.name.rpartition("/")[2].lower()
    alike = [model for model in own if model.name.rpartition("/")[2].lower() == wanted]
    if len(alike) == 1:
        return alike[0]
    raise InvalidLoadOptionError(
        f"{options.base_url} has {len(own)} models: {_list(listed)}.",
        parameter="remote_model",
        hint="Say which with remote_model=.",
    )


def _max_model_len(options: LoadOptions, found: Described, chosen: ServedModel) -> int:
    """Tokens of prompt and answer together, as far as both sides go.

    A checkpoint's own length is not exceeded: a server that was started with more gives noise.
    """
    asked, theirs = found.max_model_len(options.max_model_len), chosen.max_model_len
    if theirs is None or theirs >= asked:
        return asked
    if options.max_model_len is not None:
        raise InvalidLoadOptionError(
            f"max_model_len={asked}, but the server reads {theirs} tokens.",
            parameter="max_model_len",
            value=asked,
            hint="Start the server with a longer one, or leave it out.",
        )
    return theirs


def _absent(parameter: str, name: str, listed: Mapping[str, ServedModel]) -> InvalidLoadOptionError:
    return InvalidLoadOptionError(
        f"{parameter}={shown(name)} is not at the server; it has {_list(listed)}.",
        parameter=parameter,
        value=name,
    )


def _list(names: Mapping[str, ServedModel]) -> str:
    return ", ".join(map(repr, names))[:400] or "none"


def _info(
    options: LoadOptions, found: Described, prompts: PromptMaker, chosen: ServedModel
) -> RuntimeInfo:
    resolved, config = found.resolved, found.config
    limit = "the server's or the checkpoint's, whichever is less"
    return RuntimeInfo(
        model=resolved.name,
        revision=resolved.revision,
        source=resolved.source,
        template=prompts.template.name if prompts.template else None,
        context_length=config.max_position,
        max_model_len=prompts.max_model_len,
        device=options.base_url or "",
        dtype=_THEIRS,
        quantization=None,
        attention=_THEIRS,
        cuda_graphs=False,
        kv_cache_dtype=_THEIRS,
        kv_cache_bytes=0,
        kv_cache_tokens=0,
        block_size=0,
        weight_bytes=0,
        max_num_seqs=options.max_num_seqs or _MAX_NUM_SEQS,
        max_step_tokens=0,
        max_prefill_beside_decode=0,
        prefix_cache=False,
        speculation=None,
        vocab_size=config.vocab_size,
        adapters=tuple(prompts.adapters),
        merged_adapter=None,
        reasons={
            "device": f"a server computes it there as {chosen.name!r}",
            "max_model_len": "asked for" if options.max_model_len else limit,
            "max_num_seqs": "the most requests sent at once",
        },
    )
