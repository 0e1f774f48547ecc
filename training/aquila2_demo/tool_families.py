"""Owns families of made-up tools: names, arguments, descriptions, and requests that need them."""

from __future__ import annotations

from dataclasses import dataclass

# What tools are about; English for the names, Chinese for requests and descriptions.
PAIRS = [
    tuple(pair.split(":"))
    for pair in (
        "lamp:台灯 room:房间 door:门 window:窗户 order:订单 invoice:发票 ticket:车票 table:桌子 "
        "car:汽车 "
        "bike:自行车 book:图书 report:报告 meeting:会议 user:用户 customer:客户 product:商品 "
        "parcel:包裹 "
        "camera:相机 printer:打印机 server:服务器 song:歌曲 film:电影 recipe:菜谱 flight:航班 "
        "hotel:酒店 "
        "train:火车 course:课程 task:任务 note:笔记 file:文件 photo:照片 contact:联系人 "
        "account:账户 "
        "message:消息 alarm:闹钟 garden:花园 heater:暖气 pump:水泵 robot:机器人 machine:机器 "
        "shop:商店 "
        "doctor:医生 lesson:课 tree:树 boat:船 desk:书桌 phone:手机 coat:外套 shoe:鞋子 cake:蛋糕 "
        "pizza:披萨 flower:花 toy:玩具 contract:合同 project:项目 test:测试 sensor:传感器 "
        "light:电灯 "
        "fan:风扇 oven:烤箱 lock:门锁 map:地图 park:公园 museum:博物馆 team:球队 player:球员 "
        "plant:植物 "
        "chair:椅子 watch:手表 ring:戒指 bag:背包 clock:时钟 radio:收音机 gate:大门 tank:水箱 "
        "vehicle:车辆"
    ).split()
]


@dataclass(frozen=True)
class Argument:
    """A tool's argument: its name in some spellings, its JSON type and what it holds."""

    names: str
    kind: str
    value: str


@dataclass(frozen=True)
class Family:
    """Tools of one sort: verbs of their names, arguments, descriptions, requests and results."""

    verbs: str
    tail: str
    arguments: tuple[Argument, ...]
    about: dict[str, str]
    asks: dict[str, str]
    result: str


def _arg(text: str) -> Argument:
    names, kind, value = text.split(":")
    return Argument(names, kind, value)


def family(
    verbs: str, tail: str, args: str, about: tuple[str, str], asks: tuple[str, str], result: str
) -> Family:
    """Makes a family; `{n}` is the noun, `{0}` and so on the arguments."""
    found = tuple(_arg(part) for part in args.split())
    pair = ("en", "zh")
    return Family(
        verbs,
        tail,
        found,
        dict(zip(pair, about, strict=True)),
        dict(zip(pair, asks, strict=True)),
        result,
    )


