"""Requests to a server that speaks OpenAI's completions: tried again where that may help, given up all at once.

A connection a request, so that none is found closed; a segment takes far longer than to connect.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from replication.errors import UserError

KEY = "REPLICATION_SERVER_KEY"
"""The environment variable with the servers' key, which is sent as a bearer token and written nowhere"""
CONNECT, READ = 10.0, 1800.0  # seconds, without a byte
FIRST, LONGEST = 0.5, 30.0  # seconds before a request is sent again; doubled each time
LOOKING, TRIES, BUSY = 3, 6, 12  # tries of a request: 1.5 s, 15 s, and some minutes where the server is busy


class Gone(Exception):
    """A server does not answer any more; the message says why."""


class Line:
    """The requests in flight, which can all be given up at once.

    Args:
        tries: how often a request is sent to a server that does not answer.
    """

    def __init__(self, tries: int):
        self.tries = tries
        self.cut = threading.Event()
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()

    @contextmanager
    def holding(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """The connection is open in the block, at most until the line is cut."""
        connection.connect()
        sock = connection.sock
        sock.settimeout(READ)
        with self.lock:
            self.open.add(sock)
        try:
            if self.cut.is_set():
                raise ConnectionAbortedError("given up")
            yield
        finally:
            with self.lock:
                self.open.discard(sock)
            connection.close()

    def close(self) -> None:
        """Give up what is in flight: the servers stop at it, as nobody listens."""
        self.cut.set()
        with self.lock:
            for sock in self.open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class Server:
    """One server.

    Args:
        address: as http://127.0.0.1:8000; a /v1 at its end is left out.

    Raises:
        UserError: a key in the environment that cannot be sent.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/").removesuffix("/v1")
        self.parts = urlsplit(self.address)
        self.gone: str | None = None  # why it does not answer any more
        self.key = os.environ.get(KEY, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError(f"{KEY} has characters that no key has: set it anew in the environment")

    def ask(self, path: str, body: dict[str, Any] | None = None, line: Line | None = None) -> dict[str, Any]:
        """What the server answers; asked again while it is busy or broken.

        Args:
            path: below /v1.
            body: what is posted; nothing is, where none is given.
            line: of requests that are given up together; a short one of its own, where none is given.

        Raises:
            Gone: there is no answer, or the line was cut.
            UserError: the server refuses, or answers with what is no JSON.
        """
        line, wait, failed, refused = line or Line(LOOKING), FIRST, 0, 0
        while True:
            busy, after = False, 0.0
            try:
                status, answer, after = self._send(path, body, line)
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                failed += 2 if isinstance(error, TimeoutError) else 0  # it has been waited for long enough
            else:
                if status == 200:
                    return self._read(path, answer)
                if (status < 500 and status != 429) or status == 501:
                    raise UserError(self._refused(path, status, self._words(answer)))
                why, busy = f"{status}: {self._words(answer)}", status in (429, 503)
            failed, refused = (0, refused + 1) if busy else (failed + 1, refused)  # one that is busy is there
            if refused >= BUSY or failed >= line.tries or line.cut.wait(max(wait, after)) or self.gone:
                raise Gone(self.gone or " ".join(why.split()))
            wait = min(2 * wait, LONGEST)

    def _send(self, path: str, body: dict[str, Any] | None, line: Line) -> tuple[int, bytes, float]:
        """Status, body, and seconds to wait that the server asks for."""
        secure = self.parts.scheme == "https"
        make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = make(self.parts.hostname or "", self.parts.port, timeout=CONNECT)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        text = None if body is None else json.dumps(body)
        with line.holding(connection):
            connection.request("GET" if body is None else "POST", f"{self.parts.path}/v1/{path}", text, headers)
            answer = connection.getresponse()
            after = answer.headers.get("Retry-After", "")
            return answer.status, answer.read(), min(float(after), 2 * LONGEST) if after.isdecimal() else 0.0

    def _read(self, path: str, answer: bytes) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            found = json.loads(answer)
            if isinstance(found, dict):
                return found
        raise UserError(
            f"{self.address}/v1/{path} answers with what is no JSON: name a server of OpenAI's completions, as "
            "`vllm serve` starts"
        )

    def _words(self, answer: bytes) -> str:
        """What the server says of a failure, on one line, without the key."""
        text = answer.decode(errors="replace")
        with contextlib.suppress(ValueError, AttributeError):
            found = json.loads(text)
            error = found.get("error", found)
            text = str(error.get("message") or error.get("detail") or text) if isinstance(error, dict) else str(error)
        text = " ".join(text.split())[:300]
        return text.replace(self.key, "***") if self.key else text

    def _refused(self, path: str, status: int, words: str) -> str:
        where = f"{self.address}/v1/{path} answers {status} ({words})"
        if status in (401, 403):
            return f"{where}: {'correct' if self.key else 'set'} its key in the environment variable {KEY}"
        if status == 404:
            return f"{where}: give the address up to /v1 by --rollout.server, and the model's name by --rollout.served"
        return f"{where}: correct the settings, or the server's"
