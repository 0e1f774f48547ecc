"""Owns the measurements: greedy answers of an exported checkpoint on held-out talks and prose."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from . import prompts
from .corpus import Conversation, greeting, missing, prompt_text, reading, telling
from .document import write
from .lexicon import Words

Talk = Callable[[Words], Conversation]
FIXED = set(prompts.NOTED.values()) | {a for g in prompts.GREETINGS.values() for _, a in g}


@dataclass
class Score:
    """Counts of one measurement."""

    asked: int = 0
    right: int = 0
    stopped: int = 0
    refused: int = 0
    tokens: int = 0

    def row(self, name: str, lang: str) -> dict[str, object]:
        """Gives the shares as one record."""
        n = max(1, self.asked)
        shares = {"right": self.right, "stopped": self.stopped, "refused": self.refused}
        record: dict[str, object] = {"name": name, "lang": lang, "n": self.asked}
        return (
            record | {k: round(v / n, 3) for k, v in shares.items()} | {"tokens": self.tokens // n}
        )


class Answerer:
    """A checkpoint folder that answers greedily."""

    def __init__(self, folder: Path) -> None:
        """Loads weights and tokenizer."""
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        raw.pop("architectures")
        raw.pop("model_type")
        raw.pop("torch_dtype")
        self.model = LlamaForCausalLM.from_pretrained(
            folder, config=LlamaConfig(**raw), dtype=torch.float32
        )
        self.model.train(False)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.end = raw["eos_token_id"]

    @torch.inference_mode()
    def answer(self, text: str, limit: int = 48) -> tuple[str, bool, int]:
        """Gives the answer, whether it stopped by itself, and the prompt's length."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        step, cache, made = torch.tensor([ids]), None, list[int]()
        while len(made) < limit:
            result = self.model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, best = result.past_key_values, int(result.logits[0, -1].argmax())
            if best == self.end:
                return self.tokenizer.decode(made), True, len(ids)
            made.append(best)
            step = torch.tensor([[best]])
        return self.tokenizer.decode(made), False, len(ids)

    def tally(self, score: Score, text: str, accepted: list[str], show: bool = False) -> None:
        """Asks once and counts."""
        answer, stopped, length = self.answer(text)
        wanted = {a.rstrip(".。").lower() for a in accepted}
        score.asked += 1
        score.right += answer.strip().rstrip(".。").lower() in wanted
        score.stopped += stopped
        score.refused += answer in prompts.UNKNOWN.values()
        score.tokens += length
        if show:
            print(f"   {text[-60:]!r} -> {answer!r}, accepted {accepted}")


def held_out(model: Answerer, lang: str, count: int, talk: Talk, seed: int = 4242) -> Score:
    """Measures conversations about held-out names; earlier turns carry the true answers."""
    words, score = Words(random.Random(seed), lang, held=True), Score()
    while score.asked < count:
        made = talk(words)
        for i, (_, answer) in enumerate(made.turns):
            if answer not in FIXED and score.asked < count:
                model.tally(score, prompt_text(made, i), [answer])
    return score


def unanswerable(words: Words) -> Conversation:
    """Makes a document and one question it does not answer."""
    document = write(words, 7)
    frame = words.rng.choice(prompts.FRAMEWORK + prompts.OWN[words.lang])
    text = frame.format(c=document.text, q=missing(words, document))
    return Conversation("", ((text, prompts.UNKNOWN[words.lang]),))


def read_prose(model: Answerer, lang: str, frame: str, show: bool = False) -> Score:
    """Measures the hand-written pages of `prose.json`."""
    pages = json.loads((Path(__file__).parent / "prose.json").read_text(encoding="utf-8"))[lang]
    score = Score()
    for page in pages:
        for question, accepted in page["qa"]:
            user = frame.format(c=page["text"], q=question)
            text = prompt_text(Conversation("", ((user, ""),)), 0)
            model.tally(score, text, accepted, show)
    return score


def talks() -> dict[str, Talk]:
    """Lists the held-out measurements."""
    stuff, hub, index = prompts.LANGCHAIN_STUFF, prompts.LANGCHAIN_HUB, prompts.LLAMAINDEX_QA

    def chat_index(words: Words) -> Conversation:
        talk = reading(words, 8, 3, 0.0, index)
        return Conversation(prompts.LLAMAINDEX_SYSTEM, talk.turns)

    return {
        "extraction about 256": lambda w: reading(w, 8, 3, 0.0),
        "extraction about 512": lambda w: reading(w, 17, 3, 0.0),
        "extraction about 1K": lambda w: reading(w, 36, 3, 0.0),
        "LangChain stuff": lambda w: reading(w, 7, 3, 0.0, stuff),
        "LangChain hub": lambda w: reading(w, 7, 3, 0.0, hub),
        "LlamaIndex default": lambda w: reading(w, 7, 3, 0.0, index),
        "LlamaIndex chat system": chat_index,
        "unanswerable": unanswerable,
        "recall over turns": lambda w: telling(w, 4),
    }


def main() -> None:
    """Measures everything and prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("aquila2_runtime/demo"))
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--lang", choices=["en", "zh"], action="append")
    parser.add_argument("--show", action="store_true", help="print the answers about the prose")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = Answerer(args.model)
    for lang in args.lang or ["en", "zh"]:
        for name, frame in {"plain": "{c}\n\n{q}", "stuff": prompts.LANGCHAIN_STUFF}.items():
            score = read_prose(model, lang, frame, args.show)
            print(json.dumps(score.row(f"prose {name}", lang)), flush=True)
        for name, talk in talks().items():
            print(json.dumps(held_out(model, lang, args.count, talk).row(name, lang)), flush=True)
        score = held_out(model, lang, 30, _greeted)
        print(json.dumps(score.row("open question refused", lang)), flush=True)


def _greeted(words: Words) -> Conversation:
    while True:
        talk = greeting(words)
        if talk.turns[0][1] not in FIXED:
            return talk


if __name__ == "__main__":
    main()
