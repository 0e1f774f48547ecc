"""``aquila2 chat``: a conversation in the terminal. Ctrl-C ends the answer, not the program."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

from aquila2_runtime.cli import options
from aquila2_runtime.cli.failures import reported
from aquila2_runtime.cli.terminal import ProgressLine, TerminalText, note, say
from aquila2_runtime.errors import GenerationError, InvalidRequestError
from aquila2_runtime.message import Message
from aquila2_runtime.runtime import Aquila2Runtime
from aquila2_runtime.sampling import SamplingParams

_HELP: Final = "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer."


def chat(
    model: options.Model = options.DEMO,
    system: options.System = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    stop: options.Stop = None,
    seed: options.Seed = None,
    quantization: options.Quantization = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_model_len: options.MaxModelLen = None,
    kv_cache_dtype: options.KvCacheDtype = None,
    kv_cache_memory: options.KvCacheMemory = None,
    template: options.Template = None,
    revision: options.Revision = None,
    source: options.Source = None,
    cache_dir: options.CacheDir = None,
    pickle: options.Pickle = True,
    offline: options.Offline = False,
    base_url: options.BaseUrl = None,
    remote_model: options.RemoteModel = None,
    raw_output: options.RawOutput = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Talk with a model; it remembers the conversation as far as its context reaches."""
    with reported(debug=debug):
        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            stop=stop,
            seed=seed,
        )
        with options.load(
            model,
            quiet=quiet,
            quantization=quantization,
            device=options.devices(device),
            dtype=dtype,
            max_model_len=max_model_len,
            kv_cache_dtype=kv_cache_dtype,
            kv_cache_memory=kv_cache_memory,
            template=template,
            revision=revision,
            source=source,
            cache_dir=cache_dir,
            allow_pickle=pickle,
            offline=offline,
            base_url=base_url,
            remote_model=remote_model,
        ) as runtime:
            if not quiet:
                info = runtime.info
                note(f"{info.model} on {info.device}, {info.dtype}. {_HELP}")
            Conversation(runtime, params, system, raw_output=raw_output, quiet=quiet).run()


class Conversation:
    """The turns so far and the loop around them."""

    def __init__(
        self,
        runtime: Aquila2Runtime,
        params: SamplingParams,
        system: str | None,
        *,
        raw_output: bool,
        quiet: bool = False,
    ) -> None:
        self._runtime = runtime
        self._params = params
        self._opening = [] if system is None else [Message("system", system)]
        self._messages = list(self._opening)
        self._raw_output = raw_output
        self._quiet = quiet
        self._interactive = sys.stdin is not None and sys.stdin.isatty()
        if self._interactive:
            # Line editing and history; Python has it on most systems.
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401

    def run(self) -> None:
        """Read and answer until the input ends."""
        going = True
        while going:
            try:
                going = self._turn()
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                note(f"\n{_HELP}")

    def _turn(self) -> bool:
        """Read one line and do what it says; False at the end."""
        line = self._read()
        if line is None or line.strip() == "/exit":
            return False
        if line.strip() == "/reset":
            self._messages = list(self._opening)
            note("The conversation is forgotten.")
        elif line.strip() == "/help":
            note(_HELP)
        elif line.strip():
            self._answer(line)
        return True

    def _read(self) -> str | None:
        if not self._interactive:
            line = "" if sys.stdin is None else sys.stdin.readline()
            return line.rstrip("\n") if line else None
        try:
            return input("> ")
        except EOFError:
            say()
            return None

    def _answer(self, text: str) -> None:
        """Stream one answer; what was said of a stopped one is remembered."""
        asked = self._messages
        shown = TerminalText(raw=self._raw_output)
        said: list[str] = []
        progress = ProgressLine(quiet=self._quiet)
        try:
            asked = [*self._messages, Message("user", text)]
            stream = self._runtime.stream_chat(
                asked, self._params, fit="drop_oldest", progress=progress
            )
            with contextlib.closing(stream):
                for delta in stream:
                    said.append(delta.text)
                    say(shown.feed(delta.text), end="")
                    for notice in delta.notices:
                        note(f"\nnote: {notice}")
            say(shown.finish())
        except KeyboardInterrupt:
            progress.end()
            say(shown.finish())
            note("(stopped)")
        except (InvalidRequestError, GenerationError) as error:
            # This message is not answered; the conversation can go on without it.
            note(f"error: {error.message}")
            if error.hint:
                note(f"hint: {error.hint}")
            return
        self._messages = [*asked, Message("assistant", "".join(said))]
