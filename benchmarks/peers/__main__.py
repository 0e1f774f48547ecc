"""ChatOpenAI and ChatOllama against a server on this machine: a check per row of the table.

In an environment with langchain, langchain-openai and langchain-ollama, from the checkout's root:

    PYTHONPATH=. OTHER/bin/python -m benchmarks.peers --out FILE.json

The server's answers are fixed, so what is seen is the client's part: what it sends, what it makes
of an answer, whether it hangs up. What a model would answer is not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import answers, calls, objects
from benchmarks.peers.peer import Peer
from benchmarks.peers.server import Server, serving
from benchmarks.report import tell

PACKAGES = ("langchain", "langchain-core", "langchain-openai", "langchain-ollama")
CLIENTS = ("openai", "ollama")
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", action="append", help="only rows that hold this; may be repeated")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    wanted = [row for row in ROWS if not options.row or any(one in row for one in options.row)]
    with serving() as server, asyncio.Runner() as loop:
        both = peers(server, loop)
        found = {row: {peer.name: ROWS[row](peer) for peer in both} for row in wanted}
    versions = {name: importlib.metadata.version(name) for name in (*PACKAGES, *CLIENTS)}
    tell({"versions": versions, "python": sys.version.split()[0], "rows": found}, options.out)


if __name__ == "__main__":
    main()
