"""Abort, failure, closing: work stops, blocks come back, nobody hangs, the next is served."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aquila2_runtime import (
    Aquila2Runtime,
    EngineClosedError,
    EngineDeadError,
    FinishReason,
    GenerationError,
    InsufficientMemoryError,
    InvalidLoadOptionError,
    OutOfMemoryError,
    RequestTimeoutError,
    SamplingParams,
    building,
    model_parts,
)
from aquila2_runtime.building import ModelBuild
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.grammar import Choice
from aquila2_runtime.grammar.matching import GrammarState
from tests.runtime.support import ask, idle, wait_until

LONG = SamplingParams(temperature=0, max_tokens=1_500, ignore_eos=True)
SHORT = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


class PanicException(BaseException):
    """What a panic in a Rust library is in Python: no ``Exception``."""

    __module__ = "pyo3_runtime"


@pytest.fixture(scope="module")
def runtime(demo_path: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aquila2Runtime]:
    import shutil

    own = shutil.copytree(demo_path, tmp_path_factory.mktemp("lifecycle") / "demo")
    with Aquila2Runtime.load(str(own), template="aquila-v1", device="cpu") as loaded:
        yield loaded


def _steps_after(runtime: Aquila2Runtime, ended: int) -> int:
    """Steps run after an abandonment; waits until the engine is idle."""
    assert wait_until(lambda: idle(runtime))
    return runtime.stats().steps - ended


@pytest.mark.parametrize("how", ["close", "break", "drop", "throw"])
def test_abandoning_a_stream_stops_its_work(runtime: Aquila2Runtime, how: str) -> None:
    """C1: two steps at most, blocks back, next request unaffected."""
    stream = runtime.stream_chat(ask(0), LONG)
    if how == "break":
        for _ in stream:
            break
    else:
        next(stream)
    before = runtime.stats().steps
    if how == "close":
        stream.close()
    elif how == "throw":
        with pytest.raises(ZeroDivisionError):
            stream.throw(ZeroDivisionError())
    del stream
    gc.collect()
    # Steps go on while this thread looks and collects; what counts is that they end at once.
    assert _steps_after(runtime, before) < 400
    assert len(runtime.chat(ask(1), SHORT).token_ids) == 8


def test_a_stream_never_started_is_collected_too(runtime: Aquila2Runtime) -> None:
    runtime.stream_chat(ask(0), LONG)
    gc.collect()
    assert wait_until(lambda: idle(runtime))


def test_an_abort_takes_two_steps_at_most(
    runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: counted in the engine's own thread, where nothing can be late."""
    handles: queue.SimpleQueue[Any] = queue.SimpleQueue()
    steps_after: list[int] = []
    original = Runner.run

    def counted(self: Runner, scheduled: Any) -> Any:
        if steps_after:
            steps_after[0] += 1
        elif scheduled[0].request.num_generated == 5:
            steps_after.append(0)
            handles.get().close()
        return original(self, scheduled)

    monkeypatch.setattr(Runner, "run", counted)
    stream = runtime.stream_chat(ask(0), LONG)
    handles.put(_Closer(stream))
    assert wait_until(lambda: bool(steps_after) and idle(runtime))
    assert steps_after[0] <= 2


class _Closer:
    """Aborts a stream's request from another thread, as a server noticing a lost client would."""

    def __init__(self, stream: Any) -> None:
        self._handle = stream.gi_frame.f_locals["handle"]
        self._stream = stream

    def close(self) -> None:
        self._handle.abort()


