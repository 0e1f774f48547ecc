"""A conversation that LangGraph remembers, streamed; two threads do not see each other.

python examples/langchain_history.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from langchain_aquila2 import ChatAquila2

SAID = [
    ("one", "我叫李雷，我住在杭州。"),
    ("two", "My cat is called Momo."),
    ("one", "我住在哪里？"),
    ("two", "What is my cat called?"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    # The oldest turns are left out when the context is full.
    llm = ChatAquila2(
        model=parser.parse_args().model, temperature=0, max_tokens=64, fit="drop_oldest"
    )
    graph: Any = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [llm.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    talk = graph.compile(checkpointer=InMemorySaver())
    for thread, text in SAID:
        print(f"{thread}> {text}")
        config = {"configurable": {"thread_id": thread}}
        asked = {"messages": [HumanMessage(text)]}
        for chunk, _ in talk.stream(asked, config, stream_mode="messages"):
            print(chunk.text, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
