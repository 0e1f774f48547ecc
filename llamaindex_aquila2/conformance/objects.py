"""F. Objects: structured prediction in all four methods. See tools.py for tools."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from pydantic import BaseModel

from llamaindex_aquila2.conformance.recording import recording
from llamaindex_aquila2.conformance.suite import Suite

METHODS: Final = (
    "structured_predict",
    "astructured_predict",
    "stream_structured_predict",
    "astream_structured_predict",
)


class Town(BaseModel):
    """A town."""

    name: str
    inhabitants: int
    rivers: list[str]


def predict(llm: Any, method: str, cls: Any, **kwargs: Any) -> list[Any]:
    """All objects of any of the four methods."""
    # A new one each time, because LlamaIndex's own programs leave a parser on it.
    kwargs = {"prompt": PromptTemplate("Name a town near {place}."), "place": "Rome", **kwargs}

    async def apredict() -> list[Any]:
        result = await getattr(llm, method)(cls, **kwargs)
        return [item async for item in result] if "stream" in method else [result]

    if method.startswith("a"):
        return asyncio.run(apredict())
    result = getattr(llm, method)(cls, **kwargs)
    return list(result) if "stream" in method else [result]


class ObjectTests(Suite):
    """Point 19."""

    @pytest.mark.parametrize("method", METHODS)
    def test_f19_every_method_ends_with_an_object_of_the_class(self, method: str) -> None:
        """Whatever the weights are."""
        assert type(predict(self.at_most(80), method, Town)[-1]) is Town

    def test_f19_all_four_methods_end_with_the_same_object(self) -> None:
        """And streams give it piece by piece."""
        llm = self.at_most(80)
        found = [predict(llm, method, Town) for method in METHODS]
        assert len({repr(objects[-1]) for objects in found}) == 1
        assert all(len(objects) > 3 for objects in found[2:])

    @pytest.mark.parametrize("method", METHODS)
    def test_f19_the_caller_s_prompt_stays_as_it_was(self, method: str) -> None:
        """LlamaIndex's own programs leave their parser on it."""
        question = ChatMessage("Name a town near {place}.")
        prompt = ChatPromptTemplate(message_templates=[question])
        before = prompt.model_dump()
        predict(self.at_most(80), method, Town, prompt=prompt)
        assert prompt.model_dump() == before
        assert prompt.output_parser is None

    @pytest.mark.parametrize("method", METHODS)
    def test_f19_the_prompt_keeps_the_system_text_and_has_plain_braces(self, method: str) -> None:
        """LlamaIndex's own text programs double every brace of the schema."""
        llm = self.at_most(80, system_prompt="You know towns.")
        with recording(llm) as events:
            predict(llm, method, Town)
        (prompt,) = events.prompts
        said = prompt if isinstance(prompt, str) else "\n".join(str(one.content) for one in prompt)
        assert "You know towns." in said
        assert "inhabitants" in said
        assert "{{" not in said