@pytest.mark.parametrize("how", ["cancel", "aclose", "timeout"])
def test_leaving_an_awaited_answer_stops_its_work(runtime: Aquila2Runtime, how: str) -> None:
    """C1: task cancel, aclose, wait_for."""

    async def run() -> None:
        if how == "aclose":
            stream = runtime.astream_chat(ask(0), LONG)
            await anext(stream)
            await stream.aclose()
            return
        task = asyncio.create_task(runtime.achat(ask(0), LONG))
        if how == "timeout":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.05)
            return
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert wait_until(lambda: idle(runtime))
    assert len(runtime.chat(ask(1), SHORT).token_ids) == 8


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("broken kernel"), GenerationError),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (PanicException("called `Option::unwrap()` on a `None` value"), GenerationError),
    ],
)
def test_a_failing_request_fails_alone(
    runtime: Aquila2Runtime,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    raised: BaseException,
    expected: type[Exception],
) -> None:
    """C2, C3, C4: its reader gets the error, its neighbours their answers, the engine goes on."""
    poison = runtime.render(ask(5))
    original = Runner.run

    def failing(self: Runner, scheduled: Any) -> Any:
        for item in scheduled:
            request = item.request
            if list(request.spec.prompt_token_ids) == poison and request.num_generated >= after:
                raise raised
        return original(self, scheduled)

    solo = runtime.chat(ask(0), SHORT).text
    monkeypatch.setattr(Runner, "run", failing)
    streams = [runtime.stream_chat(ask(index), SHORT) for index in (0, 5, 0)]
    assert "".join(delta.text for delta in streams[0]) == solo
    with pytest.raises(expected):
        list(streams[1])
    assert "".join(delta.text for delta in streams[2]) == solo
    with pytest.raises(expected):
        asyncio.run(runtime.achat(ask(5), SHORT))
    with pytest.raises(expected):
        runtime.chat(ask(5), SHORT)
    with pytest.raises(expected):
        runtime.chat_batch([ask(0), ask(5)], SHORT)
    assert runtime.healthy
    assert wait_until(lambda: idle(runtime))


@pytest.mark.parametrize("where", ["advance", "ended"])
@pytest.mark.parametrize("raised", [ValueError("broken grammar"), PanicException("overflow")])
def test_a_constraint_that_fails_behind_a_step_fails_its_own_request(
    runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, where: str, raised: BaseException
) -> None:
    """C2, C3: what makes an id part of an answer is run for one request, as the step is for all."""

    def fail(*_: Any) -> Any:
        raise raised

    solo = runtime.chat(ask(0), SHORT).text
    monkeypatch.setattr(GrammarState, where, property(fail) if where == "ended" else fail)
    stream = runtime.stream_chat(ask(0), SHORT)
    with pytest.raises(GenerationError, match=str(raised)):
        runtime.chat(ask(1), SamplingParams(temperature=0, constraint=Choice(("yes", "no"))))
    assert "".join(delta.text for delta in stream) == solo
    assert runtime.healthy
    assert wait_until(lambda: idle(runtime))


def test_a_time_limit_ends_an_answer_with_what_there_is(runtime: Aquila2Runtime) -> None:
    """C10: finish_reason timeout; before the first token it is an error."""
    out = runtime.chat(ask(0), LONG, timeout=0.5)
    assert out.finish_reason is FinishReason.TIMEOUT
    assert 0 < len(out.token_ids) < 1_500
    with pytest.raises(RequestTimeoutError):
        runtime.chat(ask(0), LONG, timeout=1e-9)
    assert wait_until(lambda: idle(runtime))


def test_an_unread_stream_holds_nobody_up(runtime: Aquila2Runtime) -> None:
    """C9: what nobody reads is bounded by its own max_tokens, and the others go on."""
    unread = runtime.stream_chat(ask(0), LONG)
    assert len(runtime.chat(ask(1), SHORT).token_ids) == 8
    assert sum(len(delta.token_ids) for delta in unread) == 1_500


def test_a_runtime_is_a_handle_not_data(runtime: Aquila2Runtime) -> None:
    """C12: copies are the same handle; a pickle would carry weights and is refused."""
    assert copy.deepcopy(runtime) is runtime
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(runtime)


def test_closing_ends_live_requests_and_is_idempotent(own_demo: dict[str, str]) -> None:
    """C11: readers hear EngineClosedError, the thread is gone, use after close raises."""
    runtime = Aquila2Runtime.load(**own_demo)
    stream = runtime.stream_chat(ask(0), LONG)
    next(stream)
    runtime.close()
    runtime.close()
    with pytest.raises(EngineClosedError):
        list(stream)
    with pytest.raises(EngineClosedError):
        runtime.chat(ask(0))
    assert not [t for t in threading.enumerate() if t.is_alive() and own_demo["model"] in t.name]


