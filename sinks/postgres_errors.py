"""What a Postgres target says went wrong, as one of our own errors: it passes, somebody must act, or one row cannot be taken.

The SQLSTATE decides, never the words, which are in the server's language. Only where libpq gives none (a connection that was turned
down) are the words looked at. Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import pq

from pipeline.errors import Refused, RowError, SinkShapeError, SluiceError, TerminalError, TransientError

UNIQUE_VIOLATION = "23505"
MOST_COLUMNS = 1600  # of a Postgres table: https://www.postgresql.org/docs/current/limits.html

# Of a row: not valid for the type, too long, out of range, against a constraint, raised by a trigger, too big for a page or an index.
_ROW = {"0A", "21", "22", "23", "44", "P0"}
_ROW_STATES = {"54000", "54001"}
_SHAPE = {"42P01", "42703", "42804", "42701", "42P10", "42P07", "42883", "42846", "54011", "2BP01", "42P16", "42704"}
_PASSING = {
    "08": "the connection broke",
    "40": "another session was in the way",
    "53": "the server is short of something",
    "57": "the server is stopping, starting, or was told to end this session",
    "58": "the server cannot read or write its files",
}
_HINTS = {
    "25006": "the server takes no writes: is it a standby? target_session_attrs=read-write in the dsn finds the primary",
    "28P01": "check the password in the dsn, PGPASSWORD or the password file",
    "28000": "check the user in the dsn, and pg_hba.conf on the server",
    "3D000": "check the database in the dsn, or make it: CREATE DATABASE",
    "40P01": "two sessions waited for each other; it is tried again",
    "53100": "the server's disk is full: free some, and it goes on by itself",
    "53200": "the server is out of memory",
    "53300": "all connections are taken: raise max_connections, or close some",
    "55P03": "another session holds a lock on the table: see pg_locks and pg_stat_activity; it is tried again",
    "57014": "the statement was cancelled; it is tried again",
    "57P03": "the server is starting up",
    "58030": "the server cannot read or write its files: see its log",
}
_TRANSIENT_STATES = {"25006", "55P03", "55006", "57014"}
_GONE_FOR_GOOD = {"57P04"}

_TURNED_DOWN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects|(role|database) \".*\" does not exist"
    r"|not permitted to log in|permission denied|not currently accepting connections|certificate|server does not support SSL"
    r"|invalid (connection option|port|sslmode|value)|definition of service|password file",
    re.IGNORECASE,
)
_COPY_COLUMN = re.compile(r", line \d+, column ([^:]+):")


class RowRefused(RowError):  # noqa: N818  (reads as what happened)
    """The target refuses a row of what it was given. `at` is the place of the row, `column` its column, as far as they are known."""

    def __init__(
        self, message: str, *, hint: str | None = None, column: str | None = None, sqlstate: str = "", at: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.column = column
        self.sqlstate = sqlstate
        self.at = at


@dataclass(frozen=True, slots=True)
class Asked:
    """Where something was asked for, by whom, and what; `shaping`: tables are made or altered, so no single row can be at fault."""

    server: str
    user: str = ""
    statement: str = ""
    shaping: bool = False


def from_sqlstate(
    sqlstate: str | None, message: str, asked: Asked, *, column: str | None = None, constraint: str | None = None
) -> SluiceError:
    """The error that a SQLSTATE stands for."""
    if sqlstate is None:
        return _turned_down(message, asked.server)
    kind = sqlstate[:2]
    at_fault = kind in _ROW or sqlstate in _ROW_STATES
    if at_fault:
        message = _without_values(sqlstate, message, constraint)
    said = f"{asked.server}: {message} (SQLSTATE {sqlstate})"
    hint = _HINTS.get(sqlstate)
    if sqlstate == "42501":
        return Refused(said, hint=_grant(asked))
    if sqlstate in _SHAPE or (asked.shaping and kind == "0A"):
        return SinkShapeError(said, hint=_shape_hint(sqlstate))
    if at_fault:
        if asked.shaping:
            return SinkShapeError(said, hint="what is in the table does not fit its new shape: drop the table, and it is copied again")
        return RowRefused(message, column=column, sqlstate=sqlstate)
    if sqlstate in _GONE_FOR_GOOD or kind in ("28", "3D"):
        return Refused(said, hint=hint)
    if kind in _PASSING or sqlstate in _TRANSIENT_STATES:
        return TransientError(said, hint=hint or _PASSING.get(kind))
    return TerminalError(said, hint=hint)


def _without_values(sqlstate: str, message: str, constraint: str | None) -> str:
    """What the server said of a row, by the condition's name: its words and details repeat values, also those that a contract hides."""
    if sqlstate in _ROW_STATES:
        return message  # a limit and a size
    try:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", psycopg.errors.lookup(sqlstate).__name__).lower()
    except KeyError:
        words = f"SQLSTATE {sqlstate}"
    return f"the server refuses it: {words}" + (f" ({constraint})" if constraint else "")


