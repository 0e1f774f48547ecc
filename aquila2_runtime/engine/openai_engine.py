"""OpenAIEngine: a server elsewhere as an engine, ids in and ids out. It knows no text and no model.

A thread of its own runs an event loop, in which every request is one streamed HTTP request. Callers
leave notes and are woken by mailboxes, as with the engine that runs a model itself. An aborted
request closes its connection, by which the server knows to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from aquila2_runtime.engine.base import Engine, EngineRequest, EngineStats, Finished, Started
from aquila2_runtime.engine.event_stream import beginning, events
from aquila2_runtime.engine.form_check import FormCheck
from aquila2_runtime.engine.handle import Mailbox, RequestHandle
from aquila2_runtime.engine.openai_wire import AnswerReader, body_for
from aquila2_runtime.engine.refusals import MAX_WAITING, closed, of_another_process, queue_full
from aquila2_runtime.engine.remote import Remote, refusal, unreachable
from aquila2_runtime.engine.shutdown import JOIN_SECONDS, close_at_exit
from aquila2_runtime.errors import InvalidSamplingParamsError, ServerError
from aquila2_runtime.outputs import FinishReason
from aquila2_runtime.plain_text import check_text

# Behind the end of an answer only counts come, and the end of the connection's turn.
_TAIL_SECONDS: Final = 2.0


@dataclasses.dataclass(slots=True)
class _Flight:
    """One request on its way."""

    request_id: int
    request: EngineRequest
    mailbox: Mailbox
    submitted: float
    finished: Finished | None = None
    task: asyncio.Task[Finished] | None = None


class OpenAIEngine(Engine):
    """Has a server continue ids.

    Args:
        remote: The server.
        name: The model's, for the thread and messages.
        n_vocab: Ids lie below it.
        max_num_seqs: Most requests at the server at once; others wait here.
    """

    def __init__(self, remote: Remote, *, name: str, n_vocab: int, max_num_seqs: int) -> None:
        self.name = name
        self._remote = remote
        self._n_vocab = n_vocab
        self._most = max_num_seqs
        self._pid = os.getpid()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._live: dict[int, _Flight] = {}
        self._ended = False
        self._running = 0
        self._stats = EngineStats()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=self._main, name=f"aquila2 {name} at {remote.base_url}", daemon=True
        )
        close_at_exit(self, self._thread)
        self._thread.start()

    # What callers do: leave a note and return.

    def submit(self, request: EngineRequest) -> RequestHandle:
        """Queue a request and return at once (see ``Engine.submit``)."""
        if os.getpid() != self._pid:
            raise of_another_process(self.name)
        if request.params.prompt_logprobs is not None:
            raise InvalidSamplingParamsError(
                "prompt_logprobs are there for weights on this machine alone.",
                parameter="prompt_logprobs",
                value=request.params.prompt_logprobs,
            )
        for part in request.cache_key[:1]:
            check_text(part, "cache_salt")
        mailbox = Mailbox(quiet=request.quiet, bell=request.bell)
        flight = _Flight(next(self._ids), request, mailbox, time.monotonic())
        with self._lock:
            if self._ended:
                raise closed(self.name)
            if len(self._live) - self._running >= MAX_WAITING:
                raise queue_full(MAX_WAITING)
            self._live[flight.request_id] = flight
        handle = RequestHandle(self, flight.request_id, mailbox)
        self._call(lambda: self._begin(flight))
        return handle

    def abort(self, request_id: int) -> None:
        """End a request by closing its connection; unknown or finished ids are ignored."""
        self._call(lambda: self._cancel(request_id))

    def stats(self) -> EngineStats:
        """Return the counts of this moment: of requests and tokens, for steps are the server's."""
        running = self._running
        waiting = max(0, len(self._live) - running)
        return dataclasses.replace(self._stats, running=running, waiting=waiting)

    @property
    def healthy(self) -> bool:
        """Whether requests are sent. Whether the server answers, the next one tells."""
        return not self._ended and self._thread.is_alive()

    def close(self) -> None:
        """End all requests with EngineClosedError and the connections. Idempotent."""
        self.close_soon()
        if os.getpid() == self._pid and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def close_soon(self) -> None:
        """Close without waiting; safe from a finalizer."""
        if os.getpid() == self._pid:
            self._call(self._stop.set)

    def _call(self, function: Callable[[], object]) -> None:
        # RuntimeError: the loop is closed, and whoever waited for it has been told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    # What the thread does.

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            with self._lock:
                self._ended = True
                left, self._live = list(self._live.values()), {}
            self._running = 0
            for flight in left:
                flight.mailbox.fail(closed(self.name))

    async def _serve(self) -> None:
        turns = asyncio.Semaphore(self._most)
        async with self._remote.client() as client:
            self._client, self._turns = client, turns
            await self._stop.wait()
            with self._lock:
                self._ended = True
            tasks = [flight.task for flight in self._live.values() if flight.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, flight: _Flight) -> None:
        if flight.request_id in self._live and not self._ended:
            flight.task = asyncio.ensure_future(self._answer(flight))
            flight.task.add_done_callback(lambda task: self._land(flight, task))

    def _cancel(self, request_id: int) -> None:
        flight = self._live.get(request_id)
        if flight is not None and flight.task is not None:
            flight.task.cancel()

    async def _answer(self, flight: _Flight) -> Finished:
        """See one request to its end."""
        try:
            async with asyncio.timeout_at(flight.request.deadline), self._turns:
                self._running += 1
                try:
                    return await self._read(flight)
                finally:
                    self._running -= 1
        except TimeoutError:
            return flight.finished or Finished(FinishReason.TIMEOUT)

    def _land(self, flight: _Flight, task: asyncio.Task[Finished]) -> None:
        """Tell a request's reader how it ended, whatever ended it.

        Called when its task is over, of which nothing ran where it was cancelled at once.
        """
        with self._lock:  # counted out before its reader hears of it
            self._live.pop(flight.request_id, None)
        if not task.cancelled():
            error = task.exception()
            if error is None:
                flight.mailbox.finish(task.result())
            else:
                flight.mailbox.fail(unreachable(error, self._remote.base_url))
        elif self._ended:
            flight.mailbox.fail(closed(self.name))
        else:
            flight.mailbox.finish(Finished(FinishReason.ABORT))

    async def _read(self, flight: _Flight) -> Finished:
        request, mailbox, submitted = flight.request, flight.mailbox, flight.submitted
        sent, began = time.monotonic(), None
        reader = AnswerReader(request, self._n_vocab)
        body = body_for(request, self._remote.model)
        self._count(tokens_computed=len(request.prompt_token_ids))
        check = FormCheck(request)
        with _kept_when(lambda: flight.finished is not None):
            async with self._asked(body) as told, asyncio.timeout(None) as tail:
                async for data in told:
                    for token_id, logprob in reader.take(data):
                        check.take(token_id)
                        if began is None:
                            began = time.monotonic()
                            mailbox.start(Started(0, sent - submitted, began - submitted))
                        mailbox.put(token_id, logprob)
                        self._count(tokens_computed=1)
                    if reader.finished is not None and flight.finished is None:
                        flight.finished = check.finished(reader.finished)
                        tail.reschedule(asyncio.get_running_loop().time() + _TAIL_SECONDS)
        if flight.finished is None:
            raise ServerError(
                "The server's answer broke off.",
                parameter="base_url",
                value=self._remote.base_url,
                hint="Ask again; its log may say why.",
            )
        if reader.cached_tokens and began is not None:
            mailbox.start(Started(reader.cached_tokens, sent - submitted, began - submitted))
            self._count(cached_tokens=reader.cached_tokens)
        return flight.finished

    @contextlib.asynccontextmanager
    async def _asked(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
        """Send a request; gives the answer's events, or raises what the refusal means."""
        async with self._client.stream("POST", "completions", json=body) as response:
            if response.status_code != 200:
                raise refusal(response.status_code, await beginning(response), self._remote)
            async with contextlib.aclosing(events(response)) as found:
                yield found

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._stats, name) + added for name, added in more.items()}
        self._stats = dataclasses.replace(self._stats, **counts)


@contextlib.contextmanager
def _kept_when(whole: Callable[[], bool]) -> Iterator[None]:
    """Pass over what goes wrong behind the end of an answer: only counts are lost."""
    import httpx

    try:
        yield
    except (httpx.HTTPError, TimeoutError, ServerError):
        if not whole():
            raise
