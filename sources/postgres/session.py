"""Sessions on the source's server: how to reach it, and the words in which it answers."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline.errors import SluiceError
from sources.postgres.errors import from_postgres

# What decides how a value is written, and what could keep a session from its work. The same for copies, look-ups and the stream.
SETTINGS: Mapping[str, str] = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "search_path": "",
    "row_security": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "jit": "off",
}
TIMEOUTS: Mapping[str, str] = dict.fromkeys(
    ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"), "0"
)
_SET, _TIMEOUTS = ("; ".join(f"SET {name} = '{value}'" for name, value in of.items()) for of in (SETTINGS, TIMEOUTS))
# A server that has gone without a word is noticed by its silence.
_KEEPALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Place:
    """The one server behind a connection: where a second session finds the same snapshots."""

    host: str
    port: str


class Server:
    """One Postgres server as the pipeline file names it.

    `label` is what messages call it, without secrets. Every error that leaves here is a SluiceError.
    """

    def __init__(self, dsn: str, application: str, connect_timeout: int) -> None:
        parts = conninfo_to_dict(dsn)
        given = {key: str(value) for key, value in parts.items() if value is not None}
        # where GSS encrypts, the socket cannot be read beside libpq; whoever wants it says so
        own = {"connect_timeout": str(connect_timeout), "fallback_application_name": application, "gssencmode": "disable"}
        self._parts = {**_KEEPALIVE, **own, **given}
        self.plain = self._parts["gssencmode"] == "disable"
        found = {**_defaults(), **given}
        host = found.get("host") or found.get("hostaddr") or found.get("service") or "localhost"
        self.label = f"{host}:{found.get('port', '5432')}/{found.get('dbname') or found.get('user', '')}"
        self._secrets = [found[name] for name in ("password", "sslpassword") if found.get(name)]

    @property
    def conninfo(self) -> str:
        """A libpq string, with its password: for connections, never for messages."""
        return make_conninfo(**self._parts)

    def connect(self, place: Place | None = None) -> Connection:
        """An autocommit session with SETTINGS; at `place` if given. Raises Refused or TransientError."""
        pinned = {} if place is None else {"host": place.host, "port": place.port, "hostaddr": ""}
        return self._open(pinned)

    def connect_for_replication(self) -> Connection:
        """A session that knows replication commands, to be run with `command`. Raises Refused or TransientError."""
        connection = self._open({"replication": "database"})
        if not encoded(connection):
            with self.told():
                command(connection, RAW)
        return connection

    def _open(self, extra: Mapping[str, str]) -> Connection:
        with self.told():
            connection = psycopg.connect(make_conninfo(**{**self._parts, **extra}), autocommit=True, prepare_threshold=None)
            try:
                if connection.info.server_version >= 170000:
                    command(connection, "SET transaction_timeout = 0")  # by itself: what follows is a transaction
                command(connection, _TIMEOUTS)
                command(connection, _SET)
            except psycopg.Error:
                connection.close()
                raise
            return connection

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turns psycopg's errors into ours."""
        try:
            yield
        except psycopg.Error as error:
            raise self.error(error) from error

    def error(self, error: psycopg.Error) -> SluiceError:
        message = error.diag.message_primary or str(error)
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return from_postgres(error.sqlstate, message, self.label)


def _defaults() -> Mapping[str, str]:
    """What libpq takes where the string is silent, from the environment and its own defaults."""
    return {option.keyword.decode(): option.val.decode(errors="replace") for option in pq.Conninfo.get_defaults() if option.val}


# A database without an encoding has bytes, which the server would not let pass as UTF-8. Their reader looks at each value itself.
RAW = "SET client_encoding = 'SQL_ASCII'"
COOKED = "SET client_encoding = 'UTF8'"


def encoded(connection: Connection) -> bool:
    """Whether the database's text has an encoding."""
    return connection.pgconn.parameter_status(b"server_encoding") != b"SQL_ASCII"


def place_of(connection: Connection) -> Place:
    """Where a session's server listens."""
    return Place(connection.pgconn.host.decode(), connection.pgconn.port.decode())


def command(connection: Connection, text: str, waiting: Callable[[float], None] | None = None) -> Sequence[Mapping[str, str | None]]:
    """Runs one command in the simple protocol, the only one that a walsender speaks; rows as names -> text.

    `waiting` is called about five times a second with the seconds so far; what it raises ends the wait, and the session is closed.
    """
    pgconn = connection.pgconn
    pgconn.send_query(text.encode())
    began = time.monotonic()
    rows: list[Mapping[str, str | None]] = []
    try:
        while pgconn.flush():
            select.select([], [pgconn.socket], [], 0.2)
        while True:
            while pgconn.is_busy():
                if select.select([pgconn.socket], [], [], 0.2)[0]:
                    pgconn.consume_input()
                elif waiting is not None:
                    waiting(time.monotonic() - began)
            result = pgconn.get_result()
            if result is None:
                return rows
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, connection.info.encoding)
            names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
            for row in range(result.ntuples):
                values = [result.get_value(row, column) for column in range(result.nfields)]
                rows.append({name: None if value is None else value.decode() for name, value in zip(names, values, strict=True)})
    except (SluiceError, OSError):
        connection.close()
        raise
