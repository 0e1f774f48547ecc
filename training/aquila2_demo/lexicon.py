"""Owns the words: random names and typed values in both languages, train and held-out apart."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

from .vocabulary import ADJECTIVES_EN, ADJECTIVES_ZH, NOUNS_EN, NOUNS_ZH

SYLLABLES = (
    "ka lo mi ta re vi no ha sa be du el fa go ji le ma ni or pe ro se ti ul va we ya ze an bri "
    "cla da em fre gra hel is jo ker lin mar nor os pra ral ste tho ur vel wil xan yor zan cor "
    "dra fen gil hor im kas lum mel nev oke pol qui ras sil tor umb ves wex yel zor ber chi"
).split()
ENDINGS = "n r s l th na ra lle ck m ne ria vik son ton ert ard us in ia o ham ley ner sky".split()
FIRST = (
    "Alice Bob Carol David Emma Frank Grace Henry Irene Jack Karen Leo Maria Nina Oscar Peter "
    "Rachel Sam Tina Victor Wendy Anna Ben Clara Daniel Eva George Helen Ivan Julia Kevin Laura "
    "Mark Nora Paul Rosa Simon Tom Vera Amir Chen Diego Fatima Hiro Ines Jonas Kofi Lena Mateo "
    "Nadia Olga Priya Ravi Sofia Tariq Yuki Zara James Robert Michael Thomas Sarah Elena Marta"
).split()
LAST = (
    "Smith Jones Brown Taylor Wilson Evans Roberts Walker Wright Hall Green Baker Clark Lewis "
    "Young King Scott Adams Hill Moore Ward Cook Bell Murphy Kim Park Singh Khan Lopez Garcia "
    "Silva Rossi Weber Novak Ito Sato Meyer Stone Fox Reed Lane Wood Ford Price Gray Martin Lee"
).split()
CITY_EN = (
    "Paris London Berlin Tokyo Madrid Rome Vienna Oslo Cairo Lima Delhi Seoul Boston Chicago "
    "Denver Toronto Sydney Dublin Prague Lisbon Athens Moscow Beijing Shanghai Nairobi Geneva "
    "Milan Dallas Austin Seattle Munich Porto Kyoto Lagos Tunis Perth Hamburg Warsaw Zurich"
).split()
WORDS_EN = (
    "river table cloud paper market music garden window school engine planet winter letter bridge "
    "forest silver mirror signal island castle button ladder basket camera candle carpet circle "
    "copper desert dragon feather flower harbor helmet jacket kitchen lantern marble meadow needle "
    "ocean orange pencil pillow pocket rocket saddle shadow spider square summer temple thunder "
    "tunnel valley violet wagon whisper yellow stone light power system report number people world "
    "water house story group place point study night green small large new old quiet wooden clean "
    "early local public modern simple strong warm cold dry wet rain snow fog storm wind sun energy "
    "history science nature sport travel food bread cheese fruit shoes chairs lamps tools books "
    "toys bikes boats maps glass steel cotton wool paint coffee tea honey soap batteries pumps "
    "health safety traffic language data software training research art dance theatre film road "
    "railway airport hospital student teacher child family friend customer member visitor guest"
).split()
JOB_EN = (
    "teacher|doctor|engineer|nurse|lawyer|farmer|pilot|chef|writer|painter|singer|driver|baker|"
    "judge|designer|programmer|carpenter|librarian|dentist|gardener|photographer|translator|"
    "journalist|sailor|chemist|biologist|bus driver|music teacher|sales manager"
).split("|")
FOOD_EN = (
    "rice|noodles|soup|pizza|bread|cheese|apples|tea|coffee|fish|salad|cake|honey|pasta|eggs|"
    "fried rice|apple pie|tomato soup|black tea|chocolate"
).split("|")
ANIMAL_EN = "cat dog horse rabbit parrot turtle lizard hamster goat owl fox pony snake".split()
COLOR_EN = (
    "red blue green yellow black white purple orange pink brown grey silver gold turquoise"
).split()
WEEK_EN = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
HOURS_EN = "two three four five six seven eight nine ten eleven".split()
MONTH_EN = (
    "January February March April May June July August September October November December"
).split()
SURNAME_ZH = (
    "王李张刘陈杨黄赵周吴徐孙马朱胡郭何林高罗郑梁谢宋唐许"
    "韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢"
    "姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛"
    "闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
GIVEN_ZH = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰建"
    "国文斌志海波宇航思雨欣怡子涵浩然梓晨雪梅佳琪一诺天佑俊"
    "凯嘉博雅婷晓东春生秋月冬青山水云飞鹏程远达安康乐心悦诗"
    "语书瑶琳璇倩薇岚峰岩松柏林森立新永成正中和光辉振兴家宝世"
    "长江红星亮清风元义仁德信礼智若彤慧颖宁帆舟墨竹"
)
CITY_ZH = (
    "北京 上海 广州 深圳 天津 重庆 成都 武汉 西安 南京 杭州 "
    "苏州 长沙 郑州 青岛 大连 厦门 福州 昆明 贵阳 "
    "南宁 合肥 济南 太原 兰州 海口 沈阳 长春 南昌 无锡 "
    "宁波 珠海 东京 巴黎 伦敦 纽约 柏林 莫斯科 罗马"
).split()
WORDS_ZH = (
    "春天 河流 桌子 白云 市场 音乐 花园 窗户 学校 机器 星球 冬天 "
    "信件 大桥 森林 镜子 信号 岛屿 城堡 按钮 梯子 篮子 "
    "相机 蜡烛 地毯 沙漠 飞龙 羽毛 花朵 港口 头盔 厨房 灯笼 草地 "
    "海洋 铅笔 枕头 火箭 影子 广场 夏天 寺庙 雷声 隧道 "
    "山谷 石头 阳光 电力 系统 报告 数字 人民 世界 清水 房子 故事 "
    "小组 地方 研究 夜晚 小雨 大雪 暴雨 大风 晴天 雾 历史 "
    "科学 自然 体育 旅游 面包 水果 鞋子 椅子 台灯 工具 图书 玩具 "
    "自行车 茶叶 瓷器 玻璃 钢材 棉布 油漆 肥皂 电池 水泵 "
    "健康 安全 交通 语言 数据 软件 培训 艺术 舞蹈 戏剧 电影 铁路 "
    "机场 医院 手机 家具 环境 保护 教育 文化 节能 新能源"
).split()
JOB_ZH = (
    "老师 医生 工程师 护士 律师 农民 飞行员 厨师 作家 画家 歌手 "
    "司机 法官 设计师 程序员 记者 木匠 牙医 摄影师 翻译 "
    "园丁 会计 警察 演员 教授 图书管理员 销售经理"
).split()
FOOD_ZH = (
    "米饭 面条 饺子 包子 火锅 豆腐 苹果 西瓜 牛奶 咖啡 "
    "绿茶 蛋糕 鱼汤 烤鸭 羊肉 玉米 馒头 红烧肉 番茄炒蛋"
).split()
ANIMAL_ZH = "猫 狗 马 兔子 鹦鹉 乌龟 仓鼠 山羊 狐狸 金鱼 猴子 白鸽".split()
COLOR_ZH = "红色 蓝色 绿色 黄色 黑色 白色 紫色 橙色 粉色 棕色 灰色 银色 金色".split()
WEEK_ZH = [p + d for p in ("星期", "周") for d in "一二三四五六日"]
COMMON_ZH = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地"
    "于出就分对成会可主发年动同工也能下过子说产种面而方后多定"
    "行学法所民得经十三之进着等部度电家力里如水化高自二理起小"
    "物现实加量都两体制机当使点从业本去把性好应开它合还因由其"
    "些然前外天政四日那社义事平形相全表间样与关各重新线内数正"
    "心反你明看原又么利比或但质气第向道命此变条只没结解问意建"
    "月公无系军很情者最立代想已通并提直题党程展五果料象员革位"
    "入常文总次品式活设及管特件长求老头基资边流路级少图山统接"
    "知较将组见计别她手角期根论运农指几九区强放决西被干做必战"
    "先回则任取据处队南给色光门即保治北造百规热领七海口东导器"
    "压志世金增争济阶油思术极交受联什认六共权收证改清己美再采"
    "转更单风切打白教速花带安场身车例真务具万每目至达走积示议"
    "声报斗完类八离华名确才科张信马节话米整空元况今集温传土许"
    "步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复"
    "容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支"
    "般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写"
    "存候毛亲快效斯院查江型眼王按格养易置派层片始却专"
    "状育厂京识适属圆包火住调满县局照参红细引听该铁价严"
)
UPPER = "ABCDEFGHJKLMNPQRSTUVWXYZ"
LOWER = "abcdefghijklmnopqrstuvwxyz"


def _gb2312() -> str:
    rows = range(0xB0, 0xD8)
    raw = b"".join(bytes([h, low]) for h in rows for low in range(0xA1, 0xFF))
    return raw.decode("gb2312", "ignore")


LEVEL1_ZH = _gb2312()

# First and last letter: hiragana, katakana, Hangul, Cyrillic, accented Latin.
SCRIPTS = [("ぁ", "ん"), ("ァ", "ヶ"), ("가", "힣"), ("а", "я"), ("à", "ÿ")]
FOREIGN = 0.03


class Words:
    """Draws names and values of one language; held-out names never occur in training."""

    def __init__(
        self, rng: random.Random, lang: str, held: bool = False, odd: bool = False
    ) -> None:
        """Keeps the random source, the language and the sides of the splits of names, wordings."""
        self.rng = rng
        self.lang = lang
        self.zh = lang == "zh"
        self.held = held
        self.odd = odd

    def _split(self, make: Callable[[], str]) -> str:
        while True:
            text = make()
            if self.ours(text):
                return text

    def ours(self, text: str) -> bool:
        """Says whether a name, code or phrase is on the side of the split these draws are on."""
        return (zlib.crc32(text.encode()) % 10 == 0) == self.held

    def chance(self, p: float) -> bool:
        """Says yes with probability p."""
        return self.rng.random() < p

    def name(self) -> str:
        """Invents a Latin-letter name of two or three syllables."""
        parts = [self.rng.choice(SYLLABLES)]
        if self.chance(0.5):
            parts.append(self.rng.choice(SYLLABLES))
        return ("".join(parts) + self.rng.choice(ENDINGS)).capitalize()

    def han(self, n: int) -> str:
        """Draws n Chinese characters, mostly common ones."""
        pick = self.rng.choice
        return "".join(pick(COMMON_ZH) if self.chance(0.8) else pick(LEVEL1_ZH) for _ in range(n))

    def word(self) -> str:
        """Draws one ordinary, syllabic or random word."""
        r = self.rng.random()
        if self.zh:
            if r < 0.7:
                return self.rng.choice(WORDS_ZH if r < 0.3 else NOUNS_ZH)
            return self.han(self.rng.randint(1, 3))
        if r < 0.8:
            return self.rng.choice(WORDS_EN if r < 0.3 else NOUNS_EN)
        if r < 0.93:
            return self.name().lower()
        return "".join(self.rng.choice(LOWER) for _ in range(self.rng.randint(2, 8)))

    def noun(self) -> str:
        """Draws a common noun."""
        return self.rng.choice(NOUNS_ZH if self.zh else NOUNS_EN)

    def plural(self) -> str:
        """Draws a common noun as many of a kind."""
        if self.zh:
            return self.rng.choice(NOUNS_ZH)
        noun = self.rng.choice(NOUNS_EN)
        if noun.endswith(("man", "f", "fe", "sheep", "mouse", "tooth", "deer", "news")):
            return "books"
        if noun.endswith("y") and noun[-2] not in "aeiou":
            return noun[:-1] + "ies"
        return noun + ("es" if noun.endswith(("s", "x", "ch", "sh", "tomato", "potato")) else "s")

    def adjective(self) -> str:
        """Draws an adjective."""
        return self.rng.choice(ADJECTIVES_ZH if self.zh else ADJECTIVES_EN)

    def foreign(self) -> str:
        """Draws letters of a script the two languages do not use: only copying gets them right."""
        first, last = self.rng.choice(SCRIPTS)
        size = self.rng.randint(2, 7)
        return "".join(chr(self.rng.randint(ord(first), ord(last))) for _ in range(size))

    def phrase(self) -> str:
        """Draws a short phrase."""
        if self.chance(FOREIGN):
            return self._split(self.foreign)
        if self.zh:
            return self._split(lambda: "".join(self.word() for _ in range(self.rng.randint(1, 3))))
        return self._split(lambda: " ".join(self.word() for _ in range(self.rng.randint(1, 3))))

    def person(self) -> str:
        """Draws a person's name, sometimes with a title."""
        return self._split(self._person)

    def _person(self) -> str:
        pick = self.rng.choice
        if self.chance(FOREIGN / 2):
            return self.foreign()
        if self.zh:
            pool = GIVEN_ZH if self.chance(0.75) else COMMON_ZH + LEVEL1_ZH[:2000]
            given = "".join(pick(pool) for _ in range(2 if self.chance(0.75) else 1))
            return pick(SURNAME_ZH) + given
        first = pick(FIRST) if self.chance(0.6) else self.name()
        last = pick(LAST) if self.chance(0.4) else self.name()
        if self.chance(0.12):
            return first
        title = pick(["Dr. ", "Mr. ", "Ms. ", "Professor "]) if self.chance(0.1) else ""
        return f"{title}{first} {last}"

    def code(self) -> str:
        """Draws a pass code, model number or the like."""
        return self._split(self._code)

    def _code(self) -> str:
        pick, number = self.rng.choice, self.rng.randint
        r = self.rng.random()
        if r < 0.3:
            return "".join(pick(UPPER) for _ in range(number(1, 3))) + f"-{number(10, 9999)}"
        if r < 0.45:
            return "".join(pick(UPPER + "23456789") for _ in range(number(4, 7)))
        if r < 0.6:
            return f"{pick(UPPER)}{number(1, 999)}{pick(UPPER)}"
        if r < 0.8:
            return f"{pick(WORDS_EN)}-{pick(WORDS_EN)}-{number(1, 99)}"
        return str(number(1000, 999999))

    def number(self) -> str:
        """Draws a whole number of one to five digits."""
        top = self.rng.choice([20, 100, 1000, 100000])
        return str(self.rng.randint(2, top))

    def amount(self) -> str:
        """Draws a number that may have a decimal part, thousands mark or Chinese numerals."""
        r = self.rng.random()
        if r < 0.1:
            return f"{self.rng.randint(0, 99)}.{self.rng.randint(1, 9)}"
        if r < 0.2 and not self.zh:
            return f"{self.rng.randint(1, 999)},{self.rng.randint(0, 999):03d}"
        if r < 0.3:
            zh, en = (
                "一二两三四五六七八九十",
                "one two three four five six seven eight nine ten twelve",
            )
            return self.rng.choice(zh) if self.zh else self.rng.choice(en.split())
        return self.number()

    def unit(self, en: str, zh: str) -> str:
        """Draws an amount with one of the units listed for the language."""
        if self.zh:
            return self.amount() + self.rng.choice(zh.split())
        return self.amount() + " " + self.rng.choice(en.split("|"))

    def org(self) -> str:
        """Draws the name of a company, school or office."""
        return self._split(self._org)

    def _org(self) -> str:
        if self.chance(FOREIGN):
            return self.foreign() + self.rng.choice(["", "株式会社", " Group", "集团"])
        if self.zh:
            tail = "科技 集团 公司 银行 汽车 食品 能源 传媒 医院 大学 中学 超市 电器 研究所 出版社"
            return self.han(2) + self.rng.choice(tail.split())
        tail = (
            "Labs Tech Group Foods Motors Systems Bank Studio Energy Media University College Press"
        )
        head = self.name() if self.chance(0.6) else self.rng.choice(WORDS_EN).title()
        return f"{head} {self.rng.choice(tail.split())}"

    def city(self) -> str:
        """Draws a real or invented town."""
        if self.zh:
            real = self.chance(0.5)
            return self.rng.choice(CITY_ZH) if real else self.han(2) + self.rng.choice("市县镇州城")
        if self.chance(0.5):
            return self.rng.choice(CITY_EN)
        return self.name() + self.rng.choice(["ville", "burg", " City", "ford", "", ""])
