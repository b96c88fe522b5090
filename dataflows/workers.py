"""Several workers that share a sink: whether they can, and a supervisor that keeps those of one machine."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

import structlog

from dataflows.backoff import Backoff
from dataflows.build import sink_kind, source_kind
from dataflows.stopping import Stop
from dataflows.supervise import FOR_GOOD, Child, begin, command
from dataflows.worker import Worker
from pipeline.errors import ConfigError
from pipeline.model import Pipeline, SinkBlock

log = structlog.get_logger("sluice.run")

_TICK = 0.1
_TOGETHER = 3.0  # seconds for the others to end by themselves, once one has
_GRACE = 7.5  # seconds to drain
_LIVED = 30.0  # seconds after which workers that die are started again at once
_AGAIN = 75
_LAST_PORT = 65535


def check_workers(pipeline: Pipeline, only: str, block: SinkBlock | None, of: int) -> None:
    """Raises ConfigError where so many workers cannot share what `--only` names. `block` is the sink, None for ingest."""
    if block is None:
        if not any(source_kind(one).divisible for one in pipeline.sources.values()):
            raise ConfigError(
                f"{only}: none of the sources can be read by several processes", hint="start it without --workers; topics can"
            )
        return
    if not sink_kind(block).shared:
        raise ConfigError(
            f"{only}: a {block.type} sink takes one process", hint="start it without --workers; postgres and kafka sinks can be shared"
        )
    kafka = pipeline.journal.kafka
    if kafka is None:
        raise ConfigError(
            f"{only}: a journal in the state folder has no partitions to share out",
            hint="write `journal: {type: kafka, …}` in the pipeline file, or start it without --workers",
        )
    if pipeline.monitoring and max(port for _, port in pipeline.monitoring.values()) + (of - 1) * len(pipeline.monitoring) > _LAST_PORT:
        raise ConfigError(f"{only}: {of} workers need ports beyond {_LAST_PORT}", hint="write a lower `port` under `monitoring`")
    if not 1 <= of <= kafka.partitions:
        raise ConfigError(
            f"{only}: {of} workers cannot share {kafka.partitions} partitions",
            hint=f"start 1 to {kafka.partitions} workers: that is `partitions` of the journal",
        )


def run_workers(pipeline: Pipeline, only: str, of: int, arguments: Sequence[str]) -> int:
    """Keeps so many workers on this machine until SIGTERM; when one dies, all are started again. Returns the exit code.

    `arguments` are those of `sluice run`, for the workers.
    """
    stop = Stop()
    stop.on_signals()
    backoff = Backoff(first=0.2, most=10.0)
    log.info("workers begin", process=only, pipeline=pipeline.name, workers=of)
    while True:
        began = time.monotonic()
        workers = _started(only, of, arguments)
        while not stop.wait(_TICK) and all(child.alive for child in workers):
            pass
        codes = _ended(workers, asked=bool(stop))
        if stop:
            return max(code if code >= 0 else _AGAIN for code in codes)
        final = [code for code in codes if code in FOR_GOOD]
        if final:
            return max(final)
        if time.monotonic() - began > _LIVED:
            backoff.reset()
        delay = backoff.next()
        log.warning("a worker died, starting all again", process=only, codes=codes, seconds=round(delay, 1))
        if stop.wait(delay):
            return 0


def _started(only: str, of: int, arguments: Sequence[str]) -> list[Child]:
    addresses = ",".join(_free_addresses(of))
    children = []
    for number in range(of):
        own = ["--only", only, "--addresses", addresses, "--process", str(number)]
        child = Child(Worker(number, of).named(only), command([*arguments, *own]))
        begin(child)
        children.append(child)
    return children


def _free_addresses(count: int) -> list[str]:
    """Of this machine. Somebody else may take one meanwhile: then the workers end, and are started again with others."""
    with ExitStack() as held:
        taken = [held.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(count)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in taken]


def _ended(workers: Sequence[Child], *, asked: bool) -> list[int]:
    """The exit codes of all, once they have ended: they drain when `asked`, else follow the one that has died."""
    if asked:
        for child in workers:
            if child.alive and child.process is not None:
                child.process.terminate()
    deadline = time.monotonic() + (_GRACE if asked else _TOGETHER)
    codes = []
    for child in workers:
        while child.alive and time.monotonic() < deadline:
            time.sleep(_TICK / 2)
        if child.alive and child.process is not None:
            if asked:
                log.error("worker did not drain in time, killing it", process=child.name)
            child.process.kill()
        codes.append(child.process.wait() if child.process is not None else os.EX_OK)
    return codes
