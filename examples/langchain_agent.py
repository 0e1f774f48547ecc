"""An agent with two tools and a memory: LangChain's create_agent, on LangGraph.

python examples/langchain_agent.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_aquila2 import ChatAquila2

STOCK = {"lamp": 12, "desk": 3}


@tool
def get_stock(product: str) -> str:
    """Get the number of pieces of a product in stock."""
    return str(STOCK.get(product.lower(), 0))


@tool
def add_numbers(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


QUESTIONS = ["Get the stock of the product lamp.", "Add 12 and 30."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    agent: Any = create_agent(
        ChatAquila2(model=parser.parse_args().model, temperature=0, max_tokens=64),
        [get_stock, add_numbers],
        middleware=[ModelCallLimitMiddleware(run_limit=4, exit_behavior="end")],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "shop"}}
    for question in QUESTIONS:
        print(f"> {question}")
        seen = len(agent.get_state(config).values.get("messages", ())) + 1
        result = agent.invoke({"messages": [HumanMessage(question)]}, config)
        for message in result["messages"][seen:]:
            for call in getattr(message, "tool_calls", ()):
                print(f"  calls {call['name']}({call['args']})")
            if message.content:
                print(f"  {message.type}: {message.content}")


if __name__ == "__main__":
    main()
