"""A conversation that remembers, streamed, with the runtime alone.

python examples/chat.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams

SAID = [
    "我叫李雷，我住在杭州。",
    "我住在哪里？",
    "My cat is called Momo.",
    "What is my cat called?",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    model = parser.parse_args().model

    params = SamplingParams(temperature=0, max_tokens=64)
    messages: list[Message] = []
    with Aquila2Runtime.load(model) as runtime:
        for text in SAID:
            print(f"> {text}")
            messages.append(Message("user", text))
            answer = ""
            for delta in runtime.stream_chat(messages, params):
                print(delta.text, end="", flush=True)
                answer += delta.text
            print()
            messages.append(Message("assistant", answer))


if __name__ == "__main__":
    main()
