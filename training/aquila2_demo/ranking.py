"""Owns lists of names and numbers, and which of two is the larger: the easiest comparison.

Comparing in documents was never better than chance: what is asked for takes two look-ups and a
comparison at once, and there is one such answer in hundreds. Here the look-ups are easy.
"""

from __future__ import annotations

from .facts import spell
from .lexicon import Words
from .talk import Conversation, series
from .values import draw

KINDS = "person org city phrase title thing".split()
# How large numbers are, from easy to hard; the last are years.
RANGES = ((1, 9), (1, 99), (1, 999), (100, 9999), (1500, 2035))
UNITS = {
    "en": ["", "", " kg", " metres", " euros", " people", " points", " years"],
    "zh": ["", "", "公斤", "米", "元", "人", "分", "岁"],
}
MOST = {
    "en": (
        "Which is (larger|higher|greater), {x} or {y}?",
        "Which has (more|the higher number), {x} or {y}?",
        "{x} or {y}: which is (larger|more)?",
    ),
    "zh": ("{x}和{y}(哪个大|哪个更大|哪个多|哪个更多)？", "{x}和{y}相比，(哪个大|哪个多)？"),
}
LEAST = {
    "en": (
        "Which is (smaller|lower), {x} or {y}?",
        "Which has (less|fewer|the lower number), {x} or {y}?",
        "{x} or {y}: which is (smaller|less)?",
    ),
    "zh": ("{x}和{y}(哪个小|哪个更小|哪个少|哪个更少)？", "{x}和{y}相比，(哪个小|哪个少)？"),
}
TOP = {
    "en": ("Which is the (largest|highest) of all?", "Which of these has the most?"),
    "zh": ("(哪个最大|哪个最多)？", "这里面哪个最多？"),
}
BOTTOM = {
    "en": ("Which is the (smallest|lowest) of all?", "Which of these has the least?"),
    "zh": ("(哪个最小|哪个最少)？", "这里面哪个最少？"),
}


def ranking(words: Words, length: int) -> Conversation:
    """Lists names with numbers and asks which of two has the larger or the smaller one."""
    rng, lang = words.rng, words.lang
    count = rng.randint(2, max(2, min(12, length // 24)))
    low, high = rng.choice([span for span in RANGES if span[1] - span[0] + 1 >= count])
    numbers = rng.sample(range(low, high + 1), count)
    kind, unit = rng.choice(KINDS), "" if low == RANGES[-1][0] else rng.choice(UNITS[lang])
    colon = rng.choice(["：", "有", "是"] if words.zh else [": ", " has ", " - "])
    sizes = dict[str, int]()
    for number in numbers:
        name = draw(words, kind)
        if not any(name in other or other in name for other in sizes):
            sizes[name] = number
    if len(sizes) < 2:
        return ranking(words, length)
    lines = [f"{name}{colon}{number}{unit}" for name, number in sizes.items()]
    text = series(lines, lang) if rng.random() < 0.2 else "\n".join(lines)
    turns = [_pair(words, sizes) for _ in range(rng.randint(4, 12))]
    for asks, best in ((TOP, max), (BOTTOM, min)):
        if words.chance(0.4):
            turns.append((_settled(words, asks[lang]), best(sizes, key=sizes.__getitem__)))
    rng.shuffle(turns)
    turns[0] = (f"{text}\n\n{turns[0][0]}", turns[0][1])
    return Conversation("", tuple(turns), text)


def _settled(words: Words, asks: tuple[str, ...]) -> str:
    return spell(words, words.rng.choice(asks))


def _pair(words: Words, sizes: dict[str, int]) -> tuple[str, str]:
    """Asks about two of the names."""
    x, y = words.rng.sample(list(sizes), 2)
    most = words.chance(0.5)
    text = _settled(words, (MOST if most else LEAST)[words.lang])
    answer = (max if most else min)(x, y, key=sizes.__getitem__)
    return text.replace("{x}", x).replace("{y}", y), answer