@pytest.mark.parametrize("many", [1, 4])
def test_closing_ends_whole_answers_half_way_too(own_demo: dict[str, str], many: int) -> None:
    """C11: an error behind ids that were not read yet once left chat() waiting for ever."""
    runtime = Aquila2Runtime.load(**own_demo)

    def close_soon() -> None:
        wait_until(lambda: runtime.stats().decode_steps > 20)
        runtime.close()

    threading.Thread(target=close_soon).start()
    with pytest.raises(EngineClosedError):
        runtime.chat_batch([ask(0)] * many, LONG)


def test_a_broken_engine_tells_every_waiter(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: EngineDeadError for all, healthy is False, and a new load works."""
    runtime = Aquila2Runtime.load(**own_demo)

    asked = threading.Event()

    def lost(self: Runner, scheduled: Any) -> Any:
        asked.wait(30)
        raise RuntimeError("CUDA error: device-side assert triggered")

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "run", lost)
        streams = [runtime.stream_chat(ask(index), SHORT) for index in range(3)]
        asked.set()
        for stream in streams:
            with pytest.raises(EngineDeadError):
                list(stream)
    assert not runtime.healthy
    with pytest.raises(EngineDeadError):
        runtime.chat(ask(0))
    with Aquila2Runtime.load(**own_demo) as fresh:
        assert len(fresh.chat(ask(0), SHORT).token_ids) == 8
    runtime.close()


def test_an_engine_whose_thread_is_ended_says_what_ended_it(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: no ``Exception`` either, and no runtime that somebody closed."""
    runtime = Aquila2Runtime.load(**own_demo)

    def leave(self: Runner, scheduled: Any) -> Any:
        raise SystemExit("stop")

    monkeypatch.setattr(Runner, "run", leave)
    with pytest.raises(EngineDeadError, match="failed: stop") as caught:
        runtime.chat(ask(0), SHORT)
    assert caught.value.hint == "Close the runtime and load the checkpoint again."
    assert wait_until(lambda: not runtime.healthy)
    runtime.close()


def test_a_lost_device_leaves_nobody_waiting_though_cleaning_up_fails_too(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a device-side assert torch's every call raises, that which frees memory too."""
    message = "CUDA error: device-side assert triggered"
    raised: list[str] = []

    def lost(*_: Any) -> Any:
        raised.append(message)
        raise RuntimeError(message)

    runtime = Aquila2Runtime.load(**own_demo)
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "run", lost)
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "is_initialized", lambda: True)
        patched.setattr(torch.cuda, "empty_cache", lost)
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                runtime.chat(ask(0), SHORT)
            except EngineDeadError as error:
                ended.append(error)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        waiting.join(30)
        assert not waiting.is_alive(), "a reader waits for an engine that is gone"
    assert len(raised) > 1 and len(ended) == 1
    with pytest.raises(EngineDeadError, match="start the program again"):
        runtime.chat(ask(0))
    runtime.close()


