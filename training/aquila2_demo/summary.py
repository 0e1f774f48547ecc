"""Owns talks that sum up a record: labelled values of one subject, said in one sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .facts import capital, fact, fill
from .lexicon import Words
from .relations import attributes
from .subjects import Subject, subject
from .talk import Conversation, series

# Per language and kind of subject: a relation, the labels it may have, and how it is summed up.
RELATIONS = {
    "en": {
        "person": (
            "job:Job|Profession|Occupation:works as a {v};lives:Home|City|Lives in:lives in {v};"
            "born_in:Born in|Birthplace|From:comes from {v};"
            "employer:Employer|Company:works for {v};age:Age:is {v} years old;"
            "speaks:Language|Speaks:speaks {v};"
            "plays:Instrument|Plays:plays the {v};pet:Pet|Animal:has a {v};"
            "teacher:Teacher|Learned from:learned from {v}"
        ),
        "org": (
            "founded:Founded|Year|Since:was founded in {v};founder:Founder:was set up by {v};"
            "based:Seat|Headquarters|City:is based in {v};staff:Staff|Employees:has {v} people;"
            "makes:Product|Products:makes {v};head:Director|Head:is led by {v}"
        ),
        "place": (
            "built:Built|Year:was built in {v};architect:Architect|Designer:was designed by {v};"
            "ticket:Ticket|Admission:costs {v} to enter;address:Address:is at {v};"
            "closed:Closed|Closed on:is closed on {v};owner:Owner:belongs to {v}"
        ),
        "event": (
            "date:Date:is on {v};starts:Start|Starts:starts at {v};lasts:Duration:lasts {v};"
            "venue:Place|Room|Venue:takes place in {v};chair:Chair|Led by:is led by {v};"
            "topic:Topic|Subject:is about {v}"
        ),
        "item": (
            "price:Price|Cost:costs {v};weight:Weight:weighs {v};length:Length:is {v} long;"
            "itemcolor:Colour|Color:is {v};material:Material:is made of {v};"
            "made_by:Maker|Producer:is made by {v};kept:Kept in|Location:is kept in {v}"
        ),
        "work": (
            "author:Author|Artist:is by {v};published:Year|Published:came out in {v};"
            "publisher:Publisher:was published by {v};pages:Pages|Length:has {v} pages;"
            "tells:Subject:tells of {v}"
        ),
        "project": (
            "manager:Manager|Lead:is led by {v};budget:Budget:has a budget of {v};"
            "deadline:Deadline|Due:is due on {v};members:Members|Team:has {v} members"
        ),
    },
    "zh": {
        "person": (
            "job:职业|工作:是{v};lives:现居|住址:住在{v};born_in:家乡|出生地:来自{v};"
            "employer:单位|公司:在{v}工作;age:年龄:今年{v};speaks:语言:会说{v};"
            "plays:特长|乐器:会{v};pet:宠物:养了{v};teacher:老师:师从{v}"
        ),
        "org": (
            "founded:成立时间|成立:成立于{v};founder:创始人:由{v}创办;based:总部|所在地:总部在{v};"
            "staff:员工|人数:有{v};makes:产品:生产{v};head:负责人|经理:由{v}负责"
        ),
        "place": (
            "built:建成时间|建成:建于{v};architect:设计师|设计:由{v}设计;ticket:门票|票价:门票{v};"
            "address:地址:位于{v};closed:休息日|休息:{v}休息;owner:主人|所有者:归{v}所有"
        ),
        "event": (
            "date:日期:在{v}举行;starts:开始时间|开始:{v}开始;lasts:时长:持续{v};"
            "venue:地点|场地:地点是{v};chair:主持人|主持:由{v}主持;topic:主题:主题是{v}"
        ),
        "item": (
            "price:价格|售价:售价{v};weight:重量:重{v};length:长度:长{v};itemcolor:颜色:是{v}的;"
            "material:材料:由{v}制成;made_by:厂家|生产商:由{v}生产;kept:位置|存放处:放在{v}"
        ),
        "work": (
            "author:作者:由{v}创作;published:年份|发表时间:发表于{v};publisher:出版社:由{v}出版;"
            "pages:页数:共{v};tells:内容:讲{v}"
        ),
        "project": (
            "manager:负责人|经理:由{v}负责;budget:预算:预算{v};deadline:截止日期|截止:{v}截止;"
            "members:成员|人数:有{v}"
        ),
    },
}
NAME = {"en": "Name|Title", "zh": "名称|名字"}
ASKS = {
    "en": [
        "{c}\n\nSummarize this in one sentence.",
        "{c}\n\nSummarise the above in one sentence.",
        "Summarize the following record in one sentence.\n\n{c}",
        "Sum this up in one sentence:\n{c}",
        "Record:\n{c}\n\nOne-sentence summary:",
        "{c}\n\nWrite a summary of one sentence.",
        'Write a concise summary of the following:\n\n\n"{c}"\n\n\nCONCISE SUMMARY:',
        "Summary of this entry, please.\n\n{c}",
    ],
    "zh": [
        "{c}\n\n请用一句话概括。",
        "{c}\n\n用一句话总结上面的内容。",
        "请把下面的记录概括成一句话。\n\n{c}",
        "用一句话总结：\n{c}",
        "记录：\n{c}\n\n一句话摘要：",
        "{c}\n\n请写一句话的摘要。",
        "请总结下面的条目。\n\n{c}",
    ],
}
# Kept out of training, to be measured.
HELD_ASKS = {
    "en": [
        "{c}\n\nPut this into one short sentence, please.",
        "Give me a brief summary of this data sheet: {c}",
    ],
    "zh": ["{c}\n\n请用一句话简要说明。", "下面是一份资料卡，请用一句话归纳：{c}"],
}


@dataclass(frozen=True)
class Record:
    """Labelled values of one subject, as they are shown, and the sentence that sums them up."""

    name: str
    lines: tuple[tuple[str, str], ...]
    text: str
    sentence: str


def known(lang: str, kind: str) -> dict[str, tuple[list[str], str]]:
    """Gives labels and predicate of every relation that a kind of subject has in a record."""
    found = {}
    for entry in RELATIONS[lang][kind].split(";"):
        key, labels, said = entry.split(":")
        found[key] = labels.split("|"), said
    return found


def _named(words: Words, kind: str) -> Subject:
    while (who := subject(words, kind)).anonymous:
        pass
    return who


def record(words: Words) -> Record:
    """Draws a record and the sentence that sums it up."""
    rng, lang = words.rng, words.lang
    kind = rng.choice(sorted(RELATIONS[lang]))
    shown, who = known(lang, kind), _named(words, kind)
    keys = rng.sample(sorted(shown), rng.choice([2, 2, 3, 3, 4]))
    own = {a.key: a for a in attributes(lang) if a.subject == kind and len(a.slots) == 1}
    lines, said = list[tuple[str, str]](), list[str]()
    for key in keys:
        labels, predicate = shown[key]
        value = fact(words, who, own[key]).values[0][1]
        lines.append((rng.choice(labels), value))
        said.append(fill(predicate, "v", value))
    text = "，".join(said) + "。" if words.zh else series(said, lang).rstrip(".") + "."
    sentence = capital(who.name) + " " * (not words.zh) + text
    return Record(who.name, tuple(lines), _written(words, who.name, lines), sentence)


def _written(words: Words, name: str, lines: list[tuple[str, str]]) -> str:
    """Writes a record as lines, as a table or as an object."""
    rng = words.rng
    first = rng.choice(NAME[words.lang].split("|")), name
    style = rng.random()
    if style < 0.15:
        return json.dumps({k.lower(): v for k, v in [first, *lines]}, ensure_ascii=False)
    if style < 0.3:
        return "\n".join(f"| {k} | {v} |" for k, v in [first, *lines])
    colon = "：" if words.zh else ": "
    if style < 0.6:
        return "\n".join(k + colon + v for k, v in [first, *lines])
    mark, head = rng.choice(["- ", "* ", ""]), rng.choice(["# ", "", ""])
    return "\n".join([head + capital(name), *(mark + k + colon + v for k, v in lines)])


def summing_up(words: Words, asks: list[str] | None = None) -> Conversation:
    """Shows one to three records, one a turn, and wants each in a sentence.

    Args:
        words: Draws the words.
        asks: What may be asked with; by default what training asks with.
    """
    turns, asked = list[tuple[str, str]](), words.rng.choice(asks or ASKS[words.lang])
    texts = list[str]()
    for _ in range(words.rng.choice([1, 1, 2, 3])):
        made = record(words)
        texts.append(made.text)
        turns.append((asked.replace("{c}", made.text), made.sentence))
    return Conversation("", tuple(turns), "\n\n".join(texts))
