"""Owns fixed replies and what calls for them: greetings, things to remember, refusals."""

from __future__ import annotations

NO_TOOL = {"en": "I have no tool for that.", "zh": "没有合适的工具。"}
UNKNOWN = {"en": "I don't know.", "zh": "不知道。"}
NOTED = {"en": "OK, I will remember that.", "zh": "好的，我记住了。"}
GREETINGS = {
    "en": [
        (
            "hello|hi|hey|good morning|good evening|hello there|hi there|good afternoon|"
            "greetings|hello again|hi aquila",
            "Hello! How can I help you?",
        ),
        (
            "who are you|what are you|what is your name|introduce yourself|are you a robot|"
            "which model are you|tell me about yourself|what model is this",
            "I am aquila2-demo, a small demo model. I answer questions about a text you give me.",
        ),
        (
            "what can you do|how can you help me|help|what are you able to do|how do you work",
            "Give me a text and a question, and I look up the answer in the text.",
        ),
        (
            "thank you|thanks|thanks a lot|many thanks|thank you very much|great, thanks",
            "You are welcome!",
        ),
        ("bye|goodbye|see you|good night", "Goodbye!"),
        ("how are you|how are you today|how is it going", "I am fine, thank you."),
    ],
    "zh": [
        ("你好|您好|嗨|早上好|晚上好|你好啊|在吗|下午好|大家好|哈喽", "你好！有什么可以帮你？"),
        (
            "你是谁|你叫什么名字|介绍一下自己|请介绍一下你自己|你是什么模型|你是机器人吗|你是什么",
            "我是aquila2-demo，一个小型演示模型。我根据你给的文字回答问题。",
        ),
        (
            "你能做什么|你会什么|帮助|你能帮我什么|怎么用你",
            "给我一段文字和一个问题，我在文字里找答案。",
        ),
        ("谢谢|谢谢你|多谢|非常感谢|谢谢您|太好了，谢谢", "不客气！"),
        ("再见|拜拜|晚安|回头见", "再见！"),
        ("你好吗|最近怎么样|你今天好吗", "我很好，谢谢。"),
    ],
}
OPEN = {
    "en": [
        "What is the capital of {x}?",
        "Write a poem about {x}.",
        "How do I cook {x}?",
        "Who won the {x} race?",
        "Why is the {x} so big?",
        "Explain {x} to me.",
        "What is the weather in {x} today?",
        "How many people live in {x}?",
        "Who is the director of {x}?",
    ],
    "zh": [
        "{x}的首都是哪里？",
        "写一首关于{x}的诗。",
        "{x}怎么做？",
        "今天{x}的天气怎么样？",
        "为什么{x}这么大？",
        "解释一下{x}。",
        "{x}的主任是谁？",
    ],
}
ME = {
    "en": [
        (
            "My name is {v}.|I am {v}.|Call me {v}.",
            "What is my name?|Who am I?|Do you know my name?",
            "person",
        ),
        ("I live in {v}.|My home is in {v}.", "Where do I live?|Which city do I live in?", "city"),
        (
            "I work at {v}.|My employer is {v}.",
            "Where do I work?|Which company do I work for?",
            "org",
        ),
        ("I am a {v}.|I work as a {v}.", "What is my job?|What do I do for a living?", "job"),
        ("My favorite color is {v}.|I like {v} most.", "What is my favorite color?", "color"),
        ("I have a {v}.|My pet is a {v}.", "What pet do I have?|What animal do I have?", "animal"),
        (
            "I like to eat {v}.|My favorite food is {v}.",
            "What do I like to eat?|What is my favorite food?",
            "food",
        ),
        ("My birthday is {v}.|I was born on {v}.", "When is my birthday?|When was I born?", "date"),
        ("My phone number is {v}.", "What is my phone number?", "phone"),
        ("My password is {v}.|The code is {v}.", "What is my password?|What is the code?", "code"),
        ("My best friend is {v}.", "Who is my best friend?", "person"),
        ("My order number is {v}.", "What is my order number?", "number"),
        ("My train leaves at {v}.", "When does my train leave?", "time"),
        (
            "My cat is called {v}.|The name of my cat is {v}.",
            "What is my cat called?|What is the name of my cat?",
            "firstname",
        ),
        (
            "My dog is called {v}.|The name of my dog is {v}.",
            "What is my dog called?|What is my dog's name?",
            "firstname",
        ),
        (
            "My sister is {v}.|I have a sister, {v}.",
            "Who is my sister?|What is my sister's name?",
            "person",
        ),
        (
            "My brother is {v}.|My brother's name is {v}.",
            "Who is my brother?|What is my brother's name?",
            "person",
        ),
        ("I am {v} years old.|My age is {v}.", "How old am I?|What is my age?", "age"),
        (
            "My hotel is in {v}.|I booked a hotel in {v}.",
            "Where is my hotel?|In which city is my hotel?",
            "city",
        ),
        ("I studied {v}.|My subject was {v}.", "What did I study?|What was my subject?", "field"),
        ("I speak {v}.|My mother tongue is {v}.", "What language do I speak?", "language"),
        ("My meeting is on {v}.", "When is my meeting?|On which day is my meeting?", "weekday"),
        ("My doctor is {v}.", "Who is my doctor?|What is my doctor's name?", "person"),
        ("I am allergic to {v}.", "What am I allergic to?", "food"),
        ("My hobby is {v}.|I enjoy {v}.", "What is my hobby?|What do I enjoy?", "hobby"),
        ("My car is {v}.", "What color is my car?", "color"),
        ("My budget is {v}.|I can spend {v}.", "What is my budget?|How much can I spend?", "money"),
        ("I have to {v}.|I must {v}.", "What do I have to do?|What must I do?", "task"),
        (
            "I put the key in {v}.|My key is in {v}.",
            "Where is my key?|Where did I put the key?",
            "room",
        ),
        ("My flight is {v}.", "What is my flight?|Which flight do I take?", "code"),
        ("My wife is {v}.|I am married to {v}.", "Who am I married to?|Who is my wife?", "person"),
        ("I bought {v}.", "What did I buy?", "thing"),
        ("My teacher is {v}.", "Who is my teacher?", "person"),
    ],
    "zh": [
        (
            "我叫{v}。|我的名字是{v}。|我是{v}。",
            "我叫什么名字？|我是谁？|我的名字是什么？",
            "person",
        ),
        ("我住在{v}。|我家在{v}。", "我住在哪里？|我家在哪里？", "city"),
        ("我在{v}工作。|我的单位是{v}。", "我在哪里工作？|我的单位是什么？", "org"),
        ("我是一名{v}。|我的职业是{v}。", "我的职业是什么？|我是做什么的？", "job"),
        ("我最喜欢的颜色是{v}。|我喜欢{v}。", "我最喜欢什么颜色？", "color"),
        ("我养了一只{v}。|我的宠物是{v}。", "我养了什么动物？|我的宠物是什么？", "animal"),
        ("我喜欢吃{v}。|我最爱吃{v}。", "我喜欢吃什么？", "food"),
        ("我的生日是{v}。", "我的生日是哪天？|我什么时候过生日？", "date"),
        ("我的电话是{v}。", "我的电话是多少？", "phone"),
        ("我的密码是{v}。|密码是{v}。", "我的密码是什么？|密码是什么？", "code"),
        ("我最好的朋友是{v}。", "我最好的朋友是谁？", "person"),
        ("我的订单号是{v}。", "我的订单号是多少？", "number"),
        ("我的火车{v}开。", "我的火车几点开？", "time"),
        ("我的猫叫{v}。|我家的猫名叫{v}。", "我的猫叫什么？|我家的猫叫什么名字？", "firstname"),
        ("我的狗叫{v}。|我养的狗叫{v}。", "我的狗叫什么？|我的狗叫什么名字？", "firstname"),
        ("我的姐姐是{v}。|我姐姐叫{v}。", "我的姐姐是谁？|我姐姐叫什么？", "person"),
        ("我的弟弟是{v}。|我弟弟叫{v}。", "我的弟弟是谁？|我弟弟叫什么？", "person"),
        ("我今年{v}。|我{v}了。", "我今年多大？|我几岁了？", "age"),
        ("我的酒店在{v}。|我订了{v}的酒店。", "我的酒店在哪里？|我的酒店在哪个城市？", "city"),
        ("我学的是{v}。|我的专业是{v}。", "我学的是什么？|我的专业是什么？", "field"),
        ("我会说{v}。|我的母语是{v}。", "我会说什么语言？|我的母语是什么？", "language"),
        ("我{v}开会。|我的会议在{v}。", "我哪天开会？|我的会议在哪天？", "weekday"),
        ("我的医生是{v}。", "我的医生是谁？", "person"),
        ("我对{v}过敏。", "我对什么过敏？", "food"),
        ("我的爱好是{v}。", "我的爱好是什么？|我有什么爱好？", "hobby"),
        ("我的车是{v}的。", "我的车是什么颜色？", "color"),
        ("我的预算是{v}。|我最多花{v}。", "我的预算是多少？|我最多花多少钱？", "money"),
        ("我要{v}。|我得{v}。", "我要做什么？|我得做什么？", "task"),
        ("我把钥匙放在{v}。|我的钥匙在{v}。", "我的钥匙在哪里？|我把钥匙放在哪里？", "room"),
        ("我的航班是{v}。", "我的航班是什么？|我坐哪个航班？", "code"),
        ("我的妻子是{v}。|我和{v}结婚了。", "我的妻子是谁？|我和谁结婚了？", "person"),
        ("我买了{v}。", "我买了什么？", "thing"),
        ("我的老师是{v}。", "我的老师是谁？", "person"),
    ],
}