FAMILIES = [
    family(
        "get|find|check|lookup",
        "_price",
        "name|model|id:string:code",
        ("(Get|Look up|Return) the price of a {n}.", "(查询|获取){n}的价格。"),
        (
            "(How much is|What is the price of) the {n} {0}(| please)?|What does the {n} {0} cost?|"
            "(I want to know|Tell me) the price of {n} {0}.",
            "({n}{0}多少钱？|查一下{n}{0}的价格。|请问{n}{0}的价格是多少？)",
        ),
        "money",
    ),
    family(
        "order|buy|purchase",
        "",
        "quantity|count|number:integer:small color|colour:string:color",
        ("(Order|Buy) {n}s.", "(订购|购买){n}。"),
        (
            "(Please order|I need|Buy me|I would like) {0} {n}s in {1}.|"
            "(Can you get|Please get) {0} {1} {n}s?",
            "(请订{0}个{1}的{n}。|我要买{0}个{1}{n}。|帮我买{0}个{n}，要{1}的。)",
        ),
        "done",
    ),
    family(
        "cancel|delete|remove",
        "",
        "id|number|{n}_id:integer:large",
        ("(Cancel|Delete|Remove) a {n}.", "(取消|删除|移除)(一个|){n}。"),
        (
            "(Please cancel|Cancel|Delete|Get rid of|Remove) {n} (number|) {0}.|"
            "I (do not need|no longer want) {n} {0}.",
            "((取消|删除|删掉)(编号为|){0}(号|的){n}。|请把{0}号{n}(取消|删掉)。)",
        ),
        "done",
    ),
    family(
        "find|search|locate",
        "s",
        "city|place|location:string:city",
        ("(Find|Search for) {n}s in a (city|place).", "(查找|搜索)某地的{n}。"),
        (
            "(Where can I find|Is there|Show me) a {n} in {0}?|(Look for|Find) {n}s in {0}.",
            "({0}哪里有{n}？|在{0}找(一个|){n}。|搜索{0}的{n}。)",
        ),
        "place",
    ),
    family(
        "set|adjust|change",
        "_level",
        "level|value|percent:number:decimal",
        ("(Set|Adjust) the level of the {n}.", "(设置|调节){n}的(档位|数值)。"),
        (
            "(Set|Turn|Change) the {n} to {0}.|(I want|Put) the {n} at {0}.",
            "(把{n}(调到|设为){0}。|{n}调成{0}。)",
        ),
        "done",
    ),
    family(
        "switch|turn|toggle",
        "",
        "on|active|enabled:boolean:switch",
        ("(Turn|Switch) the {n} on or off.", "(打开或关闭|开关){n}。"),
        (
            "(Turn|Switch) {0} the {n}.|(Please turn|Turn) the {n} {0}.",
            "({0}{n}。|请{0}{n}。|把{n}{0}。)",
        ),
        "done",
    ),
    family(
        "book|reserve",
        "",
        "date|day:string:date people|guests|persons:integer:few",
        ("(Book|Reserve) a {n}.", "预订(一个|){n}。"),
        (
            "(Book|Reserve|I need) a {n} for {1} (people|persons) on {0}.|On {0} we need a {n} for "
            "{1} people.|Get us a {n} for {1} people on {0}.",
            "((预订|订)(一个|){0}的{n}，{1}个人。|{0}我们{1}个人要(订|用)(一个|){n}。)",
        ),
        "code",
    ),
    family(
        "send|share|forward",
        "",
        "to|recipient|receiver:string:person",
        ("(Send|Share) the {n} (to|with) (a person|someone).", "把{n}发给某人。"),
        (
            "(Send|Give|Forward) the {n} to {0}.|{0} (needs|should get|wants) the {n}.",
            "(把{n}发给{0}。|{0}需要{n}。|请把{n}转给{0}。)",
        ),
        "done",
    ),
    family(
        "create|add|make|new",
        "",
        "name|title:string:phrase owner|user|for:string:person",
        ("(Create|Add) a (new|) {n}.", "(新建|创建|添加){n}。"),
        (
            "(Create|Add|Make) a {n} (called|named) ({0}|'{0}') for {1}.|{1} needs a new {n} "
            "(called|named) ({0}|'{0}').",
            "(为{1}新建(一个|)名为({0}|“{0}”)的{n}。|给{1}添加{n}({0}|“{0}”)。)",
        ),
        "done",
    ),
    family(
        "get|find|lookup",
        "_id",
        "owner|person|name:string:person",
        ("(Get|Find) the number of a person's {n}.", "(查询|查找)某人的{n}编号。"),
        (
            "(What is the number of|Which {n} number has) {0}'s {n}?|(Find|Look up) the {n} of "
            "{0}.",
            "({0}的{n}编号是多少？|查一下{0}的{n}编号。)",
        ),
        "large",
    ),
    family(
        "get|check|show",
        "_status",
        "id|number|{n}_id:integer:large",
        ("(Get|Check|Show) the (status|state) of a {n}.", "(查询|查看){n}的状态。"),
        (
            "(What is the status of|How is|What about) {n} (number|) {0}?|(Check|Show me) {n} {0}.",
            "({n}{0}(的状态|现在)怎么样？|(查看|查一下){0}号{n}(的状态|)。)",
        ),
        "state",
    ),
    family(
        "rate|review",
        "",
        "stars|rating:integer:stars name|title:string:phrase",
        ("(Rate|Review) a {n}.", "给{n}(评分|打分)。"),
        (
            "(Give|Rate) the {n} {1} {0} stars.|{0} stars for the {n} {1}.",
            "(给{n}{1}打{0}分。|{n}{1}评{0}星。)",
        ),
        "done",
    ),
    family(
        "set|choose|select",
        "_size",
        "size:enum:size",
        ("(Set|Choose) the size of the {n}.", "(设置|选择){n}的(尺寸|大小)。"),
        (
            "(I want|Choose|Take) the {0} {n}.|(Make|Set) the {n} {0}.",
            "({n}(要|选){0}。|把{n}设成{0}。)",
        ),
        "done",
    ),
    family(
        "count|list",
        "s",
        "",
        ("(Count|List) all {n}s.", "(统计|列出)所有{n}。"),
        (
            "(How many {n}s (are there|do we have)|What {n}s are there)?|(Count|List|Show) (the|"
            "all|our) {n}s.",
            "((一共|现在)有多少{n}？|(统计|列出)(所有|全部){n}。)",
        ),
        "large",
    ),
]
SIZES = {"en": ["small", "medium", "large"], "zh": ["小号", "中号", "大号"]}
ON = {"en": {"on": True, "off": False}, "zh": {"打开": True, "关闭": False, "关掉": False}}
