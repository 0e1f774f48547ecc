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

# What is asked of a place, a person or a thing that stands at the end of the question or before it:
# tail of the name, names and value of the argument, descriptions, questions, and what comes back.
ENQUIRIES = [
    family("get|find|show|check|list", *parts)
    for parts in (
        (
            "=departures|=next_departure|=buses",
            "stop|from|place|origin|station:string:stop",
            ("(Find|Get) what leaves (next|soon) from a place.", "查询从某地(出发|开出)的班次。"),
            (
                "(What|Which bus) (goes|leaves|departs) next from {0}?|What departs from {0} soon?|"
                "When does (the first coach|the last bus|the night train) leave {0}?|"
                "I am at {0}, what leaves from here?|(Show|Give) me what starts from {0}.",
                "(从|){0}(出发|发车|始发)的(末班车|首班车|班车|动车)(几点|什么时候)(开|走)？|"
                "{0}(下一趟|最近一班)车什么时候(来|开)？|接下来有什么车从{0}走？|"
                "帮我看看{0}的(班次|车次)。",
            ),
            "time",
        ),
        (
            "=connections|=ways_to|=coaches_to",
            "destination|to|where:string:stop",
            ("(Find|List) what goes to a city.", "(查询|列出)前往某地的车次。"),
            (
                "(Which|What) (buses|trains|ferries) (go|run) to {0}?|How do I get to {0}?|"
                "I have to be in {0}, what goes there?|Is there a (train|bus|ferry) to {0}?",
                "(去|到|开往|驶往){0}的(班车|车|动车)有哪些？|怎么去{0}？|我要去{0}，有什么车？",
            ),
            "busnumber",
        ),
        (
            "=duty|=on_duty|=keeper",
            "room|where|place:string:room",
            ("(Find|Get) who is on duty in a room.", "查询某处的值班人。"),
            (
                "Who is on duty in {0}?|Who has the key to {0}?|Whom do I ask about {0}?|"
                "Somebody must be in {0}, who is it?",
                "(今天|今晚|)谁在{0}值班？|{0}(现在|)谁在？|{0}的钥匙在谁那里？|要进{0}该找谁？",
            ),
            "person",
        ),
        (
            "=programme|=films|=showing",
            "date|day|on:string:date",
            ("Show what is on at the cinema on a day.", "查询影院某日的排片。"),
            (
                "What is on at the cinema on {0}?|What can we see on {0}?|"
                "We are free on {0}, is there a film?",
                "{0}(放|有)什么电影？|电影院{0}演什么？|想{0}去看电影，有什么片子？",
            ),
            "title",
        ),
        (
            "=free_rooms|=free_seats|=vacancies",
            "time|at|when:string:time",
            ("(Check|Find) what is free at a time.", "查询某时刻的空位。"),
            (
                "(What|Which room|Which table) is free at {0}?|Is there any room left for {0}?|"
                "We would come at {0}, do you have space?",
                "{0}还有(空位|空房|位子)吗？|{0}哪里有空？|我们{0}到，有位子吗？",
            ),
            "room",
        ),
        (
            "=owner|=sender|=holder",
            "code|number|serial:string:code",
            ("(Find|Get) whom something with a code belongs to.", "按编码查询物主。"),
            (
                "(Whose|To whom belongs) is the one with {0}?|Who owns what is marked {0}?|"
                "I found something with the code {0}, who lost it?",
                "(编码|标着|写着){0}的是谁的？|捡到一个编码为{0}的东西，是谁丢的？|{0}归谁？",
            ),
            "person",
        ),
        (
            "=opening_hours|=hours",
            "company|firm|name:string:org",
            ("(Find|Show) when a company is open.", "查询某单位的营业时间。"),
            (
                "(When|Until when) is {0} open?|Does {0} open on Sunday?|"
                "Is somebody there now at {0}?",
                "{0}(几点|什么时候)(开门|关门|下班)？|{0}周末营业吗？|现在去{0}有人吗？",
            ),
            "time",
        ),
        (
            "=next_event|=appointments|=agenda",
            "person|name|who:string:person",
            ("(Look up|Show) what a person has to do next.", "查询某人的日程。"),
            (
                "What is next for {0}?|Where does {0} have to be?|Is {0} free this week?|"
                "What has been planned with {0}?",
                "{0}接下来有什么安排？|{0}(这周|明天)有空吗？|{0}要去哪里？|看一下{0}的日程。",
            ),
            "task",
        ),
    )
]


def _look_up(attribute: Attribute, slot: str, lang: str) -> Family:
    """Makes the tool that answers a question about a relation; it is described by a question.

    The description in the other language is one of the relation of the same name there, if any.
    """
    names, value, *_ = ARGUMENTS[attribute.subject]
    asked = _usable(attribute, slot)
    other = "en" if lang == "zh" else "zh"
    same = (attribute.key, attribute.subject)
    about = {lang: _described(attribute, asked, lang)}
    about[other] = about[lang]
    for twin in (a for a in attributes(other) if (a.key, a.subject) == same):
        if wordings := _usable(twin, slot):
            about[other] = _described(twin, wordings, other)
    tail = attribute.key if slot == "v" else f"{attribute.key}_{dict(attribute.slots)[slot]}"
    mark = "？" if lang == "zh" else "?"
    return family(
        "get|find|lookup|check",
        "=" + tail.split("+")[0],
        f"{names}:string:{value}",
        (about["en"], about["zh"]),
        ("|".join(t.replace("{e}", "{0}") + mark for t in asked),) * 2,
        dict(attribute.slots)[slot],
    )


def _described(attribute: Attribute, wordings: tuple[str, ...], lang: str) -> str:
    """Describes a look-up by some of the questions it answers."""
    _, _, thing_en, thing_zh = ARGUMENTS[attribute.subject]
    thing = thing_zh if lang == "zh" else thing_en
    about = "|".join(f"({t})".replace("{e}", thing) for t in wordings[:4])
    return f"回答：({about})？" if lang == "zh" else f"(Answers|Finds out): ({about})?"


def _usable(attribute: Attribute, slot: str) -> tuple[str, ...]:
    """Lists the questions for a slot that name the subject alone and may be trained on."""
    asks = dict(attribute.asks).get(slot, ())
    return tuple(t for t in asks if not is_held(t) and _names_one_thing(t))


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
        for slot, _ in attribute.asks:
            if _usable(attribute, slot):
                found.append((attribute.key, _look_up(attribute, slot, lang)))
    return tuple(found)


def apart(keys: list[str], key: str) -> bool:
    """Says whether no question about one of these relations asks for the other too."""
    return not any(clash(key, other) for other in keys)
