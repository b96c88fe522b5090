"""The end of the demonstration: what the commands say, and what the demonstration finds for itself."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.account import Line, account, ask_warehouse
from examples.marketplaces import Marketplaces
from pipeline.errors import TerminalError

__all__ = ["Ending"]

_MENDED = "total-not-negative"
_MENDING = ("--expr", "total=abs(total)", "--expr", "subtotal=abs(subtotal)", "--expr", "tax=abs(tax)")
_EXAMPLES = """
SELECT order_id, customer, region, plan, total::text || ' ' || currency, status
FROM orders WHERE _sluice_position IN (SELECT max(_sluice_position) FROM orders GROUP BY channel) ORDER BY channel DESC
"""


class _CommandFailedError(TerminalError):
    """A command of the demonstration did not do its work."""


@dataclass(frozen=True)
class Ending:
    """Tells how the story ends. `sluice` runs a command, `environment` is the pipeline's."""

    console: Console
    folder: Path
    sluice: Callable[..., subprocess.CompletedProcess[str]]
    environment: Mapping[str, str]

    def tell(self, marketplaces: Marketplaces) -> bool:
        """Whether nothing was lost and nothing doubled."""
        verified = self._verify()
        records = json.loads(self._ask("quarantine", "list", "--json"))
        lines = account(self.environment["PORTAL_DSN"], marketplaces, self._warehouse, records)
        accounted = self._account(lines)
        self._examples()
        good = verified and accounted
        said = "[green]Nothing was lost, nothing doubled, and the counts add up.[/]" if good else "[red]There are differences.[/]"
        self.console.print(f"\n{said}")
        self._quarantine(records)
        good &= self._mend(records)
        self._ask("report", "--out", str(self.folder / "reports"))
        self.console.print(f"\nThe owners' report: [bold]{self.folder / 'reports' / 'index.html'}[/]", soft_wrap=True)
        return good

    @property
    def _warehouse(self) -> Path:
        return Path(self.environment["WAREHOUSE"])

    def _ask(self, *command: str, no: bool = False) -> str:
        words = list(command)
        words.insert(2 if command[0] == "quarantine" else 1, str(self.folder / "pipeline.yaml"))
        done = self.sluice(*words)
        if done.returncode not in ((0, 1) if no else (0,)):
            raise _CommandFailedError(f"sluice {' '.join(command)} failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _verify(self) -> bool:
        """`sluice verify`: tables are compared row by row, and of all datasets the counts."""
        answer = json.loads(self._ask("verify", "--json", no=True))
        self.console.print("\n[bold]sluice verify[/]: every sink against its source; tables row by row, streams by their counts")
        table = _table(["dataset", "sink"], ["at source", "in sink", "held back", "differences"])
        alike = True
        for dataset, sinks in sorted(answer["datasets"].items()):
            for sink, found in sinks.items():
                counts = [f"{found[name]:,}" for name in ("source_rows", "sink_rows", "quarantined")]
                wrong = found["missing"] + found["extra"] + found["different"]
                alike &= not wrong
                table.add_row(dataset, sink, *counts, f"{wrong:,}" if found["compared"] else "[dim]counted[/]")
        self.console.print(table)
        return alike and bool(answer["conserved"])

    def _account(self, lines: list[Line]) -> bool:
        self.console.print("\n[bold]orders[/] come from three channels: every order that a channel has, against the warehouse")
        table = _table(["channel"], ["orders", "in warehouse", "held back", "missing", "extra", "differ"])
        for line in lines:
            counts = (line.there, line.delivered, line.held_back, line.missing, line.extra, line.different)
            table.add_row(line.channel, *(f"{count:,}" for count in counts))
        self.console.print(table)
        return all(line.is_clean for line in lines)

    def _examples(self) -> None:
        self.console.print("\nThe latest of each channel, in one shape, with what the portal knows of its customer")
        table = _table(["order_id", "customer", "region", "plan"], ["total"])
        table.add_column("status")
        for row in ask_warehouse(self._warehouse, _EXAMPLES):
            table.add_row(*row)
        self.console.print(table)

    def _quarantine(self, records: list[dict[str, Any]]) -> None:
        self.console.print(f"\n[bold]sluice quarantine list[/]: {len(records)} records, by cause")
        reasons = ((record["source"], record["reasons"][0]) for record in records)
        causes = Counter((source, reason["rule"], reason["message"]) for source, reason in reasons)
        table = _table(["channel", "rule", "says"], ["records"])
        for (source, rule, message), count in sorted(causes.items(), key=lambda cause: (cause[0][0] != "portal", cause[0][0], -cause[1])):
            table.add_row(source, rule, message, str(count))
        self.console.print(table)

    def _mend(self, records: list[dict[str, Any]]) -> bool:
        """One cause from its mending to the sinks. Whether each of its records went on, once."""
        found = {record["group"]: record for record in records if record["reasons"][0]["rule"] == _MENDED}
        if not found:
            return True
        group = next(iter(found))
        self._ask("quarantine", "fix", "--group", group, *_MENDING, "--by", "ann@example.com")
        self._ask("quarantine", "approve", "--group", group, "--by", "bo@example.com")
        answer = json.loads(self._ask("quarantine", "replay", "--group", group, "--wait", "--json"))
        many = sum(record["group"] == group for record in records)
        self.console.print(
            f"\nThe owner mends one cause ([bold]sluice quarantine fix[/]: {_MENDED}), somebody else approves it, and it is replayed:"
            f"\n{answer['resolved']} of {many} records went through the whole contract again, and into every sink, each in its old place."
        )
        return bool(answer["resolved"] == many)


def _table(words: list[str], numbers: list[str]) -> Table:
    table = Table()
    for name in words:
        table.add_column(name, no_wrap=name != "says")
    for name in numbers:
        table.add_column(name, justify="right")
    return table
