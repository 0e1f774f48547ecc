"""Owns prompts put together at random, so that no one wording is learnt as the sign of a task."""

from __future__ import annotations

from .lexicon import Words

# None of these words stands in a prompt that is kept out of training.
ORDERS = {
    "en": [
        "Answer the question.",
        "Find the answer in the text.",
        "Use nothing but the text.",
        "Answer as briefly as you can.",
        "If the text does not say it, say that you do not know.",
        "You get a text and a question.",
        "Look it up.",
        "Keep to what is written here.",
        "Give the answer only.",
        "Help me with this, please.",
    ],
    "zh": [
        "请回答问题。",
        "请在文中找出答案。",
        "只使用文中的信息。",
        "回答要尽量简短。",
        "文中没有提到的，就说不知道。",
        "下面有一段文字和一个问题。",
        "请查一下。",
        "以文中所写为准。",
        "只给出答案。",
        "请帮帮我。",
    ],
}
TEXTS = {
    "en": "Text Source Page Article Input Excerpt Report Letter Data Sources Result".split(),
    "zh": "文本 原文 页面 正文 输入 片段 报告 来信 数据 来源 检索结果".split(),
}
ASKS = {
    "en": "Question Q Ask User Task Request Prompt Input Problem".split(),
    "zh": "问题 问 提问者 用户 任务 请求 题目".split(),
}
REPLIES = {
    "en": "Answer A Reply Response Output Result".split(),
    "zh": "回答 答案 结果 输出".split(),
}


def _label(words: Words, label: str, text: str) -> str:
    """Puts a label before or around a text."""
    colon = "：" if words.zh else ": "
    low = label.lower()
    return words.rng.choice(
        [
            f"{label}{colon}{text}",
            f"{label}{colon.strip()}\n{text}",
            f"[{label}]\n{text}",
            f"[{label}] {text}",
            f"[{label}]\n{text}\n[/{label}]",
            f"[{low}]{text}[/{low}]",
            f"<{low}>\n{text}\n</{low}>",
            f"<{low}>{text}</{low}>",
            f"## {label}\n{text}",
            f"=== {label} ===\n{text}",
            f"【{label}】{text}",
            f"**{label}**\n{text}",
            f"{label.upper()}\n{text}",
            f'"""\n{text}\n"""',
            f"```\n{text}\n```",
            text,
        ]
    )


def frame(words: Words) -> str:
    """Makes a prompt with places for a document, `{c}`, and a question, `{q}`."""
    rng, lang = words.rng, words.lang
    parts = [_label(words, rng.choice(TEXTS[lang]), "{c}")]
    asked = _label(words, rng.choice(ASKS[lang]), "{q}") if words.chance(0.6) else "{q}"
    parts.insert(0 if words.chance(0.2) else 1, asked)
    for _ in range(rng.choice([0, 1, 1, 2])):
        parts.insert(rng.choice([0, 0, 0, 1, len(parts)]), rng.choice(ORDERS[lang]))
    if words.chance(0.3):
        parts.append(rng.choice(REPLIES[lang]) + ("：" if words.zh else ":"))
    return rng.choice(["\n", "\n\n", "\n\n"]).join(parts)
