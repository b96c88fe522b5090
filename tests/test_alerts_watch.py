"""The process `watch` tells, whatever is killed: what was just being sent is sent again under its old id, and nothing else."""

from __future__ import annotations

import os
import signal
from contextlib import closing

from journal.alerting import AlertBook
from journal.state import State
from pipeline.load import load_pipeline
from tests.fix_pipeline import MakePipeline
from tests.http_inbox import inbox
from tests.invoking import sluice
from tests.waiting import wait_for

_FILE = """
pipeline: shop
state: .sluice
sources:
  portal: {type: postgres, dsn: "host=127.0.0.1 port=1 dbname=nowhere", tables: [public.orders]}
sinks:
  lake: {type: duckdb, path: lake.duckdb}
alerts:
  group_wait: 0
  channels:
    desk: {type: webhook, url: "URL/xyzzy", default: true}
"""


def test_what_was_being_sent_at_a_kill_is_sent_again_under_its_id_and_nothing_else(make_pipeline: MakePipeline) -> None:
    with inbox() as web:
        shop = make_pipeline(_FILE.replace("URL", web.url))
        with closing(State.open(load_pipeline(shop.file).state)) as state:
            state.sink_progress("lake", state="stopped", error="the disk is gone", journal="j", seq=0, cursor=None)
            web.hanging.set()
            watching = shop.start("--only", "watch", "-v")
            wait_for(lambda: web.posted, message="the first try")
            os.kill(watching.pid, signal.SIGKILL)
            watching.wait(60)
            web.hanging.clear()
            again = shop.start("--only", "watch", "-v")
            wait_for(lambda: len(web.posted) == 2, message="the second try")
            state.sink_progress("lake", state="running", error=None, journal="j", seq=0, cursor=None)
            wait_for(lambda: len(web.posted) == 3, message="that it is over")
            with closing(AlertBook.open(load_pipeline(shop.file).state)) as book:
                wait_for(lambda: not book.awaited(), message="the answer to be noted")
            assert shop.stop(again) == 0
        first, second, over = [posted.json for posted in web.posted]
        assert first == second
        assert [told["title"] for told in (first, over)] == ["sink lake: stopped", "sink lake: over: stopped"]
        listed = sluice("alerts", "list", shop.file, "--json").json
        assert listed["open"] == []
        assert [(one["id"], one["state"]) for one in listed["messages"]] == [(first["id"], "sent"), (over["id"], "sent")]
        assert "xyzzy" not in shop.log
