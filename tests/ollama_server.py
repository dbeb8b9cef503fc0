"""A small server that speaks Ollama's documented HTTP API, for tests and for trying things out.

It answers from the passages of the prompt, word by word, and can be told to fail in the
ways a real one does. In tests: `with OllamaServer() as server: … server.url`. By hand:

    python -m tests.ollama_server --port 11434 --mode normal
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

MODEL = "qwen3:4b-instruct"
VERSION = "0.22.1"
UNKNOWN_MODEL = "no-such-model"
PULL_BYTES = 2_500_000_000
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)
_WORD = re.compile(r"\s*\S+")


class Mode(StrEnum):
    """How the server behaves."""

    NORMAL = "normal"
    MISSING = "missing"  # 404: the model is not installed
    BUSY = "busy"  # 503: the queue is full
    CUT = "cut"  # the connection breaks in the middle of the answer
    EMPTY = "empty"  # the stream ends before the first word, without `done`
    SLOW = "slow"  # the first word takes `first_token_seconds`
    SILENT = "silent"  # falls silent in the middle of the answer, the connection stays open
    ERROR = "error"  # an error line in the middle of a stream of HTTP 200
    FAILING = "failing"  # 500
    INVENTED = "invented"  # cites passage [99], which is not in the prompt
    LONG = "long"  # the answer ends because of `num_predict`


@dataclass
class Chat:
    """One request to /api/chat, and what became of it."""

    body: dict[str, Any]
    sent: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    client_left: threading.Event = field(default_factory=threading.Event)

    @property
    def prompt(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])

    @property
    def is_rewrite(self) -> bool:
        """Whether this asks for a question in another form, not for an answer."""
        return "<<passages " not in self.prompt


class OllamaServer:
    """The server in a thread of its own. `mode` and the others may be changed while it runs.

    Args:
        mode: how it behaves.
        token_seconds: pause before each word.
        first_token_seconds: pause before the first word in mode SLOW.
        port: where to listen on loopback; 0 for any free port.
        answer: what to answer instead of words from the passages.
        slow_word: a prompt with this word in it is answered with `slow_seconds` before each word.
    """

    def __init__(
        self,
        *,
        mode: Mode = Mode.NORMAL,
        token_seconds: float = 0.005,
        first_token_seconds: float = 60.0,
        port: int = 0,
        answer: str = "",
        slow_word: str = "",
        slow_seconds: float = 10.0,
    ) -> None:
        self.mode = mode
        self.token_seconds = token_seconds
        self.first_token_seconds = first_token_seconds
        self.answer = answer
        self.slow_word = slow_word
        self.slow_seconds = slow_seconds
        self.models = [MODEL]
        self.requests: list[tuple[str, str]] = []
        self.chats: list[Chat] = []
        self.pulled: list[str] = []
        self.pull_left = threading.Event()
        self.pull_steps = 5
        self.pull_seconds = 0.01
        self._port = port
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="ollama-server", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def answers(self) -> list[Chat]:
        """The requests that asked for an answer."""
        return [chat for chat in self.chats if not chat.is_rewrite]

    def start(self) -> Self:
        """Begin to listen. Raises OSError if the port is taken."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure
        return self

    def stop(self) -> None:
        """End all connections and the thread; nothing listens there afterwards."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            connections[task] = writer

        try:
            server = await asyncio.start_server(connected, "127.0.0.1", self._port)
        except OSError as exc:
            self._failure = exc
            self._ready.set()
            return
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        server.close()
        await asyncio.sleep(0)  # what was accepted just now gets its task
        for task, writer in connections.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # the aborted ones are closed in the next round of the loop

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other."""
        try:
            while request := await _read_request(reader):
                method, path, body, head = request
                self.requests.append((method, path))
                if refused := self._refused(head):
                    await _send_json(writer, *refused)
                elif (method, path) == ("POST", self.chat_path):
                    await self._chat(Chat(json.loads(body)), reader, writer)
                elif (method, path) == ("POST", "/api/pull"):
                    await self._pull(json.loads(body)["model"], reader, writer)
                else:
                    status, answer = self._plain(method, path, body)
                    await _send_json(writer, status, answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def _refused(self, head: str) -> tuple[int, dict[str, Any]] | None:
        """What is answered instead to a request with these headers; Ollama takes them all."""
        return None

    def _plain(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        models = [] if self.mode is Mode.MISSING else self.models
        if (method, path) == ("GET", "/api/version"):
            return 200, {"version": VERSION}
        if (method, path) == ("GET", "/api/tags"):
            return 200, {"models": [_description(name) for name in models]}
        if (method, path) == ("POST", "/api/show"):
            name = json.loads(body).get("model")
            if name not in models:
                return 404, {"error": f"model '{name}' not found"}
            return 200, {
                "details": _description(name)["details"],
                "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
                "capabilities": ["completion"],
            }
        return 404, {"error": "404 page not found"}

    async def _chat(
        self, chat: Chat, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.chats.append(chat)
        model = chat.body["model"]
        if self.mode is Mode.MISSING or model not in self.models:
            await _send_json(writer, 404, self._error(f"model '{model}' not found"))
        elif self.mode is Mode.BUSY:
            error = "server busy, please try again. maximum pending requests exceeded"
            await _send_json(writer, 503, self._error(error))
        elif self.mode is Mode.FAILING:
            await _send_json(writer, 500, self._error("llama runner process has terminated"))
        elif wrong := self._wrong(chat):
            await _send_json(writer, 400, wrong)
        else:
            await self._answer(chat, reader, writer)
        chat.ended.set()

    async def _answer(
        self, chat: Chat, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Write the answer, and watch whether the client goes away meanwhile."""
        writing = asyncio.ensure_future(self._write(chat, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                chat.client_left.set()
        finally:
            writing.cancel()
            leaving.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
        if chat.client_left.is_set():
            raise ConnectionResetError

    async def _write(self, chat: Chat, writer: asyncio.StreamWriter) -> None:
        await self._begin(writer)
        if self.mode is Mode.SLOW and not chat.is_rewrite:
            await asyncio.sleep(self.first_token_seconds)
        words = _WORD.findall(self._text(chat))
        middle = max(1, len(words) // 2)
        for number, word in enumerate(words):
            at_middle = number == middle and not chat.is_rewrite
            if (self.mode is Mode.CUT and at_middle) or self.mode is Mode.EMPTY:
                writer.transport.abort()
                raise ConnectionResetError
            if self.mode is Mode.SILENT and at_middle:
                await asyncio.sleep(3600)
            if self.mode is Mode.ERROR and at_middle:
                await self._send(writer, self._error("an error was encountered while running"))
                break
            is_slow = bool(self.slow_word) and self.slow_word in chat.prompt
            await asyncio.sleep(self.slow_seconds if is_slow else self.token_seconds)
            chat.sent.append(word)
            await self._send(writer, self._word(chat, word))
        else:
            reason = "length" if self.mode is Mode.LONG else "stop"
            await self._finish(chat, writer, reason, len(words))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    # --- the dialect ------------------------------------------------------------

    chat_path = "/api/chat"
    content_type = "application/x-ndjson"

    def _error(self, text: str) -> dict[str, Any]:
        return {"error": text}

    def _wrong(self, chat: Chat) -> dict[str, Any] | None:
        """What is wrong with the parameters, if anything."""
        return None

    def _word(self, chat: Chat, word: str) -> dict[str, Any]:
        return _part(chat, content=word)

    async def _begin(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {self.content_type}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        await writer.drain()

    async def _send(self, writer: asyncio.StreamWriter, part: dict[str, Any]) -> None:
        await _send_chunk(writer, json.dumps(part, ensure_ascii=False) + "\n")

    async def _finish(
        self, chat: Chat, writer: asyncio.StreamWriter, reason: str, words: int
    ) -> None:
        counts: dict[str, Any] = {
            "prompt_eval_count": len(chat.prompt) // 4,
            "eval_count": words,
        }
        await self._send(writer, _part(chat, done=True, done_reason=reason, **counts))

    async def _pull(
        self, model: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Fetch a model in `pull_steps` steps; the client's leaving ends that."""
        self.pulled.append(model)
        if model == UNKNOWN_MODEL:
            await _send_json(writer, 200, {"error": "pull model manifest: file does not exist"})
            return
        await self._begin(writer)
        leaving = asyncio.ensure_future(reader.read(1))
        layer = {"status": "pulling 0123456789ab", "digest": "sha256:0123", "total": PULL_BYTES}
        await self._send(writer, {"status": "pulling manifest"})
        for step in range(self.pull_steps + 1):
            done, _ = await asyncio.wait({leaving}, timeout=self.pull_seconds)
            if done:
                self.pull_left.set()
                raise ConnectionResetError
            completed = PULL_BYTES * step // self.pull_steps
            await self._send(writer, {**layer, "completed": completed})
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        if model not in self.models:  # a fetch that was cancelled may have got as far
            self.models.append(model)
        await self._send(writer, {"status": "success"})
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _text(self, chat: Chat) -> str:
        if chat.is_rewrite:
            return _rewritten(chat.prompt)
        if self.answer:
            return self.answer
        passages = _passages(chat.prompt)
        sentences = [
            f"{_first_sentence(str(passage['text']))} [{passage['n']}]" for passage in passages[:2]
        ]
        if self.mode is Mode.INVENTED:
            sentences.insert(1, "This is made up [99].")
        if not sentences:
            return "The passages do not answer this."
        return "According to the documents:\n\n" + "\n\n".join(f"- {s}" for s in sentences) + "\n"


def _passages(prompt: str) -> list[dict[str, Any]]:
    """The records between the delimiters of the prompt."""
    found = []
    for line in prompt.splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and {"n", "text"} <= record.keys():
                found.append(record)
    return found


def _first_sentence(text: str) -> str:
    found = _SENTENCE.search(text)
    return " ".join((found[0] if found else text).split())


def _rewritten(prompt: str) -> str:
    """The follow-up question with the question before it as its subject."""
    asked = [
        line.partition(": ")[2]
        for line in prompt.splitlines()
        if line.startswith(("Question: ", "Follow-up question: "))
    ]
    return f"{asked[-1].rstrip('?')}, as to “{asked[-2].rstrip('?')}”?" if asked[1:] else asked[-1]


def _part(
    chat: Chat, *, content: str = "", done: bool = False, **more: int | str
) -> dict[str, Any]:
    return {
        "model": chat.body["model"],
        "created_at": "2026-01-01T00:00:00.000000Z",
        "message": {"role": "assistant", "content": content},
        "done": done,
        **more,
    }


def _description(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-01-01T00:00:00Z",
        "size": 2_500_000_000,
        "digest": "0" * 64,
        "details": {"format": "gguf", "family": "qwen3", "parameter_size": "4.0B"},
    }


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes, str] | None:
    """Method, path, body and head of the next request; None when the client is gone."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head.split(" ", 2)
    length = re.search(r"(?im)^content-length:\s*(\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return method, path, body, head


async def _send_json(writer: asyncio.StreamWriter, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}.get(status, "Error")
    writer.write(
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await writer.drain()


async def _send_chunk(writer: asyncio.StreamWriter, text: str) -> None:
    """One chunk of a body, as HTTP/1.1 has it."""
    chunk = text.encode()
    writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    await writer.drain()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], default=Mode.NORMAL)
    parser.add_argument("--token-seconds", type=float, default=0.05)
    parser.add_argument("--first-token-seconds", type=float, default=60.0)
    parser.add_argument("--slow-word", default="")
    parser.add_argument("--slow-seconds", type=float, default=10.0)
    options = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        server = OllamaServer(
            mode=Mode(options.mode),
            token_seconds=options.token_seconds,
            first_token_seconds=options.first_token_seconds,
            port=options.port,
            slow_word=options.slow_word,
            slow_seconds=options.slow_seconds,
        ).start()
    except OSError as exc:
        sys.exit(f"Port {options.port} cannot be used: {exc.strerror}. Choose another --port.")
    sys.stdout.write(f"Ollama's API on {server.url}, mode {options.mode}. Ctrl-C stops it.\n")
    sys.stdout.flush()
    stopping.wait()
    server.stop()


if __name__ == "__main__":
    main()
