"""Stored: tensors of weight files, read by position into own memory. It checks no value.

For what is only passed through: a piece is read into memory that the processor's cache holds, where
a mapped file would cost a fault a page. A file that became shorter is an error, where a mapped one
would end the process.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from aquila2_runtime.checkpoint.headers import TensorInfo, read_safetensors_header
from aquila2_runtime.checkpoint.pickles import load_bin, read_bin_header
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    import torch

_AT_A_POSITION: Final = hasattr(os, "preadv")
# Bytes asked for at once: macOS refuses 2 GiB and more, which the embedding of a 34B model has in
# fp32.
_MOST_AT_ONCE: Final = 1 << 30


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
        import torch

        if not out.numel():
            return
        room: memoryview = out.view(-1).view(torch.uint8).numpy().data
        done = 0
        while done < len(room):
            try:
                count = self._read(room[done : done + _MOST_AT_ONCE], start + done)
            except OSError as error:
                self._fail(f"cannot be read ({error.strerror or type(error).__name__})")
            if not count:
                self._fail_short(start + len(room))
            done += count

    def _read(self, room: memoryview, start: int) -> int:
        if _AT_A_POSITION:
            return os.preadv(self._file.fileno(), [room], start)
        with self._lock:  # elsewhere a file has but one position
            self._file.seek(start)
            return self._file.readinto(room) or 0

    def _fail_short(self, needed: int) -> NoReturn:
        size = os.fstat(self._file.fileno()).st_size
        self._fail(
            f"became shorter while it was read: it ends after {size} bytes, and a tensor in it "
            f"after {needed}"
        )

    def _fail(self, problem: str) -> NoReturn:
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
        by_rows: Whether its numbers lie row by row, so that some of them can be read.
    """

    def __init__(self, file: StoredFile, info: TensorInfo) -> None:
        import torch

        self.shape = info.shape
        self.dtype: torch.dtype = getattr(torch, info.dtype)
        self.by_rows = info.strides is None
        self._file = file
        self._strides = info.strides
        self._start = info.start or 0

    def read(self, out: torch.Tensor, start: int = 0) -> None:
        """Fill a tensor of the stored type with numbers that lie row by row.

        Args:
            out: Contiguous, on CPU.
            start: The first number.

        Raises:
            WeightsError: The file ends before, or cannot be read.
        """
        self._file.read(out, self._start + start * self.dtype.itemsize)

    def values(self) -> torch.Tensor:
        """Read all of it, however it lies.

        Returns:
            Contiguous.

        Raises:
            WeightsError: The file ends before, or cannot be read.
        """
        import torch

        if self._strides is None:
            own = torch.empty(self.shape, dtype=self.dtype)
            self.read(own)
            return own
        # From its first number to its last, with whatever lies between.
        reach = (step * (size - 1) for step, size in zip(self._strides, self.shape, strict=True))
        held = torch.empty(1 + sum(reach), dtype=self.dtype)
        self.read(held)
        return held.as_strided(self.shape, self._strides).contiguous()


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read what tensors a weight file holds.

    Args:
        path: Safetensors, by its name, or else torch's.

    Raises:
        WeightsError: It is damaged, or not what it is to be.
    """
    read = read_safetensors_header if path.suffix == ".safetensors" else read_bin_header
    return read(path)


def open_tensors(
    path: Path, infos: Mapping[str, TensorInfo]
) -> Mapping[str, StoredTensor | torch.Tensor]:
    """Open a file.

    Args:
        path: The file.
        infos: Those of its tensors that are wanted.

    Returns:
        What reads each; or, of a file that torch alone can read, all in memory.

    Raises:
        WeightsError: It cannot be opened.
    """
    if any(info.start is None for info in infos.values()):
        return load_bin(path)
    try:
        opened = StoredFile(path)
    except OSError as problem:
        failed = f"{path.name} cannot be opened: {problem!s:.200}."
    else:
        return {name: StoredTensor(opened, info) for name, info in infos.items()}
    raise WeightsError(failed, parameter=path.name, hint="Fetch the file again.")


def read_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Read a file's tensors one after the other, each into its own memory.

    Raises:
        WeightsError: It is damaged, or changes meanwhile.
    """
    for name, stored in open_tensors(path, read_header(path)).items():
        yield name, stored.values() if isinstance(stored, StoredTensor) else stored.clone()
