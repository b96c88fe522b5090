"""Logs: structured, to stderr, without secrets; for people on a terminal, as key=value lines in a file, or as JSON lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from cli.styles import LogFormat
from pipeline.redact import is_secret, redact

Event = MutableMapping[str, Any]


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what is sys.stderr now; never fails the program because nobody reads its logs."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """A log that nobody reads any more ends no pipeline."""


def start_logs(verbose: bool = False, style: LogFormat = LogFormat.console, process: str | None = None) -> None:
    """Sets logging up for this process, once; `process` is added to every line.

    What other libraries log comes out in the same form: their warnings, with `verbose` their information too.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _of(process),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:1], structlog.stdlib.PositionalArgumentsFormatter(), structlog.stdlib.add_logger_name, *shared[1:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(style)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("sluice").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole addresses, which may be secret
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderer(style: LogFormat) -> Any:
    if style is LogFormat.json:
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "process", "event"], drop_missing=True)


def _of(process: str | None) -> Any:
    def add(logger: object, method: str, event: Event) -> Event:
        if process is not None:
            event.setdefault("process", process)
        return event

    return add


def _redacted(logger: object, method: str, event: Event) -> Event:
    for name, value in event.items():
        event[name] = "***" if is_secret(name) else _clean(value)
    return event


def _clean(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, BaseException):
        return redact(str(value))
    if isinstance(value, dict):
        return {key: "***" if is_secret(str(key)) else _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item) for item in value]
    return value
