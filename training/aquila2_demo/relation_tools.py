"""Owns tools for training alone: look-ups for the relations of facts, and actions on things."""

from __future__ import annotations

from functools import cache

from .facts import CHOICE
from .relations import Attribute, attributes, clash, is_held
from .tool_families import Family, family

# What the argument of a look-up holds, for the kinds of subjects that have names of their own.
ARGUMENTS = {
    "person": ("name|person|who", "person", "a person", "某人"),
    "org": ("company|name|organisation", "org", "a company", "某公司"),
    "team": ("team|club|name", "team2", "a team", "某球队"),
    "vehicle": ("line|service|name", "busnumber", "a bus or tram", "某班车"),
    "work": ("title|work|name", "title", "a work", "某作品"),
}
# Families of tools ask for these already.
TAKEN = {"phone", "email", "price", "fare", "sale"}
ACTIONS = [
    family(
        verb,
        "",
        "id|number|{n}_id:integer:large" if number else "name|model|code:string:code",
        (f"{verb.capitalize()} a {{n}}.", f"{zh}一个{{n}}。"),
        (
            f"(Please {verb}|{verb.capitalize()}|Can you {verb}) the {{n}} {{0}}.|"
            f"The {{n}} {{0}} (must be|has to be) {done}.",
            f"(请|){zh}{{n}}{{0}}。|{{n}}{{0}}需要{zh}。|请把{{n}}{{0}}{zh}一下。",
        ),
        "done",
    )
    for number, (verb, done, zh) in enumerate(
        part.split(":")
        for part in (
            "clean:cleaned:清洗 repair:repaired:修理 print:printed:打印 move:moved:移动 "
            "scan:scanned:扫描 weigh:weighed:称重 paint:painted:粉刷 copy:copied:复制 "
            "open:opened:开启 pause:paused:暂停 restart:restarted:重启 measure:measured:测量 "
            "pack:packed:包装 return:returned:退回 archive:archived:归档 inspect:inspected:检查 "
            "rename:renamed:重命名 assign:assigned:分配 approve:approved:批准 hide:hidden:隐藏 "
            "confirm:confirmed:确认 replace:replaced:更换 test:tested:测试 publish:published:发布"
        ).split()
    )
    for number in [number % 2]
]


def _look_up(attribute: Attribute, slot: str, wordings: tuple[str, ...], lang: str) -> Family:
    """Makes the tool that answers a question about a relation; it is described by a question."""
    names, value, thing_en, thing_zh = ARGUMENTS[attribute.subject]
    asked, mark = [t.replace("{e}", "{0}") for t in wordings], "？" if lang == "zh" else "?"
    thing = thing_zh if lang == "zh" else thing_en
    about = "|".join(f"({t})".replace("{e}", thing) for t in wordings[:4])
    about = f"回答：({about}){mark}" if lang == "zh" else f"(Answers|Finds out): ({about}){mark}"
    tail = attribute.key if slot == "v" else f"{attribute.key}_{dict(attribute.slots)[slot]}"
    return family(
        "get|find|lookup|check",
        "=" + tail.split("+")[0],
        f"{names}:string:{value}",
        (about, about),
        ("|".join(t + mark for t in asked),) * 2,
        dict(attribute.slots)[slot],
    )


def _names_one_thing(wording: str) -> bool:
    """Says whether a wording, however its choices fall, names the subject and nothing else."""
    settled = CHOICE.sub("", CHOICE.sub("", wording))
    return settled.count("{e}") == wording.count("{") == 1


@cache
def look_ups(lang: str) -> tuple[tuple[str, Family], ...]:
    """Lists the look-ups of one language, each with its relation; no wording is a kept-out one."""
    found = []
    for attribute in attributes(lang):
        if attribute.subject not in ARGUMENTS or attribute.key in TAKEN:
            continue
        for slot, asks in attribute.asks:
            usable = [t for t in asks if not is_held(t) and _names_one_thing(t)]
            if usable:
                one = _look_up(attribute, slot, tuple(usable), lang)
                found.append((attribute.key, one))
    return tuple(found)


def apart(keys: list[str], key: str) -> bool:
    """Says whether no question about one of these relations asks for the other too."""
    return not any(clash(key, other) for other in keys)
