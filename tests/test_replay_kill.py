"""Whatever kills the process that replays, and whenever: each record is delivered once, and trail, counts and statuses agree."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from journal.audit_check import check
from journal.inbox import Inbox
from journal.local import JournalReader
from tests.fix_life import Life
from tests.replay_victim import carry_out

_ROOT = Path(__file__).parent.parent


def _delivered(folder: Path) -> list[int]:
    copy = Life.__new__(Life)
    copy.state_folder = folder / ".sluice" / "shop"
    return [ordinal for ordinal, _ in copy.delivered()]


def _sound(folder: Path) -> dict[str, int]:
    """Statuses, once it is checked that all that is kept of records agrees."""
    with JournalReader.open(folder / ".sluice" / "shop", "shop") as reader, reader.view() as (db, _):
        assert check(db).findings == []
        statuses = dict(db.execute("select status, count(*) from quarantine group by status"))
        released = db.execute("select sum(released) from ledger").fetchone()[0]
    assert released == statuses.get("resolved", 0)
    return statuses


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_before_statements_every_record_is_delivered_once(life: Life, step: int) -> None:
    with closing(Inbox(life.state_folder)) as inbox:
        ids = life.ids()
        inbox.ask({"action": "fix", "ids": ids, "by": "ann", "set": {"amount": "7"}, "expr": {}, "system_user": "u"})
        inbox.ask({"action": "approve", "ids": ids, "by": "bo", "system_user": "u"})
        requests = [inbox.ask({"action": "replay", "ids": ids, "by": "bo", "system_user": "u"})]
    command = [sys.executable, "-m", "tests.replay_victim", str(life.file), "400", str(step)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    points = [int(one.name.rpartition("-")[2]) for one in life.folder.parent.glob(f"{life.folder.name}-*")]
    assert len(points) > 12
    assert done.stdout.strip(), "the last of them lived to the end"
    before = set(_delivered(life.folder))
    seen = set()
    for point in sorted(points):
        folder = life.folder.with_name(f"{life.folder.name}-{point}")
        seen.add(tuple(sorted(_sound(folder).items())))
        if point % 4 == 3 or point == max(points):
            carry_out(folder / life.file.name)
            assert _sound(folder) == {"resolved": 3}
            delivered = _delivered(folder)
            assert len(delivered) == len(set(delivered))
            assert set(delivered) == before | {1, 2, 3}
            with closing(Inbox(folder / ".sluice" / "shop")) as inbox:
                assert inbox.open() == []
                answer = inbox.answered(requests[0])
                assert answer is not None
                assert answer["outcome"] == {"resolved": 3}
    assert len(seen) > 3
