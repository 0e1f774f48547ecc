"""Owns the card of the checkpoint: its measurements put into the text of `card.md`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from .heatmap import grids, read

# Of each row: the measurement's name, and how the card calls it.
ROWS = {
    "extraction, about 256 tokens": "extraction, 9 facts (Chinese: 12)",
    "extraction, about 512": "extraction, 20 facts (32)",
    "extraction, about 1K": "extraction, 50 facts (77)",
    "extraction, about 1.8K": "extraction, 88 facts (155)",
    "extraction, about 3.5K": "extraction, 215 facts (360)",
    "extraction, about 14K": "extraction, 860 facts (1,440)",
    "wordings never seen": "9 facts, wordings kept out of training",
    "prompts never seen": "prompts kept out of training",
    "LangChain stuff": "LangChain stuff prompt",
    "LangChain hub": "LangChain hub rag-prompt",
    "LlamaIndex question": "LlamaIndex default question prompt",
    "not in the document": "not in the document -> says it does not know",
    "open question": "question without a document -> says it does not know",
    "who or what it is told of": "9 facts, asked who or what something is told of",
    "recall over turns": "recall of what the user told in earlier turns",
    "lists": "list of all that fit",
    "comparison": "which of two is larger, older, cheaper",
    "two steps in one question": "two steps in one question",
    "tools: the call, of 1 to 4": "tool call, 1 to 4 unseen tools: name and arguments exact",
    "tools: the call, of 6": "tool call, 6 unseen tools",
    "tools: two calls at once": "tools: two calls at once",
    "tools: second call from a result": "tools: second call from a result",
    "tools: answer from a result": "tools: answer from a result",
    "tools: none needed": "tools: none needed",
    "JSON": "JSON object of a given type",
    "citing": "answer with the number of its document",
    "follow-up made to stand alone": "follow-up question made to stand alone",
    "summary of a record": "record of 2 to 4 values summed up in a sentence",
    "summary, asked for as never seen": "the same, asked for in words kept out of training",
    "instruction: sentence": "instruction: full sentence",
    "instruction: short": "instruction: short",
    "instruction: chinese": "instruction: answer in Chinese",
    "instruction: english": "instruction: answer in English",
    "instruction: prefix": "instruction: fixed start",
    "small talk": "greetings and questions about itself",
    "persona of the system text": "persona of the system text",
    "hand-written pages, plain": "ten hand-written pages, 3 questions each",
    "hand-written pages, stuff prompt": "the same under the LangChain stuff prompt",
}
# Measured of checkpoints with a longer window alone.
OPTIONAL = {"extraction, about 14K"}
Score = dict[str, Any]


def _row(shown: str, en: Score, zh: Score) -> str:
    count = str(en["n"]) if en["n"] == zh["n"] else f"{en['n']} / {zh['n']}"
    cells = [shown, count]
    for score in (en, zh):
        cells += [f"{score['right']:.2f}", str(score["tokens"])]
    return "| " + " | ".join(cells) + " |"


def _needles(scores: Sequence[Score]) -> str:
    found = grids(scores)
    depths = sorted({d for grid in found.values() for row in grid.values() for d in row})
    head = ["tokens", "language", *(f"{depth:.0%}" for depth in depths)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for length in sorted(found["en"]):
        for lang, name in (("en", "English"), ("zh", "Chinese")):
            shares = [f"{found[lang][length][depth]:.2f}" for depth in depths]
            lines.append("| " + " | ".join([str(length), name, *shares]) + " |")
    return "\n".join(lines)


def card(text: str, scores: Sequence[Score], tokens: float, talks: str) -> str:
    """Fills in the text.

    Args:
        text: What stands in `card.md`.
        scores: What `evaluate --json` printed, both languages.
        tokens: Millions of tokens trained on, in all runs.
        talks: What `transcripts` printed.

    Raises:
        KeyError: A measurement, or a name in the text, is missing.
    """
    by_name = {(score["name"], score["lang"]): score for score in scores}
    measured = {
        name: shown
        for name, shown in ROWS.items()
        if (name, "en") in by_name or name not in OPTIONAL
    }
    rows = [
        _row(shown, by_name[name, "en"], by_name[name, "zh"]) for name, shown in measured.items()
    ]
    answers = sum(score["n"] for score in scores)
    worst = min(scores, key=lambda score: float(score["stopped"]))
    first = {lang: by_name[next(iter(ROWS)), lang] for lang in ("en", "zh")}
    needle = next(score for score in scores if score["name"].startswith("needle"))
    return Template(text).substitute(
        table="\n".join(rows),
        needles=_needles(scores),
        needles_n=needle["n"],
        refusals_en=f"{first['en']['refused']:.2f}",
        refusals_zh=f"{first['zh']['refused']:.2f}",
        answers=f"{answers:,}",
        stops=f"{sum(s['n'] * s['stopped'] for s in scores) / answers:.3f}",
        worst=f"{worst['stopped']:.2f}",
        worst_name=f"{worst['name']}, {'English' if worst['lang'] == 'en' else 'Chinese'}",
        tokens=f"{tokens:.1f}",
        talks=talks.strip("\n"),
        document_tokens=first["en"]["tokens"],
    )


def main() -> None:
    """Reads the command line and writes the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path, nargs="+", help="what evaluate --json printed")
    parser.add_argument("--tokens", type=float, required=True, help="millions trained on, in all")
    parser.add_argument("--talks", type=Path, required=True, help="what transcripts printed")
    parser.add_argument("--out", type=Path, default=Path("aquila2_runtime/demo/README.md"))
    args = parser.parse_args()
    text = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    talks = args.talks.read_text(encoding="utf-8")
    args.out.write_text(card(text, read(args.scores), args.tokens, talks), encoding="utf-8")


if __name__ == "__main__":
    main()
