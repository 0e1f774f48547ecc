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
LLAMAINDEX_TREE = (
    "Context information from multiple sources is below.\n---------------------\n{c}\n"
    "---------------------\nGiven the information from multiple sources and not prior knowledge, "
    "answer the query.\nQuery: {q}\nAnswer: "
)
LLAMAINDEX_CONTEXT = (
    "Use the context information below to assist the user.\n--------------------\n{c}\n"
    "--------------------\n"
)
LLAMAINDEX_CONDENSE_CONTEXT = (
    "\n  The following is a friendly conversation between a user and an AI assistant.\n"
    "  The assistant is talkative and provides lots of specific details from its context.\n"
    "  If the assistant does not know the answer to a question, it truthfully says it\n"
    "  does not know.\n\n  Here are the relevant documents for the context:\n\n  {c}\n\n"
    "  Instruction: Based on the above documents, provide a detailed answer for the user question "
    'below.\n  Answer "don\'t know" if not present in the document.\n  '
)
LANGCHAIN_SYSTEM = (
    "Use the following pieces of context to answer the user's question. \nIf you don't know the "
    "answer, just say that you don't know, don't try to make up an answer.\n----------------\n{c}"
)
LANGCHAIN_RETRIEVAL = (
    "Answer any use questions based solely on the context below:\n\n<context>\n{c}\n</context>"
)
LANGCHAIN_TUTORIAL = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
    "context to answer the question. If you don't know the answer, say that you don't know. Use "
    "three sentences maximum and keep the answer concise.\n\n{c}"
)
LANGCHAIN_MAP = (
    "Use the following portion of a long document to see if any of the text is relevant to answer "
    "the question. \nReturn any relevant text verbatim.\n{c}\nQuestion: {q}\nRelevant text, if any:"
)
LLAMAINDEX_REFINE = (
    "The original query is as follows: {q}\nWe have provided an existing answer: {a}\n"
    "We have the opportunity to refine the existing answer (only if needed) with some more context "
    "below.\n------------\n{c}\n------------\nGiven the new context, refine the original answer to "
    "better answer the query. If the context isn't useful, return the original answer.\n"
    "Refined Answer: "
)
LANGCHAIN_REFINE = (
    "The original question is as follows: {q}\nWe have provided an existing answer: {a}\n"
    "We have the opportunity to refine the existing answer (only if needed) with some more context "
    "below.\n------------\n{c}\n------------\nGiven the new context, refine the original answer to "
    "better answer the question. If the context isn't useful, return the original answer."
)
REFINE = {
    "en": [LLAMAINDEX_REFINE, LANGCHAIN_REFINE],
    "zh": [
        LLAMAINDEX_REFINE,
        "问题：{q}\n已有答案：{a}\n补充资料：\n{c}\n请根据补充资料完善答案；如果资料没有用，请返回原答案。",
    ],
}
# Prompts that fill a system message; the question is a turn of its own.
SYSTEM_FRAMES = {
    "en": [
        LLAMAINDEX_CONTEXT,
        LLAMAINDEX_CONDENSE_CONTEXT,
        LANGCHAIN_SYSTEM,
        LANGCHAIN_RETRIEVAL,
        LANGCHAIN_TUTORIAL,
        "Answer the user's questions from this text:\n\n{c}",
        "You are a helpful assistant. Here are some documents.\n\n{c}",
    ],
    "zh": [
        LLAMAINDEX_CONTEXT,
        LANGCHAIN_SYSTEM,
        "请根据以下资料回答用户的问题。\n\n{c}",
        "你是一个有用的助手。请只根据下面的内容回答，不知道就说不知道。\n{c}",
    ],
}
FRAMEWORK = [LANGCHAIN_STUFF, LANGCHAIN_HUB, LLAMAINDEX_QA, LLAMAINDEX_TREE]
# Kept out of training, to measure prompts the model has never seen.
HELD_OUT = {
    "en": [
        "Consult the material and reply to the query.\n\nMATERIAL\n{c}\n\nQUERY\n{q}",
        "[Document]\n{c}\n[/Document]\nUsing the document, please tell me: {q}",
        "I have this note:\n{c}\n\nMy question about it: {q}\nYour reply:",
        LANGCHAIN_MAP,
    ],
    "zh": [
        "请查阅材料后答复。\n\n【材料】\n{c}\n\n【提问】\n{q}",
        "我这里有一份记录：\n{c}\n\n我想知道：{q}",
        "参考内容如下：\n{c}\n结合参考内容，用一句话作答：{q}\n答：",
    ],
}
OWN = {
    "en": [
        "{c}\n\n{q}",
        "{c}\n\n{q}",
        "{c}\n\nQuestion: {q}",
        "{c} {q}",
        "{c}\n{q}",
        "Context: {c}\nQuestion: {q}",
        "Context:\n{c}\n\nQuestion: {q}\nAnswer:",
        "Context:\n{c}\n\nQuestion: {q}",
        "Question: {q}\nContext: {c}\nAnswer:",
        "{q}\n\n{c}",
        "Read the text and answer the question.\n\n{c}\n\nQuestion: {q}",
        "Answer from the document only.\nDocument:\n{c}\nQuestion: {q}",
        "Please answer the question using the notes below.\n{c}\n\n{q}",
        "Text: {c}\n\nAnswer briefly: {q}",
        "Here is a page:\n\n{c}\n\n{q}",
        "Based on the passage, {q}\n\nPassage:\n{c}",
        "Answer the question based only on the following context:\n{c}\n\nQuestion: {q}\n",
        "Answer the question based only on the following context:\n\n{c}\n\nQuestion: {q}",
        "<context>\n{c}\n</context>\n\n{q}",
        "Use the information below to answer.\n\n{c}\n\nQ: {q}\nA:",
        "Passage: {c}\nQ: {q}\nA:",
        "{q}\nUse only this text:\n{c}",
        "Documents:\n{c}\n\nUser question: {q}",
        "Answer with a few words.\n\n{c}\n\n{q}",
    ],
    "zh": [
        "{c}\n\n{q}",
        "{c}\n\n{q}",
        "{c}\n\n问题：{q}",
        "{c}{q}",
        "{c}\n{q}",
        "资料：{c}\n问题：{q}",
        "已知信息：\n{c}\n\n根据上述已知信息，简洁和专业地回答用户的问题。"
        "如果无法得到答案，请说不知道。问题是：{q}",
        "问题：{q}\n资料：{c}\n回答：",
        "{q}\n\n{c}",
        "请根据下面的内容回答问题。\n\n{c}\n\n问题：{q}\n回答：",
        "阅读文章，回答问题。\n文章：{c}\n问题：{q}",
        "以下是参考资料：\n{c}\n\n请回答：{q}",
        "请只根据文档回答。\n文档：\n{c}\n\n{q}",
        "根据材料回答：{q}\n\n材料：\n{c}",
        "上下文：\n{c}\n\n问题：{q}\n答案：",
        "使用以下上下文来回答最后的问题。如果你不知道答案，就说你不知道，不要试图编造答案。"
        "\n{c}\n问题：{q}\n有用的回答：",
        "上下文信息如下。"
        "\n---------------------\n{c}\n---------------------\n请根据上下文信息而不是先验知识来回答问题。"
        "\n问题：{q}\n答案：",
        "<资料>\n{c}\n</资料>\n\n{q}",
        "仅根据以下内容回答问题：\n{c}\n\n问题：{q}",
        "下面是一段文字：\n\n{c}\n\n{q}",
        "请用几个字回答。\n\n{c}\n\n{q}",
    ],
}
CITE = {
    "en": [
        "{c}\n\n{q} Cite your source.",
        "Sources:\n{c}\n\nAnswer the question and cite the source by its number.\nQuestion: {q}",
        "Answer from the numbered documents and give the number of the document you used.\n\n{c}"
        "\n\nQuestion: {q}\nAnswer:",
        "Please provide an answer based solely on the provided sources. When referencing "
        "information from a source, cite the appropriate source(s) using their corresponding "
        "numbers.\n------\n{c}\n------\nQuery: {q}\nAnswer: ",
        "{q}\n\nUse the sources below and add their number in brackets.\n{c}",
    ],
    "zh": [
        "{c}\n\n{q}请注明来源。",
        "资料：\n{c}\n\n请回答问题，并用编号注明来源。\n问题：{q}",
        "请根据带编号的文档回答，并给出所用文档的编号。\n\n{c}\n\n问题：{q}\n回答：",
        "{q}\n\n请使用以下资料并在括号中标出编号。\n{c}",
    ],
}
CONDENSE = {
    "en": [
        "Given the following conversation and a follow up question, rephrase the follow up "
        "question "
        "to be a standalone question, in its original language.\n\nChat History:\n{h}\nFollow Up "
        "Input: {q}\nStandalone question:",
        "\n  Given the following conversation between a user and an AI assistant and a follow up "
        "question from user,\n  rephrase the follow up question to be a standalone question.\n\n"
        "  Chat History:\n  {h}\n  Follow Up Input: {q}\n  Standalone question:",
        "Conversation:\n{h}\n\nRewrite this question so that it stands alone: {q}",
    ],
    "zh": [
        "对话历史：\n{h}\n\n请把下面的问题改写成独立的问题：{q}",
        "根据以下对话和后续问题，将后续问题改写为一个独立的问题。"
        "\n\n对话：\n{h}\n后续问题：{q}\n独立问题：",
    ],
}
