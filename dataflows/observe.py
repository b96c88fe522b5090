"""What a process says of itself over HTTP: /health for whoever restarts it, /metrics for Prometheus."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pipeline.errors import TerminalError

_COMMIT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class IngestMetrics:
    """Counted by ingest. Positions are numbers (an LSN as bytes); every name begins with `sluice_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = self.registry
        self.rows = Counter("sluice_rows_in", "Changes read, quarantined and dropped ones too", ["source", "dataset"], registry=on)
        self.bytes = Counter("sluice_bytes_in", "Bytes of the values read", ["source", "dataset"], registry=on)
        self.quarantined = Counter(
            "sluice_quarantined", "Changes held back, by the first rule they broke", ["dataset", "rule"], registry=on
        )
        self.dropped = Counter("sluice_dropped", "Changes dropped, by rule", ["dataset", "rule"], registry=on)
        self.warned = Counter("sluice_warned", "Changes delivered in spite of a rule", ["dataset", "rule"], registry=on)
        self.lag_bytes = Gauge(
            "sluice_source_lag_bytes", "Write-ahead log between what is confirmed and the server", ["source"], registry=on
        )
        self.lag_seconds = Gauge("sluice_source_lag_seconds", "Age of the last change that is durable", ["source"], registry=on)
        self.lag_messages = Gauge("sluice_source_lag_messages", "Messages that are there and not durable yet", ["source"], registry=on)
        self.unknown_fields = Gauge(
            "sluice_source_unknown_fields", "Records with a field that the schema lacks", ["source", "field"], registry=on
        )
        self.confirmed = Gauge("sluice_source_confirmed_position", "What the source may forget", ["source"], registry=on)
        self.server = Gauge("sluice_source_server_position", "Where the server is", ["source"], registry=on)
        self.reconnects = Gauge("sluice_source_reconnects", "Connections made again since the start", ["source"], registry=on)
        self.journal_bytes = Gauge("sluice_journal_bytes", "Size of the journal", registry=on)
        self.journal_age = Gauge("sluice_journal_age_seconds", "Age of the oldest change that a sink still needs", registry=on)
        self.commit = Histogram("sluice_journal_commit_seconds", "Time of a commit of the journal", registry=on, buckets=_COMMIT_SECONDS)


class DeliverMetrics:
    """Counted by the deliver process of one sink."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = self.registry
        self.rows = Counter("sluice_rows_out", "Changes delivered", ["sink", "dataset"], registry=on)
        self.bytes = Counter("sluice_bytes_out", "Bytes of the values delivered", ["sink", "dataset"], registry=on)
        self.filtered = Counter("sluice_filtered", "Changes that the sink's filter turned away", ["sink", "dataset"], registry=on)
        self.refused = Counter("sluice_refused", "Changes that the target could not hold", ["sink", "dataset"], registry=on)
        self.lag_entries = Gauge("sluice_sink_lag_batches", "Batches in the journal that the sink does not have yet", ["sink"], registry=on)
        self.lag_seconds = Gauge("sluice_sink_lag_seconds", "Age of the newest change that the sink lacks", ["sink"], registry=on)
        self.commit = Histogram(
            "sluice_sink_commit_seconds", "Time of a commit in the target", ["sink"], registry=on, buckets=_COMMIT_SECONDS
        )
        self.reconnects = Counter("sluice_sink_reconnects", "Times the target was opened again after a failure", ["sink"], registry=on)


class WatchMetrics:
    """Counted by the process `watch`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = self.registry
        self.ticks = Histogram("sluice_tick_seconds", "What each thing took that is done again and again", ["tick"], registry=on)
        self.failed = Counter("sluice_tick_failures", "Times that it could not be done", ["tick"], registry=on)
        self.incidents = Gauge("sluice_incidents", "Incidents that are open", ["dataset", "kind"], registry=on)
        whose = ["dataset", "owner"]
        took = [*whose, "quantile"]
        self.success = Gauge("sluice_quality_success_ratio", "Share of the last 30 days' changes that passed at once", whose, registry=on)
        self.budget = Gauge(
            "sluice_quality_error_budget_remaining_ratio", "What is left of 30 days' error budget, below 0 if overspent", whose, registry=on
        )
        self.open = Gauge("sluice_quarantine_open", "Records in quarantine that wait", whose, registry=on)
        self.open_age = Gauge("sluice_quarantine_age_seconds", "How long the oldest of them has waited", whose, registry=on)
        self.detect = Gauge("sluice_time_to_detect_seconds", "From commit to quarantine, of 30 days", took, registry=on)
        self.resolve = Gauge("sluice_time_to_resolve_seconds", "From quarantine to resolution, of 30 days", took, registry=on)
        self.steps = Gauge("sluice_quality_manual_steps", "What people did about records in the last 30 days", whose, registry=on)
        self.freshness = Gauge("sluice_dataset_freshness_seconds", "Age of the newest change", whose, registry=on)
        self.delay = Gauge("sluice_dataset_delay_seconds", "From a commit at the source to the last sink", whose, registry=on)


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: the process does its work. `ready`: it is where it should be (streaming, connected)."""

    live: bool
    ready: bool
    state: str
    error: str | None = None


class HealthServer:
    """Answers /health, /health/live, /health/ready (200 or 503) and /metrics, on a thread of its own. Port 0 takes any free one."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Callable[[], Health]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0].rstrip("/")
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                    return
                if path not in ("/health", "/health/live", "/health/ready"):
                    self._answer(404, "text/plain", b"here are /health and /metrics\n")
                    return
                now = health()
                good = now.live if path.endswith("live") else now.live and now.ready if path.endswith("ready") else now.live
                body = json.dumps({"live": now.live, "ready": now.ready, "state": now.state, "error": now.error})
                self._answer(200 if good else 503, "application/json", body.encode())

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are not news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise TerminalError(
                f"/health and /metrics cannot listen on {host}:{port}: {error.strerror}", hint="choose another port with `monitoring:`"
            ) from error
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
