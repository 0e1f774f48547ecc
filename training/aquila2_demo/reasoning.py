"""Owns questions that join facts: lists of all that fit, comparisons, and two steps in one."""

from __future__ import annotations

from . import prompts
from .document import as_written, confusable
from .facts import Fact, ask, capital, fact, fill, spell, tidy
from .lexicon import Words
from .prose import prose
from .relations import Attribute, attributes, is_held
from .subjects import Subject, subject
from .talk import Conversation, series
from .values import akin, draw

WHO_ALL = {
    "en": {
        "job": "(Who is a {v}|Who works as a {v}|Name all who work as a {v})?",
        "lives": "(Who lives in {v}|Name everyone who lives in {v})?",
        "employer": "(Who works (at|for) {v}|Name all who work (at|for) {v})?",
        "speaks": "(Who speaks {v}|Name all who speak {v})?",
        "likes": "(Who likes {v}|Name everyone who likes {v})?",
        "pet": "(Who has a {v}|Name all who have a {v})?",
        "plays": "(Who plays the {v}|Name all who play the {v})?",
    },
    "zh": {
        "job": "(谁是{v}|谁当{v}|列出所有的{v})？",
        "lives": "(谁住在{v}|哪些人住在{v}|列出所有住在{v}的人)？",
        "employer": "(谁在{v}工作|哪些人在{v}工作)？",
        "speaks": "(谁会说{v}|哪些人会说{v})？",
        "likes": "(谁喜欢吃{v}|哪些人喜欢吃{v})？",
        "pet": "(谁养了{v}|哪些人养了{v})？",
        "plays": "(谁会{v}|哪些人会{v})？",
    },
}
SHELF = {
    "en": [
        (
            "{e} (sells|offers|has) {v}",
            "(What does {e} (sell|offer|have)|List what {e} (sells|has))?",
        ),
        ("{e} (teaches|offers courses in) {v}", "(What can one learn at {e}|What does {e} teach)?"),
        ("{e} (works|is present) in {v}", "(Where does {e} work|Name the places {e} works in)."),
        ("at {e} you can see {v}", "(What can (I|you) see at {e}|What is there to see at {e})?"),
        ("{v} (belong to|are kept in) {e}", "What (belongs to|is kept in) {e}?"),
        ("the members of {e} are {v}", "(Who are the members of {e}|Name the members of {e})."),
    ],
    "zh": [
        ("{e}(出售|提供|有){v}", "({e}(出售|提供|有)什么|列出{e}(出售|提供)的东西)？"),
        ("在{e}可以看到{v}", "(在{e}可以看到什么|{e}有什么可看)？"),
        ("{e}在{v}都有业务", "{e}在哪些地方有业务？"),
        ("{e}的成员有{v}", "({e}的成员有谁|列出{e}的成员)？"),
        ("{e}展出了{v}", "{e}展出了什么？"),
    ],
}
SHELF_KINDS = {
    "en": ["things", "field", "city", "thing", "things", "person"],
    "zh": ["things", "thing", "city", "person", "thing"],
}
COMPARE: dict[str, list[tuple[str, str, str, str]]] = {
    "en": [
        (
            "founded",
            "{n}",
            "(Which is older|Which was founded (first|earlier)), {x} or {y}?",
            "low",
        ),
        ("founded", "{n}", "(Which is younger|Which was founded later), {x} or {y}?", "high"),
        ("built", "{n}", "(Which is older|Which was built (first|earlier)), {x} or {y}?", "low"),
        ("built", "{n}", "Which was built later, {x} or {y}?", "high"),
        ("price", "{n} euros", "(Which is cheaper|Which costs less), {x} or {y}?", "low"),
        ("price", "{n} euros", "(Which is more expensive|Which costs more), {x} or {y}?", "high"),
        ("weight", "{n} kg", "(Which is heavier|Which weighs more), {x} or {y}?", "high"),
        ("weight", "{n} kg", "(Which is lighter|Which weighs less), {x} or {y}?", "low"),
        ("length", "{n} metres", "Which is longer, {x} or {y}?", "high"),
        ("length", "{n} metres", "Which is shorter, {x} or {y}?", "low"),
        ("staff", "{n}", "(Which is larger|Which has more workers), {x} or {y}?", "high"),
        ("staff", "{n}", "(Which is smaller|Which has fewer workers), {x} or {y}?", "low"),
        ("age", "{n}", "Who is older, {x} or {y}?", "high"),
        ("age", "{n}", "Who is younger, {x} or {y}?", "low"),
    ],
    "zh": [
        ("founded", "{n}年", "{x}和{y}(哪个成立更早|谁成立得早)？", "low"),
        ("founded", "{n}年", "{x}和{y}哪个成立更晚？", "high"),
        ("built", "{n}年", "{x}和{y}(哪个更古老|哪个建成更早)？", "low"),
        ("built", "{n}年", "{x}和{y}哪个建成更晚？", "high"),
        ("price", "{n}元", "{x}和{y}(哪个便宜|哪个更便宜)？", "low"),
        ("price", "{n}元", "{x}和{y}(哪个贵|哪个更贵)？", "high"),
        ("weight", "{n}公斤", "{x}和{y}(哪个重|哪个更重)？", "high"),
        ("weight", "{n}公斤", "{x}和{y}(哪个轻|哪个更轻)？", "low"),
        ("length", "{n}米", "{x}和{y}(哪个长|哪个更长)？", "high"),
        ("length", "{n}米", "{x}和{y}(哪个短|哪个更短)？", "low"),
        ("staff", "{n}人", "{x}和{y}(哪个员工少|哪家人更少)？", "low"),
        ("staff", "{n}人", "{x}和{y}(哪个员工多|哪家人更多)？", "high"),
        ("age", "{n}岁", "{x}和{y}(谁年纪大|谁更大)？", "high"),
        ("age", "{n}岁", "{x}和{y}(谁年纪小|谁更年轻)？", "low"),
    ],
}
HOPS = {
    "en": [
        ("employer", "person", "org", "(the company {e} works for|{e}'s employer)"),
        ("founder", "org", "person", "the founder of {e}"),
        ("head", "org", "person", "(the director|the head) of {e}"),
        ("architect", "place", "person", "the architect of {e}"),
        ("manager", "project", "person", "(the manager of {e}|the person who leads {e})"),
        ("spouse", "person", "person", "(the person {e} is married to|{e}'s partner)"),
        ("coach", "team", "person", "the coach of {e}"),
        ("author", "work", "person", "the author of {e}"),
        ("made_by", "item", "org", "(the maker of {e}|the company that makes {e})"),
        ("teacher", "person", "person", "{e}'s teacher"),
        ("winner", "event", "person", "the winner of {e}"),
    ],
    "zh": [
        ("employer", "person", "org", "{e}(工作的单位|所在的公司)"),
        ("founder", "org", "person", "{e}的创始人"),
        ("head", "org", "person", "{e}的负责人"),
        ("architect", "place", "person", "{e}的设计师"),
        ("manager", "project", "person", "{e}的负责人"),
        ("spouse", "person", "person", "{e}的爱人"),
        ("coach", "team", "person", "{e}的教练"),
        ("author", "work", "person", "{e}的作者"),
        ("made_by", "item", "org", "{e}的生产商"),
        ("teacher", "person", "person", "{e}的老师"),
        ("winner", "event", "person", "{e}的冠军"),
    ],
}
SECOND = {
    "person": "job lives born_in likes speaks plays phone email study age pet".split(),
    "org": "based founder founded staff makes head phone".split(),
}


