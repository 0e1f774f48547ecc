"""Facts out of texts as objects: the answer follows the schema, whatever the model would say.

python examples/langchain_extraction.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse

from pydantic import BaseModel

from langchain_aquila2 import ChatAquila2


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


TEXTS = [
    "Lena Fischer is 34 years old. She lives in Hamburg.",
    "王小明今年28岁，住在杭州。",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    llm = ChatAquila2(model=parser.parse_args().model, temperature=0, max_tokens=96)
    extract = llm.with_structured_output(Person, include_raw=True)
    for text in TEXTS:
        found = extract.invoke(text)
        reason = found["raw"].response_metadata["finish_reason"]
        print(f"{text}\n  {found['parsed']!r} ({reason})")


if __name__ == "__main__":
    main()
