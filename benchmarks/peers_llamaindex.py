"""LlamaIndex's OpenAI and Ollama classes against a server on this machine: a check per row.

In an environment with pytest, llama-index-llms-openai and llama-index-llms-ollama, from the
checkout's root:

    PYTHONPATH=. OTHER/bin/python -m benchmarks.peers_llamaindex --out FILE.json

As in ``benchmarks.peers``, what is seen is the client's part, and no model is looked at.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import llamaindex_calls, llamaindex_inputs
from benchmarks.peers.llamaindex_calls import Peer
from benchmarks.peers.server import Server, serving
from benchmarks.report import tell

PACKAGES = ("llama-index-core", "llama-index-llms-openai", "llama-index-llms-ollama")
CLIENTS = ("openai", "ollama")
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", action="append", help="only rows that hold this; may be repeated")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    wanted = [row for row in ROWS if not options.row or any(one in row for one in options.row)]
    with serving() as server:
        both = peers(server)
        found = {row: {peer.name: ROWS[row](peer) for peer in both} for row in wanted}
    versions = {name: importlib.metadata.version(name) for name in (*PACKAGES, *CLIENTS)}
    tell({"versions": versions, "python": sys.version.split()[0], "rows": found}, options.out)


if __name__ == "__main__":
    main()
