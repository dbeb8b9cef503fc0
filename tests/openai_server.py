"""A small server that speaks OpenAI's API as far as the site uses it, for tests.

It behaves, and fails, as `tests.ollama_server` does; only what goes over the wire differs.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from tests.ollama_server import Chat, Mode, OllamaServer, _send_chunk

KEY = "sk-right"


class OpenAIServer(OllamaServer):
    """The server in a thread of its own; takes requests with the key `KEY` alone.

    refused_parameters: those that the model does not take.
    """

    chat_path = "/v1/chat/completions"
    content_type = "text/event-stream"
    refused_parameters: tuple[str, ...] = ()
    lists_models = True

    @property
    def base_url(self) -> str:
        """Where its API begins."""
        return f"{self.url}/v1"

    def _refused(self, head: str) -> tuple[int, dict[str, Any]] | None:
        if re.search(rf"(?im)^authorization: Bearer {KEY}\r?$", head):
            return None
        return 401, self._error("Incorrect API key provided.")

    def _plain(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if (method, path) == ("GET", "/v1/models") and self.lists_models:
            models = [] if self.mode is Mode.MISSING else self.models
            listed = [{"id": name, "object": "model", "owned_by": "us"} for name in models]
            return 200, {"object": "list", "data": listed}
        return 404, self._error("Not Found")

    def _error(self, text: str) -> dict[str, Any]:
        return {"error": {"message": text, "type": "error", "param": None, "code": None}}

    def _wrong(self, chat: Chat) -> dict[str, Any] | None:
        for name in self.refused_parameters:
            if name in chat.body:
                error = self._error(f"Unsupported parameter: '{name}'.")
                return {"error": {**error["error"], "param": name}}
        return None

    def _word(self, chat: Chat, word: str) -> dict[str, Any]:
        return _chunk(chat, {"content": word}, None)

    async def _begin(self, writer: asyncio.StreamWriter) -> None:
        await super()._begin(writer)
        await _send_chunk(writer, ": a comment\n\n")

    async def _send(self, writer: asyncio.StreamWriter, part: dict[str, Any]) -> None:
        await _send_chunk(writer, f"data: {json.dumps(part)}\n\n")

    async def _finish(
        self, chat: Chat, writer: asyncio.StreamWriter, reason: str, words: int
    ) -> None:
        await self._send(writer, _chunk(chat, {}, reason))
        usage = {"prompt_tokens": len(chat.prompt) // 4, "completion_tokens": words}
        await self._send(writer, {**_chunk(chat, {}, None), "choices": [], "usage": usage})
        await _send_chunk(writer, "data: [DONE]\n\n")


def _chunk(chat: Chat, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": chat.body["model"],
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }
