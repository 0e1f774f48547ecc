"""The options of ``load`` stand in three places; pydantic wants its fields spelled out.

The source is ``LoadOptions``. This holds the adapters' fields to it, and their sampling fields to
``SamplingParams``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, SamplingParams
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.request_options import RequestOptions
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from langchain_aquila2._settings import LOAD_FIELDS, REQUEST_FIELDS
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._params import REQUEST_KEYWORDS

LOAD = {field.name: field for field in dataclasses.fields(LoadOptions)}
SAMPLING = {field.name: field for field in dataclasses.fields(SamplingParams)}
# A constructor of an adapter has defaults of its own for these, which its docstring states.
OWN_DEFAULTS = {"temperature", "top_p", "model"}
# One answer a response, and integer keys that JSON does not keep.
NOT_IN = {"prompt_logprobs": {ChatAquila2, Aquila2LLM, Aquila2}, "n": {Aquila2},
          "constraint": {ChatAquila2, Aquila2LLM, Aquila2}, "logit_bias": {Aquila2}}  # fmt: skip
ADAPTERS = (ChatAquila2, Aquila2LLM, Aquila2)


def kinds(annotation: Any) -> set[Any]:
    """The kinds a type admits, containers by what they are."""
    if annotation is Any:
        return {Any}
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return set().union(*(kinds(part) for part in typing.get_args(annotation)))
    origin = typing.get_origin(annotation) or annotation
    if inspect.isclass(origin) and issubclass(origin, collections.abc.Mapping):
        return {"mapping"}
    if origin in (list, tuple):
        return {"sequence"}
    return {origin}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", sorted(set(LOAD) - {"progress"}))
def test_an_adapter_s_load_option_is_the_runtime_s(adapter: Any, name: str) -> None:
    declared = typing.get_type_hints(LoadOptions)[name]
    field = adapter.model_fields[name]
    # Directories by name: given as a mapping, kept as pairs by some. Devices: one or several.
    expected = kinds(declared) - ({"sequence"} if name in ("adapters", "device") else set())
    assert kinds(field.annotation) - {"sequence"} == expected
    if name == "device":
        assert "sequence" in kinds(field.annotation) & kinds(declared)
    if name not in OWN_DEFAULTS:
        assert field.default == LOAD[name].default


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", sorted(SAMPLING))
def test_an_adapter_s_sampling_field_is_the_runtime_s(adapter: Any, name: str) -> None:
    if adapter in NOT_IN.get(name, ()):
        assert name not in adapter.model_fields
        return
    declared = kinds(typing.get_type_hints(SamplingParams)[name])
    field = adapter.model_fields[name]
    # Stored forms may be narrower: LlamaIndex keeps tuples, LangChain lists. LangChain's users also
    # know logprobs as a flag.
    flag = {bool} if name == "logprobs" and adapter is not Aquila2 else set()
    assert kinds(field.annotation) - flag <= declared
    if name not in OWN_DEFAULTS:
        assert (field.default or None) == (SAMPLING[name].default or None)


def test_request_options_are_known_everywhere() -> None:
    """``answer_limit`` is how an adapter states its default; tools come by the frameworks' ways."""
    of_runtime = {"answer_limit", "progress", "tools", "tool_choice", "parallel_tool_calls"}
    names = {field.name for field in dataclasses.fields(RequestOptions)} - of_runtime
    assert names == REQUEST_FIELDS == REQUEST_KEYWORDS
    assert set(ChatAquila2.model_fields) >= REQUEST_FIELDS


def test_an_adapter_knows_no_load_option_that_does_not_exist() -> None:
    assert set(LOAD) - {"progress"} == LOAD_FIELDS
    everything = set(LOAD) | set(SAMPLING) | REQUEST_FIELDS
    own = set(ChatAquila2.__mro__[1].model_fields) - everything
    assert own == {"streaming", "runtime", "top_logprobs"}  # the last is OpenAI's word


def test_load_s_docstring_names_every_option() -> None:
    told = inspect.getdoc(Aquila2Runtime.load) or ""
    assert not [name for name in LOAD if name not in told]
    for kind in (LoadOptions, SamplingParams, RequestOptions):
        told = inspect.getdoc(kind) or ""
        names = [field.name for field in dataclasses.fields(kind)]
        assert not [name for name in names if f"{name}: " not in told]
