"""Tests of the generated talks: answers are true, splits are kept, prompts are the runtime's."""

from __future__ import annotations

import json
import random
import re
from itertools import islice

import pytest

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.message import Message
from aquila2_runtime.parts import Control
from aquila2_runtime.templates import get_template
from training.aquila2_demo import reasoning, replies, toolbox, tooltalk
from training.aquila2_demo.citing import citing
from training.aquila2_demo.corpus import EARLY, MAKERS, MIXED, conversations
from training.aquila2_demo.document import write
from training.aquila2_demo.facts import fact, put, refer, spell, state
from training.aquila2_demo.fixed_tools import FIXED
from training.aquila2_demo.following import following
from training.aquila2_demo.jsontalk import _told, jsontalk
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.measures import NOTED, Item, abilities, items, needles
from training.aquila2_demo.reading import missing, questions, reading
from training.aquila2_demo.relation_tools import ACTIONS, ENQUIRIES, look_ups
from training.aquila2_demo.relations import attributes, clash, is_held
from training.aquila2_demo.subjects import subject
from training.aquila2_demo.talk import Conversation, prompt_text, segments
from training.aquila2_demo.tool_families import FAMILIES, PAIRS
from training.aquila2_demo.tool_results import result
from training.aquila2_demo.tooltalk import call_of

LANGS = pytest.mark.parametrize("lang", ["en", "zh"])
CHINESE_REPLIES = {answer for _, answer in replies.GREETINGS["zh"]}
BLANK = re.compile(r"\{[a-z0-9]{1,2}\}")


@LANGS
def test_a_tool_for_another_thing_is_no_tool_for_it(lang: str) -> None:
    # No value drawn from this seed has a thing's word in it by chance.
    words, refused = Words(random.Random(3), lang), 0
    for _ in range(60):
        made = tooltalk.offer(words, 4)
        talk = tooltalk.calling(words, 4, 6, 0.0, made, strange=0.5)
        things = {m.noun[lang == "zh"].lower() for m in made if m.noun != tooltalk.UNNAMED}
        for user, answer in talk.turns:
            if answer == replies.NO_TOOL[lang]:
                refused += 1
                assert things
                whole = r"\b{}\b" if lang == "en" else "{}"
                # One Chinese character alone may stand in a name.
                said = [
                    t for t in things if len(t) > 1 and re.search(whole.format(t), user.lower())
                ]
                assert not said
    assert refused > 60


def test_a_thing_is_no_other_for_having_another_name_in_the_other_language() -> None:
    words, family = Words(random.Random(1), "en"), FAMILIES[0]
    made = [toolbox.make(words, family, ("message", "消息"))]
    assert not tooltalk._foreign(("message", "反历"), made)
    assert not tooltalk._foreign(("notice", "消息"), made)
    assert tooltalk._foreign(("notice", "通知"), made)


def test_talks_are_the_same_for_the_same_seed() -> None:
    once = list(islice(conversations(11, 256, early=False), 30))
    assert once == list(islice(conversations(11, 256, early=False), 30))
    assert once != list(islice(conversations(12, 256, early=False), 30))


def test_extraction_has_the_largest_share() -> None:
    reading_talks = sum(MIXED[name] for name in ("reading", "refining", "citing", "placing"))
    assert reading_talks >= 0.55 * sum(MIXED.values())
    assert set(MIXED) | set(EARLY) == set(MAKERS)


@LANGS
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_maker_fills_its_blanks(lang: str, name: str) -> None:
    words = Words(random.Random(5), lang)
    for length in (128, 256, 1024):
        for _ in range(25):
            talk = MAKERS[name](words, length)
            for text in (talk.system, *(part for turn in talk.turns for part in turn)):
                assert not BLANK.search(text.replace("{c}", ""))
            assert all(user.strip() and answer.strip() for user, answer in talk.turns)


@LANGS
def test_answers_stand_in_the_document(lang: str) -> None:
    words = Words(random.Random(7), lang)
    for _ in range(200):
        talk = reading(words, 8, 4, 0.0)
        assert talk.turns
        for _, answer in talk.turns:
            assert answer.lower() in talk.document.lower()


@LANGS
def test_what_is_refused_is_not_asked_of_the_facts(lang: str) -> None:
    words = Words(random.Random(8), lang)
    for _ in range(300):
        document = write(words, 8)
        assert missing(words, document) not in dict(questions(words, document))