def _relation(words: Words, key: str) -> Attribute:
    return next(a for a in attributes(words.lang) if a.key == key)


def _asked(words: Words, facts: list[Fact], asked: list[tuple[str, str]]) -> Conversation:
    """Writes the facts as a document and puts questions about it."""
    order = list(facts)
    if words.chance(0.6):
        words.rng.shuffle(order)
    text = prose(words, order, words.rng.choice([0.0, 0.1, 0.3]))
    asked = [(user, as_written(answer, text)) for user, answer in asked]
    words.rng.shuffle(asked)
    frame = words.rng.choice(prompts.FRAMEWORK + 4 * prompts.OWN[words.lang])
    first = frame.replace("{c}", text).replace("{q}", asked[0][0])
    return Conversation("", ((first, asked[0][1]), *asked[1:]), text)


def everyone(words: Words, count: int) -> Conversation:
    """Asks for all people who share something; the answer lists them as the text does."""
    key = words.rng.choice(sorted(WHO_ALL[words.lang]))
    relation = _relation(words, key)
    kind = relation.slots[0][1]
    pool = list[str]()
    for value in (draw(words, kind) for _ in range(3)):
        pool += [] if any(akin(value, other) for other in pool) else [value]
    facts: list[Fact] = []
    while len(facts) < max(3, count):
        who = subject(words, "person")
        if not any(who.name in f.subject.name or f.subject.name in who.name for f in facts):
            facts.append(Fact(who, relation, (("v", words.rng.choice(pool)),)))
    text = ". ".join if not words.zh else "。".join
    lines = [tidy(spell(words, words.rng.choice(_plain(relation)))) for _ in facts]
    body = text(
        capital(fill(line.replace("{e}", f.subject.name), "v", f.value("v")))
        for line, f in zip(lines, facts, strict=True)
    ) + ("。" if words.zh else ".")
    asked = []
    for value in pool:
        names = [as_written(f.subject.name, body) for f in facts if f.value("v") == value]
        if names:
            ask_all = fill(spell(words, WHO_ALL[words.lang][key]), "v", value)
            asked.append((_stop(ask_all), series(names, words.lang)))
    words.rng.shuffle(asked)
    frame = words.rng.choice(prompts.OWN[words.lang])
    first = frame.replace("{c}", body).replace("{q}", asked[0][0])
    return Conversation("", ((first, asked[0][1]), *asked[1:]), body)


