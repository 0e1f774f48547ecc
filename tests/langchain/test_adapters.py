"""LoRA adapters through LangChain: given once, chosen by ``bind`` or as a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.errors import InvalidRequestError
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from tests.adapters import random_adapter

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def adapters(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: str(random_adapter(demo_path, folder / name, seed=seed, size=0.3))
        for seed, name in enumerate(("first", "second"))
    }


async def test_bind_chooses_the_adapter_in_every_way_of_asking(
    spec: dict[str, Any], adapters: dict[str, str]
) -> None:
    chat = ChatAquila2(**spec, adapters=adapters, temperature=0, max_tokens=16)
    texts = {}
    for name in ("first", "second", None):
        bound = chat if name is None else chat.bind(adapter=name)
        text = bound.invoke("Hello!").content
        assert "".join(str(chunk.content) for chunk in bound.stream("Hello!")) == text
        assert (await bound.ainvoke("Hello!")).content == text
        assert [out.content for out in bound.batch(["Hello!"] * 2)] == [text] * 2
        field = ChatAquila2(**spec, adapters=adapters, adapter=name, temperature=0, max_tokens=16)
        assert field.invoke("Hello!").content == text
        texts[name] = text
    assert len(set(texts.values())) == 3
    plain = ChatAquila2(**spec, temperature=0, max_tokens=16)
    assert plain.invoke("Hello!").content == texts[None]
    with pytest.raises(InvalidRequestError, match="'first', 'second'"):
        chat.bind(adapter="third").invoke("Hello!")


def test_a_merged_adapter_answers_without_being_named(
    spec: dict[str, Any], adapters: dict[str, str]
) -> None:
    first = {"first": adapters["first"]}
    beside = ChatAquila2(**spec, adapters=first, adapter="first", temperature=0, max_tokens=16)
    merged = ChatAquila2(
        **spec, adapters=first, merge_adapter="first", temperature=0, max_tokens=16
    )
    assert merged.invoke("Hello!").content == beside.invoke("Hello!").content


def test_plain_text_takes_adapters_too(spec: dict[str, Any], adapters: dict[str, str]) -> None:
    llm = Aquila2LLM(**spec, adapters=adapters, temperature=0, max_tokens=12)
    assert llm.bind(adapter="first").invoke("The") != llm.bind(adapter="second").invoke("The")
