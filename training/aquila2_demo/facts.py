"""Owns facts: subjects, their attributes, and how a fact is stated and asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .lexicon import UPPER, WORDS_EN, WORDS_ZH, Words
from .values import draw

NOUNS = {
    "en": {
        "org": "company firm organisation".split(),
        "place": (
            "museum library park hotel gallery theatre pool castle school bridge tower station zoo "
            "restaurant hospital garden shop market stadium church"
        ).split(),
        "event": (
            "meeting workshop concert conference course exam party lecture festival ceremony race "
            "exhibition lesson interview visit"
        ).split(),
        "item": (
            "lamp phone printer camera bike chair server router "
            "vacuum kettle watch river laptop car "
            "boat network door robot heater speaker"
        ).split(),
        "project": "project study plan programme campaign".split(),
        "vehicle": "train bus ferry flight tram shuttle".split(),
        "dish": "cake soup pie bread salad stew pudding".split(),
    },
    "zh": {
        "org": "公司 单位 机构".split(),
        "place": (
            "博物馆 图书馆 公园 酒店 美术馆 剧院 游泳馆 学校 大桥 车站 动物园 餐厅 医院 商店 体育馆"
        ).split(),
        "event": "会议 讲座 音乐会 大会 课程 考试 晚会 比赛 展览 面试 培训 活动".split(),
        "item": (
            "台灯 手机 打印机 相机 自行车 服务器 路由器 手表 "
            "电脑 汽车 机器人 网络 音箱 水壶 门锁 河"
        ).split(),
        "project": "项目 计划 课题 工程".split(),
        "vehicle": "列车 公交车 渡轮 航班 班车".split(),
        "dish": "蛋糕 汤 面包 饺子 沙拉 炖肉".split(),
    },
}
GENERIC = {
    "en": (
        "manager:person owner:person secretary:person author:person winner:person captain:person "
        "teacher:person access_code:code serial_number:code "
        "model:code nickname:phrase motto:phrase "
        "theme:phrase main_topic:phrase size:length height:length depth:length speed:number "
        "version:number room:room color:color fee:money rent:money salary:money start_date:date "
        "due_date:date lunch_time:time opening_time:time next_stop:city partner:org sponsor:org "
        "publisher:org age:duration order_number:number capacity:people contact:person"
    ).split(),
    "zh": (
        "经理:person 主人:person 秘书:person 作者:person 冠军:person "
        "队长:person 老师:person 馆长:person "
        "访问码:code 序列号:code 型号:code 外号:phrase 口号:phrase "
        "主题:phrase 内容:phrase 尺寸:length "
        "高度:length 深度:length 速度:number 版本:number "
        "房间:room 颜色:color 费用:money 租金:money "
        "工资:money 开始日期:date 出版日期:date 午餐时间:time "
        "下一站:city 合作单位:org 赞助商:org 出版社:org "
        "年限:duration 编号:number 规模:people 联系人:person"
    ).split(),
}
GENERIC_SAY = {
    "en": [
        "the {a} of {e} is {v}",
        "{e}'s {a} is {v}",
        "the {a} of {e} was {v}",
        "for {e} the {a} is {v}",
        "{e} has {v} as its {a}",
        "{v} is the {a} of {e}",
        "the {a} of {e}: {v}",
    ],
    "zh": ["{e}的{a}是{v}", "{e}的{a}为{v}", "{e}{a}：{v}", "{v}是{e}的{a}", "{e}的{a}定为{v}"],
}
GENERIC_ASK = {
    "en": [
        "what is the {a} of {e}",
        "what is {e}'s {a}",
        "which {a} does {e} have",
        "tell me the {a} of {e}",
        "what {a} is given for {e}",
    ],
    "zh": ["{e}的{a}是什么", "{e}的{a}是多少", "请问{e}的{a}是什么", "{e}的{a}"],
}
WHO = {"en": ["who is the {a} of {e}", "who is {e}'s {a}"], "zh": ["{e}的{a}是谁", "谁是{e}的{a}"]}


@dataclass(frozen=True)
class Subject:
    """Someone or something that facts are about; `short` is its noun once introduced."""

    kind: str
    name: str
    short: str
    pronoun: str


@dataclass(frozen=True)
class Attribute:
    """A relation with the wordings that state it and ask for it."""

    key: str
    subject: str
    value: str
    says: tuple[str, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One subject's value of one attribute."""

    subject: Subject
    attribute: Attribute
    value: str


