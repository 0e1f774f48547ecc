"""Owns the talks that the card shows, as LangChain users would have them; it judges nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from langchain_aquila2 import ChatAquila2

LETTER = (
    "Dear members, the choir meets again on 14 March in the old library. Rehearsals are led by "
    "Nora Lindqvist. The entrance is in Mill Street; please bring your own chairs. Coffee costs "
    "2 euros."
)
NOTICE = (
    "各位住户：小区游泳池将于6月1日重新开放，开放时间为早上7点到晚上9点。"
    "管理员是周建国，电话是021-55873316。儿童须由家长陪同。"
)
TALKS: list[tuple[str, list[str]]] = [
    (
        "",
        [f"{LETTER}\n\nWho leads the rehearsals?", "Where does the choir meet?", "Who is paying?"],
    ),
    ("Answer in Chinese.", ["Hello!", "What can you do?"]),
    ("", [f"{NOTICE}\n\n管理员是谁？", "他的电话是多少？", "游泳池的门票多少钱？"]),
    ("", ["你好！", "我叫李文静，我住在成都。", "我住在哪里？"]),
]


@tool
def get_timetable(station: str) -> str:
    """Look up the next train from a station."""
    return f"The next train from {station} leaves at 14:25."


@tool
def send_note(recipient: str, text: str) -> str:
    """Send a note to somebody."""
    return f"Sent to {recipient}."


CALLS = {
    "en": "When does the next train leave from Brighton?",
    "zh": "从苏州站开出的下一班火车是几点？",
}


def _told(messages: list[BaseMessage]) -> Iterator[str]:
    names = {"system": "system", "human": "user", "ai": "model", "tool": "tool"}
    for message in messages:
        text = str(message.content)
        if isinstance(message, AIMessage) and message.tool_calls:
            calls = [f"{call['name']}({call['args']})" for call in message.tool_calls]
            text = " ".join([*([text] if text else []), *calls])
        yield f"{names[message.type]:>6}: {text}".replace("\n\n", "\n        ")


def talk(chat: ChatAquila2, system: str, questions: list[str]) -> list[BaseMessage]:
    """Asks one question after the other; gives the whole talk."""
    messages: list[BaseMessage] = [SystemMessage(system)] if system else []
    for question in questions:
        messages.append(HumanMessage(question))
        messages.append(chat.invoke(messages))
    return messages


def call(chat: ChatAquila2, question: str) -> list[BaseMessage]:
    """Lets the model choose between two tools, calls what it chose, and asks for the answer."""
    tools = {each.name: each for each in (get_timetable, send_note)}
    bound = chat.bind_tools(list(tools.values()))
    messages: list[BaseMessage] = [HumanMessage(question)]
    chosen = bound.invoke(messages)
    messages.append(chosen)
    for wanted in chosen.tool_calls:
        result = tools[wanted["name"]].invoke(wanted["args"])
        messages.append(ToolMessage(result, tool_call_id=wanted["id"], name=wanted["name"]))
    if chosen.tool_calls:
        messages.append(bound.invoke(messages))
    return messages


def main() -> None:
    """Reads the command line and prints the talks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo")
    args = parser.parse_args()
    chat = ChatAquila2(model=args.model, temperature=0, max_tokens=80)
    talks = [talk(chat, system, questions) for system, questions in TALKS]
    talks += [call(chat, question) for question in CALLS.values()]
    print("\n\n".join("\n".join(_told(messages)) for messages in talks))


if __name__ == "__main__":
    main()
