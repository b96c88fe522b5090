"""The whole story on one machine: a portal and two marketplaces, live orders, bad ones, a process killed in the middle."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.demo_broker import running_broker
from examples.demo_ending import Ending
from examples.embedded_postgres import EmbeddedPostgres
from examples.marketplaces import MARKETPLACES, Marketplaces
from examples.story import COMMERCE, Application, seed
from pipeline.errors import TerminalError

__all__ = ["DemoError", "Scale", "demo", "staged"]

_MORE = 20.0  # seconds more for a slow machine to show that the killed process is back
_VICTIM = "deliver:eu"
_PATIENCE = 60.0


class DemoError(TerminalError):
    """The demonstration did not show what it promises."""


@dataclass(frozen=True)
class Scale:
    """How much there is of everything. `writing` and `kill_after` are seconds of live writes."""

    orders: int = 40_000
    marketplace_orders: int = 5_000
    writing: float = 20.0
    kill_after: float = 7.0


@dataclass
class Stage:
    """What runs for the demonstration, and where."""

    folder: Path
    environment: dict[str, str]
    service: subprocess.Popen[bytes]

    @property
    def file(self) -> Path:
        return self.folder / "pipeline.yaml"

    def sluice(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end, as anybody could beside the service."""
        command = [sys.executable, "-m", "cli", *arguments]
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE * 2, check=False)

    def status(self) -> dict[str, Any]:
        """The answer of `sluice status --json`; empty while it can't be had."""
        done = self.sluice("status", str(self.file), "--json")
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return answer

    def settle(self) -> None:
        """Waits until every sink holds everything that the sources have, and no row waits for a lookup."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if _is_quiet(self.status()):
                return
            time.sleep(0.2)
        raise DemoError("the sinks did not catch up", hint=f"the log is {self.folder / 'service.log'}")

    def pid(self, only: str) -> int | None:
        """The process of the service that runs `only`."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.service.pid:
                try:
                    words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                except OSError:
                    continue
                if str(self.file) in words and only in words:
                    return int(entry.name)
        return None


def demo(console: Console, folder: Path, *, kafka: bool | None = None, keep: bool = False, scale: Scale | None = None) -> int:
    """Runs the story in `folder`; `kafka` says which broker, as `running_broker`. Returns 0 when nothing was lost or doubled, else 1."""
    began = time.monotonic()
    size = scale or Scale()
    with staged(console, folder, kafka, size) as (stage, application, marketplaces), ExitStack() as held:
        for writer in (application, marketplaces):
            writer.start()
            held.callback(writer.stop)
        _watch(console, stage, application, marketplaces, size)
        marketplaces.stop()
        application.stop()
        bad = sum(application.bad.values()) + sum(marketplaces.bad.values())
        console.print(
            f"\n[bold]All writers have stopped.[/] {bad} of their orders were bad. {marketplaces.late} came through a marketplace"
            " before the portal knew their customer, and waited for that."
        )
        stage.settle()
        ending = Ending(console, stage.folder, stage.sluice, stage.environment)
        good = ending.tell(marketplaces)
        console.print(f"\nDone in {time.monotonic() - began:.0f} s. Everything is in [bold]{folder}[/].", soft_wrap=True)
        if keep:
            _keep(console, stage)
    return 0 if good else 1


@contextmanager
def staged(console: Console, folder: Path, kafka: bool | None, size: Scale) -> Iterator[tuple[Stage, Application, Marketplaces]]:
    """The servers with what is there at first, the service, which runs, and those who will write; all of it ends with the block."""
    _make(folder)
    with _servers(console, folder, kafka) as environment:
        application = Application(environment["PORTAL_DSN"])
        marketplaces = Marketplaces(environment["KAFKA"], application)
        console.print(
            f"Filling the portal with {size.orders:,} orders, and the topic of each marketplace with {size.marketplace_orders:,} …"
        )
        seed(application.dsn, orders=size.orders)
        marketplaces.already(size.marketplace_orders)
        with _service(console, folder, environment) as stage:
            yield stage, application, marketplaces


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DemoError(f"{folder} is not empty", hint="name another folder with --dir, or empty it")
    shutil.copytree(COMMERCE, folder, dirs_exist_ok=True)


@contextmanager
def _servers(console: Console, folder: Path, kafka: bool | None) -> Iterator[dict[str, str]]:
    """Three Postgres servers and a broker, which end with the block; what the pipeline file needs to know of them."""
    with ExitStack() as held:
        console.print("Starting three Postgres servers (the portal, a store in the EU, one in the US) and Kafka …")
        servers = [EmbeddedPostgres(directory=folder / f"postgres-{name}") for name in ("portal", "eu", "us")]
        for server in servers:
            held.callback(server.stop)
        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(server.start) for server in servers]
            broker = held.enter_context(running_broker(folder, [one.topic for one in MARKETPLACES], real=kafka))
            portal, eu, us = (one.result() for one in starting)
        console.print(f"Kafka is [bold]{broker.about}[/].")
        yield {
            "PORTAL_DSN": portal.dsn, "EU_DSN": eu.dsn, "US_DSN": us.dsn, "KAFKA": broker.address,
            "WAREHOUSE": str(folder / "warehouse.duckdb"),
        }  # fmt: skip