@LANGS
def test_relations_state_every_slot_and_ask_for_some(lang: str) -> None:
    for relation in attributes(lang):
        slots = {name for name, _ in relation.slots}
        assert relation.asks and all(found for _, found in relation.asks), relation.key
        for says in relation.says:
            assert slots <= set(re.findall(r"\{(\w)\}", says)), (relation.key, says)
            assert "{e}" in says, (relation.key, says)
        for says in relation.bare:
            assert slots <= set(re.findall(r"\{(\w)\}", says)), (relation.key, says)
            assert "{e}" not in says, (relation.key, says)


def every_form(wording: str) -> set[str]:
    """Lists a wording's texts, its choices settled in every way."""
    choices = [part.split("|") for part in re.findall(r"\(([^()]*)\)", wording)]
    blank = re.sub(r"\([^()]*\)", "\0", wording)
    texts = {blank}
    for choice in choices:
        texts = {text.replace("\0", one, 1) for text in texts for one in choice}
    return {" ".join(text.split()).lower() for text in texts}


@LANGS
def test_a_wording_holds_its_blanks_once_however_its_choices_fall(lang: str) -> None:
    for relation in attributes(lang):
        slots = [name for name, _ in relation.slots]
        for says in relation.says:
            for text in every_form(says):
                assert all(text.count(f"{{{name}}}") == 1 for name in [*slots, "e"]), text
        for slot, asks in relation.asks:
            for wording in asks:
                assert f"{{{slot}}}" not in wording, (relation.key, wording)


@LANGS
def test_a_question_asks_for_one_slot_of_one_relation(lang: str) -> None:
    owners: dict[str, list[tuple[str, str, str]]] = {}
    for relation in attributes(lang):
        for slot, asks in relation.asks:
            for text in {text for wording in asks for text in every_form(wording)}:
                for kind, key, other in owners.setdefault(text, []):
                    alike = kind == relation.subject or "any" in (kind, relation.subject)
                    if key == relation.key:
                        assert slot == other, text
                    elif alike or "{e}" not in text:
                        assert clash(key, relation.key), text
                owners[text].append((relation.subject, relation.key, slot))


@LANGS
def test_both_splits_of_wordings_are_used_and_kept_apart(lang: str) -> None:
    relations = [a for a in attributes(lang) if any(map(is_held, a.says))]
    assert len(relations) > 30
    relation = next(a for a in relations if not all(map(is_held, a.says)))
    held = {t for t in relation.says if is_held(t)}
    for odd in (False, True):
        words = Words(random.Random(3), lang, odd=odd)
        made = fact(words, subject(words, relation.subject), relation)
        drawn = {state(words, made, made.subject.name) for _ in range(60)}
        spelled = {
            " ".join(put(refer(spell(words, t), made.subject.name, lang), made).split())
            for t in (held if odd else set(relation.says) - held)
            for _ in range(300)
        }
        assert drawn <= spelled


def test_held_out_names_are_not_trained_on() -> None:
    train, held = (Words(random.Random(1), "en", held=side) for side in (False, True))
    assert not {train.person() for _ in range(3000)} & {held.person() for _ in range(3000)}


def test_rendering_is_the_chat_format() -> None:
    talk = Conversation("Be brief.", (("Hello", "Hi."), ("Bye", "Goodbye.")))
    text = "".join(piece for piece, _ in segments(talk))
    assert text == (
        "Be brief.\n\n<|startofpiece|>Hello<|endofpiece|>Hi.</s>"
        "<|startofpiece|>Bye<|endofpiece|>Goodbye.</s>"
    )
    assert prompt_text(talk, 1) == text.removesuffix("Goodbye.</s>")


@LANGS
def test_prompts_with_tools_are_what_the_runtime_renders(lang: str) -> None:
    words = Words(random.Random(4), lang)
    for _ in range(60):
        talk = tooltalk.tooltalk(words, 256)
        messages = [Message("system", talk.system)]
        for user, answer in talk.turns:
            if found := re.match(r"Tool result \((.+)\):\n", user):
                messages.append(Message("tool", user[found.end() :], found[1]))
            else:
                messages.append(Message("user", user))
            messages.append(Message("assistant", answer))
        rendered = render_messages(messages[:-1], get_template("aquila-v1"))
        text = "".join(p.token if isinstance(p, Control) else p.text for p in rendered.parts)
        assert text == prompt_text(talk, len(talk.turns) - 1)


@LANGS
def test_calls_name_an_offered_tool_and_give_what_the_request_says(lang: str) -> None:
    words, calls = Words(random.Random(6), lang), 0
    for _ in range(80):
        talk = tooltalk.calling(words, 4, 2)
        for user, answer in talk.turns:
            call = call_of(answer)
            if call is None:
                continue
            calls += 1
            assert f"- {call['name']}(" in talk.system
            for name, value in call["arguments"].items():
                assert re.search(rf"\b{name}\??: ", talk.system)
                assert isinstance(value, bool) or str(value).lower() in user.lower()
    assert calls > 80


