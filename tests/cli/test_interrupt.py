"""Ctrl-C in a terminal ends the answer and leaves the conversation open."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import environment

# The command's own loop with a model that never ends its answer by itself.
ENDLESS = """
import sys
from aquila2_runtime import Aquila2Runtime, SamplingParams
from aquila2_runtime.cli.chat import Conversation

template = sys.argv[2] or None
with Aquila2Runtime.load(sys.argv[1], device="cpu", template=template) as runtime:
    params = SamplingParams(temperature=1.0, seed=3, ignore_eos=True)
    Conversation(runtime, params, None, raw_output=False).run()
print("LEFT")
"""


class Terminal:
    """The user's side of a pseudo terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.seen = ""

    def expect(self, text: str, seconds: float = 60.0) -> None:
        """Read until a text appears after what was expected before."""
        limit = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(limit - time.monotonic(), 0))
            if not ready:
                pytest.fail(f"{text!r} did not appear; seen: {self.seen[-500:]!r}")
            try:
                self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
            except OSError:
                pytest.fail(f"the program ended before {text!r}; seen: {self.seen[-500:]!r}")
        self.seen = self.seen.split(text, 1)[1]

    def expect_after(self, press: Callable[[], None], text: str) -> None:
        """Do something, again and again like an impatient user, until a text appears.

        A signal between the prompt's last character and the wait for input is noticed by Python
        only when the next one comes.
        """
        for _ in range(60):
            press()
            ready, _, _ = select.select([self._master], [], [], 1.0)
            if ready:
                self.expect(text)
                return
        pytest.fail(f"{text!r} did not appear")

    def more(self, seconds: float = 60.0) -> None:
        """Read until anything at all arrives."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            pytest.fail("nothing arrived")
        self.seen += os.read(self._master, 65536).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are a Unix thing")
def test_ctrl_c_stops_the_answer_and_not_the_program(
    root: Path, demo_path: Path, demo_model: str
) -> None:
    """C5: twice in one conversation, then an ordinary end."""
    template = "" if demo_model == "aquila2-demo" else "aquila-v1"
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, demo_model, template],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=root,
        env=environment(TERM="dumb"),
        start_new_session=True,
        # A shell ignores Ctrl-C for what it runs in the background, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(slave)
    terminal = Terminal(master)
    try:
        terminal.expect("> ")
        for _ in range(2):
            terminal.type("你好\n")
            terminal.expect("\n")  # the echo of what was typed
            terminal.more()
            process.send_signal(signal.SIGINT)
            terminal.expect("(stopped)")
            terminal.expect("> ")
        # At the prompt it only reminds.
        terminal.expect_after(lambda: process.send_signal(signal.SIGINT), "/exit")
        terminal.expect("> ")
        terminal.type("/exit\n")
        terminal.expect("LEFT")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
