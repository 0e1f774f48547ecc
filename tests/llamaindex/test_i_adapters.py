"""I. LoRA adapters: given once, chosen by keyword or as a field, at every endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.errors import InvalidRequestError
from llamaindex_aquila2 import Aquila2
from tests.adapters import random_adapter
from tests.llamaindex.support import ENDPOINTS, ask, text_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def adapters(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: str(random_adapter(demo_path, folder / name, seed=seed, size=0.3))
        for seed, name in enumerate(("first", "second"))
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_call_and_each_model_may_name_an_adapter(
    spec: dict[str, Any], adapters: dict[str, str], endpoint: str
) -> None:
    llm = Aquila2(**spec, adapters=adapters, temperature=0, max_tokens=12)
    texts = {}
    for name in ("first", "second", None):
        keywords = {} if name is None else {"adapter": name}
        texts[name] = text_of(ask(llm, endpoint, "Hello!", **keywords)[-1])
    assert len(set(texts.values())) == 3
    second = Aquila2(
        **spec,
        adapters=adapters,
        temperature=0,
        max_tokens=12,
        adapter="second",
    )
    assert text_of(ask(second, endpoint, "Hello!")[-1]) == texts["second"]
    assert text_of(ask(second, endpoint, "Hello!", adapter=None)[-1]) == texts[None]
    with pytest.raises(InvalidRequestError, match="'first', 'second'"):
        ask(llm, endpoint, "Hello!", adapter="third")