def _plain(relation: Attribute) -> list[str]:
    """Lists the wordings that start with the subject, so that many of them read well."""
    says = [t for t in relation.says if not is_held(t)]
    return [t for t in says if t.startswith("{e}") and "{v}" in t] or says


def _stop(text: str) -> str:
    """Ends an order with a stop and a question with its mark."""
    if text.startswith("列出"):
        return text.rstrip("？") + "。"
    plain = text.rstrip(".?")
    if plain != text:
        return plain + ("." if plain.startswith(("Name", "List")) else "?")
    return text


def shelf(words: Words, count: int) -> Conversation:
    """Asks for a list that stands in one sentence."""
    facts, asked = list[Fact](), list[tuple[str, str]]()
    known: list[Subject] = []
    for _ in range(max(1, min(4, count // 3))):
        i = words.rng.randrange(len(SHELF[words.lang]))
        say, question = SHELF[words.lang][i]
        who = subject(words, words.rng.choice(["org", "place"]))
        if any(confusable(who, other) for other in known):
            continue
        known.append(who)
        items = {draw(words, SHELF_KINDS[words.lang][i]) for _ in range(words.rng.randint(2, 4))}
        value = series(sorted(items), words.lang)
        relation = Attribute(f"shelf{i}", who.kind, (("v", ""),), (say,), (), ())
        facts.append(Fact(who, relation, (("v", value),)))
        asked.append((_stop(spell(words, question).replace("{e}", who.name)), value))
    return _asked(words, facts, asked)


def comparing(words: Words, count: int = 2) -> Conversation:
    """Asks which of two subjects has the larger or smaller number; of many, about many pairs."""
    key, shape, question, wanted = words.rng.choice(COMPARE[words.lang])
    relation = _relation(words, key)
    known: list[str] = []
    facts: list[Fact] = []
    while len(facts) < count:
        who = subject(words, relation.subject)
        if who.anonymous or any(who.name in name or name in who.name for name in known):
            continue
        known.append(who.name)
        facts.append(fact(words, who, relation))
    top = {"founded": (1800, 2030), "built": (1500, 2030), "age": (6, 95)}.get(key, (2, 900))
    numbers = words.rng.sample(range(*top), count)
    facts = [
        Fact(f.subject, relation, (("v", shape.format(n=n)),))
        for f, n in zip(facts, numbers, strict=True)
    ]
    sizes = {f.subject.name: n for f, n in zip(facts, numbers, strict=True)}
    same = [(text, end) for other, _, text, end in COMPARE[words.lang] if other == key]
    asked = []
    for _ in range(1 if count == 2 else 2 * count):
        x, y = words.rng.sample(list(sizes), 2)
        answer = min(x, y, key=sizes.__getitem__)
        if wanted == "high":
            answer = y if answer == x else x
        asked.append((spell(words, question).replace("{x}", x).replace("{y}", y), answer))
        question, wanted = words.rng.choice(same)
    single = words.rng.choice(facts)
    asked.append((ask(words, single, "v", single.subject.name, False), single.value("v")))
    return _asked(words, facts, asked)


def two_steps(words: Words, count: int, steps: bool = False) -> Conversation:
    """Asks about someone or something that another fact names; with `steps`, for each step too."""
    key, kind, between, phrase = words.rng.choice(HOPS[words.lang])
    facts, asked, known = list[Fact](), list[tuple[str, str]](), list[Subject]()
    second = words.rng.choice(SECOND[between])
    for _ in range(max(2, count // 2)):
        first = fact(words, subject(words, kind), _relation(words, key))
        target = subject(words, between)
        pair = [first.subject, target]
        met = any(confusable(one, other) for one in pair for other in known)
        if met or confusable(first.subject, target):
            continue
        known += pair
        first = Fact(first.subject, first.attribute, (("v", target.name),))
        if words.chance(0.3):
            second = words.rng.choice(SECOND[between])
        then = fact(words, target, _relation(words, second))
        facts += [first, then]
        about = spell(words, phrase).replace("{e}", first.subject.name)
        asked.append((ask(words, then, "v", about, bare=False), then.value("v")))
    if not asked:
        return two_steps(words, count, steps)
    if steps:
        alone = [(ask(words, f, "v", f.subject.name, bare=False), f.value("v")) for f in facts]
        asked += words.rng.sample(alone, len(alone) // 2)
    return _asked(words, facts, asked if steps else asked[:4])


def reasoning(words: Words, count: int) -> Conversation:
    """Makes a talk of one of these kinds."""
    r = words.rng.random()
    if r < 0.25:
        return everyone(words, words.rng.randint(3, max(3, count)))
    if r < 0.45:
        return shelf(words, count)
    if r < 0.65:
        return comparing(words, words.rng.choice([2, 3, 4, 5]))
    return two_steps(words, min(count, 8), steps=True)
