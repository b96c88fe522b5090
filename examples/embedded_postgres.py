"""A real Postgres server of one's own, from binaries on this machine, for the demonstration, the tests and the benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg
from psycopg.conninfo import make_conninfo

from examples.free_ports import free_port
from examples.postgres_binaries import Account, Binaries, EmbeddedPostgresError, find_binaries, public_folder

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS: dict[StopMode, signal.Signals] = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_LOCALE = "C.UTF-8"
_PORT_IN_USE = "could not bind IPv4 address"
# What a postmaster says while the last backends of one that was killed are still leaving.
_PREDECESSOR_ALIVE = ("pre-existing shared memory block", "lock file")


class EmbeddedPostgres:
    """One Postgres server with its own data folder, on a free port of 127.0.0.1 and a unix socket.

    As a context manager it starts on entry; on exit it stops and deletes what it made. The server logs in `log`, decodes
    logically (wal_level=logical), and runs as `nobody` when the caller is root. It survives its caller until stopped.

    With `password`, TCP connections need it (scram-sha-256); without, every local connection is trusted. `settings` are
    server settings beyond the defaults; `files` are written into the data folder, readable by the server alone, before
    it starts (a TLS key for example). With `directory`, the data lives below that folder and an existing server there is
    started again; otherwise it lives in a temporary folder, made below `temporary` (default: the system's).
    """

    def __init__(
        self,
        *,
        version: int | None = None,
        directory: Path | None = None,
        password: str | None = None,
        settings: Mapping[str, str | int] | None = None,
        files: Mapping[str, bytes] | None = None,
        prefix: str = "sluice-pg-",
        temporary: Path | None = None,
    ) -> None:
        """Chooses binaries and folders; nothing runs yet.

        Raises EmbeddedPostgresError when there are no binaries of this `version` (any, if None) or no usable folder.
        """
        self.account = Account.for_server()
        self.binaries: Binaries = find_binaries(version).reachable_by(self.account)
        self.password = password
        self.settings: dict[str, str | int] = {
            "wal_level": "logical",
            "listen_addresses": "127.0.0.1",
            "timezone": "UTC",
            **(settings or {}),
        }
        self._files = dict(files or {})
        self._temporary: list[Path] = []
        self._prefix = prefix
        self._root = temporary or public_folder(self.account)
        self.home = self._choose_home(directory)
        self.data = self.home / "data"
        self.log = self.home / "postgres.log"
        self._sockets: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    @property
    def version(self) -> int:
        """The major version."""
        return self.binaries.major

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, the same for the life of this object. Raises EmbeddedPostgresError before the first start."""
        if self._port is None:
            raise EmbeddedPostgresError("the server has no port before its first start")
        return self._port

    @property
    def socket_directory(self) -> Path:
        """The folder of the unix socket: short enough for a socket's path, entered by the server's account and root alone."""
        if self._sockets is None:
            self._sockets = self._make_temporary(0o700)
        return self._sockets

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def dsn(self) -> str:
        """A libpq connection string for the superuser and the database `postgres`, over TCP, with the password if there is one."""
        return self.dsn_for("postgres")

    def dsn_for(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        """A libpq connection string for `database` over TCP; `password` defaults to the superuser's own for the superuser."""
        secret = self.password if password is None and user == "postgres" else password
        return make_conninfo(host="127.0.0.1", port=self.port, dbname=database, user=user, password=secret)

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection of the superuser to `database`, over TCP; `options` as `psycopg.connect` has them."""
        return psycopg.connect(self.dsn_for(database), **{"autocommit": True, **options})

    def start(self, timeout: float = 60.0) -> Self:
        """Starts the server, made first if it does not exist, and returns once it accepts connections.

        Raises EmbeddedPostgresError with the end of the server's log when that takes longer than `timeout` seconds.
        """
        if self.pid is not None:
            return self
        deadline = time.monotonic() + timeout
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._write_settings()
        while not self._launch(deadline):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"Postgres {self.version} did not start within {timeout:.0f} s:\n{self._log_tail()}")
        return self

    def stop(self, mode: StopMode = "fast", timeout: float = 60.0) -> None:
        """Stops the server as `pg_ctl stop -m MODE` does; does nothing when it is not running.

        Raises EmbeddedPostgresError when it is still there after `timeout` seconds.
        """
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(_SIGNALS[mode])
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(f"Postgres {self.version} (pid {self._process.pid}) did not stop within {timeout:.0f} s") from error

    def kill(self) -> None:
        """Ends the postmaster with SIGKILL, as a crash would; the next start recovers."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self, mode: StopMode = "fast", *, settings: Mapping[str, str | int] | None = None) -> None:
        """Stops and starts on the same port, with `settings` in addition to the present ones."""
        self.stop(mode)
        self.settings.update(settings or {})
        self.start()

    def remove(self) -> None:
        """Stops the server and deletes its data, its log and its temporary folders."""
        try:
            self.stop("immediate", timeout=20.0)
        except EmbeddedPostgresError:
            self.kill()
        for path in (self.data, *self._temporary):
            shutil.rmtree(path, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def _choose_home(self, directory: Path | None) -> Path:
        """`directory`, or a temporary folder that the server's account can enter, linked to from `directory` if that is private."""
        if directory is None:
            return self._make_temporary(0o755)
        directory.mkdir(parents=True, exist_ok=True)
        if self.account.can_traverse(directory):
            return directory.resolve()
        link = directory / "elsewhere"
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._root)))
        home = link.resolve()
        home.chmod(0o755)
        self._temporary.append(home)
        return home

    def _make_temporary(self, mode: int) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._root))
        folder.chmod(mode)
        if mode == 0o700:
            self._give(folder)
        self._temporary.append(folder)
        return folder

    def _give(self, path: Path) -> None:
        if not self.account.is_self:
            os.chown(path, self.account.uid, self.account.gid)

    def _environment(self) -> dict[str, str]:
        """The caller's environment without what would point the server's programs elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}

    def _initialise(self) -> None:
        # initdb refuses a folder with anything in it: what an interrupted one left behind goes first.
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        self._give(self.data)
        said = self._initdb(_LOCALE)
        if said is not None and "invalid locale name" in said:
            said = self._initdb("C")
        if said is not None:
            shutil.rmtree(self.data, ignore_errors=True)
            raise EmbeddedPostgresError(f"initdb of Postgres {self.version} failed:\n{said}")
        with (self.data / "postgresql.conf").open("a") as config:
            config.write("include 'sluice.conf'\n")
        for name, content in self._files.items():
            self._write(name, content)

    def _initdb(self, locale: str) -> str | None:
        """Runs initdb; None when it worked, else what it said."""
        command: list[str | Path] = [self.binaries.folder / "initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale", locale]
        command += ["--no-sync", "--no-instructions", "--auth-local=trust"]
        with contextlib.ExitStack() as stack:
            if self.password is None:
                command.append("--auth-host=trust")
            else:
                secret = stack.enter_context(tempfile.NamedTemporaryFile(dir=self._root))
                secret.write(self.password.encode())
                secret.flush()
                self._give(Path(secret.name))
                command += ["--auth-host=scram-sha-256", f"--pwfile={secret.name}"]
            process = self.account.run(command, subprocess.PIPE, folder=self.data, environment=self._environment())
            said, _ = process.communicate()
        return None if process.returncode == 0 else said.decode(errors="replace")

    def _write(self, name: str, content: bytes) -> None:
        path = self.data / name
        path.touch(mode=0o600)
        self._give(path)
        path.write_bytes(content)

    def _write_settings(self) -> None:
        lines = [f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in self.settings.items()]
        self._write("sluice.conf", "".join(lines).encode())

    def _launch(self, deadline: float) -> bool:
        """Starts the postmaster and waits until it accepts connections; False when it is worth another try."""
        fresh = self._port is None
        port = self._port or free_port()
        said_before = self.log.stat().st_size if self.log.exists() else 0
        command: list[str | Path] = [self.binaries.folder / "postgres", "-D", self.data, "-p", str(port), "-k", self.socket_directory]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal is for the caller, who stops the server when its clients are done.
            self._process = self.account.run(command, log, folder=self.data, environment=self._environment(), own_session=True)
        while self._process.poll() is None:
            if self._accepts(port):
                self._port = port
                return True
            if time.monotonic() > deadline:
                self.kill()
                return False
            time.sleep(0.02)
        with self.log.open("rb") as log:
            log.seek(said_before)
            said = log.read().decode(errors="replace")
        if any(reason in said for reason in (_PORT_IN_USE, *_PREDECESSOR_ALIVE)):
            if not fresh:
                time.sleep(0.1)
            return False
        raise EmbeddedPostgresError(f"Postgres {self.version} ended with code {self._process.returncode} as it started:\n{said[-4000:]}")

    def _accepts(self, port: int) -> bool:
        # Through the socket in the folder of its own: whoever answers there is this server and no other.
        try:
            with psycopg.connect(
                host=str(self.socket_directory), port=port, user="postgres", dbname="postgres", connect_timeout=5
            ) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else "(no log)"
