"""ChatOpenAI and ChatOllama against a server on this machine: a check per row of the table.

In an environment with langchain, langchain-openai and langchain-ollama, from the checkout's root:

    PYTHONPATH=. OTHER/bin/python -m benchmarks.peers --out FILE.json

The server's answers are fixed, so what is seen is the client's part: what it sends, what it makes
of an answer, whether it hangs up. What a model would answer is not looked at.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.peers import answers, calls, objects
from benchmarks.peers.command import run
from benchmarks.peers.peer import Peer
from benchmarks.peers.server import Server

PACKAGES = (
    "langchain", "langchain-core", "langchain-openai", "langchain-ollama", "openai", "ollama"
)  # fmt: skip
ROWS = {**answers.ROWS, **calls.ROWS, **objects.ROWS}


def peers(server: Server, loop: asyncio.Runner) -> list[Peer]:
    """Both classes, at this server; clients keep connections to the event loop they met first."""
    from langchain_ollama import ChatOllama
    from langchain_openai import ChatOpenAI

    url = f"http://127.0.0.1:{server.port}"

    def openai(**fields: Any) -> Any:
        return ChatOpenAI(
            **{"model": "gpt-4o-mini", "base_url": f"{url}/v1", "api_key": "x", **fields}
        )

    def ollama(**fields: Any) -> Any:
        return ChatOllama(**{"model": "llama3.1", "base_url": url, **fields})

    return [
        Peer("ChatOpenAI", server, openai, ChatOpenAI, "max_tokens", loop),
        Peer("ChatOllama", server, ollama, ChatOllama, "num_predict", loop),
    ]


def main() -> None:
    with asyncio.Runner() as loop:
        run(__doc__, ROWS, lambda server: peers(server, loop), PACKAGES)


if __name__ == "__main__":
    main()