def _shape_hint(sqlstate: str) -> str:
    if sqlstate in ("0A000", "2BP01"):
        return "something else in the target depends on the table, a view perhaps: drop that and make it anew afterwards"
    if sqlstate == "54011":
        return f"a Postgres table holds {MOST_COLUMNS} columns, those that were dropped among them: drop the table, and it is copied again"
    return "the table was changed by someone else: put it back, or drop it and it is copied again"


def _turned_down(message: str, server: str) -> SluiceError:
    said = f"{server}: {' '.join(message.split())}"
    if not _TURNED_DOWN.search(message):
        return TransientError(said, hint="is the server running, and does the dsn name the right host and port? It is tried again")
    code = "28P01" if "password" in message or "authentication failed" in message else "3D000" if "database" in message else "28000"
    return Refused(said, hint=_HINTS[code])


_GRANTS = (
    (r"CREATE SCHEMA", "GRANT CREATE ON DATABASE {database} TO {user}; or make the schema for it: CREATE SCHEMA … AUTHORIZATION {user}"),
    (r"CREATE TEMP", "GRANT TEMPORARY ON DATABASE {database} TO {user}"),
    (r"CREATE TABLE (?P<schema>(?:\"(?:[^\"]|\"\")*\"))\.", "GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"),
    (r"(?:ALTER TABLE|CREATE (?:UNIQUE )?INDEX ON) (?P<table>{name})", "ALTER TABLE {table} OWNER TO {user}"),
    (r"TRUNCATE (?P<table>{name})", "GRANT TRUNCATE ON {table} TO {user}"),
    (r"(?:.*?(?:INTO|FROM|UPDATE|COPY)) (?P<table>{name})", "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO {user}"),
)
_NAME = r"\"(?:[^\"]|\"\")*\"\.\"(?:[^\"]|\"\")*\""


def _grant(asked: Asked) -> str:
    """What somebody has to run so that this is allowed."""
    database = asked.server.rpartition("/")[2].replace('"', '""')
    names = {"user": '"' + asked.user.replace('"', '""') + '"', "database": f'"{database}"'}
    for pattern, grant in _GRANTS:
        found = re.match(pattern.replace("{name}", _NAME), asked.statement, re.DOTALL)
        if found:
            return grant.format(**names, **found.groupdict())
    return "the user of the dsn lacks a right: see the grants in docs/postgres-sink.md"


def from_result(result: pq.abc.PGresult, asked: Asked) -> SluiceError:
    """The error in a failed result."""

    def field(which: pq.DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode(errors="replace")

    message = field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message()
    detail = field(pq.DiagnosticField.MESSAGE_DETAIL)
    column, constraint = (field(name) or None for name in (pq.DiagnosticField.COLUMN_NAME, pq.DiagnosticField.CONSTRAINT_NAME))
    state = field(pq.DiagnosticField.SQLSTATE) or "08000"
    return from_sqlstate(state, f"{message}; {detail}" if detail else message, asked, column=column, constraint=constraint)


def from_psycopg(error: psycopg.Error, asked: Asked) -> SluiceError:
    """The error that psycopg raised, on a connection that had been made."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return TransientError(f"{asked.server}: {' '.join(str(error).split())}", hint=_PASSING["08"])
    message = error.diag.message_primary or " ".join(str(error).split())
    if error.diag.message_detail:
        message += f"; {error.diag.message_detail}"
    column = error.diag.column_name
    found = _COPY_COLUMN.search(error.diag.context or "")
    if column is None and found:
        column = found[1]
    return from_sqlstate(error.sqlstate or "XX000", message, asked, column=column, constraint=error.diag.constraint_name)


@contextmanager
def said_plainly(asked: Asked) -> Iterator[None]:
    """Turns what psycopg raises into one of our own errors."""
    try:
        yield
    except psycopg.Error as error:
        raise from_psycopg(error, asked) from error
