"""Owns word lists in both languages: nouns, adjectives, tasks, causes and other small pools."""

from __future__ import annotations

NOUNS_EN = (
    "apple archive arm artist attic autumn award baby bag ball balloon banana bank barn barrel bay "
    "beach bean bear bed bee beetle bell bench bicycle bird blanket block board body bone bottle "
    "bowl box branch brick brother brush bucket building bus butter cabin cable cafe canal card "
    "cart cave ceiling cellar chain channel chapel chapter chart chimney choir clay cliff clock "
    "coast coat coin collection college column concert copy corn corner cottage council country "
    "couple course court cow cream crew crop crossing crowd crown cup cupboard curtain customer "
    "dam daughter day deer delivery design desk diary dinner dock doctor document drawer drawing "
    "dress drum duck dust eagle ear earth east edge egg elephant engine entrance evening event "
    "exhibit eye face factory fan farm fashion father fence ferry field figure finger fire floor "
    "folder fork form fountain frame friend front fuel game gate ghost gift girl glove goal gold "
    "grain grass group guide guitar gun hall hammer hand harvest hat heart heat hedge height hill "
    "hole holiday home hook horn hotel hour ice ink insect iron jar jewel job journal juice key "
    "king knife lab label lace lady lake land lane law leaf leather lecture leg lemon letter lid "
    "line lion list lock log machine magazine man manual mask meal meat member menu message metal "
    "milk mill mine minute model month moon morning mother motor mountain mouse mouth name neck "
    "nest net news newspaper north nose notebook nurse nut oak office oil onion oven owner page "
    "pair palace pan panel park parcel part partner party passage path patient pattern pear pen "
    "pepper photo piano picture pig pine pipe plan plant plate play player plum poem poet pole "
    "pond pool port post pot potato pottery prince print prize problem product programme project "
    "queen question queue quilt radio rail ranger record region rent repair rice ring roof room "
    "root rope rose route row rule sail salt sample sand sauce scarf screen script sculpture sea "
    "seal season seat secret section seed sentence series sheep shelf shell ship shirt sign sister "
    "skin sky sleeve snail soil soldier song sound soup south spoon spring stage stair stamp star "
    "statue stem stick stool stop store story stove street string student studio sugar suit "
    "sweater "
    "switch sword tail tale tank tap tax tea team tent text thread ticket tile timber time tin "
    "title toast tomato tool tooth top town track trade trail tray treasure tree trip truck "
    "trumpet "
    "tube turn twin uncle uniform union van vase vegetable vessel victory view village vine voice "
    "volunteer wall walnut war warehouse wave way week west wheat wheel whale wife wine wing wire "
    "wolf woman word work workshop year yard zone"
).split()
ADJECTIVES_EN = (
    "ancient annual bad beautiful best better big bitter black blue bold bright broad broken brown "
    "calm careful central cheap clear clever closed common complete correct dark dear deep "
    "different double dry dull early easy electric empty exact fair false famous fast final fine "
    "first flat foreign free fresh full funny general gentle glad golden grand great green grey "
    "hard heavy hidden high hollow honest huge important inner iron kind last late lazy left light "
    "little lonely long lost loud low lucky main medium missing narrow national natural near new "
    "next northern odd open original outer painted pale patient plain pleasant polite poor popular "
    "private proud public pure quick rare raw ready red regional rich right rough round royal sad "
    "safe second secret serious short sick simple single slow smooth soft solid southern special "
    "spare square stiff straight strange striped sweet tall thick thin third tiny tired top total "
    "tough true unknown upper useful usual vast warm weak western white whole wide wild wise "
    "wooden "
    "wrong yellow young"
).split()
NOUNS_ZH = (
    "书 书架 书店 信 信封 光 冰 刀 剪刀 卡片 厂房 口袋 台阶 叶子 合同 名单 名片 商店 商品 唱片 "
    "围巾 "
    "地图 地板 垃圾桶 墙 声音 大门 天空 太阳 奖杯 奶酪 字典 宝石 实验 家庭 密码本 小屋 小岛 小河 "
    "尺子 屋顶 展品 山 山路 岩石 工厂 工地 帐篷 帽子 广播 床 底片 座位 庭院 建筑 开关 录音 影片 "
    "手套 手册 扇子 扫帚 投影仪 护照 报纸 抽屉 拖车 插座 收音机 故障 文件 文章 新闻 日历 时钟 星星 "
    "月亮 木头 村庄 果园 柜子 树 树木 校园 档案 梨 棉花 植物 楼梯 楼房 模型 橘子 毛衣 毛巾 气球 水 "
    "水果 水管 池塘 沙发 沙子 油 油画 泉水 泥土 洗衣机 活动 海报 海滩 消息 湖 灯 灯光 灯泡 火车 "
    "烟花 "
    "照片 牌子 牙刷 物品 狮子 猪 玉石 玩偶 珠宝 球 球场 琴 瓶子 田地 电梯 电线 电视 电视机 画 画册 "
    "盐 盒子 盘子 石碑 砖 种子 稻田 空调 窗帘 竹子 笔 笔记 篮球 米 粮食 糖 纪念品 纸 线路 绳子 "
    "缝纫机 "
    "罐子 羊 肉 背包 胶卷 胶水 脚印 船 花 花瓶 茶杯 草 草原 药 菜 菜单 蔬菜 蜂蜜 衣服 衬衫 被子 "
    "裙子 "
    "西装 访客 词典 试卷 详细资料 课本 课桌 谷仓 货物 货车 贝壳 账本 足球 路灯 路线 车票 车轮 轮船 "
    "邮票 邮箱 酒 钉子 钟 钢琴 钥匙 铃 铁门 铜像 锁 锅 门 闹钟 阀门 阳台 雕像 雨伞 青铜器 面粉 "
    "鞋 音响 "
    "项链 顾客 风 飞机 食堂 餐桌 香蕉 马车 鱼 鸟 鸡蛋 鼓"
).split()
ADJECTIVES_ZH = (
    "古老的 巨大的 小 大 新 旧 漂亮的 破旧的 安静的 明亮的 红色的 蓝色的 绿色的 白色的 黑色的 "
    "木制 金属 彩色 传统 现代 普通 特殊 重要的 干净的 有名的 免费的 便宜的 昂贵的 "
    "手工 民间 电动 家用 儿童 进口 国产 二手 珍贵的 失踪的 完整的 地方 公共"
).split()
FIELDS = {
    "en": (
        "law|medicine|history|physics|chemistry|biology|music|economics|geography|mathematics|"
        "philosophy|engineering|botany|painting|dance|architecture|astronomy|journalism|farming|"
        "education|design|nursing|theatre|computer science|political science|art history"
    ).split("|"),
    "zh": (
        "法律 医学 历史 物理 化学 生物 音乐 经济 地理 数学 哲学 机械 植物学 绘画 舞蹈 建筑 天文 "
        "新闻 农学 "
        "教育 设计 护理 戏剧 计算机 政治 艺术史 土木工程 外语 中文 会计"
    ).split(),
}
LANGUAGES = {
    "en": "English French German Spanish Chinese Japanese Korean Russian Arabic Italian Greek "
    "Turkish Polish Dutch Hindi Swedish Danish Czech".split(),
    "zh": (
        "英语 法语 德语 西班牙语 日语 韩语 俄语 阿拉伯语 意大利语 粤语 普通话 藏语 上海话"
    ).split(),
}
INSTRUMENTS = {
    "en": "piano violin guitar flute cello drums trumpet harp organ clarinet accordion".split(),
    "zh": "弹钢琴 拉小提琴 弹吉他 吹笛子 打鼓 拉二胡 弹古筝 吹小号 拉大提琴".split(),
}
HOBBIES = {
    "en": (
        "swimming|fishing|hiking|reading|painting|cycling|sailing|knitting|climbing|gardening|"
        "playing chess|taking photos|cooking|dancing|running|singing in a choir|collecting stamps|"
        "watching birds|riding horses|repairing old radios"
    ).split("|"),
    "zh": (
        "游泳 钓鱼 爬山 读书 画画 骑车 划船 织毛衣 下棋 拍照 做饭 跳舞 跑步 唱歌 集邮 观鸟 骑马 "
        "修收音机"
    ).split(),
}
MATERIALS = {
    "en": (
        "wood|oak|steel|glass|cotton|wool|leather|brass|copper|paper|stone|marble|plastic|clay|"
        "iron|silk|bamboo|concrete|pine wood|red brick"
    ).split("|"),
    "zh": (
        "木头 橡木 钢 玻璃 棉布 羊毛 皮革 黄铜 铜 纸 石头 大理石 塑料 陶土 铁 丝绸 竹子 混凝土 红砖"
    ).split(),
}
GROUPS = {
    "en": (
        "children|students|pensioners|members|families|school classes|groups of ten|teachers|"
        "visitors with a museum card|children under six|children under twelve|residents|"
        "people over 65|guests of the hotel|volunteers|soldiers"
    ).split("|"),
    "zh": (
        "儿童 学生 老人 会员 家庭 团体 教师 持卡人 六岁以下儿童 身高一米二以下的儿童 本市居民 "
        "六十五岁以上老人 酒店客人 志愿者 军人 残疾人"
    ).split(),
}
CAUSES = {
    "en": (
        "heavy rain|heavy snow|strong wind|a storm|a flood|a fire|a strike|a power cut|"
        "a lack of staff|a lack of money|a burst pipe|illness|fog|ice on the road|high water|"
        "repair work|building work|a gas leak|an accident|a tree on the line|"
        "work on the {x}|a broken {x}|problems with the {x}|a fault in the {x}|damage to the {x}|"
        "the illness of {p}"
    ).split("|"),
    "zh": (
        "大雨 大雪 大风 台风 洪水 火灾 停电 人手不足 资金不足 水管破裂 大雾 路面结冰 设备检修 "
        "道路施工 "
        "燃气泄漏 交通事故 {x}维修 {x}损坏 {x}出现故障 {x}施工 {p}生病"
    ).split(),
}
DEFECTS = {
    "en": (
        "a loose {x}|a faulty {x}|a cracked {x}|a sharp {x}|an overheating {x}|a leak in the {x}|"
        "a weak {x}|a missing {x}|a fault in the {x}|rust on the {x}|a wrong label|"
        "a battery that may catch fire|a handle that may break|a wheel that comes off"
    ).split("|"),
    "zh": (
        "{x}松动 {x}破裂 {x}过热 {x}漏水 {x}生锈 {x}脱落 {x}缺失 标签错误 电池可能起火 "
        "把手容易断裂 "
        "{x}质量不合格 {x}存在隐患"
    ).split(),
}
WEATHER = {
    "en": (
        "rain|snow|fog|sunshine|thunder|hail|clouds|showers|strong wind|heavy rain|light snow|"
        "a storm|thick fog|sunny spells|frost|a warm wind|drizzle|clear skies|sleet|high waves"
    ).split("|"),
    "zh": (
        "小雨 中雨 大雨 暴雨 小雪 大雪 大雾 晴天 雷阵雨 冰雹 多云 阵雨 大风 霜冻 沙尘 阴天 雨夹雪 "
        "高温"
    ).split(),
}
TASKS = {
    "en": (
        "call {p}|write to {o}|buy {n} {xs}|write the report|paint the {x}|check the {x} {x}|"
        "order a new {x}|repair the {x}|clean the {x}|send the {x} to {p}|close the {x}|"
        "find a new {x}|prepare the {x}|visit {c}|book a {x} in {c}|translate the {x}|"
        "close the {x} {x}|ask {p} for the {x}|sell the {a} {x}|plant {n} {xs}|test the {x}|"
        "update the {x} list|print {n} {xs}|measure the {x}|replace the {a} {x}|hire a {x} {x}|"
        "build a {a} {x}|raise the price of the {x}|collect the {xs}|thank {p}"
    ).split("|"),
    "zh": (
        "联系{p} 给{o}写信 购买{n}个{x} 写报告 粉刷{x} 检查{x} 订购新的{x} 修理{x} 打扫{x} "
        "把{x}交给{p} "
        "关闭{x} 寻找新的{x} 准备{x} 去{c}出差 在{c}预订{x} 翻译{x} 卖掉{a}{x} 种{n}棵{x} "
        "测试{x} 更新{x}名单 "
        "打印{n}份{x} 测量{x} 更换{x} 招聘{j} 建一座{x} 提高{x}的价格 收集{x} 感谢{p} 安装{x} "
        "整理{x}"
    ).split(),
}
FLOORS = {
    "en": (
        "the ground floor|the first floor|the second floor|the third floor|the fourth floor|"
        "the top floor|the upper floor|level 2|level 3|level 5|floor 4|floor 6|the basement"
    ).split("|"),
    "zh": "一楼 二楼 三楼 四楼 五楼 六楼 顶楼 地下一层 地下二层 3层 5层 8楼 十二楼".split(),
}
ANIMALS_EN = "dog cat horse spider snake bear rat bird bee shark owl lizard".split()
VEHICLES = {
    "en": "train bus car plane ferry bike taxi tram".split(),
    "zh": "火车 汽车 飞机 轮船 高铁 出租车 地铁 大巴".split(),
}
FORBIDDEN = {
    "en": "dogs|bicycles|cameras|large bags|umbrellas|drinks|balls|phones|skateboards|pets".split(
        "|"
    ),
    "zh": "宠物 自行车 相机 大包 雨伞 饮料 食物 手机 打火机 玻璃瓶".split(),
}
