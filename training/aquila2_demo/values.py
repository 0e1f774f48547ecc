"""Owns the kinds of values a fact can have, each drawn in English or Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable

from . import lexicon as lx
from .lexicon import Words
from .vocabulary import (
    ANIMALS_EN,
    CAUSES,
    DEFECTS,
    FIELDS,
    FLOORS,
    FORBIDDEN,
    GROUPS,
    HOBBIES,
    INSTRUMENTS,
    LANGUAGES,
    MATERIALS,
    TASKS,
    VEHICLES,
    WEATHER,
)


def _date(w: Words) -> str:
    r = w.rng
    day, month, year = r.randint(1, 28), r.randint(1, 12), r.randint(1900, 2035)
    if w.zh:
        mark = w.rng.choice(["日", "日", "日", "号"])
        week = w.rng.choice(lx.WEEK_ZH) if w.chance(0.1) else ""
        return (f"{year}年" if w.chance(0.4) else "") + f"{month}月{day}{mark}{week}"
    name = lx.MONTH_EN[month - 1]
    tail = f", {year}" if w.chance(0.4) else ""
    if w.chance(0.15):
        weekday = w.rng.choice(lx.WEEK_EN)
        return f"{weekday}, {day} {name}" if w.chance(0.6) else f"{weekday}, {name} {day}"
    return f"{name} {day}{tail}" if w.chance(0.6) else f"{day} {name}" + tail.replace(",", "")


def _time(w: Words) -> str:
    r = w.rng
    if w.zh:
        hour = r.choice("一二三四五六七八九十") if w.chance(0.4) else str(r.randint(1, 12))
        part = r.choice(["上午", "下午", "晚上", "早上", "中午", ""])
        if w.chance(0.2):
            return f"{r.randint(6, 22)}:{r.randint(0, 59):02d}"
        return f"{part}{hour}点" + r.choice(["", "", "半", f"{r.randint(1, 59)}分"])
    kind = r.random()
    if kind < 0.3:
        return f"{r.randint(0, 23)}:{r.choice([0, 15, 30, 45, r.randint(0, 59)]):02d}"
    if kind > 0.94:
        return r.choice(["noon", "midnight", f"half past {r.choice(lx.HOURS_EN)}"])
    if kind < 0.6:
        return f"{r.randint(1, 12)}:{r.randint(0, 59):02d} " + r.choice(
            ["am", "pm", "a.m.", "p.m."]
        )
    return r.choice([f"{r.randint(1, 12)} ", str(r.randint(1, 12))]) + r.choice(["am", "pm"])


def _money(w: Words) -> str:
    if w.zh:
        return w.amount() + w.rng.choice(["元", "元", "元", "万元", "美元", "块钱", "亿元"])
    if w.chance(0.4):
        cents = f".{w.rng.randint(0, 99):02d}" if w.chance(0.25) else ""
        return w.rng.choice(["$", "€", "£"]) + w.number() + cents
    return w.amount() + w.rng.choice([" dollars", " euros", " yuan", " pounds", " million euros"])


def _address(w: Words) -> str:
    number = w.rng.randint(1, 300)
    if w.zh:
        return w.han(2) + w.rng.choice(["路", "街", "大道"]) + f"{number}号"
    road = w.name() if w.chance(0.5) else w.rng.choice(lx.WORDS_EN).title()
    return f"{number} {road} " + w.rng.choice(["Street", "Road", "Square", "Avenue", "Lane"])


def _room(w: Words) -> str:
    r = w.rng
    if w.zh:
        hall = r.choice("一二三四五六七八九") + r.choice(["号会议室", "楼大厅", "号教室"])
        return r.choice(
            [hall, f"{r.randint(100, 999)}室", f"{r.choice(lx.UPPER)}{r.randint(1, 999)}"]
        )
    tail = f"{r.choice(lx.UPPER)}{r.randint(1, 999)}"
    hall = "the " + r.choice(lx.WORDS_EN) + r.choice([" hall", " room", " house"])
    return r.choice([f"room {r.randint(1, 999)}", tail, f"Room {tail}", hall])


def _phone(w: Words) -> str:
    def digits(count: int) -> str:
        return "".join(str(w.rng.randint(0, 9)) for _ in range(count))

    mobile, area = "1" + digits(10), f"0{w.rng.randint(10, 999)}"
    land = f"{area}-{digits(8)}" if w.zh else f"{area} {digits(3)} {digits(4)}"
    abroad = f"+{w.rng.randint(1, 99)} {digits(w.rng.randint(9, 10))}"
    spaced = f"{mobile[:3]} {mobile[3:7]} {mobile[7:]}"
    short = [f"{w.rng.randint(200, 999)}-{w.rng.randint(1000, 9999)}", digits(4), digits(8)]
    return w.rng.choice([mobile, mobile, land, land, spaced, abroad, *short])


def _email(w: Words) -> str:
    user = w.rng.choice([w.name().lower(), w.rng.choice(lx.FIRST).lower(), "info", "office"])
    tail = w.number() if w.chance(0.4) else ""
    return f"{user}{tail}@{w.name().lower()}.{w.rng.choice(['com', 'net', 'org', 'cn'])}"


def _filled(w: Words, text: str) -> str:
    """Fills the blanks of a small pattern, each with a fresh draw."""
    makers: dict[str, Callable[[], str]] = {
        "{xs}": w.plural,
        "{x}": w.noun,
        "{a}": w.adjective,
        "{p}": w.person,
        "{o}": w.org,
        "{c}": w.city,
        "{n}": lambda: str(w.rng.randint(2, 400)),
        "{j}": lambda: w.rng.choice(lx.JOB_ZH if w.zh else lx.JOB_EN),
    }
    for blank, make in makers.items():
        while blank in text:
            text = text.replace(blank, make(), 1)
    return text


def _pattern(pools: dict[str, list[str]]) -> Callable[[Words], str]:
    return lambda w: _filled(w, w.rng.choice(pools[w.lang]))


def _an(text: str) -> str:
    return ("an " if text[0] in "aeio" else "a ") + text


def _thing(w: Words) -> str:
    r = w.rng.random()
    if w.zh:
        if r < 0.75:
            return w.adjective() + w.noun()
        return w.noun() + w.noun() if r < 0.9 else w.phrase()
    if r < 0.35:
        return _an(f"{w.adjective()} {w.noun()}")
    if r < 0.5:
        return f"the {w.adjective()} {w.noun()}"
    if r < 0.65:
        return f"{w.adjective()} {w.plural()}"
    if r < 0.75:
        return _an(w.noun())
    if r < 0.85:
        return f"{w.plural()} and {w.plural()}"
    if r < 0.93:
        return f"{_an(w.noun())} of {w.rng.choice(['iron', w.city(), w.plural()])}"
    return w.phrase()


def _title(w: Words) -> str:
    r = w.rng.random()
    if w.zh:
        return w.phrase() if r < 0.4 else w.adjective().replace("的", "") + w.noun()
    if r < 0.5:
        return w.rng.choice(["The ", "A ", ""]) + f"{w.adjective()} {w.noun()}".title()
    if r < 0.75:
        return f"The {w.noun().title()} of {w.city()}"
    return w.phrase().title()


def _firstname(w: Words) -> str:
    if w.zh:
        return w.rng.choice(["小", "阿", "大", ""]) + w.han(1) + w.rng.choice(["", "", w.han(1)])
    return w.rng.choice([w.name(), w.noun().title(), w.rng.choice(lx.FIRST)])


def _bus(w: Words) -> str:
    n = w.rng.randint(1, 320)
    if w.zh:
        return w.rng.choice([f"{n}路", f"{n}路公交车", f"地铁{w.rng.randint(1, 14)}号线"])
    return w.rng.choice([f"bus {n}", f"tram {n}", f"line {n}", f"bus line {n}"])


def _floor(w: Words) -> str:
    return w.rng.choice(FLOORS[w.lang])


def _stop(w: Words) -> str:
    tails = ["", "站", "北站", "机场"] if w.zh else ["", " station", " Central", " airport"]
    return w.city() + w.rng.choice(tails)


def _team(w: Words) -> str:
    if w.zh:
        return w.city() + w.rng.choice(["队", "联队", "篮球队", "足球队"])
    tails = ["United", "Rovers", "City", "Lions", "Athletic", "Wolves", "FC", "Bears"]
    return f"{w.city()} {w.rng.choice(tails)}"


def _score(w: Words) -> str:
    a, b = w.rng.randint(0, 9), w.rng.randint(0, 9)
    if w.chance(0.3):
        a, b = w.rng.randint(40, 120), w.rng.randint(40, 120)
    return f"{a}{w.rng.choice(['比', '-', ':']) if w.zh else w.rng.choice(['-', ' to ', ':'])}{b}"


def _percent(w: Words) -> str:
    n = w.rng.randint(2, 99)
    if w.zh:
        return w.rng.choice([f"{n}%", f"百分之{n}"])
    return w.rng.choice([f"{n}%", f"{n} percent", f"{n} per cent"])


def _from(en: list[str], zh: list[str]) -> Callable[[Words], str]:
    return lambda w: w.rng.choice(zh if w.zh else en)


def _temp(w: Words) -> str:
    n = w.rng.randint(-15, 39) if w.chance(0.5) else w.rng.randint(1, 250)
    if w.zh:
        return w.rng.choice([f"{n}度", f"{n}℃", f"{n}摄氏度"]).replace("-", "零下")
    return w.rng.choice([f"{n} degrees", f"{n} °C", f"{n} degrees Celsius"])


def _year(w: Words) -> str:
    n = w.rng.randint(1500, 2035)
    return f"{n}年" if w.zh else str(n)


VALUES: dict[str, Callable[[Words], str]] = {
    "person": Words.person,
    "org": Words.org,
    "city": Words.city,
    "phrase": Words.phrase,
    "code": Words.code,
    "number": Words.number,
    "date": _date,
    "time": _time,
    "money": _money,
    "address": _address,
    "room": _room,
    "phone": _phone,
    "email": _email,
    "temp": _temp,
    "year": _year,
    "weekday": _from(lx.WEEK_EN + [d + "s" for d in lx.WEEK_EN[:1]], lx.WEEK_ZH),
    "job": _from(lx.JOB_EN, lx.JOB_ZH),
    "food": _from(lx.FOOD_EN, lx.FOOD_ZH),
    "animal": _from(lx.ANIMAL_EN, lx.ANIMAL_ZH),
    "color": _from(lx.COLOR_EN, lx.COLOR_ZH),
    "people": lambda w: w.unit("people|persons|guests|workers", "人 名员工 名学生 个人"),
    "age": lambda w: f"{w.rng.randint(3, 99)}{'岁' if w.zh else ''}",
    "firstname": _firstname,
    "word": lambda w: w.word() if w.zh else w.noun().title(),
    "animals": lambda w: w.rng.choice(lx.ANIMAL_ZH if w.zh else [f"{a}s" for a in ANIMALS_EN]),
    "vehiclekind": _from(VEHICLES["en"], VEHICLES["zh"]),
    "ruleobject": _from(FORBIDDEN["en"], FORBIDDEN["zh"]),
    "busnumber": _bus,
    "person2": Words.person,
    "thing": _thing,
    "things": Words.plural,
    "title": _title,
    "task": _pattern(TASKS),
    "cause": _pattern(CAUSES),
    "defect": _pattern(DEFECTS),
    "weatherthing": _pattern(WEATHER),
    "field": _pattern(FIELDS),
    "language": _pattern(LANGUAGES),
    "instrument": _pattern(INSTRUMENTS),
    "hobby": _pattern(HOBBIES),
    "material": _pattern(MATERIALS),
    "group": _pattern(GROUPS),
    "floor": _floor,
    "stop": _stop,
    "team2": _team,
    "score": _score,
    "percent": _percent,
    "duration": lambda w: w.unit(
        "minutes|hours|days|weeks|months|years", "分钟 小时 天 周 个月 年"
    ),
    "weight": lambda w: w.unit("kg|grams|tons|pounds", "公斤 克 吨 千克 斤"),
    "length": lambda w: w.unit("km|meters|cm|miles|metres", "公里 米 厘米 千米"),
}

# What is written in several ways, and the one way to compare it in.
PERCENT = re.compile(r"百分之(\d+)|(\d+)(?: percent| per cent)\b")
DAYS = re.compile(r"(day)s\b")


def _meant(value: str) -> str:
    text = value.lower().replace("星期", "周").replace(",", "")
    return DAYS.sub(r"\1", PERCENT.sub(lambda m: (m[1] or m[2]) + "%", text))


def akin(one: str, other: str) -> bool:
    """Says whether what is true of one value may be true of the other.

    Two may mean the same ("周一" and "星期一"), or one may be the other with something added: a bus
    driver is a driver.
    """
    short, long = sorted((_meant(one), _meant(other)), key=len)
    if short == long or short not in long:
        return short == long
    edge = r"\w" if short.isascii() else r"\d"
    return bool(re.search(rf"(?<!{edge}){re.escape(short)}(?!{edge})", long))


def draw(words: Words, kind: str) -> str:
    """Draws one value of the kind; "number+x" is a number and its measure word."""
    kind, _, measure = kind.partition("+")
    return VALUES[kind](words) + measure
