"""Owns talks about JSON: a text, the type of an object, and the object that fits both."""

from __future__ import annotations

import json
import re
from typing import Any

from aquila2_runtime.tools import signature

from .document import as_written, draw_facts
from .facts import Fact
from .lexicon import Words
from .prose import prose
from .relations import clash
from .talk import Conversation

# Names a property may have, by relation and slot; "{}" stands for the relation's own key.
NAMES = {
    "en": (
        "job.v:job|profession|occupation lives.v:city|lives_in|home born_in.v:birthplace|born_in "
        "born_on.v:birthday|date_of_birth birth.y:birth_year|born birth.c:birthplace|born_in "
        "employer.v:employer|company|works_at post.j:job|position post.o:employer|company "
        "study.v:school|university studied.f:subject studied.o:university|school teacher.v:teacher "
        "spouse.v:partner|spouse pet.v:pet|animal likes.v:favourite_food|food "
        "colour.v:favourite_color speaks.v:language plays.v:instrument hobby.v:hobby wrote.v:book "
        "debut.t:book|title debut.y:year prize.p:prize prize.y:year score.n:points|score age.v:age "
        "phone.v:phone|telephone email.v:email|mail founder.v:founder founded.v:founded|year "
        "origin.p:founder origin.y:founded|year based.v:city|headquarters staff.v:staff|employees "
        "makes.v:product head.v:director|head hours.a:opens|open hours.b:closes|close "
        "opens.v:opens closes.v:closes closed.v:closed_on|closed ticket.v:ticket|price "
        "prices.a:adults|adult_price prices.b:children|child_price address.v:address built.v:built "
        "architect.v:architect capacity.v:capacity date.v:date day.v:day starts.v:start|time "
        "times.a:start|from times.b:end|to venue.v:room|place when_where.d:date "
        "when_where.r:room|place chair.v:chair|leader lasts.v:duration attend.n:guests|people "
        "topic.v:topic winner.v:winner price.v:price|cost weight.v:weight length.v:length "
        "battery.v:battery warranty.v:warranty|guarantee itemcolor.v:color material.v:material "
        "port.v:port password.v:password|code serial.v:serial_number made_by.v:maker|producer "
        "manager.v:manager|leader budget.v:budget deadline.v:deadline|due goal.v:goal "
        "leaves.v:departure|leaves arrives.v:arrival goes.v:destination trip.a:from trip.b:to "
        "trip.t:departure platform.v:platform fare.v:fare|price temperature.v:temperature "
        "wind.v:forecast|weather bake.v:baking_time|time serves.v:serves author.v:author "
        "published.v:published|year coach.v:coach ground.v:home beat.o:opponent beat.s:score "
        "ingredient.q:amount ingredient.i:ingredient cook.v:cook pages.v:pages"
    ),
    "zh": (
        "job.v:职业|job lives.v:住址|city born_in.v:出生地|家乡 born_on.v:生日|birthday "
        "birth.y:出生年份 "
        "birth.c:出生地 employer.v:单位|company post.j:职业|position post.o:单位|company "
        "study.v:学校|school "
        "studied.f:专业 studied.o:学校 teacher.v:老师 spouse.v:爱人 pet.v:宠物|pet likes.v:食物|"
        "food "
        "colour.v:颜色 speaks.v:语言 age.v:年龄|age phone.v:电话|phone email.v:邮箱|email "
        "founder.v:创始人|founder "
        "founded.v:成立时间|founded origin.p:创始人 origin.y:成立时间 based.v:总部|city "
        "staff.v:员工人数|staff "
        "makes.v:产品|product head.v:负责人|director hours.a:开门|opens hours.b:关门|closes "
        "opens.v:开门时间 "
        "closes.v:关门时间 closed.v:休息日 ticket.v:门票|price prices.a:成人票 prices.b:儿童票 "
        "address.v:地址|address "
        "built.v:建成时间 architect.v:设计师 capacity.v:容量 date.v:日期|date day.v:星期|day "
        "starts.v:开始时间|time "
        "times.a:开始时间 times.b:结束时间 venue.v:地点|place when_where.d:日期|date "
        "when_where.r:地点|room "
        "chair.v:主持人 lasts.v:时长 topic.v:主题 winner.v:冠军 price.v:价格|price weight.v:重量|"
        "weight "
        "length.v:长度 battery.v:续航 warranty.v:保修期 itemcolor.v:颜色|color material.v:材料 "
        "port.v:端口|port "
        "password.v:密码 made_by.v:厂家 manager.v:负责人|manager budget.v:预算|budget "
        "deadline.v:截止日期|deadline "
        "goal.v:目标 leaves.v:发车时间 arrives.v:到达时间 goes.v:终点站 trip.a:出发地 "
        "trip.b:目的地 trip.t:时间 "
        "platform.v:站台 fare.v:票价 temperature.v:气温 wind.v:天气 bake.v:时间 author.v:作者 "
        "published.v:年份 "
        "coach.v:教练 ground.v:主场 pages.v:页数"
    ),
}
WHOLE = ("number", "age")
# The place of the text, with the word that announces it.
NO_TEXT = re.compile(r"(Text: |文本：)?\{c\}")
ASKS = {
    "en": [
        "{c}\n\nAnswer in JSON: {s}",
        "{c}\n\nExtract the data about {e} as JSON: {s}",
        "{c}\n\nGive the facts about {e} in JSON of this type: {s}",
        "Text: {c}\n\nWrite only a JSON object of the type {s} about {e}.",
        "Extract from the text, about {e}, a JSON object: {s}\n\n{c}",
        "{c}\n\nWhat do we know about {e}? Reply in JSON: {s}",
    ],
    "zh": [
        "{c}\n\n用JSON回答：{s}",
        "{c}\n\n请提取{e}的信息，以JSON格式输出：{s}",
        "文本：{c}\n\n只输出关于{e}的JSON对象，类型为{s}",
        "请从下面的文字中提取{e}的JSON：{s}\n\n{c}",
        "{c}\n\n{e}的信息是什么？Answer in JSON: {s}",
    ],
}


