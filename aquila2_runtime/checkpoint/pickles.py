"""Pickles: names, types and places of the tensors in a ``.bin`` file. It changes nothing there.

They are opened by torch's restricted unpickler only, and there is no other way in. It says of each
tensor what it is, and maps the file, which is not looked at: a process that looks at a mapped file
which became shorter is killed. From the archive's own directory and the order in which tensors lie
in the mapping follows where each begins, and there it is read.
"""

from __future__ import annotations

import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from aquila2_runtime.checkpoint.headers import TensorInfo, refuse_file
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    import torch

# The restricted unpickler's known holes are closed from this version on.
_LEAST_TORCH: Final = (2, 10)
# What stands before a record's values: this, then its name and notes, whose lengths come last.
_LOCAL_HEADER: Final = struct.Struct("<26xHH")
_MAX_ORDER: Final = 16


def read_bin_header(path: Path) -> dict[str, TensorInfo]:
    """Read names, types, shapes and places of a ``.bin`` file's tensors.

    Raises:
        WeightsError: torch is too old to be safe, or the file is no plain dictionary of tensors.
    """
    spans = _spans(path)
    tensors = _load(path, mapped=spans is not None)
    begins = {} if spans is None else _begins(tensors, spans)
    return {name: _info(path, tensor, begins) for name, tensor in tensors.items()}


def load_bin(path: Path) -> dict[str, torch.Tensor]:
    """Read a whole ``.bin`` file into memory.

    Returns:
        Dense CPU tensors by name; some may share memory.

    Raises:
        WeightsError: As for :func:`read_bin_header`.
    """
    return _load(path, mapped=False)


def check_torch_version(version: str) -> None:
    """Refuse versions of torch whose restricted unpickler is known to be unsafe.

    Raises:
        WeightsError: The version is below 2.10.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _LEAST_TORCH:
        raise WeightsError(
            f".bin weights need torch 2.10 or newer to be read safely; this is {version}.",
            parameter="torch",
            value=version,
            hint="Upgrade torch, or convert the weights to safetensors.",
        )


def _load(path: Path, *, mapped: bool) -> dict[str, torch.Tensor]:
    import torch

    check_torch_version(torch.__version__)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as problem:
        # The unpickler's own text advises to switch the restriction off; it is not repeated.
        failed = type(problem).__name__
    else:
        return _plain(path, state)
    refuse_file(path, f"is damaged, or holds more than tensors, and was not opened ({failed})")


def _plain(path: Path, state: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(state, dict):
        refuse_file(path, f"holds {type(state).__name__}, not a dictionary of tensors")
    for name, tensor in state.items():
        if not isinstance(name, str):
            refuse_file(path, f"has a name that is no text: {name!r:.60}")
        if not isinstance(tensor, torch.Tensor):
            refuse_file(path, f"holds {type(tensor).__name__} under {name:.100}, not a tensor")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
            refuse_file(path, f"tensor {name:.100} is not dense")
        if tensor.device.type != "cpu":
            refuse_file(path, f"tensor {name:.100} has no values")
    return {name: tensor.detach() for name, tensor in state.items()}


def _spans(path: Path) -> list[tuple[int, int]] | None:
    """Where an archive keeps values: first byte and length of each record, in order.

    Returns:
        None where torch is to read the file itself: it is from before torch 1.6 and no archive, or
        from a machine that has the bytes of a number the other way round.

    Raises:
        WeightsError: The archive is damaged or compressed.
    """
    spans: list[tuple[int, int]] = []
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                spans, failed = [], "is compressed, which torch's own files never are"
            elif not _is_native(archive, records):
                return None
            else:
                spans, failed = [_span(file, record) for record in records if _is_data(record)], ""
    except (OSError, zipfile.BadZipFile, struct.error, RuntimeError, ValueError) as problem:
        failed = f"is damaged: its directory cannot be read ({type(problem).__name__})"
    if failed:
        refuse_file(path, failed)
    return sorted(spans)


def _is_native(archive: zipfile.ZipFile, records: list[zipfile.ZipInfo]) -> bool:
    """Whether numbers have their bytes in this machine's order."""
    for record in records:
        if record.filename.split("/")[1:] == ["byteorder"]:
            with archive.open(record) as opened:
                return opened.read(_MAX_ORDER) == sys.byteorder.encode()
    return sys.byteorder == "little"  # as torch takes it


def _is_data(record: zipfile.ZipInfo) -> bool:
    return record.filename.split("/")[1:-1] == ["data"] and record.file_size > 0


def _span(file: BinaryIO, record: zipfile.ZipInfo) -> tuple[int, int]:
    file.seek(record.header_offset)
    lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return record.header_offset + _LOCAL_HEADER.size + sum(lengths), record.file_size


def _begins(tensors: dict[str, torch.Tensor], spans: list[tuple[int, int]]) -> dict[int, int]:
    """Where in the file each of the mapped storages begins, by its address.

    Returns:
        Nothing where that does not follow: storages and records must be as many, as long and as far
        apart.
    """
    storages = {}
    for tensor in tensors.values():
        storage = tensor.untyped_storage()
        if storage.nbytes():
            storages[storage.data_ptr()] = storage.nbytes()
    held = sorted(storages.items())
    if len(held) != len(spans):
        return {}
    begins = {at: begin for (at, _), (begin, _) in zip(held, spans, strict=True)}
    alike = len({at - begin for at, begin in begins.items()}) <= 1 and all(
        size == length for (_, size), (_, length) in zip(held, spans, strict=True)
    )
    return begins if alike else {}


def _info(path: Path, tensor: torch.Tensor, begins: dict[int, int]) -> TensorInfo:
    item = tensor.element_size()
    begin = begins.get(tensor.untyped_storage().data_ptr())
    if not tensor.numel():
        begin = 0
    return TensorInfo(
        path,
        str(tensor.dtype).removeprefix("torch."),
        tuple(tensor.shape),
        tensor.numel() * item,
        None if begin is None else begin + int(tensor.storage_offset()) * item,
        None if tensor.is_contiguous() else tuple(tensor.stride()),
    )
