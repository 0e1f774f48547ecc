"""Many questions at once: computed together, told as they end.

python examples/langchain_batch.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse

from langchain_aquila2 import ChatAquila2

TEXT = "The password of {} is {}-river-{}. What is the password?"
COLOURS = ["blue", "red", "green", "white"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    llm = ChatAquila2(model=parser.parse_args().model, temperature=0, max_tokens=32)
    prompts = [
        TEXT.format(place, colour, number)
        for number, (place, colour) in enumerate(
            zip(["the office", "the library", "the shop", "the museum"], COLOURS, strict=True), 40
        )
    ]
    for done, (index, answer) in enumerate(llm.batch_as_completed(prompts), 1):
        print(f"[{done}/{len(prompts)}] {prompts[index]}\n  {answer.text}", flush=True)


if __name__ == "__main__":
    main()