def _names(lang: str) -> dict[tuple[str, str], list[str]]:
    found = {}
    for entry in NAMES[lang].split():
        place, names = entry.split(":")
        key, slot = place.split(".")
        found[(key, slot)] = names.split("|")
    return found


def _property(words: Words, made: Fact, slot: str) -> tuple[str, dict[str, Any], Any] | None:
    """Makes one property of the object: its name, its type and its value."""
    known = _names(words.lang).get((made.attribute.key, slot))
    kind = dict(made.attribute.slots)[slot]
    if known is None and made.attribute.subject == "any" and len(made.values) == 1:
        known = [made.attribute.key.replace(" ", "_")]
    if known is None:
        return None
    value = made.value(slot)
    if kind in WHOLE and value.isdigit():
        return words.rng.choice(known), {"type": "integer"}, int(value)
    return words.rng.choice(known), {"type": "string"}, value


def jsontalk(words: Words, count: int) -> Conversation:
    """Shows a text about one or more subjects and wants some of it as an object."""
    rng = words.rng
    facts = draw_facts(words, max(2, count))
    text = prose(words, facts, rng.choice([0.0, 0.1, 0.3]))
    turns = list[tuple[str, str]]()
    subjects = list(dict.fromkeys(f.subject.name for f in facts))
    rng.shuffle(subjects)
    for name in subjects[:2]:
        made = _object(words, [f for f in facts if f.subject.name == name], text)
        if made is None:
            continue
        shape, body = made
        asks = rng.choice(ASKS[words.lang])
        if len(subjects) > 1 and "{e}" not in asks:
            asks = ASKS[words.lang][1]
        asks = asks.replace("{e}", name).replace("{s}", shape)
        if turns:
            asks = NO_TEXT.sub("", asks).strip()
        turns.append((asks.replace("{c}", text), body))
    return Conversation("", tuple(turns), text) if turns else jsontalk(words, count)


def _object(words: Words, facts: list[Fact], text: str) -> tuple[str, str] | None:
    """Chooses properties; gives the object's type as text and the object itself."""
    properties: dict[str, Any] = {}
    body: dict[str, Any] = {}
    optional: set[str] = set()
    if words.chance(0.3):
        properties["name" if words.chance(0.5) or not words.zh else "名称"] = {"type": "string"}
        body[next(iter(properties))] = facts[0].subject.name
    parts = [_property(words, f, slot) for f in facts for slot, _ in f.attribute.asks]
    known = [p for p in parts if p is not None]
    words.rng.shuffle(known)
    for name, kind, value in known[: words.rng.randint(1, 4)]:
        if name not in properties:
            properties[name] = kind
            # What opens a sentence is copied with the capital that it has there.
            body[name] = as_written(value, text) if isinstance(value, str) else value
    if not known or not body:
        return None
    absent = words.rng.choice(sorted(_names(words.lang).values()))[0]
    keys = {f.attribute.key for f in facts}
    if words.chance(0.12) and absent not in properties and not _told(words, absent, keys):
        properties[absent] = {"type": ["string", "null"]}
        body[absent] = None
    required = [n for n in properties if n not in optional]
    shape = signature({"type": "object", "properties": properties, "required": required})
    return shape, json.dumps(body, ensure_ascii=False)


def _told(words: Words, name: str, keys: set[str]) -> bool:
    """Says whether a relation that is told could be called by the name, or answers for it."""
    called = {key for (key, _), names in _names(words.lang).items() if name in names}
    # A relation made of a noun tells what its noun says: a start date is a date.
    nouns = {key.replace("colour", "color").replace("主色", "颜色") for key in keys}
    last = name.rsplit("_", 1)[-1]
    return any(noun.endswith(last) for noun in nouns) or any(
        clash(key, other) for key in called for other in keys
    )
