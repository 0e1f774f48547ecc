"""Owns the wordings around documents and questions: framework defaults, own ones, fixed replies."""

from __future__ import annotations

LANGCHAIN_STUFF = (
    "Use the following pieces of context to answer the question at the end. If you don't know the "
    "answer, just say that you don't know, don't try to make up an answer.\n\n{c}\n\n"
    "Question: {q}\nHelpful Answer:"
)
LANGCHAIN_HUB = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
    "context to answer the question. If you don't know the answer, just say that you don't know. "
    "Use three sentences maximum and keep the answer concise.\n"
    "Question: {q} \nContext: {c} \nAnswer:"
)
LLAMAINDEX_QA = (
    "Context information is below.\n---------------------\n{c}\n---------------------\n"
    "Given the context information and not prior knowledge, answer the query.\nQuery: {q}\nAnswer: "
)
LLAMAINDEX_SYSTEM = (
    "You are an expert Q&A system that is trusted around the world.\n"
    "Always answer the query using the provided context information, and not prior knowledge.\n"
    "Some rules to follow:\n1. Never directly reference the given context in your answer.\n"
    "2. Avoid statements like 'Based on the context, ...' or 'The context information ...' "
    "or anything along those lines."
)
CHAT_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
FRAMEWORK = [LANGCHAIN_STUFF, LANGCHAIN_HUB, LLAMAINDEX_QA]
OWN = {
    "en": [
        "{c}\n\n{q}",
        "{c}\n\nQuestion: {q}",
        "{c}\n{q}",
        "Context: {c}\nQuestion: {q}",
        "Context:\n{c}\n\nQuestion: {q}\nAnswer:",
        "Question: {q}\nContext: {c}\nAnswer:",
        "{q}\n\n{c}",
        "Read the text and answer the question.\n\n{c}\n\nQuestion: {q}",
        "Answer from the document only.\nDocument:\n{c}\nQuestion: {q}",
        "Please answer the question using the notes below.\n{c}\n\n{q}",
        "Text: {c}\n\nAnswer briefly: {q}",
        "Here is a page:\n\n{c}\n\n{q}",
        "Based on the passage, {q}\n\nPassage:\n{c}",
    ],
    "zh": [
        "{c}\n\n{q}",
        "{c}\n\n问题：{q}",
        "{c}\n{q}",
        "资料：{c}\n问题：{q}",
        "已知信息：\n{c}\n\n根据上述已知信息，简洁和专业地回答用户的问题。如果无法得到答案，请说不知道。问题是：{q}",
        "问题：{q}\n资料：{c}\n回答：",
        "{q}\n\n{c}",
        "请根据下面的内容回答问题。\n\n{c}\n\n问题：{q}\n回答：",
        "阅读文章，回答问题。\n文章：{c}\n问题：{q}",
        "以下是参考资料：\n{c}\n\n请回答：{q}",
        "请只根据文档回答。\n文档：\n{c}\n\n{q}",
        "根据材料回答：{q}\n\n材料：\n{c}",
    ],
}
UNKNOWN = {"en": "I don't know.", "zh": "不知道。"}
NOTED = {"en": "OK, I will remember that.", "zh": "好的，我记住了。"}
GREETINGS = {
    "en": [
        (
            "hello|hi|hey|good morning|good evening|hello there|hi there",
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
        ("thank you|thanks|thanks a lot|many thanks", "You are welcome!"),
        ("bye|goodbye|see you|good night", "Goodbye!"),
        ("how are you|how are you today|how is it going", "I am fine, thank you."),
    ],
    "zh": [
        ("你好|您好|嗨|早上好|晚上好|你好啊|在吗", "你好！有什么可以帮你？"),
        (
            "你是谁|你叫什么名字|介绍一下自己|请介绍一下你自己|你是什么模型|你是机器人吗|你是什么",
            "我是aquila2-demo，一个小型演示模型。我根据你给的文字回答问题。",
        ),
        (
            "你能做什么|你会什么|帮助|你能帮我什么|怎么用你",
            "给我一段文字和一个问题，我在文字里找答案。",
        ),
        ("谢谢|谢谢你|多谢|非常感谢", "不客气！"),
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
FILLER = {
    "en": [
        "Please read this carefully.",
        "We look forward to seeing you.",
        "Everyone is welcome.",
        "The {x} is popular with families and the {x} is never far away.",
        "Many people ask about the {x}, so we wrote this down.",
        "Dogs are not allowed inside.",
        "In recent years the {x} has changed a lot.",
        "There was some discussion about the {x}, but no decision was made.",
        "Thanks to all who helped with the {x}.",
        "It is best to book early.",
        "Bring warm clothes and a little {x}.",
        "Nobody knows why the {x} is so {x}.",
        "More about the {x} can be found on the notice board.",
        "The old {x} was replaced last spring.",
        "Children under the age of {n} need an adult with them.",
        "About {n} people asked for a {x}.",
        "Before that, the {x} had been used for {n} years.",
        "Mix everything well and let it rest.",
        "The weather was fine and the {x} was full.",
        "As you know, the {x} needs regular care.",
    ],
    "zh": [
        "请仔细阅读以下内容。",
        "欢迎大家前来参加。",
        "我们期待您的到来。",
        "{x}很受欢迎，很多人都喜欢{x}。",
        "近年来{x}有了很大的变化。",
        "关于{x}，大家讨论了很久，但没有决定。",
        "感谢所有帮助过{x}的人。",
        "建议提前预订。",
        "请带好{x}。",
        "旧的{x}去年已经更换。",
        "{n}岁以下的儿童需由大人陪同。",
        "大约有{n}人询问过{x}。",
        "在那之前，{x}已经使用了{n}年。",
        "搅拌均匀后放置一会儿。",
        "天气很好，{x}里人很多。",
        "馆内请勿大声说话。",
        "如有变化，另行通知。",
        "大家都知道，{x}需要经常维护。",
    ],
}
OPENING = {
    "en": [
        "Notice",
        "Dear friends,",
        "Minutes",
        "About us",
        "Welcome!",
        "News",
        "Overview",
        "To all",
    ],
    "zh": ["通知", "各位朋友：", "会议纪要", "简介", "欢迎！", "新闻", "概况", "各位同事："],
}
JOINS = {
    "en": [", and ", "; ", ", while ", " and ", ", but "],
    "zh": ["，", "，", "；", "，而", "，并且"],
}
LEADS = {
    "en": [
        "According to the notes, ",
        "From this year on, ",
        "As before, ",
        "Also, ",
        "Note that ",
        "Today ",
    ],
    "zh": ["据介绍，", "目前，", "此外，", "请注意，", "另外，", "从今年起，"],
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
    ],
}
