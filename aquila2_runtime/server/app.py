"""The server's routes: each reads a body, asks the runtime and writes the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from aquila2_runtime.batches import MAX_IN_FLIGHT
from aquila2_runtime.errors import Aquila2Error, ModelNotFoundError
from aquila2_runtime.server import failures
from aquila2_runtime.server.answers import ChatAnswer, TextAnswer
from aquila2_runtime.server.asked import AskedChat, asked_completion
from aquila2_runtime.server.bodies import ChatBody, CompletionBody
from aquila2_runtime.server.guard import OPEN, Guard
from aquila2_runtime.server.settings import ServerSettings
from aquila2_runtime.server.streams import EventStream, ReaderGoneError, unless_gone
from aquila2_runtime.shown import shown

if TYPE_CHECKING:
    from aquila2_runtime.outputs import RequestOutput
    from aquila2_runtime.runtime import Aquila2Runtime
    from aquila2_runtime.sampling import SamplingParams

T = TypeVar("T")
_NOBODY: Final = 499  # nobody reads it: the client has gone


def create_app(runtime: Aquila2Runtime, settings: ServerSettings | None = None) -> FastAPI:
    """Make an application that answers for a loaded checkpoint.

    It does not close the runtime. Run it with any ASGI server, in one process: every process would
    load its own weights.

    Example:
        >>> with Aquila2Runtime.load("aquila2-demo") as runtime:  # doctest: +SKIP
        ...     uvicorn.run(create_app(runtime), host="127.0.0.1", port=8000)

    Args:
        runtime: The checkpoint.
        settings: Who may ask, under which name, and how much; this machine alone by default.
    """
    chosen = settings or ServerSettings()
    # No pages about itself: they would be open to everybody, and load scripts from elsewhere.
    app = FastAPI(title="aquila2", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(Aquila2Error, failures.on_ours)
    app.add_exception_handler(RequestValidationError, failures.on_shape)
    app.add_exception_handler(HTTPException, failures.on_http)
    app.add_exception_handler(Exception, failures.on_any)
    _Routes(runtime, chosen).add_to(app)
    app.add_middleware(Guard, settings=chosen)
    if chosen.origins:
        # Outside the guard: browsers ask whether they may without the key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.origins,
            allow_methods=("GET", "POST"),
            # OpenAI's client for browsers adds a dozen of its own, more with every version.
            allow_headers=("*",),
        )
    return app


class _Routes:
    """What the server answers.

    Args:
        runtime: The checkpoint.
        settings: How to treat those who ask.
    """

    def __init__(self, runtime: Aquila2Runtime, settings: ServerSettings) -> None:
        self._runtime = runtime
        self._settings = settings
        self._name = settings.served_name or runtime.info.model
        self._since = int(time.time())

    def add_to(self, app: FastAPI) -> None:
        """Register every route."""
        app.get(OPEN, response_model=None)(self.health)
        app.get("/v1/models", response_model=None)(self.models)
        app.get("/v1/models/{name:path}", response_model=None)(self.model)
        app.post("/v1/chat/completions", response_model=None)(self.chat)
        app.post("/v1/completions", response_model=None)(self.complete)

    async def health(self) -> Response:
        """Whether requests are served: the engine's state, not the web server's."""
        healthy = self._runtime.healthy
        return JSONResponse({"status": "ok" if healthy else "failed"}, 200 if healthy else 503)

    async def models(self) -> dict[str, Any]:
        """The model, and its adapters, which are models to those who ask."""
        names = (self._name, *self._runtime.info.adapters)
        return {"object": "list", "data": [self._described(name) for name in names]}

    async def model(self, name: str) -> Response:
        """One of them."""
        self._adapter(name)
        return JSONResponse(self._described(name))

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Answer a conversation."""
        adapter = self._adapter(body.model)
        asked = await asyncio.to_thread(AskedChat.of, body, adapter)
        writer = ChatAnswer(model=body.model, tokenizer=self._runtime.tokenizer)
        if body.stream:
            deltas = self._runtime.astream_chat(asked.messages, asked.params, **asked.options)
            return await _unless_gone(request, self._stream(deltas, writer, body))
        answering = self._runtime.achat(asked.messages, asked.params, **asked.options)
        return await _unless_gone(request, _whole(answering, writer.whole))

    async def complete(self, body: CompletionBody, request: Request) -> Response:
        """Continue a text, several, or ids."""
        adapter = self._adapter(body.model)
        prompts, params, options = asked_completion(body, adapter)
        writer = TextAnswer(
            model=body.model,
            tokenizer=self._runtime.tokenizer,
            ids=bool(body.return_token_ids),
            names=bool(body.return_tokens_as_token_ids),
        )
        if body.stream:
            deltas = self._runtime.astream_complete(params=params, **_prompt(prompts[0]), **options)
            return await _unless_gone(request, self._stream(deltas, writer, body))
        answering = self._continued(prompts, params, options)
        return await _unless_gone(request, _whole(answering, writer.whole))

    async def _stream(
        self, deltas: Any, writer: ChatAnswer | TextAnswer, body: ChatBody | CompletionBody
    ) -> Response:
        options = body.stream_options
        return await EventStream.opened(
            deltas,
            writer,
            ping_seconds=self._settings.ping_seconds,
            counted=options is not None and bool(options.include_usage),
        )

    async def _continued(
        self, prompts: list[Any], params: SamplingParams, options: dict[str, Any]
    ) -> list[RequestOutput]:
        """Continue all prompts together; one that is refused stops the others."""
        # All answers at once would be more than may wait, and the body be refused for ever.
        turns = asyncio.Semaphore(max(MAX_IN_FLIGHT // params.n, 1))

        async def continued(prompt: Any) -> RequestOutput:
            async with turns:
                return await self._runtime.acomplete(params=params, **_prompt(prompt), **options)

        tasks = [asyncio.ensure_future(continued(prompt)) for prompt in prompts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _adapter(self, model: str) -> str | None:
        """The adapter that a model's name means; None for the model itself.

        Raises:
            ModelNotFoundError: There is no such model here.
        """
        adapters = self._runtime.info.adapters
        if model == self._name or model in adapters:
            return None if model == self._name else model
        raise ModelNotFoundError(
            f"There is no model {shown(model)}; this server has "
            f"{', '.join(map(repr, (self._name, *adapters)))}.",
            parameter="model",
            value=model,
        )

    def _described(self, name: str) -> dict[str, Any]:
        info = self._runtime.info
        return {
            "id": name,
            "object": "model",
            "created": self._since,
            "owned_by": "aquila2",
            "max_model_len": info.max_model_len,
            "parent": None if name == self._name else self._name,
        }


def _prompt(prompt: str | list[int]) -> dict[str, Any]:
    return {"prompt": prompt} if isinstance(prompt, str) else {"prompt_token_ids": prompt}


async def _whole(answering: Coroutine[Any, Any, T], write: Callable[[T], Any]) -> Response:
    output = await answering
    # In a thread: the log-probabilities of many answers take seconds to write.
    return await asyncio.to_thread(lambda: JSONResponse(write(output)))


async def _unless_gone(request: Request, answering: Coroutine[Any, Any, Response]) -> Response:
    try:
        return await unless_gone(request.receive, answering)
    except ReaderGoneError:
        return Response(status_code=_NOBODY)
