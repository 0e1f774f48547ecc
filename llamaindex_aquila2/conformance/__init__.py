"""Conformance: what LlamaIndex and its users expect of an LLM class, as tests to subclass.

LlamaIndex has no such suite. Subclass ``LLMConformance`` in a test file, say what to test, and run
pytest; every test is named after the point it shows. See ``docs/llamaindex.md`` for the points.

    from llamaindex_aquila2.conformance import LLMConformance


    class TestMyLLM(LLMConformance):
        @property
        def llm_class(self):
            return MyLLM

        @property
        def llm_params(self):
            return {"model": "my-model", "temperature": 0}

Hooks of ``Suite`` that have no default (how many tokens a prompt has, a model that fails) skip the
tests that need them until they are overridden. A point that a class leaves out on purpose is
overridden with the same name and ``pytest.mark.xfail``. It needs pytest, and nothing of this
package but itself.
"""

from __future__ import annotations

import pytest

_MODULES = (
    "concurrency",
    "context",
    "events",
    "inputs",
    "leaving",
    "objects",
    "rag",
    "sharing",
    "streaming",
    "tools",
)
# Before they are imported: their asserts then say what differed, also under python -O.
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _MODULES))

from llamaindex_aquila2.conformance.concurrency import ConcurrencyTests  # noqa: E402
from llamaindex_aquila2.conformance.context import ContextTests  # noqa: E402
from llamaindex_aquila2.conformance.events import EventTests  # noqa: E402
from llamaindex_aquila2.conformance.inputs import InputTests  # noqa: E402
from llamaindex_aquila2.conformance.leaving import LeavingTests  # noqa: E402
from llamaindex_aquila2.conformance.objects import ObjectTests  # noqa: E402
from llamaindex_aquila2.conformance.rag import RagTests  # noqa: E402
from llamaindex_aquila2.conformance.sharing import SharingTests  # noqa: E402
from llamaindex_aquila2.conformance.streaming import StreamingTests  # noqa: E402
from llamaindex_aquila2.conformance.suite import Suite  # noqa: E402
from llamaindex_aquila2.conformance.tools import ToolTests  # noqa: E402

__all__ = [
    "ConcurrencyTests",
    "ContextTests",
    "EventTests",
    "InputTests",
    "LLMConformance",
    "LeavingTests",
    "ObjectTests",
    "RagTests",
    "SharingTests",
    "StreamingTests",
    "Suite",
    "ToolTests",
]


class LLMConformance(
    EventTests,
    StreamingTests,
    ConcurrencyTests,
    LeavingTests,
    ContextTests,
    InputTests,
    ObjectTests,
    ToolTests,
    SharingTests,
    RagTests,
):
    """Every point; its parts can be subclassed one by one."""
