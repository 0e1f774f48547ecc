"""Owns the kinds of values a fact can have, each drawn in English or Chinese."""

from __future__ import annotations

from collections.abc import Callable

from . import lexicon as lx
from .lexicon import Words


def _date(w: Words) -> str:
    r = w.rng
    day, month, year = r.randint(1, 28), r.randint(1, 12), r.randint(1900, 2035)
    if w.zh:
        return (f"{year}年" if w.chance(0.5) else "") + f"{month}月{day}日"
    name = lx.MONTH_EN[month - 1]
    tail = f", {year}" if w.chance(0.4) else ""
    return f"{name} {day}{tail}" if w.chance(0.6) else f"{day} {name}" + tail.replace(",", "")


def _time(w: Words) -> str:
    r = w.rng
    if w.zh:
        hour = r.choice("一二三四五六七八九十") if w.chance(0.4) else str(r.randint(1, 12))
        part = r.choice(["上午", "下午", "晚上", "早上", "中午", ""])
        if w.chance(0.15):
            return f"{r.randint(6, 22)}:{r.randint(0, 59):02d}"
        return f"{part}{hour}点" + r.choice(["", "", "半", f"{r.randint(1, 59)}分"])
    kind = r.random()
    if kind < 0.3:
        return f"{r.randint(0, 23)}:{r.randint(0, 59):02d}"
    if kind < 0.6:
        return f"{r.randint(1, 12)}:{r.randint(0, 59):02d} " + r.choice(
            ["am", "pm", "a.m.", "p.m."]
        )
    return f"{r.randint(1, 12)} " + r.choice(["am", "pm", "o'clock"])


def _money(w: Words) -> str:
    if w.zh:
        return w.amount() + w.rng.choice(["元", "万元", "美元", "块钱"])
    if w.chance(0.4):
        return w.rng.choice(["$", "€", "£"]) + w.number()
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
    r = w.rng
    full = "1" + "".join(str(r.randint(0, 9)) for _ in range(10))
    return r.choice(
        [full, f"{r.randint(200, 999)}-{r.randint(1000, 9999)}", str(r.randint(1000, 9999))]
    )


def _email(w: Words) -> str:
    user = w.rng.choice([w.name().lower(), w.rng.choice(lx.FIRST).lower(), "info", "office"])
    tail = w.number() if w.chance(0.4) else ""
    return f"{user}{tail}@{w.name().lower()}.{w.rng.choice(['com', 'net', 'org', 'cn'])}"


def _from(en: list[str], zh: list[str]) -> Callable[[Words], str]:
    return lambda w: w.rng.choice(zh if w.zh else en)


def _temp(w: Words) -> str:
    n = w.rng.randint(1, 39)
    return f"{n}度" if w.zh else f"{n} degrees"


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
    "duration": lambda w: w.unit(
        "minutes|hours|days|weeks|months|years", "分钟 小时 天 周 个月 年"
    ),
    "weight": lambda w: w.unit("kg|grams|tons|pounds", "公斤 克 吨 千克 斤"),
    "length": lambda w: w.unit("km|meters|cm|miles|metres", "公里 米 厘米 千米"),
}


def draw(words: Words, kind: str) -> str:
    """Draws one value of the kind."""
    return VALUES[kind](words)
