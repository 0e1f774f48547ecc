"""What quantization costs in quality: NF4 and int8 against bf16, on the same weights.

``python -m benchmarks.quality [--model DIR] [--talks N]`` prints, for each quantization:

* exact: answers equal to the known ones on held-out talks of the demo checkpoint's own kind,
  asked greedily through the runtime, and the share of bf16's exact answers that are kept;
* agree: answers that are bf16's, to the id;
* kl: mean and largest Kullback-Leibler divergence of the next token, in nats, over the same talks;
* top1: positions where the likeliest next token is bf16's;
* ppl: perplexity of the known answers.

The last three come from a plain forward pass over the loaded weights, one talk at a time. 8-bit
keys and values ("kv8") only show in answers, so there they are blank.

Every form takes two passes over all talks, told on stderr as they go on. ``--talks N`` bounds the
time: a talk takes about two seconds of a core's time over all forms, and the 300 that are asked
unless told otherwise some ten minutes, more where others use the core. Of 20 talks one answer is
5 %.

``--by-part`` says where NF4 loses instead: the divergence when one kind of projection or one layer
alone is packed, and when all are, by the number of weights that share a scale.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights
from training.aquila2_demo.corpus import Conversation, conversations

DEMO = Path(__file__).resolve().parent.parent / "aquila2_runtime" / "demo"
FORMS = (None, "nf4", "int8", "kv8")
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BLOCKS = (32, 64, 128)
BAR = 0.99  # of bf16's exact answers
SEED = 771_133  # of talks; training draws others
_TELL = 5.0  # seconds between two lines about what is done


@dataclass(frozen=True)
class Question:
    """A talk up to its last question, and what is to be answered."""

    messages: tuple[Message, ...]
    answer: str


def questions(count: int, length: int = 900) -> list[Question]:
    """Held-out talks: documents to read, told facts, greetings, in both languages."""
    drawn = itertools.islice(conversations(SEED, length, False), count)
    return [_question(talk) for talk in drawn]


def _question(talk: Conversation) -> Question:
    messages = [Message("system", talk.system)] if talk.system else []
    for user, answer in talk.turns[:-1]:
        messages += [Message("user", user), Message("assistant", answer)]
    user, answer = talk.turns[-1]
    return Question((*messages, Message("user", user)), answer)


@dataclass(frozen=True)
class Asked:
    """What one form of the weights answered.

    Attributes:
        exact: Whether each answer is the known one.
        ids: Each answer's ids.
        prompts: Each prompt's ids.
        wanted: Ids of the known answers, with their end.
    """

    exact: list[bool]
    ids: list[tuple[int, ...]]
    prompts: list[tuple[int, ...]]
    wanted: list[list[int]]


def _told(numbers: range, what: str, count: int) -> Iterator[int]:
    """Give numbers, and say on stderr, every few seconds, how many of them are done."""
    started = told = time.monotonic()
    for number in numbers:
        yield number
        now, done = time.monotonic(), min(number + numbers.step, count)
        if now - told > _TELL or done == count:
            print(f"{what} {done} of {count}, {now - started:.0f} s", file=sys.stderr, flush=True)
            told = now


def ask(model: Path, form: str | None, asked: Sequence[Question], device: str) -> Asked:
    """Ask everything greedily, through the runtime."""
    params = SamplingParams(temperature=0, max_tokens=64)
    with Aquila2Runtime.load(
        str(model),
        template="aquila-v1",
        dtype="bfloat16",
        quantization=None if form == "kv8" else form,
        kv_cache_dtype="int8" if form == "kv8" else None,
        device=device,
    ) as runtime:
        # Some at a time: all of them together would hold many prompts' keys and values.
        outputs = []
        for at in _told(range(0, len(asked), 32), f"{form or 'bf16'}: asked", len(asked)):
            outputs += runtime.chat_batch([q.messages for q in asked[at : at + 32]], params)
        tokenizer = runtime.tokenizer
        return Asked(
            [
                out.text.strip() == question.answer.strip()
                for out, question in zip(outputs, asked, strict=True)
            ],
            [out.token_ids for out in outputs],
            [out.prompt_token_ids for out in outputs],
            [[*tokenizer.encode_ordinary(q.answer), tokenizer.eos_token_id] for q in asked],
        )


def distributions(model: Path, form: str | None, asked: Asked, device: str) -> list[torch.Tensor]:
    """Log-probabilities of every id of the known answers' places. Each ``[answer, vocab]``."""
    return _distributions(_model(model, form, device), asked, device, form or "bf16")


def _model(path: Path, form: str | None, device: str) -> Any:
    return load_weights(
        path,
        read_config(path),
        dtype=torch.bfloat16,
        device=torch.device(device),
        quantization=form,
    )


