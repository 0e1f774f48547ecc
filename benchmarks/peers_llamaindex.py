"""LlamaIndex's OpenAI and Ollama classes against a server on this machine: a check per row.

In an environment with pytest, llama-index-llms-openai and llama-index-llms-ollama, from the
checkout's root:

    PYTHONPATH=. OTHER/bin/python -m benchmarks.peers_llamaindex --out FILE.json

As in ``benchmarks.peers``, what is seen is the client's part, and no model is looked at.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers import llamaindex_calls, llamaindex_inputs
from benchmarks.peers.command import run
from benchmarks.peers.llamaindex_calls import Peer
from benchmarks.peers.server import Server

PACKAGES = (
    "llama-index-core", "llama-index-llms-openai", "llama-index-llms-ollama", "openai", "ollama"
)  # fmt: skip
ROWS = {**llamaindex_calls.ROWS, **llamaindex_inputs.ROWS}


def peers(server: Server) -> list[Peer]:
    """Both classes, at this server."""
    from llama_index.llms.ollama import Ollama
    from llama_index.llms.openai import OpenAI

    url = f"http://127.0.0.1:{server.port}"

    def openai(**fields: Any) -> Any:
        return OpenAI(**{"model": "gpt-4o-mini", "api_base": f"{url}/v1", "api_key": "x", **fields})

    def ollama(**fields: Any) -> Any:
        return Ollama(**{"model": "llama3.1", "base_url": url, "context_window": 2_048, **fields})

    return [
        Peer("openai", server, openai, "max_tokens"),
        Peer("ollama", server, ollama, "num_predict"),
    ]


def main() -> None:
    run(__doc__, ROWS, peers, PACKAGES)


if __name__ == "__main__":
    main()
