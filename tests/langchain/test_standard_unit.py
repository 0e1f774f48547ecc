"""LangChain's own unit suite for chat models; it reads no checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_aquila2 import ChatAquila2


@pytest.fixture(autouse=True)
def registered_for_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put ChatAquila2 into langchain-core's table of loadable classes, for these tests only.

    The suite's test_serdes calls ``load(..., allowed_objects="all")``, where "all" means the
    classes of langchain-core's own table: no class of another package passes it unregistered.
    What users do, ``allowed_objects=[ChatAquila2]``, is tested in test_construction.py without
    any registration.
    """
    # The package re-exports a function of the module's name, so it is taken from sys.modules.
    table = sys.modules["langchain_core.load.load"]
    name = (*ChatAquila2.get_lc_namespace(), ChatAquila2.__name__)
    monkeypatch.setitem(table.ALL_SERIALIZABLE_MAPPINGS, name, name)
    table._default_class_paths_cache.clear()
    yield
    table._default_class_paths_cache.clear()


class TestStandardUnit(ChatModelUnitTests):
    """Every capability that needs no weights; images, PDFs and audio are not among them."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAquila2

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "aquila2-demo"}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"AQUILA2_MODEL": "aquila2-demo"}, {}, {"model": "aquila2-demo"}