@cache
def attributes(lang: str) -> tuple[Attribute, ...]:
    """Reads the relations of one language."""
    text = (Path(__file__).parent / f"facts_{lang}.txt").read_text(encoding="utf-8")
    found = []
    for block in text.split("@ ")[1:]:
        head, *lines = block.strip().split("\n")
        key, subject, value = head.split()
        says = tuple(x[2:] for x in lines if x[0] == "+")
        asks = tuple(x[2:] for x in lines if x[0] == "?")
        found.append(Attribute(key, subject, value, says, asks))
    return tuple(found)


def generic(words: Words) -> Attribute:
    """Makes an attribute named by an ordinary noun or, sometimes, by a random word."""
    name, kind = words.rng.choice(GENERIC[words.lang]).split(":")
    name = name.replace("_", " ")
    if words.chance(0.25):
        name = words.word() + ("" if words.zh else " ") + name.split(" ")[-1]
    asks = WHO[words.lang] if kind == "person" else GENERIC_ASK[words.lang]
    fill = [tuple(t.replace("{a}", name) for t in ts) for ts in (GENERIC_SAY[words.lang], asks)]
    return Attribute(name, "any", kind, fill[0], fill[1])


def subject(words: Words, kind: str) -> Subject:
    """Invents a subject of the kind."""
    pick = words.rng.choice
    if kind == "person":
        he = pick(["他", "她"]) if words.zh else pick(["he", "she"])
        return Subject(kind, words.person(), "", he)
    it = "它" if words.zh else "it"
    if kind == "weather":
        return Subject(kind, words.city(), "", it)
    noun = pick(NOUNS[words.lang][kind])
    if kind == "org":
        return Subject(kind, words.org(), ("该" if words.zh else "the ") + noun, it)
    return _named(words, kind, noun, it)


def _named(words: Words, kind: str, noun: str, it: str) -> Subject:
    pick, r = words.rng.choice, words.rng.random()
    if words.zh:
        head = pick(WORDS_ZH) if r < 0.4 else words.han(2)
        if kind == "vehicle" and r < 0.5:
            head = f"{pick(UPPER)}{words.rng.randint(1, 999)}次"
        if kind == "item" and r > 0.7:
            head += pick(["A", "X", "Pro", "M"]) + str(words.rng.randint(1, 99))
        return Subject(kind, head + noun, pick(["该", "这个", "本", ""]) + noun, it)
    if kind == "vehicle" and r < 0.6:
        return Subject(kind, f"{noun} {words.rng.randint(1, 999)}", f"the {noun}", it)
    head = words.name() if r < 0.5 else pick(WORDS_EN)
    if kind == "item" and r > 0.6:
        head = f"{words.name()} {pick(UPPER)}{words.rng.randint(1, 99)}"
    if kind == "project" and r < 0.3:
        return Subject(kind, "Project " + head.title(), "the project", it)
    if kind == "place" and words.chance(0.6):
        return Subject(kind, f"the {head.title()} {noun.title()}", f"the {noun}", it)
    return Subject(kind, f"the {head} {noun}", f"the {noun}", it)


def facts_about(words: Words, who: Subject, count: int) -> list[Fact]:
    """Draws up to `count` different facts about one subject."""
    own = [a for a in attributes(words.lang) if a.subject in (who.kind, "any")]
    words.rng.shuffle(own)
    made: dict[str, Fact] = {}
    for i in range(count):
        special = i < len(own) and not words.chance(0.25)
        attribute = own[i] if special else generic(words)
        made.setdefault(attribute.key, Fact(who, attribute, draw(words, attribute.value)))
    return list(made.values())


def capital(text: str) -> str:
    """Raises the first letter."""
    return text[:1].upper() + text[1:]


def fill(template: str, name: str, value: str, lang: str) -> str:
    """Puts a name and a value into a wording, pronouns in their right case."""
    if lang == "en" and name in ("he", "she", "it", "we", "they"):
        owned = {"he": "his", "she": "her", "it": "its", "we": "our", "they": "their"}[name]
        other = {"he": "him", "she": "her", "it": "it", "we": "us", "they": "them"}[name]
        template = template.replace("{e}'s", owned)
        if not template.startswith("{e}"):
            template = template.replace("{e}", other)
    return template.replace("{e}", name).replace("{v}", value)


def state(words: Words, fact: Fact, name: str) -> str:
    """States a fact without the final stop."""
    return fill(words.rng.choice(fact.attribute.says), name, fact.value, words.lang)


def ask(words: Words, fact: Fact, name: str, bare: bool) -> str:
    """Asks for a fact; wordings that name no subject are used only when `bare`."""
    usable = [t for t in fact.attribute.asks if bare or "{e}" in t]
    text = fill(words.rng.choice(usable), name, "", words.lang)
    if words.zh:
        return text + ("？" if words.chance(0.92) else "")
    return capital(text) + ("." if text.startswith("tell") else "?")
