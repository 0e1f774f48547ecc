"""Stored: tensors of safetensors files, read by position into own memory. It checks no value.

For what is only passed through: a piece is read into memory that the processor's cache holds, where
a mapped file would cost a fault a page. A file that became shorter is an error.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.headers import TensorInfo

_AT_A_POSITION: Final = hasattr(os, "preadv")


class StoredFile:
    """A file that threads read at once, open as long as someone has it.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()

    def read(self, out: torch.Tensor, start: int) -> None:
        """Fill a tensor with the bytes from a position on.

        Args:
            out: Contiguous, on CPU.
            start: The first byte.

        Raises:
            WeightsError: The file ends before, or cannot be read.
        """
        if not out.numel():
            return
        room: memoryview = out.view(-1).view(torch.uint8).numpy().data
        done = 0
        while done < len(room):
            try:
                count = self._read(room[done:], start + done)
            except OSError as error:
                self._fail(f"cannot be read ({error.strerror or type(error).__name__})")
            if not count:
                self._fail("became shorter while it was read")
            done += count

    def _read(self, room: memoryview, start: int) -> int:
        if _AT_A_POSITION:
            return os.preadv(self._file.fileno(), [room], start)
        with self._lock:  # elsewhere a file has but one position
            self._file.seek(start)
            return self._file.readinto(room) or 0

    def _fail(self, problem: str) -> None:
        raise WeightsError(
            f"{self.name} {problem}.",
            parameter=self.name,
            value=self.name,
            hint="Load it again when nothing else writes to the directory.",
        )


class StoredTensor:
    """A tensor in such a file.

    Args:
        file: The file.
        info: What its header says.

    Attributes:
        shape: Its shape.
        dtype: The type it is stored in.
    """

    def __init__(self, file: StoredFile, info: TensorInfo) -> None:
        self.shape = info.shape
        self.dtype: torch.dtype = getattr(torch, info.dtype)
        self._file = file
        self._info = info

    def read(self, out: torch.Tensor, start: int = 0) -> None:
        """Fill a tensor of the stored type.

        Args:
            out: Contiguous, on CPU.
            start: The first number.

        Raises:
            WeightsError: The file ends before, or cannot be read.
        """
        self._file.read(out, self._info.start + start * self.dtype.itemsize)
