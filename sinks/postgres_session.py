"""A session on a target server: how values are written there, and many statements in one round trip."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline.errors import TransientError
from sinks.postgres_errors import Asked, RowRefused, from_result, from_sqlstate, said_plainly

# Values come in the words of the source's session, and go out in the same.
_SETTINGS: Mapping[str, str] = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10min",
    "default_transaction_isolation": "read committed",
    # A few rows are looked up in a big table by its key; a staged table has no statistics that would say so.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
}
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
# The server notices within a minute that this process is gone for good, and lets go of its locks.
_KEEPALIVE = {"keepalives_idle": "20", "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "50000"}
_SERVER_KEEPALIVE = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
_PATIENT = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
_CONNECT_SECONDS = "10"
_MOST_PREPARED = 1000

Param = bytes | None
_DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


@dataclass(frozen=True, slots=True)
class Command:
    """A statement with the text of its parameters; the server works their types out. `row` is whose it is, -1 where it is nobody's."""

    statement: str
    params: Sequence[Param] = ()
    row: int = -1


_BEGIN = Command("BEGIN")
SAVEPOINT = Command("SAVEPOINT sluice_part")
RELEASE = Command("RELEASE sluice_part")
UNDO = "ROLLBACK TO sluice_part; RELEASE sluice_part"


