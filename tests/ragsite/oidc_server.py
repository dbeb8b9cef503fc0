"""A small provider of OpenID Connect, for tests: discovery, authorisation, token, user info.

It signs everybody in as `PERSON` and answers as OpenID Connect Core 1.0 and Discovery 1.0 say.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

PERSON = {
    "sub": "42",
    "preferred_username": "olga",
    "email": "olga@example.org",
    "email_verified": True,
    "name": "Olga",
}


@dataclass
class OidcServer:
    """`with OidcServer() as server: … server.url`."""

    client_id: str = "ragsite"
    secret: str = "hush"
    challenges: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                address = urlsplit(self.path)
                if address.path == "/.well-known/openid-configuration":
                    self._json(server.configuration())
                elif address.path == "/authorize":
                    self.send_response(302)
                    self.send_header("Location", server.authorise(parse_qs(address.query)))
                    self.end_headers()
                elif address.path == "/userinfo":
                    known = self.headers.get("Authorization") == "Bearer token-of-olga"
                    self._json(PERSON if known else {"error": "invalid_token"}, known or 401)
                else:
                    self._json({"error": "not found"}, 404)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = parse_qs(self.rfile.read(length).decode())
                answer, status = server.token(form, self.headers.get("Authorization", ""))
                self._json(answer, status)

            def _json(self, answer: dict[str, Any], status: int = 200) -> None:
                self.send_response(200 if status is True else status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def configuration(self) -> dict[str, Any]:
        """The document of discovery."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def authorise(self, query: dict[str, list[str]]) -> str:
        """Where the browser goes back to, with a code."""
        assert query["client_id"] == [self.client_id]
        assert query["code_challenge_method"] == ["S256"]
        self.challenges["code-1"] = query["code_challenge"][0]
        back = urlencode({"code": "code-1", "state": query["state"][0]})
        return f"{query['redirect_uri'][0]}?{back}"

    def token(self, form: dict[str, list[str]], header: str) -> tuple[dict[str, Any], int]:
        """The token for a code, to the client that began and knows the secret."""
        verifier = form.get("code_verifier", [""])[0].encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        challenge = self.challenges.pop(form.get("code", [""])[0], None)
        if form.get("client_secret") != [self.secret] or digest != challenge:
            self.refused.append("token")
            return {"error": "invalid_grant"}, 400
        return {"access_token": "token-of-olga", "token_type": "Bearer", "expires_in": 60}, 200
