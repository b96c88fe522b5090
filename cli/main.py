"""The program `sluice`: every command by its name."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.alerts import alerts
from cli.audit import audit
from cli.audit_trail import list_ as list_trail
from cli.audit_trail import verify as verify_trail
from cli.backtest import backtest
from cli.check import check
from cli.contract import contracts
from cli.demo import demo
from cli.ending import Commands
from cli.forget import forget
from cli.new import new
from cli.plan import plan
from cli.profile import profile
from cli.quarantine import quarantine
from cli.report import report
from cli.resync import resync, snapshot
from cli.run import run, sync
from cli.schema import schema
from cli.status import status
from cli.steps import approve, discard, fix, import_, replay
from cli.trace import trace
from cli.verify import verify

app = typer.Typer(
    name="sluice",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"sluice {version('sluice-cdc')}")
        except PackageNotFoundError:
            typer.echo("sluice, run from its sources")
        raise typer.Exit


@app.callback()
def sluice(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Prints the version and ends.")] = False,
) -> None:
    """Moves changes out of Postgres into warehouses and regional stores, checks every record, and proves that nothing was lost.

    \b
    Examples:
      sluice new pipeline shop
      sluice check shop/pipeline.yaml
      sluice plan shop/pipeline.yaml
      sluice run shop/pipeline.yaml
    """


for command in (demo, check, plan, sync, run, status, verify, trace, report, profile, snapshot, resync):
    app.command()(command)
for step in (fix, approve, replay, discard, forget, backtest):
    quarantine.command()(step)
quarantine.command("import")(import_)
app.add_typer(quarantine, name="quarantine")
app.add_typer(contracts, name="contract")
app.add_typer(alerts, name="alerts")
audit.command("verify")(verify_trail)
audit.command("list")(list_trail)
app.add_typer(audit, name="audit")
app.add_typer(new, name="new")
app.command()(schema)
