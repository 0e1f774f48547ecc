"""From an exception to a message, a hint and an exit code. It knows no command."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import typer

from aquila2_runtime.cli.terminal import note
from aquila2_runtime.errors import Aquila2Error, DownloadError, EngineError

ENGINE_FAILED = 1
CALLER_WRONG = 2
INTERRUPTED = 130


def exit_code(error: BaseException) -> int:
    """1 where the engine, the network or the program failed; 2 where the caller can mend it."""
    if isinstance(error, Aquila2Error) and not isinstance(error, (EngineError, DownloadError)):
        return CALLER_WRONG
    return ENGINE_FAILED


@contextlib.contextmanager
def reported(*, debug: bool) -> Iterator[None]:
    """Say what went wrong on stderr and exit; with ``debug`` let the traceback through."""
    try:
        yield
    except KeyboardInterrupt:
        note("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader went away (`aquila2 generate … | head`). What is still buffered goes nowhere,
        # or Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ENGINE_FAILED) from None
    except Aquila2Error as error:
        if debug:
            raise
        note(f"error: {error.message}")
        if error.hint:
            note(f"hint: {error.hint}")
        raise typer.Exit(exit_code(error)) from error
    except (OSError, UnicodeError) as error:
        if debug:
            raise
        note(f"error: {error}")
        raise typer.Exit(CALLER_WRONG) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        note(f"error: {type(error).__name__}: {error}")
        note("hint: This is a fault of aquila2 itself; --debug shows where.")
        raise typer.Exit(ENGINE_FAILED) from error


def wrong(message: str, hint: str | None = None) -> typer.Exit:
    """Say that the command line itself is wrong; raise what this returns."""
    note(f"error: {message}")
    if hint:
        note(f"hint: {hint}")
    return typer.Exit(CALLER_WRONG)
