"""The page that adds a marketplace, typed as it is written: its commands, its edits, and what it says one sees."""

from __future__ import annotations

import io
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from rich.console import Console

from examples.account import ask_warehouse
from examples.demo import Scale, Stage, staged
from examples.kafka_artifacts import EmbeddedKafkaError, broker_artifacts, find_java
from tests.fix_postgres import missing_server

PAGE = Path(__file__).parents[1] / "docs" / "third-marketplace.md"
_PLACE = "/tmp/shop"
_ORDERS = """
SELECT order_id, customer_id, product_id, email, status, currency, subtotal::text, tax::text, total::text, epoch(starts_at)::bigint,
       epoch(ends_at)::bigint, epoch(placed_at)::bigint, country, region, plan
FROM orders WHERE channel = 'google' ORDER BY order_id
"""

pytestmark = pytest.mark.timeout(240)


class Block(NamedTuple):
    """A fenced block of the page; `before` is the text in front of it."""

    kind: str
    text: str
    before: str


def _blocks() -> list[Block]:
    parts = re.split(r"^```(\w*)\n(.*?)^```\n", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [Block(kind, text, before) for before, kind, text in zip(parts[::3], parts[1::3], parts[2::3], strict=False)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """The demonstration's shop, with less in it, on a real broker; nobody writes any more, and the service runs."""
    try:
        find_java()
        broker_artifacts()
    except EmbeddedKafkaError as error:
        missing_server(str(error))
    size = Scale(orders=1_000, marketplace_orders=200)
    with staged(Console(file=io.StringIO()), tmp_path / "shop", kafka=True, size=size) as (stage, _, _):
        stage.settle()
        # The demonstration waits for its service too: one that ended and that nobody waited for is still there.
        threading.Thread(target=stage.service.wait, daemon=True).start()
        yield stage


class Reader:
    """Does what the page says, in the folder of the shop."""

    def __init__(self, stage: Stage) -> None:
        self.folder = stage.folder
        self.file = stage.file
        self.printed = ""

    def follow(self, block: Block) -> None:
        """Types a block: a command, an edit of the pipeline file, a file; or compares what the last command said."""
        match block.kind:
            case "sh":
                self._type(block.text)
            case "yaml" if block.text.startswith("  google:"):
                self._insert(block.text, r"^sources:\n(?:(?: .*)?\n)*?(?=\n\w)")
            case "yaml" if block.text.startswith("      - "):
                self._insert(block.text, r"^    from:\n(?:      - .*\n)+")
            case "yaml":
                assert block.text in self.file.read_text("utf-8")
            case "sql":
                (name,) = re.findall(r"`(maps/\w+\.sql)`", block.before.splitlines()[-2])
                assert not (self.folder / name).exists()
                (self.folder / name).write_text(block.text, "utf-8")
            case "text" if not block.before:  # right behind a command
                assert _same(block.text, self.printed), f"the page says\n{block.text}\nand here it is\n{self.printed}"
            case "text":
                self._mistype(block.text)
            case kind:
                raise AssertionError(f"a block of {kind}")

    def _type(self, text: str) -> None:
        if "make demo" in text:
            assert text == f'make demo ARGS="--keep --dir {_PLACE}"\n'
            return
        done = self._bash(text.replace(_PLACE, str(self.folder)))
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self.printed = done.stdout

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        script = f"set -e\n. {self.folder}/environment\n{text}"
        return subprocess.run(["bash", "-c", script], cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)

    def _insert(self, text: str, behind: str) -> None:
        """Puts a text behind what a pattern matches."""
        whole = self.file.read_text("utf-8")
        (place,) = [found.end() for found in re.finditer(behind, whole, flags=re.MULTILINE)]
        self.file.write_text(whole[:place] + text + whole[place:], "utf-8")

    def _mistype(self, said: str) -> None:
        """What `check` says of the slip that the page tells of."""
        file = self.folder / "maps" / "google_orders.sql"
        sound = file.read_text("utf-8")
        file.write_text(re.sub(r"^    vat  ", "    vta  ", sound, flags=re.MULTILINE), "utf-8")
        done = self._bash("sluice check pipeline.yaml")
        file.write_text(sound, "utf-8")
        assert done.returncode == 1
        assert said in done.stdout


def _same(written: str, printed: str) -> bool:
    """Whether a text is what the page has, where `…` stands for anything on a line and widths do not matter."""
    lines = [re.escape(re.sub(r"\s+", " ", line.strip())).replace("…", ".*").replace(r"\ .*", ".*") for line in written.splitlines()]
    shown = [re.sub(r"\s+", " ", line.strip()) for line in printed.strip().splitlines()]
    return re.fullmatch("\n".join(lines), "\n".join(shown)) is not None


def _files(folder: Path) -> dict[str, str]:
    """What belongs to the pipeline: its file, contracts and maps."""
    found = [folder / "pipeline.yaml", *folder.glob("contracts/*"), *folder.glob("maps/*")]
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in found}


def _others(stage: Stage) -> list[tuple[Any, ...]]:
    rows = "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM orders WHERE channel <> 'google' ORDER BY order_id"
    return ask_warehouse(Path(stage.environment["WAREHOUSE"]), rows)


def test_the_page_typed_as_written_adds_a_channel(stage: Stage) -> None:
    before, others = _files(stage.folder), _others(stage)
    assert len(others) == 1_400
    reader = Reader(stage)
    for block in _blocks():
        reader.follow(block)

    # one source block, one line, one file
    after = _files(stage.folder)
    assert after.keys() - before.keys() == {"maps/google_orders.sql"}
    assert {name for name, text in before.items() if after[name] != text} == {"pipeline.yaml"}
    added = after["pipeline.yaml"].splitlines()
    for line in before["pipeline.yaml"].splitlines():
        added.remove(line)
    assert sum(re.match(r"  \w", line) is not None for line in added) == 1
    assert sum(line.startswith("      - ") for line in added) == 1

    ada = ("google-1", 812, 17, "ada@example.com", "paused", "EUR", "100.00", "19.00", "119.00", 1793491200, 1825027200, 1793352600)
    grace = ("google-2", 7, 3, "grace@example.com", "active", "USD", "249.90", "0.00", "249.90", 1793577600, 1825113600, 1793556300)
    assert ask_warehouse(Path(stage.environment["WAREHOUSE"]), _ORDERS) == [(*ada, "DE", "EU", "Plan 17"), (*grace, "US", "US", "Plan 3")]
    assert _others(stage) == others
    stored = "SELECT order_id, email, customer FROM sales.orders WHERE channel = 'google'"
    with psycopg.connect(stage.environment["EU_DSN"]) as eu, psycopg.connect(stage.environment["US_DSN"]) as us:
        assert eu.execute(stored).fetchall() == [("google-1", "ada@example.com", "Customer 812")]
        ((number, email, customer),) = us.execute(stored).fetchall()
    assert number == "google-2"
    assert "grace" not in email
    assert customer != "Customer 7"
    assert stage.sluice("verify", str(stage.file)).returncode == 0


def test_the_page_has_every_kind_of_step() -> None:
    blocks = _blocks()
    kinds = [block.kind for block in blocks]
    assert kinds.count("sql") == 1
    assert kinds.count("yaml") == 3  # what is there, the source, the line
    assert [not block.before for block in blocks if block.kind == "text"].count(True) == 5  # what commands say
    assert not _same("a … c", "a b d")
