"""Owns greedy answering: an exported checkpoint and prompts in, texts out, in padded batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

CELLS = 16384


@dataclass(frozen=True)
class Answer:
    """A text, whether the model ended it by itself, and the length of its prompt."""

    text: str
    stopped: bool
    tokens: int


class Answerer:
    """A checkpoint folder that answers greedily."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Loads weights and tokenizer."""
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for key in ("architectures", "model_type", "torch_dtype"):
            raw.pop(key)
        self.model = LlamaForCausalLM.from_pretrained(
            folder, config=LlamaConfig(**raw), dtype=torch.float32
        )
        self.model.train(False)
        self.model.to(device)  # type: ignore[arg-type]
        self.device = device
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.end, self.positions = raw["eos_token_id"], raw["max_position_embeddings"]

    def length(self, text: str) -> int:
        """Counts the tokens of a text."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def answers(self, prompts: Sequence[str], limit: int = 96) -> list[Answer]:
        """Answers every prompt, those of like length together."""
        ids = [self.tokenizer.encode(text, add_special_tokens=False).ids for text in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, Answer] = {}
        while order:
            width = len(ids[order[-1]])
            group = [order.pop() for _ in range(min(len(order), max(1, CELLS // width)))]
            room = min(limit, self.positions - width)
            for i, made in zip(group, self._greedy([ids[i] for i in group], room), strict=True):
                stopped = self.end in made
                kept = made[: made.index(self.end)] if stopped else made
                found[i] = Answer(self.tokenizer.decode(kept), stopped, len(ids[i]))
        return [found[i] for i in range(len(prompts))]

    def answer(self, text: str, limit: int = 96) -> Answer:
        """Answers one prompt."""
        return self.answers([text], limit)[0]

    @torch.inference_mode()
    def _greedy(self, rows: list[list[int]], limit: int) -> list[list[int]]:
        """Goes on from left-padded rows until each has ended."""
        width = max(map(len, rows))
        blank = [width - len(row) for row in rows]
        ids = [[0] * n + row for n, row in zip(blank, rows, strict=True)]
        seen = [[0] * n + [1] * (width - n) for n in blank]
        step = torch.tensor(ids, device=self.device)
        mask = torch.tensor(seen, device=self.device)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        cache, made = None, list[torch.Tensor]()
        over = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
        for _ in range(limit):
            result = self.model(
                step,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, best = result.past_key_values, result.logits[:, -1].argmax(-1)
            made.append(best)
            over |= best == self.end
            if over.all():
                break
            step, places = best[:, None], places[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(step)], 1)
        return [list(map(int, row)) for row in torch.stack(made, 1)] if made else [[] for _ in rows]
