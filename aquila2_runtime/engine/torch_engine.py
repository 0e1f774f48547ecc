"""TorchEngine: the one thread that owns a model and steps it. It knows no text and no templates.

The thread loads the weights, runs every step and frees the memory, because OpenMP keeps a pool of
workers per thread that has run torch: loading in one thread and running in another halves the
speed on CPU. Callers only leave notes (a request, an abort, a close) and are woken by mailboxes.
Notes go through a ``SimpleQueue``, the one queue a finalizer may write to: a collected reader
leaves its abort there, whatever lock its thread holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.engine import faults
from aquila2_runtime.engine.base import Engine, EngineRequest, EngineStats, Finished
from aquila2_runtime.engine.counters import Counters
from aquila2_runtime.engine.handle import Mailbox, RequestHandle
from aquila2_runtime.engine.refusals import MAX_WAITING, closed, of_another_process, queue_full
from aquila2_runtime.engine.request import Request, Status
from aquila2_runtime.engine.scheduler import Scheduled
from aquila2_runtime.engine.shutdown import JOIN_SECONDS, close_at_exit
from aquila2_runtime.errors import (
    EngineClosedError,
    EngineDeadError,
    GenerationError,
)
from aquila2_runtime.outputs import FinishReason

if TYPE_CHECKING:
    from aquila2_runtime.engine.runner import Chosen, Runner
    from aquila2_runtime.engine.scheduler import Scheduler

_log = logging.getLogger(__name__)

_GIVING_UP_SECONDS: Final = 5.0

# What the thread makes when it starts: the runner (with the weights) and the scheduler (with the
# blocks sized to the memory the weights left).
Build = Callable[[], tuple["Runner", "Scheduler"]]


class TorchEngine(Engine):
    """Runs a model in a thread of its own.

    Args:
        build: Called once in the engine's thread; loads the model.
        name: For the thread and the log.
        give_up: Called when nobody waits for ``build`` any more, from any thread.

    Raises:
        Aquila2Error: Whatever ``build`` raises; nothing is kept then.
    """

    def __init__(
        self, build: Build, *, name: str, give_up: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self._give_up = give_up
        self._pid = os.getpid()
        # A request to take in, the number of one to abort, something to call, or None to stop.
        self._notes: queue.SimpleQueue[Request | int | Callable[[], None] | None]
        self._notes = queue.SimpleQueue()
        self._closing = False
        self._death: BaseException | None = None
        self._ids = itertools.count(1)
        self._live: dict[int, Request] = {}
        self._counters = Counters()
        self._loaded = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._main, args=(build,), name=f"aquila2 {name}", daemon=True
        )
        # Before it runs: a load that is interrupted is waited for at exit like any other thread.
        close_at_exit(self, self._thread)
        self._thread.start()
        try:
            self._loaded.wait()
        except BaseException:
            # Interrupted. Its memory counts as free for whoever tries again at once.
            self._tell_to_stop()
            self._thread.join(_GIVING_UP_SECONDS)
            raise
        failure = self._failure()
        if failure is not None:
            self._thread.join()
            raise failure

    # What callers do: leave a note and return.

    def submit(self, request: EngineRequest) -> RequestHandle:
        """Queue a request and return at once (see ``Engine.submit``)."""
        self._check_process()
        self._check_alive()
        if self._notes.qsize() + self._counters.stats.waiting >= MAX_WAITING:
            raise queue_full(MAX_WAITING)
        mailbox = Mailbox(quiet=request.quiet, bell=request.bell)
        entry = Request(next(self._ids), request, mailbox)
        handle = RequestHandle(self, entry.request_id, mailbox)
        self._notes.put(entry)
        if self._ended.is_set():
            # The thread ended between the check and the note; it will not read this one.
            self._refuse_notes()
        return handle

    def abort(self, request_id: int) -> None:
        """End a request within two steps; unknown or finished ids are ignored."""
        self._notes.put(request_id)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have the engine's thread call something between steps; safe from a finalizer."""
        self._notes.put(function)

    def stats(self) -> EngineStats:
        """Return the counts of this moment."""
        stats = self._counters.stats
        return dataclasses.replace(stats, waiting=stats.waiting + self._notes.qsize())

    @property
    def healthy(self) -> bool:
        """Whether requests are served."""
        return self._death is None and not self._closing and self._thread.is_alive()

    def close(self) -> None:
        """Stop the thread, end its requests with EngineClosedError, free memory. Idempotent."""
        if os.getpid() != self._pid:
            return
        self._tell_to_stop()
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _tell_to_stop(self) -> None:
        self._closing = True
        self._give_up()
        self._notes.put(None)

    # What the thread does. ``step`` is the table of contents.

    def _main(self, build: Build) -> None:
        try:
            runner, scheduler = build()
        except BaseException as error:  # handed to the constructor, in the caller's thread
            self._death = error
            faults.let_go(error)
            return
        finally:
            self._loaded.set()
        try:
            while self._listen(scheduler):
                self._step(runner, scheduler)
        except BaseException as error:  # whatever ends the thread, its readers are told what it was
            _log.exception("engine %s failed for good", self.name)
            self._death = error.with_traceback(None)  # whose frames would keep the weights alive
        finally:
            del runner, scheduler
            gc.collect()
            faults.empty_device_cache()
            self._end_all()

    def _step(self, runner: Runner, scheduler: Scheduler) -> None:
        self._expire(scheduler)
        scheduled = scheduler.schedule()
        started = time.monotonic()
        chosen = self._run(runner, scheduler, scheduled)
        scheduler.took(scheduled, time.monotonic() - started)
        for item in scheduled:
            if item.request.status is Status.RUNNING:
                scheduler.computed(item)
                item.request.tell_prefill()
        self._deliver(scheduler, chosen)
        self._counters.add_step(scheduled)
        self._counters.snapshot(scheduler)

    def _listen(self, scheduler: Scheduler) -> bool:
        """Take in notes; sleep while there is nothing to do. False when it is time to stop."""
        idle = not (scheduler.running or scheduler.waiting)
        patience = None if idle else 0.0
        while True:
            try:
                note = self._notes.get(patience != 0, patience)
            except queue.Empty:
                self._counters.snapshot(scheduler)
                return True
            patience = 0.0  # take what else is there, then step
            if note is None:
                return False
            if isinstance(note, Request):
                self._live[note.request_id] = note
                scheduler.add(note)
                if idle and (companions := note.spec.companions) is not None:
                    patience = companions.arrive()
            elif callable(note):
                note()
            elif (request := self._live.get(note)) is not None:
                self._end(scheduler, request, FinishReason.ABORT)

    def _expire(self, scheduler: Scheduler) -> None:
        now = time.monotonic()
        for request in (*scheduler.running, *scheduler.waiting):
            if request.spec.deadline is not None and now >= request.spec.deadline:
                self._end(scheduler, request, FinishReason.TIMEOUT)

    def _run(
        self, runner: Runner, scheduler: Scheduler, scheduled: Sequence[Scheduled]
    ) -> list[Chosen]:
        """Run a step; if it fails, find out whose fault it is by running each chunk alone."""
        if not scheduled:
            return []
        try:
            return runner.run(scheduled)
        except BaseException as error:
            if faults.is_fatal(error):
                raise
            if len(scheduled) == 1:
                self._fail(scheduler, scheduled[0].request, faults.failure_of(error, scheduled[0]))
                return []
            _log.warning("a step of %d requests failed; running each alone", len(scheduled))
        chosen: list[Chosen] = []
        for item in scheduled:
            chosen += self._run(runner, scheduler, [item])
        return chosen

    def _deliver(self, scheduler: Scheduler, chosen: Sequence[Chosen]) -> None:
        for choice in chosen:
            request = choice.request
            if request.status is Status.ENDED:
                continue  # a token before this one ended the answer
            if choice.verifies:
                scheduler.verified(request)
            if choice.failure is not None:
                self._fail(scheduler, request, GenerationError(choice.failure))
                continue
            try:
                finished = _take(request, choice)
            except BaseException as error:  # a constraint's, of this request alone
                if faults.is_fatal(error):
                    raise
                self._fail(scheduler, request, faults.failure_of(error, _newest(request)))
                continue
            if finished is not None:
                self._retire(scheduler, request)
                request.mailbox.finish(finished)

    def _end(self, scheduler: Scheduler, request: Request, reason: FinishReason) -> None:
        self._retire(scheduler, request)
        request.mailbox.finish(Finished(reason))

    def _fail(self, scheduler: Scheduler, request: Request, error: BaseException) -> None:
        self._retire(scheduler, request)
        request.mailbox.fail(error)

    def _retire(self, scheduler: Scheduler, request: Request) -> None:
        """Free a request's blocks and count it out before its reader hears that it ended."""
        scheduler.end(request)
        self._counters.add_cached(request.num_cached or 0)
        self._live.pop(request.request_id, None)
        self._counters.snapshot(scheduler)

    def _end_all(self) -> None:
        """The last thing the thread does: nobody is left waiting."""
        self._closing = True
        self._counters.reset_live()
        for request in self._live.values():
            request.mailbox.fail(self._last_word())
        self._live.clear()
        self._ended.set()
        self._refuse_notes()

    def _refuse_notes(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                note = self._notes.get_nowait()
                if isinstance(note, Request):
                    note.mailbox.fail(self._last_word())

    # Checks

    def _failure(self) -> BaseException | None:
        """What ended the thread, if something did."""
        return self._death

    def _last_word(self) -> EngineDeadError | EngineClosedError:
        if self._death is not None:
            return EngineDeadError(
                f"The engine of {self.name} failed: {self._death}",
                hint=faults.remedy_of(self._death),
            )
        return closed(self.name)

    def _check_alive(self) -> None:
        if self._death is not None or self._closing:
            raise self._last_word()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise of_another_process(self.name)


def _take(request: Request, choice: Chosen) -> Finished | None:
    """Make a chosen id part of a request's answer; say whether that ends with it."""
    if request.sample_row is not None:
        request.sample_row.append(choice.token_id)
    if request.num_generated == 0 and request.spec.params.prompt_logprobs is not None:
        request.mailbox.put_prompt_logprobs(request.prompt_logprobs)
    return request.accept(choice.token_id, choice.logprob)


def _newest(request: Request) -> Scheduled:
    """The one token that a request was at."""
    return Scheduled(request, request.num_computed, 1)
