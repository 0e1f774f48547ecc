"""LangChain's unit suite over ChatOpenAI and ChatOllama: what needs no server of theirs.

In an environment with langchain-openai, langchain-ollama and langchain-tests:

    OTHER/bin/python -m pytest -c /dev/null --import-mode=importlib benchmarks/unit_suites.py
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from langchain_tests.unit_tests import ChatModelUnitTests

os.environ.setdefault("OPENAI_API_KEY", "none")  # it refuses to be constructed without one


class TestChatOpenAI(ChatModelUnitTests):
    """ChatOpenAI, with the capabilities that our own tests declare."""

    chat_model_class = ChatOpenAI
    chat_model_params: ClassVar[dict[str, Any]] = {"model": "gpt-4o-mini"}
    supports_json_mode = True
    supports_anthropic_inputs = True
    init_from_env_params = ({"OPENAI_API_KEY": "key"}, {"model": "gpt-4o-mini"}, {})


class TestChatOllama(ChatModelUnitTests):
    """ChatOllama, the same; it takes no key from the environment."""

    chat_model_class = ChatOllama
    chat_model_params: ClassVar[dict[str, Any]] = {"model": "llama3.1"}
    supports_json_mode = True
    supports_anthropic_inputs = True
