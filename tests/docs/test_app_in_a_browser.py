"""The page of examples/app.py in a real browser: upload, ask, watch, look up, stop.

Needs playwright and an installed Chromium (on Debian: apt install chromium); skipped without.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime
from tests.docs.conftest import EXAMPLES, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.enable_socket,
    pytest.mark.allow_hosts(["127.0.0.1"]),
]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open the page; at the end, nothing may have been complained of in its console."""
    contexts, complaints = [], list[str]()

    def opening(port: int, language: str = "en-US") -> Any:
        context = browser.new_context(locale=language, viewport={"width": 1200, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    yield opening
    for context in contexts:
        context.close()
    assert complaints == []


def upload(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    page.get_by_role("button", name=path.name, exact=True).wait_for()


def ask(page: Any, question: str) -> Any:
    """Ask, wait for the end, and return the answer's element."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    # Enabled since the key was pressed, until the answer ends.
    page.locator("#stop:disabled").wait_for()
    return page.locator(".answer").last


def test_a_document_is_uploaded_asked_and_the_passage_shown(
    demo_runtime: Aquila2Runtime, open_page: Open, tmp_path: Path
) -> None:
    with serving(demo_runtime) as port:
        page = open_page(port)
        page.get_by_text("aquila2-demo").wait_for()
        upload(page, EXAMPLES / "documents" / "handbook_en.pdf")
        assert page.locator("#viewer h3").all_inner_texts() == ["Page 1", "Page 2", "Page 3"]
        answer = ask(page, "Who is the manager of the house?")
        assert answer.inner_text().strip()
        best = page.locator("#viewer mark.best")
        assert "manager of the house is Nora Lindqvist" in best.inner_text()
        box, viewer = best.bounding_box(), page.locator("#viewer").bounding_box()
        assert viewer["y"] <= box["y"] <= viewer["y"] + viewer["height"]
        # Another source, by its button, which begins with its page and its text.
        other = page.locator(".sources button").nth(1)
        other.click()
        label, _, words = other.inner_text().rstrip("…").partition(": ")
        shown = page.locator("#viewer p").nth(int(label.split()[1]) - 1)
        assert best.inner_text().strip().startswith(words[:20])
        assert best.inner_text() in shown.inner_text()
        page.screenshot(path=tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000


def test_the_page_speaks_chinese_and_remembers_it(
    demo_runtime: Aquila2Runtime, open_page: Open
) -> None:
    with serving(demo_runtime) as port:
        page = open_page(port, "zh-CN")
        assert page.locator("html").get_attribute("lang") == "zh"
        upload(page, EXAMPLES / "documents" / "handbook_zh.pdf")
        ask(page, "客栈的经理是谁？")
        assert "客栈的经理是周晓梅" in page.locator("#viewer mark.best").inner_text()
        assert page.locator(".sources button").first.inner_text().startswith("第 1 页")
        page.get_by_role("button", name="English").click()
        assert page.get_by_role("button", name="Ask").is_visible()
        page.reload()
        assert page.get_by_role("button", name="Ask").is_visible()


def test_a_conversation_goes_on_and_can_begin_anew(
    demo_runtime: Aquila2Runtime, open_page: Open
) -> None:
    with serving(demo_runtime) as port:
        page = open_page(port)
        ask(page, "My cat is called Momo.")
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.post_data or ""))
        ask(page, "What is my cat called?")
        assert "My cat is called Momo." in sent[-1]
        page.get_by_role("button", name="New conversation").click()
        assert page.locator(".answer").count() == 0
        ask(page, "What is my cat called?")
        assert "Momo" not in sent[-1]


def test_what_a_document_says_is_never_run(
    demo_runtime: Aquila2Runtime, open_page: Open, tmp_path: Path
) -> None:
    hostile = "<img src=x onerror=\"document.title='taken'\"> 🙂🙂 The director is Nora Lindqvist."
    path = tmp_path / "<b>name.txt"
    path.write_text(hostile + "\n<script>document.title='taken'</script>\n", "utf-8")
    with serving(demo_runtime) as port:
        page = open_page(port)
        upload(page, path)
        ask(page, "Who is the director?")
        assert page.title() == "Aquila2"
        assert page.locator("#viewer img, #viewer script, #documents b").count() == 0
        # Characters outside the basic plane do not move the mark.
        marked = "".join(page.locator("#viewer mark").all_inner_texts())
        assert "🙂🙂 The director is Nora Lindqvist." in marked


def wait_until_idle(runtime: Aquila2Runtime) -> None:
    until = time.monotonic() + 30
    while runtime.stats().running and time.monotonic() < until:
        time.sleep(0.01)
    assert runtime.stats().running == 0


def test_stop_and_closing_the_page_end_the_work(endless: Aquila2Runtime, open_page: Open) -> None:
    with serving(endless) as port:
        page = open_page(port)
        ways: list[Callable[[], Any]] = [
            lambda: page.get_by_role("button", name="Stop").click(),
            lambda: page.keyboard.press("Escape"),
            lambda: page.close(),
        ]
        for turn, leave in enumerate(ways):
            before = endless.stats().decode_steps
            page.fill("#question", "Hello")
            page.get_by_role("button", name="Ask").click()
            page.locator(".answer", has_text=re.compile(r"\S")).nth(turn).wait_for()
            leave()
            wait_until_idle(endless)
            assert 0 < endless.stats().decode_steps - before < 512
            if not page.is_closed():
                page.get_by_text("Stopped.").wait_for()


def test_what_goes_wrong_is_said_in_the_user_s_words(
    demo_runtime: Aquila2Runtime, browser: Any, tmp_path: Path
) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(bytes(100))
    with serving(demo_runtime) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        status = page.locator("#status.error")
        page.set_input_files("#file", path)
        status.get_by_text("neither a text file nor a PDF file").wait_for()
        page.fill("#question", "山" * 7_000)
        page.press("#question", "Enter")
        status.get_by_text("too long for the model").wait_for()
    page.fill("#question", "Hello")
    page.press("#question", "Enter")
    status.get_by_text(re.compile("Is it still running")).wait_for()
    page.close()