@LANGS
def test_a_drill_offers_many_tools_and_asks_for_several_of_them(lang: str) -> None:
    words, offered, asked = Words(random.Random(15), lang), list[int](), list[int]()
    for _ in range(60):
        talk = tooltalk.drill(words, 512)
        offered.append(len(re.findall(r"^- \w", talk.system, re.MULTILINE)))
        asked.append(sum(answer.startswith("<tool_call>") for _, answer in talk.turns))
    assert max(offered) == 8 and sum(n >= 4 for n in offered) > 30
    assert sum(n >= 3 for n in asked) > 30


@LANGS
def test_nouns_invented_for_training_are_none_of_those_kept_out(lang: str) -> None:
    kept_out = {
        part for pair in toolbox.nouns(Words(random.Random(1), lang, True)) for part in pair
    }
    words = Words(random.Random(2), lang)
    drawn = {part for _ in range(40) for pair in toolbox.nouns(words) for part in pair}
    assert len(drawn) > 500
    assert not drawn & kept_out


@LANGS
def test_tools_for_training_alone_speak_of_no_noun_that_is_kept_out(lang: str) -> None:
    held = toolbox.nouns(Words(random.Random(1), lang, True))
    kept_out = {pair[1 if lang == "zh" else 0] for pair in held}
    for family in ACTIONS + ENQUIRIES:
        text = " ".join([family.verbs, family.tail, family.about[lang], family.asks[lang]])
        text += " ".join(argument.names for argument in family.arguments)
        spoken = set(re.findall(r"[a-z]+", text.lower()))
        found = {n for n in kept_out if (n in text if lang == "zh" else {n, n + "s"} & spoken)}
        assert not found, (family.tail, found)


@LANGS
def test_an_enquiry_has_its_argument_as_the_request_says_it(lang: str) -> None:
    words = Words(random.Random(8), lang)
    for family in ENQUIRIES:
        for _ in range(20):
            made = toolbox.make(words, family, ("", ""))
            text, arguments = toolbox.request(words, made)
            assert len(arguments) == 1 and not BLANK.search(text)
            assert next(iter(arguments.values())).lower() in text.lower()


def test_a_tool_about_an_invented_noun_says_what_it_is_about() -> None:
    words = Words(random.Random(3), "zh")
    known = set(PAIRS)
    made = [m for _ in range(60) for m in tooltalk.offer(words, 6)]
    invented = [m for m in made if m.noun not in known and m.family not in FIXED]
    assert len(invented) > 50
    assert all(m.noun[1] in m.tool.description for m in invented)


@LANGS
def test_objects_have_the_properties_that_were_asked_for(lang: str) -> None:
    words = Words(random.Random(9), lang)
    for _ in range(80):
        talk = jsontalk(words, 6)
        for user, answer in talk.turns:
            body = json.loads(answer)
            for name, value in body.items():
                shown = name if name.isascii() else json.dumps(name, ensure_ascii=False)
                assert f"{shown}: " in user
                assert value is None or str(value).lower() in talk.document.lower()


@LANGS
def test_objects_are_written_as_the_text_is_and_asked_for_without_a_blank(lang: str) -> None:
    words = Words(random.Random(19), lang)
    for _ in range(300):
        talk = jsontalk(words, 6)
        for user, answer in talk.turns:
            assert not user.startswith(("Text: \n", "文本：\n"))
            for name, value in json.loads(answer).items():
                if isinstance(value, str) and not value.startswith(("the ", "a ", "an ")):
                    assert name in ("name", "名称") or value in talk.document


def test_no_property_is_null_that_a_told_relation_answers() -> None:
    for lang, name, key in (
        ("en", "date", "start date"),
        ("en", "color", "theme colour"),
        ("en", "city", "moved"),
        ("zh", "语言", "第二语言"),
        ("zh", "颜色", "主色"),
    ):
        assert _told(Words(random.Random(1), lang), name, {key})
    assert not _told(Words(random.Random(1), "en"), "date", {"score"})


@LANGS
def test_a_request_says_its_values_as_the_call_gives_them(lang: str) -> None:
    words = Words(random.Random(20), lang)
    families = [*FIXED, *ENQUIRIES, *(f for _, f in look_ups(lang))]
    for _ in range(3000):
        made = toolbox.make(words, words.rng.choice(families), words.rng.choice(PAIRS))
        text, arguments = toolbox.request(words, made)
        assert "  " not in text
        assert all(str(value) in text for value in arguments.values())


