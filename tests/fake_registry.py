"""A schema registry in a thread: answers as Confluent's does, and can be told to be away."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any

from fastavro import parse_schema, schemaless_writer

from sources.records.base import RegistryOptions


class FakeRegistry:
    """`schemas` are what it knows, by id; `asked` the paths that it was asked for; while `away` it answers 503."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[tuple[str, int], dict[str, Any]] = {}
        self.asked: list[str] = []
        self.away = False
        self.password: str | None = None
        self.port = 0

    @property
    def options(self) -> RegistryOptions:
        return RegistryOptions(f"http://127.0.0.1:{self.port}", username="me" if self.password else None, password=self.password)

    def add(self, number: int, schema: Any, **more: Any) -> None:
        """Makes a schema known under an id."""
        self.schemas[number] = {"schema": json.dumps(schema), **more}

    def message(self, number: int, value: Any, named: dict[str, Any] | None = None) -> bytes:
        """A value in the wire format, written with a schema that was added."""
        stream = BytesIO()
        stream.write(struct.pack(">BI", 0, number))
        schemaless_writer(stream, parse_schema(json.loads(self.schemas[number]["schema"]), named_schemas=named or {}), value)
        return stream.getvalue()


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """Serves until the block ends."""
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            parts = self.path.strip("/").split("/")
            expected = "Basic " + b64encode(f"me:{registry.password}".encode()).decode()
            found: dict[str, Any] | None = None
            if parts[:2] == ["schemas", "ids"]:
                found = registry.schemas.get(int(parts[2]))
            elif parts[0] == "subjects":
                found = registry.subjects.get((parts[1], int(parts[3])))
            if registry.away:
                self._say(503, {})
            elif registry.password is not None and self.headers["Authorization"] != expected:
                self._say(401, {"error_code": 401, "message": "no"})
            elif found is None:
                self._say(404, {"error_code": 40403, "message": "Schema not found"})
            else:
                self._say(200, found)

        def _say(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.port = server.server_port
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
