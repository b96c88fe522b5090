"""The whole story on one machine: a real source and two real regions, live writes, bad orders, a process killed in the middle."""

from __future__ import annotations

import json
import os
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

from examples.embedded_postgres import EmbeddedPostgres
from examples.story import COMMERCE, Application, seed
from pipeline.errors import TerminalError

_WRITING = 20.0  # seconds of live writes
_MORE = 20.0  # seconds more for a slow machine to show that the killed process is back
_KILL_AFTER = 7.0
_VICTIM = "deliver:eu"
_PATIENCE = 60.0


class DemoError(TerminalError):
    """The demonstration did not show what it promises."""


@dataclass
class Stage:
    """What runs for the demonstration, and where."""

    folder: Path
    environment: dict[str, str]
    portal: EmbeddedPostgres
    service: subprocess.Popen[bytes]

    @property
    def file(self) -> Path:
        return self.folder / "pipeline.yaml"

    def sluice(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end, as anybody could beside the service."""
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=_PATIENCE * 2, check=False)

    def status(self) -> dict[str, Any]:
        """The answer of `sluice status --json`; empty while it can't be had."""
        done = self.sluice("status", str(self.file), "--json")
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return answer

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


def demo(console: Console, folder: Path, *, keep: bool = False) -> int:
    """Runs the story in `folder`. Returns 0 when `verify` said that nothing was lost, else 1."""
    began = time.monotonic()
    with ExitStack() as held:
        stage = held.enter_context(_stage(console, folder))
        application = Application(stage.portal.dsn)
        application.start()
        held.callback(application.stop)
        _watch(console, stage, application)
        application.stop()
        bad = sum(application.bad.values())
        console.print(f"\n[bold]The application has stopped[/] after {application.written:,} transactions, {bad} bad orders among them.")
        _settle(stage)
        code = _tell(console, stage)
        console.print(f"\nDone in {time.monotonic() - began:.0f} s. Everything is in [bold]{folder}[/].")
        if keep:
            _keep(console, stage)
    return code


@contextmanager
def _stage(console: Console, folder: Path) -> Iterator[Stage]:
    """Servers, seed data and the service; all of it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DemoError(f"{folder} is not empty", hint="name another folder with --dir, or empty it")
    shutil.copytree(COMMERCE, folder, dirs_exist_ok=True)
    with ExitStack() as held:
        console.print("Starting three Postgres servers: the portal, a store in the EU and one in the US …")
        servers = [EmbeddedPostgres(directory=folder / f"postgres-{name}") for name in ("portal", "eu", "us")]
        for server in servers:
            held.callback(server.stop)
        with ThreadPoolExecutor() as pool:
            portal, eu, us = pool.map(lambda server: server.start(), servers)
        console.print("Filling the portal with customers, products and 40,000 orders …")
        seed(portal.dsn)
        dsns = {"PORTAL_DSN": portal.dsn, "EU_DSN": eu.dsn, "US_DSN": us.dsn}
        environment = {**os.environ, **dsns, "WAREHOUSE": str(folder / "warehouse.duckdb")}
        with (folder / "service.log").open("ab") as log:
            command = [sys.executable, "-m", "cli", "run", str(folder / "pipeline.yaml")]
            service = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        held.callback(_end, service)
        console.print("Running the pipeline: copying what is there, then following every change.\n")
        yield Stage(folder, environment, portal, service)


def _end(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    try:
        service.wait(15)
    except subprocess.TimeoutExpired:
        service.kill()


def _watch(console: Console, stage: Stage, application: Application) -> None:
    """Shows what flows where while the application writes, and kills one process on the way."""
    began = time.monotonic()
    killed: int | None = None
    again: int | None = None
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while (now := time.monotonic() - began) < (_WRITING if again else _WRITING + _MORE):
            if stage.service.poll() is not None:
                raise DemoError("the service ended", hint=f"its log is {stage.folder / 'service.log'}")
            status = stage.status()
            if killed is None and now > _KILL_AFTER and _delivers(status) and (killed := stage.pid(_VICTIM)) is not None:
                os.kill(killed, signal.SIGKILL)
            elif killed is not None and again is None:
                found = stage.pid(_VICTIM)
                again = found if found != killed else None
            live.update(Group(_table(status, application), _event(killed, again)))


def _delivers(status: dict[str, Any]) -> bool:
    """Whether the one that will be killed is at work."""
    sink = status.get("sinks", {}).get(_VICTIM.partition(":")[2], {})
    return any(found["delivered"] for found in sink.get("datasets", {}).values())


def _event(killed: int | None, again: int | None) -> Text:
    if killed is None:
        return Text("")
    told = f"SIGKILL for {_VICTIM} (process {killed}): "
    return Text(told + (f"it is back as process {again}, and goes on where its store says it was." if again else "gone …"), style="yellow")


def _table(status: dict[str, Any], application: Application) -> Table:
    sinks = status.get("sinks", {})
    table = Table(title=f"{application.written:,} transactions written live", title_justify="left")
    table.add_column("dataset")
    for column in ("read", "quarantined"):
        table.add_column(column, justify="right")
    for name, sink in sinks.items():
        table.add_column(f"{name}\n[dim]{sink['state']}[/]", justify="right")
    for dataset, total in sorted(status.get("datasets", {}).items()):
        delivered = [sink["datasets"].get(dataset) for sink in sinks.values()]
        cells = [f"{found['delivered']:,}" if found else "–" for found in delivered]
        table.add_row(dataset, f"{total['in']:,}", f"{total['quarantined']:,}", *cells)
    lag = [f"{sink['lag_batches']}" for sink in sinks.values()]
    table.add_section()
    table.add_row("[dim]batches behind[/]", "", "", *lag)
    return table


def _settle(stage: Stage) -> None:
    """Waits until every sink holds everything."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        status = stage.status()
        quiet = all(source.get("lag_bytes") is not None for source in status.get("sources", {}).values())
        if quiet and all(sink["state"] == "running" and sink["lag_batches"] == 0 for sink in status["sinks"].values()):
            return
        time.sleep(0.2)
    raise DemoError("the sinks did not catch up", hint=f"the log is {stage.folder / 'service.log'}")


def _tell(console: Console, stage: Stage) -> int:
    """`verify`, the quarantine by cause, and the report."""
    verified = stage.sluice("verify", str(stage.file), "--json")
    if verified.returncode not in (0, 1):
        raise DemoError("verify failed: " + verified.stderr.strip()[-500:])
    answer = json.loads(verified.stdout)
    console.print("\n[bold]verify[/]: every sink against the portal, row by row")
    table = Table()
    for column in ("dataset", "sink"):
        table.add_column(column, no_wrap=True)
    for column in ("at source", "in sink", "held back", "missing", "extra", "differ"):
        table.add_column(column, justify="right")
    for dataset, sinks in sorted(answer["datasets"].items()):
        for sink, found in sinks.items():
            told = [f"{found[name]:,}" for name in ("source_rows", "sink_rows", "quarantined", "missing", "extra", "different")]
            table.add_row(dataset, sink, *told)
    console.print(table)
    good = verified.returncode == 0
    console.print("[green]Nothing was lost, nothing doubled, and the counts add up.[/]" if good else "[red]There are differences.[/]")
    records = json.loads(stage.sluice("quarantine", "list", str(stage.file), "--json").stdout)
    console.print(f"\n[bold]Quarantine[/]: {len(records)} records, by cause")
    causes: dict[tuple[str, str], int] = {}
    for record in records:
        reason = record["reasons"][0]
        causes[record["dataset"], reason["rule"]] = causes.get((record["dataset"], reason["rule"]), 0) + 1
    quarantine = Table("dataset", "rule", "records")
    for (dataset, rule), count in sorted(causes.items(), key=lambda cause: -cause[1]):
        quarantine.add_row(dataset, rule, str(count))
    console.print(quarantine)
    report = stage.sluice("report", str(stage.file), "--out", str(stage.folder / "reports"))
    if report.returncode != 0:
        raise DemoError("report failed: " + report.stderr.strip()[-500:])
    console.print(f"The owners' report: [bold]{stage.folder / 'reports' / 'index.html'}[/]")
    return 0 if good else 1


def _keep(console: Console, stage: Stage) -> None:
    names = ("PORTAL_DSN", "EU_DSN", "US_DSN", "WAREHOUSE")
    console.print("\nEverything keeps running. In another terminal:")
    for name in names:
        console.print(f"  export {name}='{stage.environment[name]}'", highlight=False, soft_wrap=True)
    console.print(f"  sluice status {stage.file}", soft_wrap=True)
    console.print("Ctrl-C ends it.")
    try:
        stage.service.wait()
    except KeyboardInterrupt:
        console.print("Ending …")
