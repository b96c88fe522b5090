"""What a Kafka broker and a schema registry are run from: Java of this machine, and artifacts that Maven fetches once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.file_lock import exclusive
from pipeline.errors import TerminalError

__all__ = ["EmbeddedKafkaError", "Java", "broker_artifacts", "broker_is_fetched", "cache_folder", "find_java", "registry_artifacts"]

POMS = Path(__file__).parent / "kafka"
_OLDEST_JAVA = 17
_COORDINATES = re.compile(r"<artifactId>([^<]+)</artifactId>\s*<version>([^<]+)</version>")


class EmbeddedKafkaError(TerminalError):
    """An embedded broker or registry could not be fetched, prepared, started or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class Java:
    """A `java` program and its full version, such as 17.0.15."""

    program: Path
    version: str


def find_java() -> Java:
    """The first Java of version 17 or later: of JAVA_HOME, of the PATH, of Debian's and Red Hat's folder.

    Raises EmbeddedKafkaError when there is none, naming the older ones that were found.
    """
    seen: list[str] = []
    for program in _java_candidates():
        version = _java_version(program)
        if version is None:
            continue
        if int(version.partition(".")[0]) >= _OLDEST_JAVA:
            return Java(program, version)
        seen.append(f"{version} at {program}")
    others = f" (found {', '.join(seen)})" if seen else ""
    raise EmbeddedKafkaError(
        f"no Java {_OLDEST_JAVA} or later on this machine{others}",
        hint="install one (Debian: default-jre-headless) or set JAVA_HOME",
    )


def cache_folder() -> Path:
    """Where fetched artifacts are kept: SLUICE_CACHE, or the folder `sluice` in the user's cache."""
    named = os.environ.get("SLUICE_CACHE")
    if named:
        return Path(named).resolve()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sluice"


def broker_artifacts() -> Path:
    """A folder with the broker's jars, fetched by Maven if they are not there yet (54 MB).

    Raises EmbeddedKafkaError when they have to be fetched and Maven is missing or fails.
    """
    return _fetched(POMS / "pom.xml", ("dependency:copy-dependencies", "-DincludeScope=runtime"))


def broker_is_fetched() -> bool:
    """Whether `broker_artifacts` has nothing to fetch."""
    return _place(POMS / "pom.xml")[1].is_dir()


def registry_artifacts() -> Path:
    """A folder with the registry unpacked, fetched by Maven if it is not there yet (109 MB).

    Raises EmbeddedKafkaError when it has to be fetched and Maven is missing or fails.
    """
    return _fetched(POMS / "registry.xml", ("dependency:unpack",))


def _fetched(pom: Path, goal: Sequence[str]) -> Path:
    """The folder that holds what `pom` names: one for each version of the pom, there whole or not at all."""
    name, home = _place(pom)
    cache = home.parent
    if home.is_dir():
        return home
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with exclusive(cache / f"{name}.lock"):
            if not home.is_dir():
                with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache) as partial:
                    whole = Path(partial, "whole")
                    _run_maven(["-f", str(pom), *goal, f"-DoutputDirectory={whole}"], home)
                    whole.rename(home)
    except OSError as error:
        raise EmbeddedKafkaError(f"cannot keep artifacts in {cache}: {error}", hint="set SLUICE_CACHE to another folder") from error
    return home


def _place(pom: Path) -> tuple[str, Path]:
    """The artifact's name, and the folder for what `pom` names."""
    text = pom.read_text()
    coordinates = _COORDINATES.search(text)
    if coordinates is None:
        raise EmbeddedKafkaError(f"{pom} names no artifact and version")
    name, version = coordinates.groups()
    return name, cache_folder() / f"{name}-{version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _run_maven(arguments: Sequence[str], home: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise EmbeddedKafkaError(f"{home} is not there, and Maven, which would fetch it, neither", hint="install the package maven")
    environment = {"JAVA_HOME": str(find_java().program.parents[1]), **os.environ}
    done = subprocess.run(
        [maven, "-B", "-q", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())[:2000]
        raise EmbeddedKafkaError(
            f"Maven could not fetch {home.name}:\n{said}", hint="is there a network, and a mirror in ~/.m2/settings.xml?"
        )


def _java_candidates() -> Iterator[Path]:
    named = os.environ.get("JAVA_HOME")
    if named:
        yield Path(named, "bin", "java")
    found = shutil.which("java")
    if found:
        yield Path(found).resolve()
    yield from sorted(Path("/usr/lib/jvm").glob("*/bin/java"))


def _java_version(program: Path) -> str | None:
    if not os.access(program, os.X_OK):
        return None
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d[^"]*)"', answer.stderr)
    return match.group(1) if match and answer.returncode == 0 else None
