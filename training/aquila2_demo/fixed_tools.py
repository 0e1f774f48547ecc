"""Owns families of tools about one thing each: weather, time, sums, search, mail and the like."""

from __future__ import annotations

from .tool_families import family

FIXED = [
    family(
        "create|add|register|new",
        "=customer|=member|=company|=client|=user",
        "name|customer_name|title|full_name:string:org description|note|about|info:string:thing",
        (
            "(Create|Add|Register) a (customer|member|company) with a (name|description).",
            "(新建|添加|登记)(客户|会员|公司)。",
        ),
        (
            "(Create|Add|Register) (a customer|a member|a company|one) (named|called) ({0}|'{0}')"
            "( -|,) {1}.|({0}|'{0}') is a new (customer|member|company), {1}.",
            "(新建|添加|登记)(客户|会员|公司)({0}|“{0}”)，{1}。|请登记({0}|“{0}”)，说明：{1}。",
        ),
        "done",
    ),
    family(
        "get|check|fetch",
        "=weather",
        "city|place|location:string:city",
        ("Get the weather (in|of) a (city|place).", "(查询|获取)(城市|某地)的天气。"),
        (
            "(What is|How is) the weather in {0}(| today)?|Will it rain in {0}?|How warm is it "
            "in {0}?",
            "({0}(今天|)天气怎么样？|{0}会下雨吗？|查一下{0}的天气。)",
        ),
        "weatherthing",
    ),
    family(
        "get|show",
        "=time",
        "city|place|timezone:string:city",
        ("(Get|Show) the time in a (city|place).", "查询某地的时间。"),
        (
            "What time is it in {0}?|(Tell me|Show) the time in {0}.",
            "({0}现在几点？|{0}是什么时间？)",
        ),
        "time",
    ),
    family(
        "add|sum",
        "=numbers",
        "a|x|first:number:decimal b|y|second:number:decimal",
        ("Add two numbers.", "两个数相加。"),
        (
            "(What|How much) is {0} plus {1}?|Add {0} and {1}.",
            "({0}加{1}等于多少？|计算{0}加{1}。)",
        ),
        "large",
    ),
    family(
        "multiply",
        "=numbers",
        "a|x|first:number:decimal b|y|second:number:decimal",
        ("Multiply two numbers.", "两个数相乘。"),
        (
            "(What|How much) is {0} times {1}?|Multiply {0} by {1}.",
            "({0}乘以{1}等于多少？|计算{0}乘{1}。)",
        ),
        "large",
    ),
    family(
        "search|query",
        "=web|=documents|=archive|=database",
        "query|text|q:string:phrase",
        ("Search (the web|documents|everything) for a text.", "(搜索|查找)(网页|文档|资料)。"),
        (
            "(Search|Look) for {0}.|(Find|Show me) (something|documents) about {0}.",
            "(搜索{0}。|查找(关于|){0}的资料。|帮我搜一下{0}。)",
        ),
        "phrase",
    ),
    family(
        "translate",
        "=text",
        "text|words:string:phrase language|target|to:string:language",
        ("Translate a text.", "翻译文字。"),
        ("Translate {0} (into|to) {1}.|What is {0} in {1}?", "(把{0}翻译成{1}。|{0}用{1}怎么说？)"),
        "phrase",
    ),
    family(
        "send|write",
        "=email|=mail",
        "to|recipient|address:string:email subject|topic|about:string:phrase",
        ("Send an email.", "发送邮件。"),
        (
            "(Send an email|Write) to {0} about {1}.|(Mail|Tell) {0} about {1}.",
            "(给{0}发邮件，主题是{1}。|发邮件到{0}，主题{1}。)",
        ),
        "done",
    ),
    family(
        "set|start",
        "=timer",
        "minutes|duration:integer:small",
        ("(Set|Start) a timer.", "(设置|启动)定时器。"),
        (
            "(Set|Start) a timer for {0} minutes.|Tell me when {0} minutes are over.",
            "(定时{0}分钟。|设一个{0}分钟的(定时器|闹钟)。)",
        ),
        "done",
    ),
    family(
        "set|add|create",
        "=reminder",
        "text|task|what:string:task time|at|when:string:time",
        ("Set a reminder.", "设置提醒。"),
        (
            "Remind me to {0} at {1}.|At {1} remind me to {0}.",
            "({1}提醒我{0}。|设置提醒：{1}{0}。)",
        ),
        "done",
    ),
    family(
        "get|find|calculate",
        "=distance|=route",
        "start|from|origin:string:city end|to|destination:string:city",
        (
            "Get the (distance|route) between two (cities|places).",
            "(查询|计算)两地之间的(距离|路线)。",
        ),
        (
            "How far is it from {0} to {1}?|(Show|Find) the way from {0} to {1}.",
            "(从{0}到{1}有多远？|从{0}到{1}怎么走？)",
        ),
        "length",
    ),
    family(
        "get|lookup|find",
        "=phone_number|=phone",
        "name|person|who:string:person",
        ("(Get|Find) the phone number of a person.", "(查询|查找)某人的电话。"),
        (
            "What is (the phone number of {0}|{0}'s number)?|(Look up|Find) the number of {0}.",
            "({0}的电话是多少？|查一下{0}的电话。)",
        ),
        "phone",
    ),
    family(
        "get|find",
        "=capital|=population|=mayor",
        "city|place|name:string:city",
        ("Get data about a place.", "查询某地的资料。"),
        (
            "(Get|Look up) the data (of|about) {0}.|What do we know about {0}?",
            "(查询{0}的资料。|{0}有什么资料？)",
        ),
        "number",
    ),
]
