"""Specified: an Aquila2 model's fields, their checks, copies and pickles. It answers nothing.

The fields are the whole specification: whatever copies, serialises or pickles the object carries
them and no weights, and finds the loaded runtime again by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr

from aquila2_runtime import InvalidLoadOptionError, RuntimeLease
from aquila2_runtime.keywords import reject_unknown
from aquila2_runtime.load_options import OPTION_NAMES
from llamaindex_aquila2._checks import check_fields
from llamaindex_aquila2._fields import Fields
from llamaindex_aquila2._helpers import make_chat_memory, make_node_parser, make_prompt_helper
from llamaindex_aquila2._own_prompts import own_functions, with_own_prompts
from llamaindex_aquila2._params import MAX_TOKENS_ALIASES, SAMPLING_FIELDS, default_limit, unalias
from llamaindex_aquila2._tokens import load_tokenizer, plain_tokens, template_tokens

if TYPE_CHECKING:
    from llama_index.core.indices.prompt_helper import PromptHelper
    from llama_index.core.memory import ChatMemoryBuffer
    from llama_index.core.node_parser import SentenceSplitter

    from aquila2_runtime import Aquila2Runtime

# What a copy keeps, and a dictionary or a pickle leaves out.
_HANDLERS: Final = frozenset({"callback_manager", "rate_limiter", "progress"})


class Specified(Fields):
    """What follows from the fields without generating; ``Fields`` lists them."""

    _lease: RuntimeLease = PrivateAttr()
    _wrapped: bool = PrivateAttr(default=False)
    _metadata: tuple[object, LLMMetadata] | None = PrivateAttr(default=None)
    _tokenizer: Any = PrivateAttr(default=None)

    def __init__(self, model: str | None = None, **fields: Any) -> None:
        """Check names and values; nothing is read.

        Args:
            model: What to load; see the class.
            **fields: See the class.

        Raises:
            UnknownParameterError: A keyword does not exist; the nearest one is suggested.
            InvalidRequestError: A value has a wrong type or lies outside its range.
        """
        # From this class's own methods; in somebody's dictionary it is a name like any other.
        own = isinstance(fields.get("_lease"), RuntimeLease)
        lease: RuntimeLease | None = fields.pop("_lease") if own else None
        # LlamaIndex's own serialisation writes the class's name among the fields.
        fields.pop("class_name", None)
        known = {*type(self).model_fields, *MAX_TOKENS_ALIASES}
        reject_unknown(fields, known, type(self).__name__)
        checked = check_fields({"model": model, **unalias(fields, type(self).__name__)})
        # The lease checks the load options once more where they are at home.
        options = {name: checked[name] for name in OPTION_NAMES if name in checked}
        found = lease if lease is not None else RuntimeLease(**options)
        super().__init__(**checked)
        self._lease = found
        self._wrapped = lease is not None

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a field; checked as in the constructor, and load options cannot change."""
        if name in type(self).model_fields:
            value = check_fields({"model": self.model, name: value})[name]
            if name in OPTION_NAMES and value != getattr(self, name):
                raise InvalidLoadOptionError(
                    f"{name} says what is loaded and cannot change.",
                    parameter=name,
                    value=value,
                    hint=f"llm.model_copy(update={{{name!r}: ...}}) is a model of its own.",
                )
        super().__setattr__(name, value)

    @classmethod
    def from_runtime(cls, runtime: Aquila2Runtime, **fields: Any) -> Self:
        """Make a model over a loaded runtime; closing the model leaves the runtime open.

        Its ``to_dict`` names the model only: what ``from_dict`` makes of it loads by that name.

        Args:
            runtime: A loaded runtime.
            **fields: Sampling and LlamaIndex fields; load options are the runtime's own.

        Raises:
            UnknownParameterError: A keyword does not exist or is a load option.
        """
        known = {*cls.model_fields, *MAX_TOKENS_ALIASES} - OPTION_NAMES
        reject_unknown(fields, known, f"{cls.__name__}.from_runtime")
        return cls(model=runtime.info.model, _lease=RuntimeLease.of(runtime), **fields)

    @classmethod
    def class_name(cls) -> str:
        """Return the key of serialised objects."""
        return "Aquila2_llm"

    # The runtime

    def warmup(self) -> Self:
        """Load the weights now, if no equal model has."""
        self._lease.runtime()
        return self

    def close(self) -> None:
        """Give the runtime back; the last of equal models frees the weights. Idempotent.

        Copies share one claim: closing one closes them all.
        """
        self._lease.close()

    @property
    def runtime(self) -> Aquila2Runtime:
        """The runtime, loaded if need be."""
        return self._lease.runtime()

    # What is known without weights

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans with; reads config and tokenizer at first, then is kept.

        ``context_window`` is ``runtime.info.max_model_len`` less what the template, or in plain
        text the names of roles, and the system prompt take: LlamaIndex plans with the text alone.
        Functions and a wrapper of the caller's own take as much as they put around one short text.
        Only its ``PromptHelper`` takes the system prompt off again; ``prompt_helper()`` does not.
        """
        key = (
            self.system_prompt,
            self.max_tokens,
            self.is_chat_model,
            self.is_function_calling_model,
            self.messages_to_prompt,
            self.completion_to_prompt,
            self.query_wrapper_prompt,
        )
        if self._metadata is None or self._metadata[0] != key:
            self._metadata = (key, self._find_metadata())
        return self._metadata[1]

    def to_payload(self) -> dict[str, Any]:
        """Describe the model in events; reads no file, so that an event costs nothing."""
        known = self._metadata[1].model_dump() if self._metadata is not None else {}
        return {
            **known,
            "class_name": self.class_name(),
            "model_name": self.model,
            "temperature": self.temperature,
            "quantization": self.quantization,
            "dtype": self.dtype,
            "device": self.device,
        }

    @property
    def tokenizer_fn(self) -> Callable[[str], list[int]]:
        """The model's tokenizer as LlamaIndex wants it: text to ids, no control ids."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._lease)
        encode: Callable[[str], list[int]] = self._tokenizer.encode_ordinary
        return encode

    def use_as_default(self) -> Self:
        """Make this LlamaIndex's default model, with its tokenizer and its prompt helper.

        Call it before making node parsers and memories, which keep the tokenizer they find, and
        again after changing ``max_tokens`` or ``system_prompt``. Chat engines pack their prompts
        by the default helper and take no other. Never done implicitly, since the defaults are the
        whole process's.
        """
        from llama_index.core import Settings

        Settings.llm = self
        Settings.tokenizer = self.tokenizer_fn
        Settings.prompt_helper = self.prompt_helper()
        return self

    def prompt_helper(self) -> PromptHelper:
        """Make a PromptHelper for this model's window and tokenizer."""
        return make_prompt_helper(self.metadata, self.tokenizer_fn, self.system_prompt)

    def node_parser(
        self, chunk_size: int | None = None, chunk_overlap: int | None = None
    ) -> SentenceSplitter:
        """Make a splitter that counts this model's tokens.

        Args:
            chunk_size: Tokens of a chunk; by default a quarter of the room beside the answer and
                LlamaIndex's instructions, at most 1024.
            chunk_overlap: Tokens that neighbours share; by default a tenth of the size.
        """
        return make_node_parser(self.metadata, self.tokenizer_fn, chunk_size, chunk_overlap)

    def chat_memory(self, token_limit: int | None = None) -> ChatMemoryBuffer:
        """Make a chat memory that leaves room for retrieved context and the answer.

        Args:
            token_limit: Tokens it keeps; by default a quarter of the room beside the answer and
                LlamaIndex's instructions.
        """
        return make_chat_memory(self.metadata, self.tokenizer_fn, token_limit)

    # Copies, pickles

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; the copy shares the runtime, unless ``update`` changes a load option.

        Raises:
            UnknownParameterError: ``update`` names no field.
            InvalidLoadOptionError: A load option of a loaded runtime would change.
        """
        if not update:
            return super().model_copy()
        update = unalias(update, "update")
        changed = OPTION_NAMES & set(update)
        if changed and self._wrapped:
            raise InvalidLoadOptionError(
                f"{min(changed)} belongs to the loaded runtime and cannot change.",
                parameter=min(changed),
                hint="Construct a model with model= instead.",
            )
        fields = {**self._specification(), **update}
        fields.update({name: update.get(name, getattr(self, name)) for name in _HANDLERS})
        if not changed:
            fields["_lease"] = self._lease
        copy = type(self)(**fields)
        copy._wrapped = self._wrapped
        return copy

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy; there is nothing deep but the runtime, which is shared."""
        return self.model_copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields; the copy finds or loads the runtime where it is unpickled."""
        if self._wrapped:
            msg = "A model made by from_runtime cannot be pickled; construct with model= instead."
            raise TypeError(msg)
        return _rebuild, (type(self), self._specification())

    # Inner steps

    def _specification(self) -> dict[str, Any]:
        """Every field but handlers; functions only where they are the caller's own."""
        fields = {
            name: getattr(self, name) for name in type(self).model_fields if name not in _HANDLERS
        }
        return fields | own_functions(self)._asdict()

    def _call_defaults(self) -> dict[str, Any]:
        """What a call inherits; read at every call, so assigned fields count."""
        return {
            name: getattr(self, name) for name in (*SAMPLING_FIELDS, "adapter", "fit", "timeout")
        }

    def _chats(self) -> bool:
        """Whether the chat template is used."""
        if self.is_chat_model is not None:
            return self.is_chat_model
        facts = self._lease.facts()
        if facts.template is not None:
            return True
        from aquila2_runtime.catalog import find_released

        # A directory without a known template is not taken for a base model: chatting with it is
        # the runtime's to refuse, which names the templates.
        return find_released(facts.model) is None

    def _find_metadata(self) -> LLMMetadata:
        facts = self._lease.facts()
        chats = self._chats()
        if not (chats and facts.template):
            taken = plain_tokens(self.tokenizer_fn, self.system_prompt)
        elif self.system_prompt:
            self.tokenizer_fn(self.system_prompt)
            taken = template_tokens(self._tokenizer, facts.template, self.system_prompt)
        else:
            taken = facts.template_tokens
        taken = with_own_prompts(self, self.tokenizer_fn, taken, chats=chats)
        return LLMMetadata(
            context_window=max(1, facts.max_model_len - taken),
            num_output=self.max_tokens or default_limit(facts.max_model_len),
            is_chat_model=chats,
            is_function_calling_model=self.is_function_calling_model,
            model_name=facts.model,
        )


def _rebuild(cls: type[Specified], fields: dict[str, Any]) -> Specified:
    return cls(**fields)
