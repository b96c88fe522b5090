"""A service as those see it who look after it: health, metrics, logs, draining."""

from __future__ import annotations

import json
import os
import signal
import socket

import httpx
import pytest

from examples.free_ports import free_port
from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, MakeDatabase
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(180)

Service = tuple[PipelineUnderTest, Database, Database, int]

_CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}
      - name: amount
        logicalType: integer
        physicalType: integer
        quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]
""")


def _free_ports() -> int:
    """The first of two ports that are free now."""
    while True:
        port = free_port()
        with socket.socket() as second:
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture
def service(database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Service:
    database18.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount int)", "INSERT INTO orders VALUES (1, 10), (2, -20), (3, 30)")
    store = make_database(database18.server)
    port = _free_ports()
    pipeline = make_pipeline(f"""
pipeline: shop
state: .sluice
monitoring: {{port: {port}}}
sources:
  portal: {{type: postgres, dsn: "{database18.dsn}", tables: [public.orders]}}
datasets:
  orders: {{from: portal.public.orders, contract: orders.yaml}}
sinks:
  eu: {{type: postgres, dsn: "{store.dsn}"}}
""")
    pipeline.write(_CONTRACT, "orders.yaml")
    return pipeline, database18, store, port


def _metric(port: int, name: str) -> float | None:
    for line in httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return None


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_health_metrics_logs_report_and_quarantine_tell_what_a_service_does(
    service: Service,
) -> None:
    pipeline, source, _, port = service
    process = pipeline.start("--log-format", "json")
    wait_for(lambda: _ready(port) and _ready(port + 1), message=lambda: f"both processes to be ready\n{pipeline.log}")
    wait_for(lambda: _metric(port + 1, "sluice_rows_out_total") == 2, message=lambda: f"the copy to be delivered\n{pipeline.log}")
    source.execute("INSERT INTO orders VALUES (4, 40), (5, -50)")
    wait_for(lambda: _metric(port, "sluice_rows_in_total") == 5, message="five rows in")
    assert _metric(port, 'sluice_quarantined_total{dataset="orders",rule="positive"}') == 2
    for name in (
        "sluice_bytes_in_total",
        "sluice_journal_bytes",
        "sluice_journal_commit_seconds_count",
        "sluice_source_confirmed_position",
        "sluice_source_server_position",
    ):
        wait_for(lambda name=name: _metric(port, name), message=name)  # type: ignore[misc]
    assert _metric(port, "sluice_source_reconnects") == 0
    assert (_metric(port + 1, "sluice_sink_commit_seconds_count") or 0) >= 1
    assert httpx.get(f"http://127.0.0.1:{port}/health").json()["live"] is True
    assert httpx.get(f"http://127.0.0.1:{port}/elsewhere").status_code == 404

    listed = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert [(record["key"], record["status"], record["reasons"][0]["rule"]) for record in listed] == [
        ({"id": 2}, "open", "positive"),
        ({"id": 5}, "open", "positive"),
    ]
    report = pipeline.sluice("report", str(pipeline.file), "--out", str(pipeline.folder / "reports"))
    assert report.code == 0, report.err
    told = json.loads((pipeline.folder / "reports" / "orders.json").read_text())
    assert (told["rows_in"], told["quarantined"], told["sinks"][0]["verdict"]) == (5, 2, "balanced")

    assert pipeline.stop(process) == 0
    events = [json.loads(line) for line in pipeline.log.splitlines() if line.startswith("{")]
    assert {"ingesting", "delivering"} <= {event["event"] for event in events}
    assert all("level" in event and "timestamp" in event for event in events)


def test_one_process_drains_on_sigterm_and_ends_at_once_on_a_second(service: Service) -> None:
    pipeline, _, _, port = service
    process = pipeline.start("--only", "ingest")
    wait_for(lambda: _ready(port), message=lambda: f"ingest\n{pipeline.log}")
    os.kill(process.pid, signal.SIGSTOP)  # so that both signals are waiting when it goes on
    process.terminate()
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(10) in (0, 128 + signal.SIGTERM, 128 + signal.SIGINT)
    again = pipeline.start("--only", "ingest")
    wait_for(lambda: _ready(port), message=lambda: f"ingest again\n{pipeline.log}")
    assert pipeline.stop(again) == 0


def test_children_end_when_their_supervisor_is_killed(service: Service) -> None:
    pipeline, source, store, port = service
    process = pipeline.start()
    wait_for(lambda: _ready(port) and _ready(port + 1), message=lambda: f"the service\n{pipeline.log}")
    process.kill()
    process.wait()
    wait_for(lambda: not pipeline.processes("ingest") and not pipeline.processes("deliver:eu"), message="the children to end")
    source.execute("INSERT INTO orders VALUES (6, 60)")
    pipeline.sync()
    assert store.rows("SELECT id FROM orders ORDER BY id") == [(1,), (3,), (6,)]
