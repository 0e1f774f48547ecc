"""Owns what surrounds facts: filler sentences, sentence openings, headings and closings."""

from __future__ import annotations

from .lexicon import Words
from .values import draw

LEADS = {
    "en": (
        "According to the notes, |From this year on, |As before, |Also, |Note that |Today |"
        "In fact, |As it turned out, |For the first time, |Many people know that |We heard that |"
        "It is well known that |At present |Since then |However, |In the end |As the mayor said, |"
        "To the surprise of many, |Meanwhile, |Later |Even so, |Of course "
    ).split("|"),
    "zh": (
        "据介绍，|目前，|此外，|请注意，|另外，|从今年起，|据了解，|其实，|最后，|同时，|不过，|"
        "当然，|"
        "大家都知道，|据悉，|如今，|后来，|今年，|经讨论，|令人意外的是，"
    ).split("|"),
}
SENTENCES = {
    "en": (
        "Please read this carefully.|We look forward to seeing you.|Everyone is welcome.|"
        "The {x} is popular with families and the {x} is never far away.|"
        "Many people ask about the {x}, so we wrote this down.|The light was left on all night.|"
        "In recent years the {x} has changed a lot.|It is best to book early.|"
        "There was some discussion about the {x}, but no decision was made.|"
        "Thanks to all who helped with the {x}.|It looks like a great deal of {x}.|"
        "Nobody knows why the {x} is so {a}.|The {a} {x} was replaced last spring.|"
        "More about the {x} can be found on the notice board.|"
        "Children under the age of {n} need an adult with them.|"
        "About {n} people asked for a {x}.|Before that, the {x} had been used for {n} years.|"
        "Mix everything well and let it rest.|The weather was fine and the {x} was full.|"
        'As you know, the {x} needs regular care.|"I did not expect that," said {p}.|'
        "{p} thanked everyone who had come.|The way there leads past a {a} {x}.|"
        "Nothing else is known about the {x}.|Much of it was lost in a fire.|"
        "The {x} and the {x} remain where they were.|Some found the {x} too {a}.|"
        "Parking is limited, so please come on foot.|It took a long time to get used to the {x}.|"
        "After the war there was little {x}.|On the way home it began to rain.|"
        "People in {c} still talk about it.|Two letters from {c} are still missing.|"
        "{p} could not come and sent a card instead.|There is a {a} {x} next to the door.|"
        "The rest was as {a} as always.|In the afternoon there was coffee and a {x}.|"
        "Opinions about the {x} differ.|Not all of it was {a}.|Little has changed since {y}.|"
        "The first try, in {y}, had failed.|Questions were answered at the end."
    ).split("|"),
    "zh": (
        "请仔细阅读以下内容。|欢迎大家前来参加。|我们期待您的到来。|{x}很受欢迎，很多人都喜欢{x}。|"
        "近年来{x}有了很大的变化。|关于{x}，大家讨论了很久，但没有决定。|感谢所有帮助过{x}的人。|"
        "建议提前预订。|到处都能看到{x}。|旧的{x}去年已经更换。|{n}岁以下的儿童需由大人陪同。|"
        "大约有{n}人询问过{x}。|在那之前，{x}已经使用了{n}年。|搅拌均匀后放置一会儿。|"
        "天气很好，{x}里人很多。|馆内请勿大声说话。|如有变化，另行通知。|"
        "大家都知道，{x}需要经常维护。|"
        "{p}感谢了所有到场的人。|“没想到会这样。”{p}说。|去那里要经过一片{x}。|有人觉得{x}太贵了。|"
        "其他情况还不清楚。|停车位有限，请步行前来。|在{c}，人们至今还在谈论这件事。|"
        "{p}没能到场，寄来了一张卡片。|"
        "门口有一个{a}{x}。|回家的路上下起了雨。|下午大家一起喝茶聊天。|对于{x}，各人看法不同。|"
        "{y}的第一次尝试失败了。|{y}以来变化不大。|最后回答了大家的提问。|这在当地并不多见。|"
        "{x}和{x}都保持原样。|请互相转告。|由于时间关系，{x}没有展开讨论。|远处能看到一片{x}。"
    ).split("|"),
}
OPENINGS = {
    "en": (
        "Notice|Dear friends,|Minutes|About us|Welcome!|News|Overview|To all|Dear {p},|Hello {p},|"
        "Report|Programme|Good to know|In brief|Summary|Press release|Letter to members|"
        "Minutes of the {x} group|History|Visitor information|Safety notice|For residents|"
        "# {x}|The {a} {x}|From the newspaper|Dear colleagues,|Hi all,|Travel tips|Weekly report"
    ).split("|"),
    "zh": (
        "通知|各位朋友：|会议纪要|简介|欢迎！|新闻|概况|各位同事：|{p}您好：|公告|温馨提示|报告|"
        "历史|参观须知|"
        "召回公告|致居民|各位家长：|尊敬的读者：|人物介绍|天气预报|# {x}|{a}{x}|本地新闻|"
        "活动安排|工作周报"
    ).split("|"),
}
CLOSINGS = {
    "en": (
        "Best regards, {p}|Yours, {p}|Kind regards|See you soon!|The team|Thank you.|{p}|"
        "All details may change.|End of the minutes.|More in the next issue."
    ).split("|"),
    "zh": (
        "特此通知。|谢谢！|{p}|此致敬礼|敬请光临。|以上内容如有变动，恕不另行通知。|祝好|（完）"
    ).split("|"),
}


def _filled(words: Words, text: str) -> str:
    makers = {"{x}": words.noun, "{a}": words.adjective, "{p}": words.person, "{c}": words.city}
    for blank, make in makers.items():
        while blank in text:
            text = text.replace(blank, make(), 1)
    text = text.replace("{n}", str(words.rng.randint(2, 400)))
    return text.replace("{y}", draw(words, "year")) if "{y}" in text else text


def sentence(words: Words, nameless: bool = False) -> str:
    """Draws a sentence that states no fact anyone asks for; `nameless`, of nobody and nothing."""
    found = SENTENCES[words.lang]
    if nameless:
        found = [text for text in found if "{x}" not in text and "{p}" not in text]
    text = _filled(words, words.rng.choice(found))
    return text[:1].upper() + text[1:]


def dress(words: Words, text: str) -> str:
    """Puts a heading before a text, a closing behind it, or both."""
    if words.chance(0.75):
        text = _filled(words, words.rng.choice(OPENINGS[words.lang])) + "\n" + text
    if words.chance(0.4):
        text += "\n" + _filled(words, words.rng.choice(CLOSINGS[words.lang]))
    return text
