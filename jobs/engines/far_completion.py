"""Streams completions of another server as the lines that `Engine.complete` yields."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import requests
from asgiref.sync import sync_to_async

from finetune_site.common import outbound
from finetune_site.common.errors import BusyError, UserError
from finetune_site.common.event_stream import BrokenStreamError, read_event_stream
from jobs.engines.base import EngineTroubleError
from jobs.engines.far_api import FarApi
from jobs.engines.far_server import Answer

# How many answers one process reads at a time, each in a thread. The limit per engine
# is lower, so that an engine that hangs, or one member who asks for all that a member
# may, leaves room for other engines.
MAX_STREAMS = 64
MAX_PER_ENGINE = 24
# The fields of a request that have the same name in the far API.
SAME = (
    "prompt",
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "stop_tokens",
    "seed",
    "n",
    "logprobs",
    "echo",
    "best_of",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
)
USAGE = ("prompt_tokens", "completion_tokens")
BUSY = "Too many answers of the engine {} are under way. Try again in a minute."
CUT = "The engine {} stopped while it answered. Try again."

Line = dict[str, Any]


class Places:
    """Counts the threads that read answers, by engine.

    A thread keeps its place until it ends, also when nobody listens any more.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken: Counter[str] = Counter()

    def take(self, engine: str) -> None:
        """Takes a place. Raises BusyError if none is free."""
        with self.lock:
            full = self.taken.total() >= MAX_STREAMS
            if full or self.taken[engine] >= MAX_PER_ENGINE:
                raise BusyError(BUSY.format(engine))
            self.taken[engine] += 1

    def give_back(self, engine: str) -> None:
        """Frees a place."""
        with self.lock:
            self.taken[engine] -= 1


places = Places()


async def complete(
    connect: Callable[[], FarApi], model: str, request: dict[str, Any]
) -> AsyncIterator[Line]:
    """Yields the lines of an answer as they come. Raises UserError.

    `connect` returns the engine's client, and `model` is the model's id there.
    """
    stream = Stream(asked(model, request))
    try:
        # In a thread, because it may read rows of the database.
        far = await sync_to_async(connect, thread_sensitive=False)()
        async for line in stream.lines(far):
            yield line
    finally:
        stream.close()


def asked(model: str, request: dict[str, Any]) -> Answer:
    """Returns the body of a request in the words of the far API."""
    body = {name: request[name] for name in SAME if request.get(name) is not None}
    body["model"] = model
    # Not streamed otherwise: which answers are the best is known when all are whole.
    if body.get("best_of", 1) <= body.get("n", 1):
        body.pop("best_of", None)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


class Stream:
    """Reads one answer in a thread of its own, since requests waits for bytes."""

    def __init__(self, body: Answer) -> None:
        self.body = body
        self.closed = threading.Event()
        self.response: requests.Response | None = None
        self.queue: asyncio.Queue[Line | Exception | None] = asyncio.Queue()

    async def lines(self, far: FarApi) -> AsyncIterator[Line]:
        """Yields the lines of the answer. Raises UserError."""
        loop = asyncio.get_running_loop()

        def put(item: Line | Exception | None) -> None:
            # The loop has ended with the process, so nobody listens.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self.queue.put_nowait, item)

        thread = threading.Thread(target=self.read, args=(far, put), daemon=True)
        places.take(far.name)
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread left.
            places.give_back(far.name)
            raise BusyError(BUSY.format(far.name)) from None
        while (item := await self.queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def read(self, far: FarApi, put: Callable[[Line | Exception | None], None]) -> None:
        """Reads the answer; `put` gets its lines, then None or an error."""
        try:
            self.response = far.complete(self.body)
            if self.closed.is_set():
                return
            for line in translate(far, self.response, streamed="stream" in self.body):
                put(line)
            put(None)
        except UserError as error:
            put(error)
        except (requests.RequestException, BrokenStreamError):
            put(EngineTroubleError(CUT.format(far.name)))
        except (KeyError, TypeError, ValueError, AttributeError):
            put(far.odd())
        finally:
            if self.response is not None:
                self.response.close()
            places.give_back(far.name)

    def close(self) -> None:
        """Ends a read that waits, without waiting for it.

        The connection ends with it, so that the far side stops its answer.
        """
        self.closed.set()
        if self.response is not None:
            # A connection that has ended already has no socket to shut.
            with suppress(ValueError, OSError):
                self.response.raw.shutdown()


def translate(
    far: FarApi, response: requests.Response, *, streamed: bool
) -> Iterator[Line]:
    """Yields an answer in OpenAI's shape as lines of this site.

    Raises EngineTroubleError for an error that the far side tells, and KeyError,
    TypeError, ValueError or AttributeError for what has another shape.
    """
    usage: dict[str, Any] = {}
    num_choices = 0
    for chunk in chunks_of(far, response, streamed=streamed):
        if "error" in chunk:
            # No refusal: the far side had begun to answer, so the request is right.
            raise EngineTroubleError(str(chunk["error"]["message"]))
        for choice in chunk.get("choices") or []:
            num_choices += 1
            yield line_of(choice)
        usage = chunk.get("usage") or usage
    if not num_choices:
        raise KeyError("choices")
    yield {
        "done": True,
        "usage": {name: int(usage[name]) for name in USAGE},
        "prompt_cut": False,
    }


def chunks_of(
    far: FarApi, response: requests.Response, *, streamed: bool
) -> Iterable[dict[str, Any]]:
    """Returns the parts of a streamed answer, or the one whole answer."""
    if streamed:
        return read_event_stream(outbound.pieces(response))
    return [orjson.loads(far.read(response))]


def line_of(choice: dict[str, Any]) -> Line:
    """Returns a choice in OpenAI's shape as a line of this site."""
    logprobs = choice.get("logprobs")
    text = str(choice["text"])
    line = {
        "index": int(choice["index"]),
        "text": text,
        "finish_reason": choice.get("finish_reason"),
        # The far side lists tokens only with logprobs; else a piece is about one token.
        "tokens": len(logprobs["tokens"]) if logprobs else int(bool(text)),
    }
    return {**line, "logprobs": logprobs} if logprobs else line
