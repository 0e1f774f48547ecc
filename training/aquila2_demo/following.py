"""Owns talks that follow an instruction of the system message: language, length, a fixed start."""

from __future__ import annotations

from . import prompts, replies
from .document import write
from .lexicon import Words
from .reading import missing, questions
from .talk import Conversation

SENTENCE = {"en": "The answer is {v}.", "zh": "答案是{v}。"}
WISHES = {
    "sentence": {
        "en": "Answer in a full sentence.|Use full sentences.|Always answer with a whole sentence.",
        "zh": "请用完整的句子回答。|用完整句子回答。|回答要用整句。",
    },
    "short": {
        "en": "Answer in as few words as possible.|Answer with one word or number if you can.|"
        "Be brief.",
        "zh": "请尽量简短地回答。|用一个词回答。|回答要简短。",
    },
    "chinese": {
        "en": "Answer in Chinese.|Always reply in Chinese.|请用中文回答。",
        "zh": "请用中文回答。|用中文完整句子回答。|Answer in Chinese.",
    },
    "english": {
        "en": "Answer in English.|Always reply in English.|请用英文回答。",
        "zh": "请用英文回答。|用英语回答。|Answer in English.",
    },
    "prefix": {
        "en": 'Start every answer with "{p}:".|Begin each reply with "{p}:".',
        "zh": "每个回答都以“{p}：”开头。|回答前先写“{p}：”。",
    },
}


def _said(style: str, lang: str, answer: str, known: bool, prefix: str) -> str:
    """Puts a bare answer into the wanted form."""
    target = {"chinese": "zh", "english": "en"}.get(style, lang)
    if not known:
        answer = replies.UNKNOWN[target]
    elif style in ("sentence", "chinese", "english"):
        answer = SENTENCE[target].replace("{v}", answer.rstrip(".") if target == "en" else answer)
    if style == "prefix":
        return f"{prefix}：{answer}" if lang == "zh" else f"{prefix}: {answer}"
    return answer


def following(words: Words, count: int, style: str = "") -> Conversation:
    """Gives an instruction and a document with questions; or only a greeting, for a language."""
    rng, lang = words.rng, words.lang
    style = style or rng.choice(["sentence", "sentence", "short", "chinese", "english", "prefix"])
    prefix = words.word()
    wish = rng.choice(WISHES[style][lang].split("|")).replace("{p}", prefix)
    target = {"chinese": "zh", "english": "en"}.get(style, lang)
    if style in ("chinese", "english") and words.chance(0.35):
        index = rng.randrange(len(replies.GREETINGS[lang]))
        text = rng.choice(replies.GREETINGS[lang][index][0].split("|"))
        return Conversation(wish, ((text, replies.GREETINGS[target][index][1]),))
    document = write(words, max(1, count))
    asked = questions(words, document)[: rng.randint(2, 5)]
    turns = [(text, _said(style, lang, answer, True, prefix)) for text, answer in asked]
    if words.chance(0.35):
        refused = (missing(words, document), _said(style, lang, "", False, prefix))
        turns.insert(rng.randint(0, len(turns)), refused)
    frame = rng.choice(prompts.OWN[lang])
    where = rng.random()
    system = wish
    first = frame.replace("{c}", document.text).replace("{q}", turns[0][0])
    if where < 0.2:
        system, first = f"{wish}\n\n{document.text}", turns[0][0]
    elif where < 0.35:
        system, first = "", f"{wish}\n\n{first}"
    return Conversation(system, ((first, turns[0][1]), *turns[1:]), document.text)