@pytest.mark.parametrize("lost", [False, True])
def test_steps_that_cannot_be_captured_are_launched_one_by_one(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """torch says "CUDA error" of a failed record and of a lost device alike."""
    message = "CUDA error: operation failed due to a previous error during capture"

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(message)

    asked: list[Any] = []

    class OnCuda:
        """The demo's placement, as it would be on a GPU."""

        attention, dtype, cuda_graphs = "gathered", torch.float32, True
        device, max_num_seqs, reasons = torch.device("cuda", 0), 4, dict[str, str]()

    with Aquila2Runtime.load(**own_demo) as runtime:
        model = runtime._model()
        monkeypatch.setattr(model_parts, "AheadRunner", refuse)
        monkeypatch.setattr(torch.cuda, "synchronize", refuse if lost else lambda device: None)
        monkeypatch.setattr(model_parts, "Runner", lambda *made: asked.append(made))
        caches = model_parts.make_caches(model.config, model.placement, 8)
        decoder: Any = type("Parts", (), {"config": model.config})
        sampler: Any = type("Parts", (), {"n_decodable": 8})
        placed: Any = OnCuda()
        if lost:
            with pytest.raises(RuntimeError, match="CUDA error"):
                model_parts.make_runner(decoder, caches[0], sampler, placed)
            return
        model_parts.make_runner(decoder, caches[0], sampler, placed)
    assert len(asked) == 1
    assert message in placed.reasons["cuda_graphs"]


@pytest.mark.parametrize("full", [False, True])
def test_a_model_that_could_not_be_built_is_freed_though_its_error_is_kept(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """A notebook keeps the last traceback: its frames held the weights, a retry was refused."""
    made: list[weakref.ref[Any]] = []
    others = {id(one) for one in gc.get_objects() if type(one) is Decoder}

    def refuse(config: Any, placement: Any, blocks: int) -> Any:
        found = [one for one in gc.get_objects() if type(one) is Decoder and id(one) not in others]
        made.extend(map(weakref.ref, found))
        raise torch.OutOfMemoryError("CUDA out of memory") if full else ValueError("no room")

    gc.collect()
    with monkeypatch.context() as patched:
        patched.setattr(building, "make_caches", refuse)
        with pytest.raises(InsufficientMemoryError if full else ValueError) as caught:
            Aquila2Runtime.load(**own_demo)
    assert made and all(decoder() is None for decoder in made)
    assert caught.value.__traceback__ is not None
    if full:
        assert "ran out of memory" in str(caught.value) and "max_num_seqs" in str(caught.value)
        assert "keys and values" in str(caught.value)


def test_weights_are_loaded_once_and_freed_with_the_last_user(own_demo: dict[str, str]) -> None:
    """Two loads share one engine; contradicting cache settings are refused."""
    first = Aquila2Runtime.load(**own_demo)
    second = Aquila2Runtime.load(**{**own_demo, "template": "aquila-v2"})
    engine = first._model().engine
    assert second._model().engine is engine
    assert second.info.template == "aquila-v2"
    with pytest.raises(InvalidLoadOptionError, match="max_num_seqs"):
        Aquila2Runtime.load(**own_demo, max_num_seqs=3)
    first.close()
    assert engine.healthy
    del second
    gc.collect()
    assert wait_until(lambda: not engine.healthy)


@pytest.mark.parametrize("form", ["stream_chat", "astream_chat"])
def test_a_stream_keeps_the_weights_that_it_reads_from(own_demo: dict[str, str], form: str) -> None:
    """A function may load, ask, and return the stream: nobody else holds the runtime then."""

    async def read(stream: Any) -> int:
        return sum([len(delta.token_ids) async for delta in stream])

    runtime = Aquila2Runtime.load(**own_demo)
    engine = runtime._model().engine
    stream: Any = getattr(runtime, form)(ask(0), SHORT)
    del runtime
    gc.collect()
    if form == "astream_chat":
        assert asyncio.run(read(stream)) == 8
    else:
        assert sum(len(delta.token_ids) for delta in stream) == 8
    # Read to its end it holds nothing, though somebody may still hold it.
    gc.collect()
    assert wait_until(lambda: not engine.healthy)


def test_a_load_waits_for_weights_that_nobody_uses_any_more(
    own_demo: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their memory is about to be free, and counts as such."""
    first = Aquila2Runtime.load(**own_demo)
    engine = first._model().engine
    seen: list[bool] = []
    real = ModelBuild.run

    def watched(self: ModelBuild) -> Any:
        seen.append(engine._thread.is_alive())
        return real(self)

    monkeypatch.setattr(ModelBuild, "run", watched)
    other = shutil.copytree(own_demo["model"], tmp_path / "other")
    del first
    gc.collect()
    with Aquila2Runtime.load(**{**own_demo, "model": str(other)}):
        assert seen == [False]
    # One that is used again meanwhile is not waited for.
    second = Aquila2Runtime.load(**own_demo)
    third = Aquila2Runtime.load(**own_demo)
    engine = third._model().engine
    del second
    gc.collect()
    with Aquila2Runtime.load(**{**own_demo, "model": str(other)}):
        assert seen == [False, False, True]
    assert len(third.chat(ask(1), SHORT).token_ids) == 8
    third.close()


def test_many_threads_loading_at_once_load_once(own_demo: dict[str, str]) -> None:
    """C14: two loads at once do not corrupt anything."""
    loaded: list[Aquila2Runtime] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(Aquila2Runtime.load(**own_demo)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({id(runtime._model().engine) for runtime in loaded}) == 1
    for runtime in loaded:
        runtime.close()


def _run(script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        **options,
    )


def test_the_interpreter_exits_with_a_live_stream(own_demo: dict[str, str]) -> None:
    """C11: no hang, no crash, nothing on stdout but what the script prints."""
    done = _run(
        """
        import sys
        from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
        rt = Aquila2Runtime.load(sys.argv[1], template="aquila-v1", device="cpu")
        stream = rt.stream_chat([Message("user", "Hello!")],
                                SamplingParams(max_tokens=1500, ignore_eos=True))
        next(stream)
        print("leaving")
        """,
        own_demo["model"],
    )
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr


def test_a_forked_child_is_told(own_demo: dict[str, str]) -> None:
    """C12: a clear error instead of waiting for a thread that is not there."""
    done = _run(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from aquila2_runtime import Aquila2Runtime, EngineClosedError, Message
        rt = Aquila2Runtime.load(sys.argv[1], template="aquila-v1", device="cpu")
        child = os.fork()
        if child == 0:
            try:
                rt.chat([Message("user", "Hello!")])
            except EngineClosedError as error:
                os._exit(7 if "process" in str(error) else 8)
            os._exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        own_demo["model"],
    )
    assert done.stdout == "7\n", done.stderr


def test_ctrl_c_returns_at_once_and_the_runtime_goes_on(own_demo: dict[str, str]) -> None:
    """C5."""
    done = _run(
        """
        import os, signal, sys, threading
        from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
        # A shell has what it starts in the background ignore this signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rt = Aquila2Runtime.load(sys.argv[1], template="aquila-v1", device="cpu")
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        messages = [Message("user", "Hello!")]
        params = [SamplingParams(max_tokens=1900, ignore_eos=True)] * 20
        try:
            rt.chat_batch([messages] * 20, params)
            print("not interrupted")
        except KeyboardInterrupt:
            out = rt.chat(messages, SamplingParams(max_tokens=4, ignore_eos=True))
            print(len(out.token_ids))
        """,
        own_demo["model"],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert signal.SIGINT and done.stdout == "4\n", done.stderr


def test_ctrl_c_ends_a_load_and_the_next_try_is_a_new_one(own_demo: dict[str, str]) -> None:
    """C5: the weights of a large model are not read to their end for nobody."""
    done = _run(
        """
        import os, signal, sys, threading, time
        from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
        signal.signal(signal.SIGINT, signal.default_int_handler)
        told = []
        def progress(stage, done, total):
            told.append((stage, done == total))
            if stage == "loading" and done == 0:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
        load = lambda **more: Aquila2Runtime.load(
            sys.argv[1], template="aquila-v1", device="cpu", **more)
        try:
            load(progress=progress)
            print("not interrupted")
        except KeyboardInterrupt:
            print([name for stage, name in told if stage == "loading"])
            print([t for t in threading.enumerate() if t.name.startswith("aquila2")])
            with load() as rt:
                params = SamplingParams(max_tokens=2, ignore_eos=True)
                print(len(rt.chat([Message("user", "Hi")], params).token_ids))
        """,
        own_demo["model"],
    )
    assert done.stdout == "[False]\n[]\n2\n", done.stderr


def test_the_interpreter_exits_while_a_dropped_model_is_still_being_freed(
    own_demo: dict[str, str],
) -> None:
    """C11: its thread was once killed inside torch ("terminate called without an exception")."""
    done = _run(
        """
        import sys
        from aquila2_runtime import Message, RuntimeLease, SamplingParams
        lease = RuntimeLease(model=sys.argv[1], template="aquila-v1", device="cpu")
        lease.runtime().chat([Message("user", "Hello!")], SamplingParams(max_tokens=2))
        del lease
        """,
        own_demo["model"],
    )
    assert (done.returncode, done.stderr) == (0, "")