@contextmanager
def _service(console: Console, folder: Path, environment: dict[str, str]) -> Iterator[Stage]:
    """`sluice run`, until the block ends. Others can go on from the file `environment`."""
    with (folder / "service.log").open("ab") as log:
        command = [sys.executable, "-m", "cli", "run", str(folder / "pipeline.yaml")]
        service = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    write_environment(folder, environment, service.pid)
    console.print("Running the pipeline: copying what is there, then following every change.\n")
    try:
        yield Stage(folder, environment, service)
    finally:
        service.terminate()
        try:
            service.wait(15)
        except subprocess.TimeoutExpired:
            service.kill()


def write_environment(folder: Path, environment: dict[str, str], service: int) -> None:
    """Writes the file `environment`, for a shell: where the servers are, the pid of `sluice run`, and our programs first on the PATH."""
    values = {**environment, "SERVICE": str(service)}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n')
    (folder / "environment").write_text("".join(lines))


def _watch(console: Console, stage: Stage, application: Application, marketplaces: Marketplaces, size: Scale) -> None:
    """Shows what flows where while orders come in, and kills one process on the way."""
    began = time.monotonic()
    killed: int | None = None
    again: int | None = None
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while (now := time.monotonic() - began) < (size.writing if again else size.writing + _MORE):
            if stage.service.poll() is not None:
                raise DemoError("the service ended", hint=f"its log is {stage.folder / 'service.log'}")
            status = stage.status()
            if killed is None and now > size.kill_after and _delivers(status) and (killed := stage.pid(_VICTIM)) is not None:
                os.kill(killed, signal.SIGKILL)
            elif killed is not None and again is None:
                found = stage.pid(_VICTIM)
                again = found if found != killed else None
            live.update(Group(_table(status, application, marketplaces), _event(killed, again)))


def _delivers(status: dict[str, Any]) -> bool:
    """Whether the one that will be killed is at work."""
    sink = status.get("sinks", {}).get(_VICTIM.partition(":")[2], {})
    return any(found["delivered"] for found in sink.get("datasets", {}).values())


def _event(killed: int | None, again: int | None) -> Text:
    if killed is None:
        return Text("")
    told = f"SIGKILL for {_VICTIM} (process {killed}): "
    return Text(told + (f"it is back as process {again}, and goes on where its store says it was." if again else "gone …"), style="yellow")


def _table(status: dict[str, Any], application: Application, marketplaces: Marketplaces) -> Table:
    sinks = status.get("sinks", {})
    title = f"{application.written:,} transactions at the portal, {marketplaces.sent:,} messages of marketplaces"
    table = Table(title=title, title_justify="left", min_width=len(title))
    table.add_column("dataset")
    for column in ("read", "waiting", "held\nback"):
        table.add_column(column, justify="right")
    for name, sink in sinks.items():
        table.add_column(f"{name}\n[dim]{sink['state']}[/]", justify="right")
    for dataset, total in sorted(status.get("datasets", {}).items()):
        delivered = [sink["datasets"].get(dataset) for sink in sinks.values()]
        cells = [f"{found['delivered']:,}" if found else "–" for found in delivered]
        table.add_row(dataset, f"{total['in']:,}", f"{total.get('waiting', 0):,}", f"{total['quarantined']:,}", *cells)
    lag = [f"{sink['lag_batches']}" for sink in sinks.values()]
    table.add_section()
    table.add_row("[dim]batches behind[/]", "", "", "", *lag)
    return table


def _is_quiet(status: dict[str, Any]) -> bool:
    sources, sinks = status.get("sources", {}).values(), status.get("sinks", {}).values()
    read = all(source.get("lag_bytes") is not None or source.get("lag_messages") == 0 for source in sources)
    waiting = any(found.get("waiting") for found in status.get("datasets", {}).values())
    return bool(sinks) and read and not waiting and all(sink["state"] == "running" and sink["lag_batches"] == 0 for sink in sinks)


def _keep(console: Console, stage: Stage) -> None:
    console.print("\nEverything keeps running until Ctrl-C. In another terminal:")
    for line in (f". {stage.folder / 'environment'}", f"cd {stage.folder}", "sluice status pipeline.yaml"):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print("docs/third-marketplace.md goes on from here: it adds a third marketplace, step by step.", highlight=False)
    try:
        stage.service.wait()
        console.print("The pipeline has been stopped; the servers run on until Ctrl-C.")
        signal.pause()
    except KeyboardInterrupt:
        console.print("Ending …")
