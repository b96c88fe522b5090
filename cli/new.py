"""`new`: something to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Log, Verbose, speak
from cli.styles import LogFormat

new = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_TEMPLATE = ".template"  # ends the names of those that this project's own tools must leave alone


@new.callback()
def _new() -> None:
    """Writes something to begin with, tests included.

    \b
    Example:
      sluice new pipeline shop
    """


@new.command("pipeline")
def pipeline(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline's name, and its folder's.", show_default=False)],
    into: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder in which to make the new one.")] = Path("."),
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Makes a folder with a commented pipeline file, a contract, samples and a test. Overwrites nothing.

    \b
    Example:
      sluice new pipeline shop && sluice check shop/pipeline.yaml
    """
    speak(verbose, log_format)
    from importlib import resources

    from cli.answers import answer_line
    from pipeline.errors import ConfigError
    from pipeline.file import is_name

    if not is_name(name):
        raise ConfigError(f"{name!r} is not a name", hint="a name has 1 to 63 letters, digits, _ and -, and begins with a letter or digit")
    folder = into / name
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} is there already", hint="nothing was written; choose another name, or move it away")
        for template, path in _templates(Path(str(resources.files("cli") / "scaffold" / "pipeline"))):
            target = folder / path.with_name(path.name.removesuffix(_TEMPLATE))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(template.read_text("utf-8").replace("NAME", name), "utf-8")
            answer_line(str(target))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    answer_line(f"next: sluice check {folder / 'pipeline.yaml'}")


def _templates(root: Path) -> list[tuple[Path, Path]]:
    """Each template and its path in the new folder."""
    return [(path, path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
