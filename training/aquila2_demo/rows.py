"""Owns training rows: conversations as token ids with answer marks, cut into padded batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .corpus import conversations
from .plan import WINDOW
from .talk import Conversation, segments

Row = tuple[list[int], list[int]]
Batch = tuple[Tensor, Tensor]
AHEAD = 3
EARLY_SHARE = 0.6  # of the tokens of a step: small steps find the way to copying sooner
_TOKENIZERS: dict[Path, Tokenizer] = {}


def encode(tokenizer: Tokenizer, talk: Conversation, most: int) -> Row | None:
    """Gives the ids of a conversation and their marks (2: answer, 1: other), whole turns only."""
    ids: list[int] = []
    marks: list[int] = []
    kept = 0
    for text, answer in segments(talk):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) + len(piece) > most:
            break
        ids += piece
        marks += [2 if answer else 1] * len(piece)
        kept = len(ids) if answer else kept
    return (ids[:kept], marks[:kept]) if kept else None


def rows(
    tokenizer: Tokenizer, seed: int, length: int, early: bool, tokens: int, window: int = WINDOW
) -> list[Row]:
    """Makes conversations worth about `tokens` tokens, none longer than `window`."""
    made: list[Row] = []
    total = 0
    for talk in conversations(seed, length, early):
        row = encode(tokenizer, talk, min(window, round(length * 1.25)))
        if row is not None:
            made.append(row)
            total += len(row[0])
        if total >= tokens:
            break
    return made


def batches(made: list[Row], room: int) -> list[Batch]:
    """Sorts rows by length and cuts them into right-padded batches of at most `room` cells."""
    groups: list[list[Row]] = [[]]
    for row in sorted(made, key=lambda r: len(r[0])):
        if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > room:
            groups.append([])
        groups[-1].append(row)
    found = []
    for group in groups:
        width = (len(group[-1][0]) + 15) // 16 * 16
        ids = np.zeros((2, len(group), width), np.int64)
        for i, (tokens, marks) in enumerate(group):
            ids[0, i, : len(tokens)] = tokens
            ids[1, i, : len(tokens)] = marks
        found.append((torch.from_numpy(ids[0]), torch.from_numpy(ids[1])))
    return found


def _make(path: Path, seed: int, length: int, early: bool, tokens: int, window: int) -> list[Row]:
    if path not in _TOKENIZERS:
        _TOKENIZERS[path] = Tokenizer.from_file(str(path))
    return rows(_TOKENIZERS[path], seed, length, early, tokens, window)


def _yield_cpu(taken: set[int]) -> None:
    """Moves this process to the cores the training does not use, at a low priority."""
    free = set(range(os.cpu_count() or 1)) - taken
    if free:
        os.sched_setaffinity(0, free)
    os.nice(10)


class Supply:
    """Makes the rows of the next steps in other processes; the order of requests is kept."""

    def __init__(self, path: Path, tokens: int, makers: int = 1, window: int = WINDOW) -> None:
        """Starts the processes; `path` is the tokenizer's file."""
        self.path, self.tokens, self.makers, self.window = path, tokens, makers, window
        self.pool = ProcessPoolExecutor(
            makers, get_context("spawn"), _yield_cpu, (os.sched_getaffinity(0),)
        )
        self.waiting: deque[tuple[int, Future[list[Row]]]] = deque()

    def take(self, wanted: Iterator[tuple[int, int, bool]]) -> tuple[int, list[Row]]:
        """Asks for steps until enough are under way; gives the oldest with its row length."""
        while len(self.waiting) < AHEAD * self.makers:
            seed, length, early = next(wanted)
            tokens = round(self.tokens * EARLY_SHARE) if early else self.tokens
            job = self.pool.submit(_make, self.path, seed, length, early, tokens, self.window)
            self.waiting.append((length, job))
        length, job = self.waiting.popleft()
        return length, job.result()

    def close(self) -> None:
        """Ends the processes."""
        self.pool.shutdown(cancel_futures=True)
