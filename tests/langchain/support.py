"""What several of these tests need."""

from __future__ import annotations

from collections.abc import Callable

from langchain_aquila2 import ChatAquila2

MakeChat = Callable[..., ChatAquila2]
