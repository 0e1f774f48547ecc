"""Rows of the table about answers: what is sent for them, what comes back, how they end early."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter

from benchmarks.peers.peer import QUESTION, Peer, error_of
from benchmarks.peers.protocols import Answer, Json
from benchmarks.report import tried

LONG = Answer(tuple(f"word{number} " for number in range(400)), pause=0.02)
RARE = "龘𠮷，你好 👨‍👩‍👧 größe"
# As OpenAI says it by a code, as its newer models say it in words, and as Ollama does.
OVERFLOWS = {
    "code": {"message": "This model's maximum context length is 8192 tokens.",
             "type": "invalid_request_error", "code": "context_length_exceeded"},
    "words": {"message": "Input tokens exceed the configured limit of 8192 tokens.",
              "type": "invalid_request_error", "code": "context_length_exceeded"},
}  # fmt: skip
OLLAMA_OVERFLOW = {"length": "the input length exceeds the context length"}


def no_prompt(peer: Peer) -> Json:
    peer.server.says(Answer())
    return peer.every_way(peer.make(), lambda message: message.content == Answer().text)


def four_ways(peer: Peer) -> Json:
    peer.server.says(Answer())
    return peer.every_way(peer.make(), lambda message: message.content)


def stop(peer: Peer) -> Json:
    peer.server.says(Answer())
    return {
        "constructor": peer.sent("stop", {"stop": ["a"]}),
        "call": peer.sent("stop", stop=["b"]),
        "both": peer.sent("stop", {"stop": ["a"]}, stop=["b"]),
    }


def max_tokens(peer: Peer) -> Json:
    peer.server.says(Answer())

    def sent(fields: Json, **keywords: Any) -> str:
        words = ("max_completion_tokens", "max_tokens", "num_predict", "temperature")

        def ask() -> Json:
            peer.make(**fields).invoke(QUESTION, **keywords)
            return {word: peer.body()[word] for word in words if word in peer.body()}

        return tried(ask)

    return {
        "constructor, its word": sent({peer.limit: 5}),
        "constructor, max_tokens": sent({"max_tokens": 5}),
        "call, its word": sent({peer.limit: 5}, **{peer.limit: 3}),
        "call, max_tokens": sent({peer.limit: 5}, max_tokens=3),
        "call, options": sent({peer.limit: 5, "temperature": 0}, options={peer.limit: 3}),
    }


def seed(peer: Peer) -> Json:
    peer.server.says(Answer())
    peer.make(seed=3).batch([QUESTION, "Again?"])
    batch = [{**one.body.get("options", {}), **one.body}.get("seed") for one in peer.server.asked]
    return {
        "constructor": peer.sent("seed", {"seed": 3}),
        "call": peer.sent("seed", seed=3),
        "batch": batch,
    }


def n(peer: Peer) -> Json:
    peer.server.says(Answer())

    def answers(model: Any, **keywords: Any) -> Any:
        made = model.generate([[HumanMessage(QUESTION)]], **keywords)
        return len(made.generations[0]), made.llm_output

    return {
        "call": tried(lambda: answers(peer.make(), n=2)),
        "constructor": tried(lambda: answers(peer.make(n=2))),
    }


def logprobs(peer: Peer) -> Json:
    peer.server.says(Answer(("Paris", ".")))
    model = peer.make(logprobs=True, top_logprobs=2)

    def see(message: Any) -> Any:
        found = message.response_metadata["logprobs"]
        entries = found["content"] if isinstance(found, dict) else found
        return type(found).__name__, len(entries), sorted(entries[0]), entries[0]["top_logprobs"][0]

    return {
        **peer.every_way(model, see),
        "call": tried(lambda: see(peer.make().invoke(QUESTION, logprobs=True, top_logprobs=2))),
    }


def logit_bias(peer: Peer) -> Json:
    peer.server.says(Answer())
    return {
        "constructor": peer.sent("logit_bias", {"logit_bias": {5: 1}}),
        "call": peer.sent("logit_bias", logit_bias={5: 1}),
    }


def usage(peer: Peer) -> Json:
    peer.server.says(Answer())
    more = {"stream_usage": True} if peer.name == "ChatOpenAI" else {}
    asked = peer.make(**more)
    return {
        "as made": peer.every_way(peer.make(), lambda message: message.usage_metadata),
        "asked for": peer.every_way(asked, lambda message: message.usage_metadata),
    }


def metadata(peer: Peer) -> Json:
    peer.server.says(Answer(finish="length"))
    return peer.every_way(peer.make(), lambda message: message.response_metadata)


def batch(peer: Peer) -> Json:
    def most(way: str, config: Any) -> int:
        peer.server.says(Answer(pause=0.3))
        made = getattr(peer.make(), way)([QUESTION] * 8, config)
        if way == "abatch":
            peer.loop.run(made)
        return peer.server.most_at_once

    limits: dict[str, Any] = {"at once": {}, "max_concurrency=2": {"max_concurrency": 2}}
    return {
        way: {name: most(way, config) for name, config in limits.items()}
        for way in ("batch", "abatch")
    }


def threads(peer: Peer) -> Json:
    peer.server.says(lambda body: Answer((f"You said {body['messages'][-1]['content']}",)))
    model, found = peer.make(), [[""], [""]]
    asked = [[f"{thread}, {turn}" for turn in range(10)] for thread in range(2)]

    def work(number: int) -> None:
        found[number] = [str(model.invoke(text).content) for text in asked[number]]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"own answers": found == [[f"You said {text}" for text in one] for one in asked]}


def closed_stream(peer: Peer) -> Json:
    def closed() -> str:
        peer.server.says(LONG)
        stream = peer.make().stream(QUESTION)
        next(stream)
        stream.close()
        return peer.loop.run(peer.server.left())

    async def aclosed() -> str:
        peer.server.says(LONG)
        stream = peer.make().astream(QUESTION)
        await anext(stream)
        await stream.aclose()
        return await peer.server.left()

    return {"stream": tried(closed), "astream": tried(lambda: peer.loop.run(aclosed()))}


def cancelled(peer: Peer) -> Json:
    def cancelled_by(way: str) -> Any:
        return peer.loop.run(cancel(way))

    async def cancel(way: str) -> str:
        # An answer that is not a stream waits all the while.
        peer.server.says(Answer(LONG.pieces, pause=8.0 if way == "ainvoke" else LONG.pause))
        model = peer.make()

        async def ask() -> None:
            if way == "ainvoke":
                await model.ainvoke(QUESTION)
            else:
                async for _ in model.astream(QUESTION):
                    pass

        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0.5)
        task.cancel()
        began = time.monotonic()
        await asyncio.wait([task])
        seconds = time.monotonic() - began
        return f"returned within {seconds:.1f} s, {await peer.server.left()}"

    ways = ("ainvoke", "astream")
    return {way: tried(cancelled_by, way) for way in ways}


def errors(peer: Peer) -> Json:
    def seen(answer: Answer, way: str) -> str:
        peer.server.says(answer)
        began = time.monotonic()
        text = error_of(lambda: peer.ask(way, peer.make()))
        seconds, tries = time.monotonic() - began, len(peer.server.asked)
        return f"{text}; after {seconds:.1f} s and {tries} requests"

    bad = {"message": "broken kernel", "type": "server_error", "code": None}
    body = {"error": bad if peer.name == "ChatOpenAI" else "broken kernel"}
    kinds = {
        "400": Answer(status=400, error=body),
        "500": Answer(status=500, error=body),
        "within a stream": Answer(error=body),
        "a stream cut off": Answer(cut=True),
    }
    ways = ("invoke", "stream", "ainvoke", "astream")
    return {
        kind: {way: seen(one, way) for way in (ways if kind.isdigit() else ways[1::2])}
        for kind, one in kinds.items()
    }


def half_characters(peer: Peer) -> Json:
    peer.server.says(Answer(tuple(RARE), by_bytes=True))

    def seen(way: str) -> Any:
        pieces = [str(part.content) for part in peer.parts(way, peer.make())]
        return "".join(pieces) == RARE, any("\ufffd" in piece for piece in pieces)

    return {way: tried(seen, way) for way in ("stream", "astream")}


def overflow(peer: Peer) -> Json:
    def seen(error: Any, way: str) -> str:
        peer.server.says(Answer(status=400, error={"error": error}))
        return error_of(lambda: peer.ask(way, peer.make()))

    known: Json = OVERFLOWS if peer.name == "ChatOpenAI" else OLLAMA_OVERFLOW
    return {
        said: {way: seen(error, way) for way in ("invoke", "stream")}
        for said, error in known.items()
    }


def rate_limiter(peer: Peer) -> Json:
    peer.server.says(Answer())
    limiter = InMemoryRateLimiter(
        requests_per_second=10, check_every_n_seconds=0.01, max_bucket_size=1
    )
    model = peer.make(rate_limiter=limiter)
    began = time.monotonic()
    for way in ("invoke", "stream", "ainvoke", "batch"):
        peer.ask(way, model)
    model.invoke(QUESTION)
    return {"five calls, ten a second": f"{time.monotonic() - began:.1f} s"}


ROWS = {
    "no prompt in the answer": no_prompt,
    "four ways of asking give one text": four_ways,
    "stop, over token borders, from constructor and call": stop,
    "max_tokens": max_tokens,
    "seed, also in a batch": seed,
    "n": n,
    "logprobs, top_logprobs": logprobs,
    "logit_bias": logit_bias,
    "usage, cache_read, cache_creation": usage,
    "model name, finish reason, timings": metadata,
    "a batch takes the forwards of one answer": batch,
    "threads get what they get alone": threads,
    "a closed stream stops": closed_stream,
    "a cancelled call stops": cancelled,
    "errors come at once": errors,
    "no chunk ends in half a character": half_characters,
    "context overflow is an error of its own": overflow,
    "rate limiter": rate_limiter,
}
