"""Owns what made-up tools return, as a value, an object, a sentence or an error, and the answer."""

from __future__ import annotations

import json

from .facts import capital, facts_about, state
from .lexicon import Words
from .subjects import KINDS, subject
from .toolbox import Made
from .values import draw

DONE = {"en": "Done.", "zh": "已完成。"}
FAILED = {"en": "The tool reported an error: {v}", "zh": "工具报错：{v}"}
STATES = {
    "en": "ready|broken|on the way|delivered|closed|open|in repair|sold|paid|late|waiting".split(
        "|"
    ),
    "zh": "正常 已损坏 运送中 已送达 已关闭 维修中 已售出 已付款 已延误 等待中".split(),
}
ERRORS = {
    "en": ["not found", "no permission", "timeout", "out of stock", "invalid number"],
    "zh": ["未找到", "没有权限", "超时", "缺货", "编号无效"],
}


def result(words: Words, made: Made, spoken: float = 0.0) -> tuple[str, str]:
    """Makes what a tool returns, a share `spoken` of it sentences, and the answer for the user."""
    rng, lang = words.rng, words.lang
    if words.chance(0.08):
        error = rng.choice(ERRORS[lang])
        content = rng.choice([f"error: {error}", json.dumps({"error": error}, ensure_ascii=False)])
        return content, FAILED[lang].replace("{v}", error)
    kind = made.family.result
    if kind == "done":
        return rng.choice(["ok", "done", '{"status": "ok"}', "success", "true"]), DONE[lang]
    if kind == "state":
        value = rng.choice(STATES[lang])
    elif kind == "large":
        value = str(rng.randint(2, 9999))
    else:
        value = draw(words, {"place": "address"}.get(kind, kind))
    if words.chance(0.35):
        body = {rng.choice(["result", "value", kind, "answer"]): value}
        # Beside a time that is the result, another would take its place or leave two to choose.
        if kind != "time" and words.chance(0.4):
            body["time"] = f"{rng.randint(1, 23)}:{rng.randint(10, 59)}"
        return json.dumps(body, ensure_ascii=False), value
    if spoken and words.chance(spoken):
        return (said := _sentence(words)), said
    return value, value


def _sentence(words: Words) -> str:
    """Makes what a tool may say in a sentence, to be passed on as it is."""
    who = subject(words, words.rng.choice(KINDS))
    one = next(iter(facts_about(words, who, 3)))
    return capital(state(words, one, one.subject.name)) + ("。" if words.zh else ".")