@LANGS
def test_what_a_search_may_bring_is_not_said_to_have_no_tool(lang: str) -> None:
    words, refused = Words(random.Random(21), lang), 0
    for _ in range(1500):
        talk = tooltalk.unneeded(words, 6, 256)
        known = re.search(r"- (search|query).(web|doc|arch|data)", talk.system, re.IGNORECASE)
        if talk.turns[0][1] == replies.NO_TOOL[lang] and known:
            refused += 1
            asked = talk.turns[0][0]
            assert not re.search(r"weather|How far|What is|天气|多远|多少", asked), asked
    assert refused


@LANGS
def test_a_time_that_a_tool_returns_is_the_only_one(lang: str) -> None:
    words = Words(random.Random(22), lang)
    clock = next(f for f in FIXED if f.result == "time")
    for _ in range(300):
        content, answer = result(words, toolbox.make(words, clock, PAIRS[0]))
        if content.startswith("{") and "error" not in content:
            assert list(json.loads(content).values()) == [answer]


@LANGS
def test_two_calls_of_one_tool_differ(lang: str) -> None:
    words = Words(random.Random(23), lang)
    for _ in range(300):
        for _, answer in tooltalk.many_at_once(words, 4, 3).turns:
            calls = answer.split("\n")
            assert len(set(calls)) == len(calls)


@LANGS
def test_a_source_is_the_part_that_has_the_answer(lang: str) -> None:
    words = Words(random.Random(10), lang)
    for _ in range(60):
        talk = citing(words, 9, 3)
        parts = re.split(r"\[(\d)\] ", talk.document)
        text = dict(zip(parts[1::2], parts[2::2], strict=True))
        for _, answer in talk.turns:
            if answer not in replies.UNKNOWN.values():
                value, number = re.fullmatch(r"(.+) \[(\d)\]", answer).groups()  # type: ignore[union-attr]
                assert value.lower() in text[number].lower()


def test_instructions_change_the_answers() -> None:
    words = Words(random.Random(2), "en")
    for _ in range(30):
        talk = following(words, 6, "sentence")
        for _, answer in talk.turns:
            assert answer == "I don't know." or answer.startswith("The answer is ")
        for _, answer in following(words, 6, "chinese").turns:
            assert answer == "不知道。" or answer.startswith("答案是") or answer in CHINESE_REPLIES


def named(text: str, document: str) -> str:
    """The end of a text that a document has too."""
    ends = (text[i:] for i in range(len(text)) if text[i:].lower() in document.lower())
    return next(ends).lstrip("。，；\n")


@pytest.mark.parametrize(
    ("lang", "question", "amount"),
    [
        ("en", r"(?:more expensive|costs more), (.+) or (.+)\?", r"(\d+) euros"),
        ("zh", r"(.+)和(.+?)(?:哪个贵|哪个更贵)", r"(\d+)元"),
    ],
)
def test_comparisons_name_the_right_one(lang: str, question: str, amount: str) -> None:
    words, seen = Words(random.Random(12), lang), 0
    for _ in range(400):
        talk = reasoning.comparing(words)
        user, answer = talk.turns[0]
        found, values = re.search(question, user), re.findall(amount, talk.document)
        if found and len(values) == 2:
            names = [named(text, talk.document) for text in found.groups()]
            names.sort(key=lambda name: talk.document.lower().find(name.lower()))
            prices = dict(zip(names, map(int, values), strict=True))
            assert answer == max(prices, key=lambda name: prices[name])
            seen += 1
    assert seen > 10


@LANGS
def test_measurements_give_as_many_questions_as_asked_for(lang: str) -> None:
    for name, (talk, keep) in abilities(lang).items():
        found = list(items(lang, 5, talk, keep))
        assert len(found) == 5, name
        assert not {i.accepted[0] for i in found} & NOTED


def test_a_needle_is_at_its_depth() -> None:
    first, last = (
        next(iter(needles("en", 400, depth, 1, lambda text: len(text) // 3))) for depth in (0, 1)
    )
    answer, start, end = first.accepted[0].lower(), first.prompt.lower(), last.prompt.lower()
    assert last.accepted == first.accepted
    assert start.index(answer) < 150
    assert end.index(answer) > len(end) - 300


def test_data_is_compared_by_value() -> None:
    item = Item("", ('{"a": 1, "b": "x"}',), data=True)
    assert item.right('{"b":"x","a":1}')
    assert not item.right('{"a": "1", "b": "x"}')
    call = '<tool_call>{"name": "f", "arguments": {"n": 2}}</tool_call>'
    assert Item("", (call,), data=True).right(call.replace(": ", ":"))
    assert not Item("", (call,), data=True).right(call.replace("2", "3"))
