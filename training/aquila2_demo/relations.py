"""Owns relations: typed slots, the wordings that state and ask for them, and which may clash."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .lexicon import Words

# Relations that answer the same question: a subject has at most one of each line, and a question
# that names no subject is asked only where none of its line is about another.
CLASHES = [
    set(line.split())
    for line in (
        "job post",
        "employer post leads_since",
        "born_in birth arrives_person",
        "lives hobby",
        "employer sends",
        "born_on birth",
        "lives moved",
        "study studied",
        "spouse wife husband wedding",
        "wrote debut",
        "founder origin",
        "founded origin",
        "based sites offices branch new_office",
        "based factories",
        "hours opens closes week",
        "closed closed_for",
        "ticket prices prices2 group",
        "free group prices prices2",
        "built built_by",
        "architect built_by",
        "address distance near",
        "owner bought",
        "loan loans",
        "date day moved_from when_where",
        "venue when_where",
        "starts times",
        "lasts times",
        "attend sold",
        "winner places",
        "decision phase task",
        "price sale bought_at",
        "defect recall broke",
        "made_by recall",
        "password code_from",
        "budget paid",
        "deadline phase",
        "leaves trip journey",
        "arrives journey",
        "goes trip",
        "temperature lowhigh oven",
        "wind warning",
        "bake rides",
        "author made",
        "published made",
        "beat next",
        "topic goal tells",
        "phone email",
        "number_of holds ordered members capacity staff",
        "flour ingredient contains",
        "award prize",
        "brings ordered",
        "brings donated",
        "kept venue address",
        "pet petname",
        "job post retired",
        "brings gave sends sells",
        "donated gave",
        "task asked",
        "moved travels",
        "arrives arrives_person",
        "sites shops branch",
        "makes offers launched deals_in",
        "plans phase decision",
        "turnover grew shrank fell",
        "factories branch",
        "ticket parking",
        "ticket prices fee_event fare sold",
        "minimum age",
        "firstprize winner first_prize 一等奖",
        "bake bake_at oven",
        "ingredient mix flour contains",
        "warning wind rain_until",
        "date next_event day when_where moved_from",
        "score league",
        "region flows",
        "height flows",
        "weight load",
        "climbed explored found_by",
        "cancelled postponed",
        "fee_event sold",
        "near opposite",
        "speaks second_language 第二语言",
        "paid sponsor 赞助商",
        "customers partner 合作单位",
        "password code_from access_code 访问码",
        "itemcolor theme_colour 主色",
        "depth 深度",
        "started start_date 开始日期",
        "date start_date 开始日期",
        "when_where start_date 开始日期",
        "warranty return",
        "child son daughter",
        "sibling brother sister",
        "speaks mother_tongue",
        "hobby plays collects",
        "task sends brings",
        "email signup",
        "address near reach_by",
        "closed_for hours opens closes week",
        "recall sold_n",
        "rides arrives journey",
        "temperature lowhigh wind",
        "bake bake_at cooking_time",
        "nature_length flows",
        "climbed crossed",
    )
]
# Each relation with those of its lines: a long document asks for every pair of its facts.
RIVALS = {
    key: frozenset[str]().union(*(line for line in CLASHES if key in line))
    for key in set[str]().union(*CLASHES)
}
GENERIC = {
    "en": (
        "secretary:person captain:person guard:person neighbour:person assistant:person "
        "adviser:person access_code:code nickname:phrase motto:phrase slogan:phrase symbol:thing "
        "depth:length speed:number version:number rent:money salary:money start_date:date "
        "lunch_time:time next_stop:city partner:org sponsor:org bank:org order_number:number "
        "contact:person shelf:floor mascot:animal theme_colour:color signature_dish:food "
        "second_language:language first_prize:thing file_name:code delivery_day:weekday"
    ).split(),
    "zh": (
        "秘书:person 队长:person 顾问:person 邻居:person 助理:person 保安:person 访问码:code "
        "外号:phrase 口号:phrase 标志:thing 深度:length 速度:number 版本:number 租金:money "
        "工资:money "
        "开始日期:date 午餐时间:time 下一站:city 合作单位:org 赞助商:org 开户银行:org "
        "订单号:number "
        "联系人:person 书架:floor 吉祥物:animal 主色:color 招牌菜:food 第二语言:language "
        "一等奖:thing "
        "文件名:code 送货日:weekday"
    ).split(),
}
GENERIC_SAY = {
    "en": [
        "(the {a} of {e}|{e}'s {a}) (is|was) {v}",
        "for {e} the {a} is {v}",
        "{e} has {v} as its {a}",
        "{v} is the {a} of {e}",
        "the {a} of {e}: {v}",
        "as the {a} of {e} they chose {v}",
    ],
    "zh": [
        "{e}的{a}(是|为){v}",
        "{e}{a}：{v}",
        "{v}是{e}的{a}",
        "{e}的{a}定为{v}",
        "{e}把{v}作为{a}",
    ],
}
GENERIC_ASK = {
    "en": [
        "(What|Which) is the {a} of {e}",
        "What is {e}'s {a}",
        "Which {a} does {e} have",
        "Tell me the {a} of {e}",
        "What {a} (is given for|does) {e}( have|)",
    ],
    "zh": ["{e}的{a}是什么", "请问{e}的{a}是什么", "{e}的{a}"],
}
# What Chinese asks for with a word of its own.
AMOUNT = "{e}的{a}是多少", {"code", "number", "length", "money"}
FIRM = "{e}的{a}是哪家", {"org"}
WHO = {
    "en": ["Who is the {a} of {e}", "Who is {e}'s {a}", "(Tell me|Name) the {a} of {e}"],
    "zh": ["{e}的{a}是谁", "谁是{e}的{a}", "请问{e}的{a}是谁"],
}


@dataclass(frozen=True)
class Attribute:
    """A relation: typed slots, the wordings that state it, and those that ask for each slot.

    `bare` holds statements that name no subject; they follow a sentence that does.
    """

    key: str
    subject: str
    slots: tuple[tuple[str, str], ...]
    says: tuple[str, ...]
    bare: tuple[str, ...]
    asks: tuple[tuple[str, tuple[str, ...]], ...]

    def clashes(self, key: str) -> bool:
        """Says whether the other relation may answer a question about this one."""
        return clash(key, self.key)


def clash(one: str, other: str) -> bool:
    """Says whether a question about one relation may be answered by the other."""
    one, other = one.replace(" ", "_"), other.replace(" ", "_")
    return one == other or other in RIVALS.get(one, ())


def is_held(wording: str) -> bool:
    """Says whether a wording of a relation is kept for measurement: about one in eight."""
    return zlib.crc32(wording.encode()) % 8 == 0


@cache
def attributes(lang: str) -> tuple[Attribute, ...]:
    """Reads the relations of one language."""
    text = (Path(__file__).parent / f"facts_{lang}.txt").read_text(encoding="utf-8")
    return tuple(_parse(block.strip().split("\n")) for block in ("\n" + text).split("\n@ ")[1:])


def _parse(block: list[str]) -> Attribute:
    key, kind, *typed = block[0].split()
    slots = [(part.split(":")[0], part.split(":")[1]) for part in typed]
    lines = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in block[1:]]
    asks = {slot: [t for mark, t in lines if mark in ("?", "?" + slot)] for slot, _ in slots}
    return Attribute(
        key,
        kind,
        tuple(slots),
        tuple(t for mark, t in lines if mark == "+"),
        tuple(t for mark, t in lines if mark == "*"),
        tuple((slot, tuple(found)) for slot, found in asks.items() if found),
    )


def generic(words: Words) -> Attribute:
    """Makes an attribute named by an ordinary noun or, sometimes, by a random word."""
    name, kind = words.rng.choice(GENERIC[words.lang]).split(":")
    name = name.replace("_", " ")
    if words.chance(0.4):
        name = words.word() + ("" if words.zh else " ") + name.split(" ")[-1]
    asks = WHO[words.lang] if kind == "person" else GENERIC_ASK[words.lang]
    asks = asks + [ask for ask, kinds in (AMOUNT, FIRM) if words.zh and kind in kinds]
    fill = [tuple(t.replace("{a}", name) for t in ts) for ts in (GENERIC_SAY[words.lang], asks)]
    return Attribute(name, "any", (("v", kind),), fill[0], (), (("v", fill[1]),))
