"""The routes of the page: documents in, answers out as lines of JSON. It knows no page."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from llamaindex_aquila2 import Aquila2
from web.answers import Event, about, chatting, events
from web.guard import Guard
from web.shelf import RefusedError, Shelf

STATIC = Path(__file__).parent / "static"
QUESTION_CHARACTERS = 8_000


class Turn(BaseModel):
    """What was said before."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=32_000)


class Asked(BaseModel):
    """A question about a document, or without one the next turn of a conversation."""

    question: str = Field(min_length=1, max_length=QUESTION_CHARACTERS, pattern=r"\S")
    document: str | None = None
    history: list[Turn] = Field(default=[], max_length=200)


def make_app(runtime: Aquila2Runtime, port: int, max_tokens: int = 512) -> FastAPI:
    """Make the application over a loaded model.

    Args:
        runtime: Answers.
        port: Where it will be served; requests by any other address are refused.
        max_tokens: Of an answer; at most a quarter of the context.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, port=port)
    limit = min(max_tokens, runtime.info.max_model_len // 4)
    params = SamplingParams(temperature=0, max_tokens=limit)
    shelf = Shelf(Aquila2.from_runtime(runtime, temperature=0, max_tokens=limit))

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/info")
    async def info() -> dict[str, object]:
        return {"model": runtime.info.model, "context": runtime.info.max_model_len}

    @app.put("/api/documents")
    async def upload(request: Request, name: str = "document") -> dict[str, object]:
        content = await request.body()
        # Reading a file and counting its tokens must not hold up answers.
        return (await asyncio.to_thread(shelf.add, name, content)).described()

    @app.delete("/api/documents/{key}", status_code=204)
    async def remove(key: str) -> None:
        shelf.remove(key)

    @app.post("/api/ask")
    async def ask(asked: Asked) -> StreamingResponse:
        if asked.document is not None:
            found = shelf.get(asked.document)
            answer = functools.partial(about, found.document, asked.question)
        else:
            said = [Message(turn.role, turn.content) for turn in asked.history]
            messages = [*said, Message("user", asked.question)]
            answer = functools.partial(chatting, runtime, messages, params)
        return StreamingResponse(lines(events(answer)), media_type="application/x-ndjson")

    app.mount("/static", StaticFiles(directory=STATIC))
    explain(app)
    return app


def explain(app: FastAPI) -> None:
    """Give every refusal a code that the page has words for."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": error.code}, 404 if error.code == "gone" else 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, __: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "bad_question"}, 422)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        code = "too_large" if error.status_code == 413 else "failed"
        return JSONResponse({"error": code}, error.status_code)


async def lines(answer: AsyncGenerator[Event]) -> AsyncGenerator[str]:
    """Each event as a line of JSON. Closed when the browser goes away, which stops the model."""
    async with contextlib.aclosing(answer) as pieces:
        async for event in pieces:
            yield json.dumps(event, ensure_ascii=False) + "\n"