@torch.inference_mode()
def _distributions(loaded: Any, asked: Asked, device: str, name: str) -> list[torch.Tensor]:
    found = []
    talks = range(len(asked.prompts))
    for talk in _told(talks, f"{name}: read", len(talks)):
        prompt, wanted = asked.prompts[talk], asked.wanted[talk]
        ids = torch.tensor([[*prompt, *wanted]], device=device)
        logits = loaded(ids).logits[0, len(prompt) - 1 : -1].float()
        found.append(logits.log_softmax(-1).cpu())
    return found


def _divergence(plain: list[torch.Tensor], packed: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(
        [(p.exp() * (p - q)).sum(-1).clamp_min(0) for p, q in zip(plain, packed, strict=True)]
    )


@torch.inference_mode()
def by_part(path: Path, asked: Asked, plain: list[torch.Tensor], device: str) -> dict[str, float]:
    """Mean divergence when parts of the weights alone go through NF4 and back."""
    from bitsandbytes import functional

    bnb: Any = functional
    loaded = _model(path, None, device)
    layers = range(loaded.config.num_hidden_layers)
    parts: list[tuple[str, str, int]] = [(f"only {kind}", rf".*\.{kind}", 64) for kind in KINDS]
    parts += [(f"only layer {layer}", rf".*layers\.{layer}\..*_proj", 64) for layer in layers]
    parts += [(f"all but {kind}", rf".*\.(?!{kind})\w+_proj", 64) for kind in KINDS]
    parts += [(f"all, {block} to a scale", r".*_proj", block) for block in BLOCKS]
    found = {}
    for name, pattern, block in parts:
        chosen = [module for key, module in loaded.named_modules() if re.fullmatch(pattern, key)]
        kept = [module.weight.clone() for module in chosen]
        for module in chosen:
            codes, state = bnb.quantize_4bit(
                module.weight, blocksize=block, quant_type="nf4", compress_statistics=True
            )
            module.weight.copy_(bnb.dequantize_4bit(codes, state))
        packed = _distributions(loaded, asked, device, name)
        found[name] = float(_divergence(plain, packed).mean())
        for module, weight in zip(chosen, kept, strict=True):
            module.weight.copy_(weight)
    return found


def compare(
    base: Asked, other: Asked, plain: list[torch.Tensor], packed: list[torch.Tensor]
) -> dict[str, float]:
    """One row of the table."""
    divergence = _divergence(plain, packed)
    top = torch.cat(
        [(p.argmax(-1) == q.argmax(-1)).float() for p, q in zip(plain, packed, strict=True)]
    )
    scores = torch.cat(
        [
            q.gather(-1, torch.tensor(wanted)[:, None])[:, 0]
            for q, wanted in zip(packed, other.wanted, strict=True)
        ]
    )
    both = sum(a and b for a, b in zip(base.exact, other.exact, strict=True))
    return {
        "exact": sum(other.exact) / len(other.exact),
        "ratio": sum(other.exact) / max(1, sum(base.exact)),
        "kept": both / max(1, sum(base.exact)),
        "agree": sum(a == b for a, b in zip(base.ids, other.ids, strict=True)) / len(base.ids),
        "kl_mean": float(divergence.mean()),
        "kl_max": float(divergence.max()),
        "top1": float(top.mean()),
        "ppl": math.exp(-float(scores.mean())),
    }


def main() -> int:
    """Measure and print; 1 when a quantization falls below the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--talks", type=int, default=300, help="how many; fewer take less time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--by-part", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    # One line per matrix product otherwise.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    asked = questions(chosen.talks)
    base = ask(chosen.model, None, asked, chosen.device)
    plain = distributions(chosen.model, None, base, chosen.device)
    if chosen.by_part:
        for name, value in by_part(chosen.model, base, plain, chosen.device).items():
            print(f"{name:20}{value:12.6f}", flush=True)
        return 0
    rows = {}
    for form in FORMS:
        other = base if form is None else ask(chosen.model, form, asked, chosen.device)
        same = form in (None, "kv8")
        packed = plain if same else distributions(chosen.model, form, base, chosen.device)
        rows[form or "bf16"] = compare(base, other, plain, packed)
        if form == "kv8":
            rows[form] |= dict.fromkeys(("kl_mean", "kl_max", "top1", "ppl"), math.nan)
    if chosen.json:
        print(json.dumps({"talks": chosen.talks, "rows": rows}, indent=1))
    else:
        names = list(rows["bf16"])
        print(f"{chosen.talks} talks\n{'':8}" + "".join(f"{name:>10}" for name in names))
        for form, row in rows.items():
            print(f"{form:8}" + "".join(f"{row[name]:10.4f}" for name in names))
    return int(any(row["ratio"] < BAR for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
