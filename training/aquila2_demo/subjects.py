"""Owns subjects: people, places and things that facts are about, and the ways to refer to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .lexicon import UPPER, WORDS_EN, WORDS_ZH, Words
from .values import draw

KINDS = (
    "person person person org org place place place event event item item project vehicle "
    "weather dish work team nature"
).split()
NOUNS = {
    "en": {
        "org": "company firm organisation business group".split(),
        "place": (
            "museum library park hotel gallery theatre pool castle school bridge tower station zoo "
            "restaurant hospital garden shop market stadium church cinema cafe bakery gym clinic "
            "farm mill lighthouse harbour airport sauna archive palace ballroom playground"
        ).split(),
        "event": (
            "meeting workshop concert conference course exam party lecture festival ceremony race "
            "exhibition lesson interview visit tour fair wedding contest seminar rehearsal auction "
            "excursion tournament training"
        ).split(),
        "item": (
            "lamp phone printer camera bike chair server router vacuum kettle watch laptop car "
            "boat network door robot heater speaker toaster stroller oven drill ladder clock safe "
            "projector helmet fridge tent scooter sofa lock elevator crane pump"
        ).split(),
        "project": "project study plan programme campaign survey initiative scheme".split(),
        "vehicle": "train bus ferry flight tram shuttle coach boat".split(),
        "dish": "cake soup pie bread salad stew pudding curry omelette sauce casserole".split(),
        "work": "novel painting film song poem statue play opera map photograph report".split(),
        "team": "team club".split(),
        "nature": "river mountain lake island valley forest cave glacier".split(),
    },
    "zh": {
        "org": "公司 单位 机构 企业 集团".split(),
        "place": (
            "博物馆 图书馆 公园 酒店 美术馆 剧院 游泳馆 学校 大桥 车站 动物园 餐厅 医院 商店 "
            "体育馆 "
            "电影院 咖啡馆 面包店 健身房 诊所 农场 灯塔 机场 档案馆 食堂 书店 寺庙 菜市场"
        ).split(),
        "event": (
            "会议 讲座 音乐会 大会 课程 考试 晚会 比赛 展览 面试 培训 活动 研讨会 婚礼 拍卖会 "
            "开幕式 "
            "运动会 家长会 排练 庙会"
        ).split(),
        "item": (
            "台灯 手机 打印机 相机 自行车 服务器 路由器 手表 电脑 汽车 机器人 网络 音箱 水壶 "
            "门锁 烤箱 "
            "投影仪 冰箱 空调 电梯 婴儿车 洗衣机 水泵 沙发 保险柜 电钻"
        ).split(),
        "project": "项目 计划 课题 工程 方案 行动".split(),
        "vehicle": "列车 公交车 渡轮 航班 班车 动车 大巴".split(),
        "dish": "蛋糕 汤 面包 饺子 沙拉 炖肉 馅饼 面条 炒饭 布丁".split(),
        "work": "小说 油画 电影 歌曲 诗集 雕塑 话剧 歌剧 地图 散文".split(),
        "team": "球队 俱乐部".split(),
        "nature": "河 山 湖 岛 山谷 森林 洞 冰川".split(),
    },
}


@dataclass(frozen=True)
class Subject:
    """Someone or something that facts are about; `short` is its noun once introduced."""

    kind: str
    name: str
    short: str
    pronoun: str

    @property
    def anonymous(self) -> bool:
        """Says whether the noun is all the name there is ("the library")."""
        return self.name == self.short


def subject(words: Words, kind: str) -> Subject:
    """Invents a subject of the kind."""
    pick = words.rng.choice
    if kind == "person":
        he = pick(["他", "她"]) if words.zh else pick(["he", "she"])
        return Subject(kind, words.person(), "", he)
    it = "它" if words.zh else "it"
    if kind == "weather":
        return Subject(kind, words.city(), "", it)
    noun = pick(NOUNS[words.lang][kind])
    if kind == "org":
        return Subject(kind, words.org(), ("该" if words.zh else "the ") + noun, it)
    if kind == "team":
        return Subject(kind, draw(words, "team2"), ("该" if words.zh else "the ") + noun, it)
    if kind in ("place", "event", "item", "project", "vehicle", "dish") and words.chance(0.22):
        alone = pick(["", "", "本", "该", "新"]) + noun if words.zh else "the " + noun
        return Subject(kind, alone, alone, it)
    if kind == "work":
        return _work(words, noun, it)
    return _chinese(words, kind, noun, it) if words.zh else _english(words, kind, noun, it)


def alike(words: Words, who: Subject) -> Subject:
    """Invents a subject whose name shares a part with the given one, where names allow it."""
    other = subject(words, who.kind)
    if who.kind != "person" or (not words.zh and not (" " in who.name and " " in other.name)):
        return other
    if words.zh:
        names = [who.name[0] + other.name[1:], other.name[0] + who.name[1:]]
    else:
        first, last = who.name.rsplit(" ", 1)
        mine = other.name.rsplit(" ", 1)
        names = [f"{first} {mine[1]}", f"{mine[0]} {last}"]
    name = words.rng.choice(names)
    return replace(other, name=name) if words.held or words.ours(name) else other


def _work(words: Words, noun: str, it: str) -> Subject:
    title = draw(words, "title")
    if words.zh:
        name = f"《{title}》" if words.chance(0.6) else f"{noun}《{title}》"
        return Subject("work", name, words.rng.choice(["这部", "该", "这件"]) + noun, it)
    name = f'"{title}"' if words.chance(0.5) else f'the {noun} "{title}"'
    return Subject("work", name, f"the {noun}", it)


def _chinese(words: Words, kind: str, noun: str, it: str) -> Subject:
    pick, r = words.rng.choice, words.rng.random()
    head = pick(WORDS_ZH) if r < 0.3 else words.han(2)
    if r > 0.85:
        head = words.city()
    if kind == "vehicle" and r < 0.5:
        head = f"{pick(UPPER)}{words.rng.randint(1, 999)}次"
    if kind == "item" and r > 0.7:
        head += pick(["A", "X", "Pro", "M"]) + str(words.rng.randint(1, 99))
    if kind == "project" and r > 0.7:
        head = f"“{head}”"
    return Subject(kind, head + noun, pick(["该", "这个", "本", ""]) + noun, it)


def _english(words: Words, kind: str, noun: str, it: str) -> Subject:
    pick, r = words.rng.choice, words.rng.random()
    if kind == "vehicle" and r < 0.6:
        return Subject(kind, f"{noun} {words.rng.randint(1, 999)}", f"the {noun}", it)
    head = words.name() if r < 0.4 else pick(WORDS_EN) if r < 0.7 else words.noun()
    if kind == "nature":
        named = f"Mount {words.name()}" if noun == "mountain" else f"the {words.name()} {noun}"
        return Subject(kind, named, f"the {noun}", it)
    if kind == "item" and r > 0.7:
        head = f"{words.name()} {pick(UPPER)}{words.rng.randint(1, 99)}"
    if kind == "project" and r < 0.3:
        return Subject(kind, "Project " + head.title(), "the project", it)
    if kind == "place" and words.chance(0.6):
        return Subject(kind, f"the {head.title()} {noun.title()}", f"the {noun}", it)
    if kind == "dish" and words.chance(0.3):
        head = words.plural()[:-1]
    return Subject(kind, f"the {head} {noun}", f"the {noun}", it)
