"""A page to try a model: chat, and questions about your documents, in English and Chinese.

Upload a text or PDF file, ask, watch the answer come, see the passage it rests on. Stop it, or
close the page, and the model stops. It answers on this machine only; documents stay in memory.

python examples/app.py [--model AquilaChat2-7B] [--port 8765]

It needs the extras llamaindex, serve and rag.
"""

from __future__ import annotations

import argparse
import contextlib
import socket

import uvicorn
from web.server import make_app

from aquila2_runtime import Aquila2Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--port", type=int, default=8765, help="0 takes any that is free")
    parser.add_argument("--max-tokens", type=int, default=512, help="of an answer")
    options = parser.parse_args()

    # Taken before the model is loaded, so that a port in use is told at once.
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        port = listener.getsockname()[1]
        print(f"Loading {options.model} …", flush=True)
        with Aquila2Runtime.load(options.model) as runtime:
            app = make_app(runtime, port, options.max_tokens)
            print(f"Open http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
            # Ctrl-C has ended it by then; uvicorn raises it once more.
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
