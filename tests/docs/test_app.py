"""The page of examples/app.py over HTTP: what it answers, what it refuses, and that it stops."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.long_document import LongDocument
from tests.docs.conftest import EXAMPLES, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
HANDBOOK = EXAMPLES / "documents" / "handbook_en.pdf"
LIBRARY = EXAMPLES / "documents" / "library_zh.txt"


class Page:
    """The page as a browser reaches it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.own = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, self.own if headers is None else headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def upload(self, content: bytes, name: str = "file") -> dict[str, Any]:
        status, _, said = self.send("PUT", f"/api/documents?name={name}", content)
        return {"status": status, **json.loads(said)}

    def ask(self, **question: Any) -> list[dict[str, Any]]:
        status, _, said = self.send("POST", "/api/ask", json.dumps(question), self.json)
        assert status == 200, said
        return [json.loads(line) for line in said.decode().splitlines()]

    @property
    def json(self) -> dict[str, str]:
        return self.own | {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def page(demo_runtime: Aquila2Runtime) -> Iterator[Page]:
    with serving(demo_runtime) as port:
        yield Page(port)


def code(reply: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    return reply[0], json.loads(reply[2])["error"]


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("delta", "") for event in events)


def test_the_page_and_its_files_allow_no_other_site(page: Page) -> None:
    status, headers, body = page.send("GET", "/", headers={"Host": f"localhost:{page.port}"})
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    linked = re.findall(r'(?:src|href)="([^"]+)"', body.decode())
    assert len(linked) >= 3
    for path in linked:
        assert page.send("GET", path)[0] == 200
    assert not re.search(r"https?://|style=|onclick=", body.decode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": None},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_another_site_reaches_nothing(page: Page, wrong: dict[str, str | None]) -> None:
    headers = {name: value for name, value in (page.json | wrong).items() if value is not None}
    asked = json.dumps({"question": "Hello"})
    assert code(page.send("POST", "/api/ask", asked, headers)) == (403, "foreign")
    assert code(page.send("PUT", "/api/documents", b"text", headers)) == (403, "foreign")
    assert code(page.send("DELETE", "/api/documents/x", None, headers)) == (403, "foreign")
    if "Origin" not in wrong:
        assert code(page.send("GET", "/api/info", None, headers)) == (403, "foreign")
    elif wrong["Origin"] is None:
        # A browser names no origin where it reads from its own.
        assert page.send("GET", "/api/info", None, headers)[0] == 200


def test_a_second_host_does_not_get_past_the_first(page: Page) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    connection.putrequest("GET", "/api/info", skip_host=True)
    connection.putheader("Host", page.own["Host"])
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status in (400, 403)
    connection.close()


def test_what_is_too_large_is_refused_with_a_length_and_without(page: Page) -> None:
    chunk = b"a" * 1_000_000
    announced = page.own | {"Content-Length": str(11 * len(chunk))}
    assert code(page.send("PUT", "/api/documents", b"", announced)) == (413, "too_large")
    assert code(page.send("PUT", "/api/documents", iter([chunk] * 11))) == (413, "too_large")
    question = json.dumps({"question": "a" * 600_000})
    assert code(page.send("POST", "/api/ask", question, page.json)) == (413, "too_large")
    assert page.upload(b"word " * 500_000)["error"] == "too_large"


def pdf(**change: Any) -> bytes:
    """A PDF file of one page: blank, or the handbook's first with a password."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter()
    if change.get("password"):
        writer.add_page(PdfReader(HANDBOOK).pages[0])
        writer.encrypt(change["password"], algorithm="RC4-128")
    else:
        writer.add_blank_page(200, 200)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:ARC4 has been moved")
def test_a_file_that_cannot_be_read_is_refused_by_its_reason(page: Page) -> None:
    assert page.upload(bytes(500))["error"] == "not_text"
    assert page.upload(b"\xff\xfe\xff")["error"] == "not_text"
    assert page.upload(b"  \n ")["error"] == "no_text"
    assert page.upload(b"")["error"] == "no_text"
    assert page.upload(pdf())["error"] == "no_text"
    assert page.upload(pdf(password="secret"))["error"] == "locked"
    assert page.upload(HANDBOOK.read_bytes()[:900])["error"] == "bad_pdf"
    assert page.upload(b"%PDF-1.7 nothing")["error"] == "bad_pdf"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_chinese_texts_of_every_usual_encoding_are_read(page: Page, encoding: str) -> None:
    said = LIBRARY.read_text("utf-8")
    found = page.upload(said.encode(encoding))
    assert found["pages"] == [said] and found["tokens"] > 100
    page.send("DELETE", f"/api/documents/{found['id']}")


def test_an_answer_streams_and_its_passages_stand_where_it_says(
    page: Page, demo_runtime: Aquila2Runtime
) -> None:
    found = page.upload(HANDBOOK.read_bytes(), "handbook.pdf")
    assert len(found["pages"]) == 3
    question = "Who is the manager of the house?"
    events = page.ask(question=question, document=found["id"])
    assert sum("delta" in event for event in events) > 1
    assert events[-1]["end"] in ("stop", "length")
    [sources] = [event["sources"] for event in events if "sources" in event]
    for source in sources:
        shown = found["pages"][int(source["page"]) - 1][source["start"] : source["end"]]
        assert shown == source["text"]
    assert sources[0]["page"] == "1"
    llm = Aquila2.from_runtime(demo_runtime, temperature=0, max_tokens=512)
    assert text(events) == LongDocument(llm, found["pages"]).ask(question).text
    page.send("DELETE", f"/api/documents/{found['id']}")
    _, _, said = page.send(
        "POST", "/api/ask", json.dumps({"question": "?", "document": found["id"]}), page.json
    )
    assert json.loads(said) == {"error": "gone"}


def test_a_conversation_remembers_and_gives_the_runtime_s_own_answer(
    page: Page, demo_runtime: Aquila2Runtime
) -> None:
    history = [
        {"role": "user", "content": "My cat is called Momo."},
        {"role": "assistant", "content": "OK."},
    ]
    events = page.ask(question="What is my cat called?", history=history)
    messages = [Message(turn["role"], turn["content"]) for turn in history]
    messages.append(Message("user", "What is my cat called?"))
    expected = demo_runtime.chat(messages, SamplingParams(temperature=0, max_tokens=512))
    assert text(events) == expected.text


def test_a_conversation_that_is_too_long_says_what_was_left_out(page: Page) -> None:
    history = [
        {"role": role, "content": "The harbour office moved to the third floor. " * 20}
        for _ in range(20)
        for role in ("user", "assistant")
    ]
    events = page.ask(question="What is my cat called?", history=history)
    [notices] = [event["notices"] for event in events if "notices" in event]
    assert "dropped" in notices[0]


async def test_an_answer_that_breaks_says_so_and_where(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("fastapi", reason="the page needs aquila2[serve,rag]")
    from web.answers import events

    async def broken(_: Any) -> AsyncGenerator[dict[str, Any]]:
        yield {"delta": "a"}
        raise KeyError("page")

    assert [event async for event in events(broken)] == [{"delta": "a"}, {"error": "failed"}]
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    "question",
    [
        {"question": ""},
        {"question": " \n"},
        {"question": "a" * 8_001},
        {"question": 5},
        {"history": []},
        {"question": "a", "history": [{"role": "system", "content": "x"}]},
        {"question": "a", "history": [{"role": "user", "content": "x"}] * 201},
    ],
    ids=lambda question: str(question)[:40],
)
def test_a_question_of_a_wrong_form_is_refused(page: Page, question: dict[str, Any]) -> None:
    reply = page.send("POST", "/api/ask", json.dumps(question), page.json)
    assert code(reply) == (422, "bad_question")


def test_what_the_model_cannot_hold_is_told_and_not_cut(page: Page) -> None:
    [event] = page.ask(question="山" * 7_999 + "？")
    assert event["error"] == "too_long"


def test_every_refusal_has_words_in_both_languages() -> None:
    words = (EXAMPLES / "web" / "static" / "words.js").read_text("utf-8")
    english, chinese = words.split("  zh: {")
    sources = "".join(path.read_text("utf-8") for path in (EXAMPLES / "web").glob("*.py"))
    codes = set(re.findall(r'RefusedError\("(\w+)"\)|"error": "(\w+)"|Error: "(\w+)"', sources))
    named = {next(filter(None, found)) for found in codes} | {"failed", "lost", "bad_pdf", "locked"}
    assert len(named) >= 10
    for name in named:
        assert f"{name}:" in english and f"{name}:" in chinese, name
    assert re.findall(r"^ +(\w+):", english, re.M)[1:] == re.findall(r"^ +(\w+):", chinese, re.M)


def test_twenty_documents_are_open_at_most(page: Page) -> None:
    found = [page.upload(f"Text number {number}.".encode()) for number in range(21)]
    assert [one["status"] for one in found] == [200] * 20 + [422]
    assert found[-1]["error"] == "too_many"
    for one in found[:-1]:
        assert page.send("DELETE", f"/api/documents/{one['id']}")[0] == 204
    again = page.upload(b"There is room again.")
    assert again["status"] == 200
    page.send("DELETE", f"/api/documents/{again['id']}")


def test_leaving_in_the_middle_of_an_answer_stops_the_model(endless: Aquila2Runtime) -> None:
    with serving(endless) as port:
        page = Page(port)
        before = endless.stats().decode_steps
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/api/ask", json.dumps({"question": "Hello"}), page.json)
        response = connection.getresponse()
        response.readline()
        response.close()
        connection.close()
        until = time.monotonic() + 30
        while endless.stats().running and time.monotonic() < until:
            time.sleep(0.01)
        assert endless.stats().running == endless.stats().waiting == 0
        assert endless.stats().decode_steps - before < 200  # of 512


@pytest.mark.slow
def test_the_program_listens_on_this_machine_alone_and_ends_quietly(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "app.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "PYTHONIOENCODING": "utf-8"},
    )
    try:
        assert program.stdout is not None
        told = next(line for line in program.stdout if "http://" in line)
        opened = re.search(r"http://127\.0\.0\.1:(\d+)", told)
        assert opened is not None, told
        port = int(opened[1])
        assert Page(port).send("GET", "/api/info")[0] == 200
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=2):
            pass
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode in (0, 130, -signal.SIGINT)
    assert "Traceback" not in errors, errors