def quoted(name: str) -> str:
    """The identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | None) -> str:
    """The text as a literal in SQL, whatever standard_conforming_strings says."""
    if text is None:
        return "NULL"
    return ("E'" if "\\" in text else "'") + text.replace("\\", "\\\\").replace("'", "''") + "'"


class Session:
    """One connection. Every error that leaves it is a SluiceError; a RowRefused where a row is at fault.

    `server` is what messages call it: host, port and database, never a password.
    """

    def __init__(self, dsn: str, application: str) -> None:
        given = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
        own = {"connect_timeout": _CONNECT_SECONDS, "fallback_application_name": application}
        self.server = label(dsn)
        try:
            self._connection: psycopg.Connection[Any] = psycopg.connect(
                make_conninfo(**{**_KEEPALIVE, **own, **given}), autocommit=True, prepare_threshold=None
            )
        except psycopg.Error as error:
            raise from_sqlstate(error.sqlstate, _without(str(error), given), Asked(self.server)) from None
        self._prepared: dict[str, bytes] = {}
        self._names = 0
        self._to_begin = False
        with said_plainly(self._asked("")):
            self._connection.execute("; ".join(f"SET {name} = {literal(value)}" for name, value in _SETTINGS.items()))
            self._connection.execute(_DURABLE)
            self._connection.execute(_SERVER_KEEPALIVE)
            self._connection.execute(_PATIENT)

    def _asked(self, statement: str, shaping: bool = False) -> Asked:
        return Asked(self.server, self._connection.info.user, statement, shaping)

    @property
    def version(self) -> int:
        """The server's version, as 150004."""
        return self._connection.info.server_version

    @property
    def broken(self) -> bool:
        return self._connection.closed

    def begin(self) -> None:
        """A transaction begins with whatever is done next: the round trip is saved."""
        self._to_begin = True

    def end(self, statement: str) -> None:
        """COMMIT or ROLLBACK; nothing where no transaction is open."""
        self._to_begin = False
        if self._connection.info.transaction_status != pq.TransactionStatus.IDLE:
            self.execute(statement)

    def _begun(self) -> None:
        if self._to_begin:
            self._to_begin = False
            self._connection.execute("BEGIN")

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query; parameters as %s."""
        with said_plainly(self._asked(sql)):
            self._begun()
            return self._connection.execute(sql.encode(), params or None).fetchall()

    def execute(self, sql: str, *, shaping: bool = False) -> int:
        """Runs one statement, or several, as they are. Returns how many rows it touched."""
        with said_plainly(self._asked(sql, shaping)):
            self._begun()
            return self._connection.execute(sql.encode()).rowcount

    def copy_in(self, sql: str, blocks: Iterable[memoryview]) -> None:
        """COPY … FROM STDIN."""
        with said_plainly(self._asked(sql)), self._connection.cursor() as cursor:
            self._begun()
            with cursor.copy(sql.encode()) as copy:
                for block in blocks:
                    copy.write(block)

    def copy_out(self, sql: str) -> Iterator[memoryview]:
        """COPY … TO STDOUT, a row at a time."""
        with said_plainly(self._asked(sql)), self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            while row := copy.read():
                yield memoryview(row)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside stays, or, when a row is refused, is undone. Outside of a transaction each statement is one anyway."""
        if not self._to_begin and self._connection.info.transaction_status == pq.TransactionStatus.IDLE:
            yield
            return
        self.execute(SAVEPOINT.statement)
        try:
            yield
        except RowRefused:
            self.execute(UNDO)
            raise
        self.execute(RELEASE.statement)

    def run(self, commands: Sequence[Command]) -> list[int]:
        """Runs all of them in one round trip, up to the first that fails. Returns how many rows each touched.

        Raises RowRefused with `at`, the place of the command that failed.
        """
        return [result.command_tuples or 0 for result in self._results(commands)]

    def texts(self, command: Command) -> list[list[str | None]]:
        """The columns of a query's answer, as the server writes them. Raises RowRefused for parameters that it can't read."""
        try:
            _, result, _ = self._results([SAVEPOINT, command, RELEASE])
        except RowRefused:
            self.execute(UNDO)
            raise
        values = [[result.get_value(row, column) for row in range(result.ntuples)] for column in range(result.nfields)]
        return [[None if value is None else value.decode() for value in column] for column in values]

    def _results(self, commands: Sequence[Command]) -> list[pq.abc.PGresult]:
        first = [_BEGIN] if self._to_begin else []
        self._to_begin = False
        with said_plainly(self._asked("")):
            results = self._pipelined([*first, *commands])
        for at, result in enumerate(results, -len(first)):
            if result.status not in _DONE:
                error = from_result(result, self._asked(commands[max(at, 0)].statement))
                if isinstance(error, RowRefused):
                    error.at = at
                raise error
        if len(results) < len(first) + len(commands):
            raise TransientError(f"{self.server}: the connection broke in the middle of a transaction", hint="it is tried again")
        return results[len(first) :]

    def _pipelined(self, commands: Sequence[Command]) -> list[pq.abc.PGresult]:
        """The result of each command, up to the first that failed."""
        if len(self._prepared) > _MOST_PREPARED:
            self.forget()
        connection = self._connection.pgconn
        connection.enter_pipeline_mode()
        try:
            sent: list[str | None] = []  # the statement that is prepared, or None where one is run
            for command in commands:
                name = self._prepared.get(command.statement)
                if name is None:
                    self._names += 1
                    name = self._prepared[command.statement] = b"sluice_%d" % self._names
                    connection.send_prepare(name, command.statement.encode())
                    sent.append(command.statement)
                connection.send_query_prepared(name, command.params)
                sent.append(None)
            connection.pipeline_sync()
            results: list[pq.abc.PGresult] = []
            failed = False
            for statement, result in zip(sent, list(_answers(connection)), strict=False):
                good = result.status in _DONE
                if statement is not None and not good:
                    del self._prepared[statement]
                if not failed and (statement is None or not good):
                    results.append(result)
                failed |= not good
            return results
        finally:
            if not self._connection.closed:
                connection.exit_pipeline_mode()

    def forget(self) -> None:
        """Prepared statements are dropped: what they name may have another shape now."""
        if self._prepared:
            self._prepared.clear()
            self.execute("DEALLOCATE ALL")

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


def _answers(connection: pq.abc.PGconn) -> Iterator[pq.abc.PGresult]:
    """Sends what waits to be sent and yields results as they come, so that neither side can be stuck on a full buffer."""
    poll = select.poll()
    while True:
        while (unsent := connection.flush()) or connection.is_busy():
            poll.register(connection.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            if any(event & ~select.POLLOUT for _, event in poll.poll()):
                connection.consume_input()
            if not connection.is_busy():
                break
        result = connection.get_result()
        if result is not None:
            yield result
            if result.status == pq.ExecStatus.PIPELINE_SYNC or connection.status == pq.ConnStatus.BAD:
                return


def label(dsn: str) -> str:
    """What messages call the server."""
    found = {option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val}
    found |= {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value}
    host = found.get("host") or found.get("hostaddr") or found.get("service") or "localhost"
    return f"{host}:{found.get('port', '5432')}/{found.get('dbname') or found.get('user', '')}"


def _without(message: str, given: Mapping[str, str]) -> str:
    for name in ("password", "sslpassword"):
        if given.get(name):
            message = message.replace(given[name], "***")
    return message
