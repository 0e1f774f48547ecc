"""Servers that fail, break off or answer with nonsense: a typed error, and the next is served."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    Choice,
    EngineBusyError,
    EngineClosedError,
    FinishReason,
    InvalidRequestError,
    JsonSchema,
    Message,
    Regex,
    RequestTimeoutError,
    SamplingParams,
    ServerError,
    Tool,
)
from aquila2_runtime.engine.base import EngineRequest
from aquila2_runtime.server import ServerSettings, create_app
from aquila2_runtime.server.connections import Connection
from tests.remote.conftest import DONE, Script, events, piece, scripted
from tests.server.conftest import running

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
ASKED = [Message("user", "Hello!")]
LIMITED = SamplingParams(temperature=0, max_tokens=20)
LOGPROBS, LONG = LIMITED.replace(logprobs=1), LIMITED.replace(max_tokens=60)


class Case:
    """A server with a script, and a runtime that asks it."""

    def __init__(self, runtime: Aquila2Runtime, script: Script) -> None:
        self.runtime, self.script = runtime, script

    def ask(self, answer: Any, params: SamplingParams = LIMITED, **request: Any) -> Any:
        """Have the server answer so; gives the output."""
        self.script.answer = answer
        return self.runtime.chat(ASKED, params, **request)

    def check(self) -> None:
        """See that the next request is answered."""
        good = self.ask(events(piece(300), piece(301, finish="length"), DONE))
        assert good.choices[0].token_ids == (300, 301)
        assert self.runtime.healthy
        _until(lambda: self.runtime.stats().running == self.runtime.stats().waiting == 0)


@pytest.fixture
def case(demo_model: str) -> Iterator[Case]:
    script = Script()
    options = {"engine": "openai", "template": "aquila-v1", "max_num_seqs": 2}
    with (
        scripted(script) as url,
        Aquila2Runtime.load(demo_model, base_url=url, **options) as runtime,
    ):
        yield Case(runtime, script)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError), (422, InvalidRequestError), (401, ServerError),
        (404, ServerError), (429, EngineBusyError), (500, ServerError),
        (502, ServerError), (503, ServerError), (302, ServerError),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": "top_k is odd", "param": "top_k"}},
        {"object": "error", "message": "top_k is odd"},
        {"detail": "top_k is odd"},
        "top_k is odd",
        "",
    ],
    ids=["openai", "older", "fastapi", "text", "nothing"],
)
def test_a_refusal_says_what_the_server_said(
    case: Case, status: int, kind: type[Exception], told: Any
) -> None:
    text = told if isinstance(told, str) else json.dumps(told)
    with pytest.raises(kind, match="top_k is odd" if told else str(status)):
        case.ask(events(text, kind="application/json", status=status))
    case.check()


def test_a_refusal_names_the_parameter(case: Case) -> None:
    told = json.dumps({"error": {"message": "no", "param": "top_k"}})
    with pytest.raises(InvalidRequestError) as caught:
        case.ask(events(told, status=400))
    assert caught.value.parameter == "top_k"


def test_a_long_refusal_is_shortened(case: Case) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        case.ask(events("x" * 3_000_000, status=400))
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "pieces",
    [
        ["data: no json\n\n"],
        ["data: [1]\n\n"],
        [{"choices": 1}],
        [{"choices": [1]}],
        [{"choices": [{}, {}]}],
        [piece(5_000)],
        [piece(-1)],
        [{"choices": [{"token_ids": [True]}]}],
        [{"choices": [{"token_ids": ["300"]}]}],
        [{"choices": [{"token_ids": "300"}]}],
        [piece(*[300] * 21)],
        [piece(300), *[piece(300)] * 20],
        [piece(300, finish="tired")],
        [piece(300, finish="abort")],
        [piece(300, finish="timeout")],
        [piece(300), {"choices": [{"text": "x", "finish_reason": None}]}],
        [{"choices": [{"finish_reason": 3}]}],
        [{"error": {"message": "out of memory"}}],
        [piece(300), {"error": {"message": "out of memory"}}],
        ["data: " + "[" * 100_000 + "\n\n"],
    ],
)
def test_nonsense_is_no_answer(case: Case, pieces: list[Any]) -> None:
    with pytest.raises(ServerError):
        case.ask(events(*pieces, DONE))
    case.check()


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {"token_logprobs": []},
        {"token_logprobs": ["x"]},
        {"token_logprobs": [None]},
        {"token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]},
        {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:9999": -1.0}]},
        {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:300": "x"}]},
        {"token_logprobs": [10**400]},
        {"token_logprobs": [float("inf")]},
        {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:" + "9" * 5_000: -1.0}]},
    ],
)
def test_log_probabilities_that_were_asked_for_must_come(case: Case, logprobs: Any) -> None:
    with pytest.raises(ServerError):
        case.ask(events(piece(300, finish="stop", logprobs=logprobs), DONE), LOGPROBS)
    case.check()


def test_the_likeliest_are_told_most_likely_first_and_no_more_of_them(case: Case) -> None:
    told = {
        "token_logprobs": [-2.0],
        "top_logprobs": [{"token_id:300": -2.0, "token_id:8": -9999.0, "token_id:9": -0.5}],
    }
    out = case.ask(events(piece(300, finish="stop", logprobs=told), DONE), LOGPROBS)
    (entry,) = out.choices[0].logprobs
    assert entry.logprob == -2.0
    assert [(token_id, logprob) for token_id, _, logprob in entry.top] == [(9, -0.5)]


def test_a_refusal_within_a_stream_is_one(case: Case) -> None:
    told = {"error": {"message": "no such grammar", "code": 400}}
    with pytest.raises(InvalidRequestError, match="no such grammar"):
        case.ask(events(told, DONE))
    case.check()


def test_what_servers_do_not_stream_is_refused_before_it_is_asked(case: Case) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        case.ask(events(DONE), LIMITED.replace(prompt_logprobs=1))
    assert caught.value.parameter == "prompt_logprobs"
    assert not case.script.bodies


def test_seeds_stay_within_what_servers_take(case: Case) -> None:
    last = 2**63 - 1
    case.ask(events(piece(300, finish="stop"), DONE), LIMITED.replace(seed=last, n=2))
    assert sorted(body["seed"] for body in case.script.bodies) == [-(2**63), last]


@pytest.mark.parametrize(
    ("constraint", "text", "kept"),
    [
        (JsonSchema({"type": "integer"}), "12", True),
        (JsonSchema({"type": "integer"}), "one", False),
        (JsonSchema({"type": "object"}), "{", False),
        (Choice(("yes", "no")), "yes", True),
        (Choice(("yes", "no")), "maybe", False),
        (Regex("[0-9]{2}"), "1", False),
    ],
)
def test_a_form_that_the_server_does_not_keep_is_seen(
    case: Case, constraint: Any, text: str, kept: bool
) -> None:
    ids = case.runtime.tokenizer.encode_ordinary(text)
    params = LIMITED.replace(constraint=constraint)
    said = events(*[piece(token_id) for token_id in ids], piece(finish="stop"), DONE)
    if kept:
        assert case.ask(said, params).text == text
    else:
        with pytest.raises(ServerError, match="guidance"):
            case.ask(said, params)
    case.check()


def test_a_cut_answer_is_a_cut_one(case: Case) -> None:
    ids = case.runtime.tokenizer.encode_ordinary('{"a')
    params = LIMITED.replace(constraint=JsonSchema({"type": "object"}))
    out = case.ask(events(*map(piece, ids), piece(finish="length"), DONE), params)
    assert (out.text, out.finish_reason) == ('{"a', FinishReason.LENGTH)


def test_a_call_that_must_come_and_does_not_is_seen(case: Case) -> None:
    ids = case.runtime.tokenizer.encode_ordinary("No.")
    tool = Tool("now", "Tells the time.", {"type": "object", "properties": {}})
    with pytest.raises(ServerError, match="guidance"):
        case.ask(events(piece(*ids, finish="stop"), DONE), LONG, tools=[tool], tool_choice="any")
    case.check()


def test_text_without_ids_names_the_servers_that_have_them(case: Case) -> None:
    told = {"choices": [{"text": "Hello", "finish_reason": None}]}
    with pytest.raises(ServerError, match=r"vLLM 0\.10\.2"):
        case.ask(events(told, DONE))


def test_an_answer_that_is_no_stream_is_refused(case: Case) -> None:
    with pytest.raises(ServerError, match="no event stream"):
        case.ask(events(piece(300, finish="stop"), kind="application/json"))


@pytest.mark.parametrize("ended", [DONE, ""])
def test_an_answer_that_breaks_off_is_no_whole_one(case: Case, ended: str) -> None:
    with pytest.raises(ServerError, match="broke off"):
        case.ask(events(piece(300), ended))
    case.check()


def test_what_came_before_a_break_is_streamed_first(case: Case) -> None:
    case.script.answer = events(piece(300), DONE)
    stream, got = case.runtime.stream_chat(ASKED, LIMITED), []
    with pytest.raises(ServerError, match="broke off"):
        for delta in stream:
            got += delta.token_ids
    assert got in ([300], [])  # whether its text could be shown yet


def test_a_whole_answer_is_kept_though_the_end_of_the_stream_is_not(case: Case) -> None:
    def cut(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(f"data: {json.dumps(piece(300, finish='length'))}\n\n".encode())

    assert case.ask(cut).choices[0].token_ids == (300,)
    case.check()


def test_a_server_that_goes_on_behind_the_end_holds_nobody_up(case: Case) -> None:
    held = Held()
    held.last = True
    began = time.monotonic()
    out = case.ask(held, timeout=1)
    assert out.finish_reason is FinishReason.LENGTH
    assert time.monotonic() - began < 30
    case.check()


def test_connections_are_used_again(demo_runtime: Aquila2Runtime, demo_model: str) -> None:
    opened: list[int] = []

    class Counted(Connection):
        def connection_made(self, transport: Any) -> None:
            opened.append(1)
            super().connection_made(transport)

    app = create_app(demo_runtime, ServerSettings(served_name="m"))
    with running(app, http=Counted) as port:
        url = f"http://127.0.0.1:{port}/v1"
        options = {"engine": "openai", "template": demo_runtime.info.template}
        with Aquila2Runtime.load(demo_model, base_url=url, **options) as runtime:
            for _ in range(4):
                runtime.chat(ASKED, LIMITED)
    assert len(opened) == 2  # one for the list of models


@pytest.mark.parametrize("status", [200, 400])
def test_a_packed_body_is_not_unpacked(case: Case, status: int) -> None:
    def packed(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Encoding", "gzip, gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(gzip.compress(bytes(100_000_000))))

    with pytest.raises(ServerError, match="plain bodies"):
        case.ask(packed)
    assert case.script.headers[-1]["Accept-Encoding"] == "identity"
    case.check()


def test_a_long_line_that_comes_byte_by_byte_holds_nothing_up(case: Case) -> None:
    def drip(handler: Any) -> None:
        handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b"x" * 4_000_000)
        for _ in range(20_000):
            handler.wfile.write(b"x")

    began = time.monotonic()
    with pytest.raises((RequestTimeoutError, ServerError)):
        case.ask(drip, timeout=2)
    assert time.monotonic() - began < 30
    case.check()


def test_what_a_refusal_says_is_one_line_without_signs_for_terminals(case: Case) -> None:
    told = json.dumps({"detail": "x\n2026 ERROR forged \x1b[2J"})
    with pytest.raises(InvalidRequestError) as caught:
        case.ask(events(told, status=400))
    assert "x 2026 ERROR forged [2J" in str(caught.value)


def test_a_salt_that_no_body_can_carry_is_refused(case: Case) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        case.ask(events(DONE), cache_salt="\ud83d")
    assert caught.value.parameter == "cache_salt"


def test_comments_blank_lines_and_pieces_without_choices_are_passed_over(case: Case) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 2}}}
    told = events(
        ": still working\n\n", "\r\n", "event: x\n", piece(), piece(300), piece(finish="length"),
        usage, DONE,
    )  # fmt: skip
    out = case.ask(told)
    assert out.choices[0].token_ids == (300,)
    assert out.usage.cached_tokens == 2


@pytest.mark.parametrize("counted", [-1, 10**9, "x", None, True])
def test_counts_that_cannot_be_are_left_out(case: Case, counted: Any) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": counted}}}
    out = case.ask(events(piece(300, finish="stop"), usage, DONE))
    assert out.usage.cached_tokens in (0, 1)


def test_a_line_without_an_end_is_not_read_to_it(case: Case) -> None:
    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b"x" * 1_000_000)

    with pytest.raises(ServerError, match="a line without an end"):
        case.ask(endless)
    case.check()


def test_an_id_that_stops_is_told_and_the_end_of_text_is_none(case: Case) -> None:
    eos = case.runtime.tokenizer.eos_token_id
    params = LIMITED.replace(stop_token_ids=[301])
    out = case.ask(events(piece(300), piece(301, finish="stop"), DONE), params)
    assert (out.finish_reason, out.choices[0].stop_reason) == (FinishReason.STOP, 301)
    out = case.ask(events(piece(300), piece(eos, finish="stop"), DONE), params)
    assert (out.finish_reason, out.choices[0].stop_reason) == (FinishReason.STOP, None)


# Ends


class Held:
    """An answer whose first id comes, and nothing more until it is let go."""

    def __init__(self, first: bool = True) -> None:
        self.first, self.begun, self.go = first, threading.Semaphore(0), threading.Event()
        self.gone, self.last = threading.Semaphore(0), False

    def __call__(self, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        if self.first:
            handler.wfile.write(f"data: {json.dumps(piece(*range(300, 310)))}\n\n".encode())
        if self.last:
            handler.wfile.write(f"data: {json.dumps(piece(finish='length'))}\n\n".encode())
        handler.wfile.flush()
        self.begun.release()
        try:
            while not self.go.wait(0.02):
                handler.wfile.write(b": still\n\n")
        except OSError:
            self.gone.release()
            raise
        handler.wfile.write(f"data: {json.dumps(piece(300, finish='length'))}\n\n{DONE}".encode())


def test_a_time_limit_before_the_first_token_is_an_error(case: Case) -> None:
    held = Held(first=False)
    with pytest.raises(RequestTimeoutError):
        case.ask(held, timeout=0.3)
    assert held.gone.acquire(timeout=10)
    case.check()


def test_a_time_limit_behind_it_ends_the_answer(case: Case) -> None:
    held = Held()
    out = case.ask(held, timeout=0.5)
    assert out.finish_reason is FinishReason.TIMEOUT
    assert len(out.choices[0].token_ids) == 10
    assert held.gone.acquire(timeout=10)
    case.check()


def test_a_stream_that_is_closed_closes_the_connection(case: Case) -> None:
    held = case.script.answer = Held()
    stream = case.runtime.stream_chat(ASKED, LIMITED)
    next(stream)
    stream.close()
    assert held.gone.acquire(timeout=10)
    case.check()


def test_one_that_is_aborted_before_it_is_sent_ends(case: Case) -> None:
    """A task that is cancelled before its first step never runs; its reader must hear of it."""
    engine, request = case.runtime._model().engine, _request(case.runtime)
    for _ in range(20):
        handle = engine.submit(request)
        engine.abort(handle.request_id)
        assert _read_on(handle).reason is FinishReason.ABORT
    case.check()


def test_no_more_are_sent_at_once_than_was_said(case: Case) -> None:
    held = case.script.answer = Held()
    streams = [case.runtime.stream_chat(ASKED, LIMITED) for _ in range(4)]
    assert all(held.begun.acquire(timeout=10) for _ in range(2))
    assert not held.begun.acquire(timeout=0.3)
    assert (case.runtime.stats().running, case.runtime.stats().waiting) == (2, 2)
    streams.pop().close()  # of those that wait
    _until(lambda: case.runtime.stats().waiting == 1)
    held.go.set()
    for stream in streams:
        assert len([i for delta in stream for i in delta.token_ids]) == 11
    case.check()


def test_closing_ends_what_is_under_way(case: Case) -> None:
    held = case.script.answer = Held()
    stream = case.runtime.stream_chat(ASKED, LIMITED)
    next(stream)
    case.runtime.close()
    with pytest.raises(EngineClosedError):
        list(stream)
    assert held.gone.acquire(timeout=10)
    with pytest.raises(EngineClosedError):
        case.runtime.chat(ASKED)
    case.runtime.close()


def test_a_runtime_that_is_collected_leaves_no_thread(demo_model: str) -> None:
    with scripted(Script()) as url:
        options = {"engine": "openai", "base_url": url, "template": "aquila-v1"}
        runtime = Aquila2Runtime.load(demo_model, **options)
        thread = runtime._use.model.engine._thread  # type: ignore[union-attr]
        del runtime
        thread.join(10)
        assert not thread.is_alive()


def test_a_stream_outlives_the_name_of_its_runtime(demo_model: str) -> None:
    script = Script()
    script.answer = events(piece(300), piece(301, finish="length"), DONE)
    with scripted(script) as url:
        options = {"engine": "openai", "base_url": url, "template": "aquila-v1"}
        stream = Aquila2Runtime.load(demo_model, **options).stream_chat(ASKED, LIMITED)
        assert [i for delta in stream for i in delta.token_ids] == [300, 301]


def _request(runtime: Aquila2Runtime) -> EngineRequest:
    return EngineRequest(
        prompt_token_ids=(300,),
        params=LIMITED,
        max_tokens=20,
        seed=1,
        stop_ids=frozenset(),
        eos_token_id=runtime.tokenizer.eos_token_id,
    )


def _read_on(handle: Any) -> Any:
    while (chunk := handle.read()).finished is None:
        pass
    return chunk.finished


def _until(holds: Any) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
