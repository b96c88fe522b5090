"""`new`: something to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import Log, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import ConfigError

new = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_TEMPLATE = ".template"  # ends the names of those that this project's own tools must leave alone
_KIND = re.compile(r"[a-z]([a-z0-9_-]{0,38}[a-z0-9])?")  # goes into the names of a package, a module and a class
_YAML = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")  # what `type: …` would not be read as text

Into = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder in which to make the new one.")]


@new.callback()
def _new() -> None:
    """Writes something to begin with, tests included.

    \b
    Examples:
      sluice new pipeline shop
      sluice new sink crm
      sluice new source tickets
    """


@new.command("pipeline")
def pipeline(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline's name, and its folder's.", show_default=False)],
    into: Into = Path("."),
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Makes a folder with a commented pipeline file, a contract, samples and a test. Overwrites nothing.

    \b
    Example:
      sluice new pipeline shop && sluice check shop/pipeline.yaml
    """
    speak(verbose, log_format)
    from cli.answers import answer_line
    from pipeline.file import is_name

    if not is_name(name):
        raise ConfigError(f"{name!r} is not a name", hint="a name has 1 to 63 letters, digits, _ and -, and begins with a letter or digit")
    folder = into / name
    _write("pipeline", folder, {"NAME": name})
    answer_line(f"next: sluice check {folder / 'pipeline.yaml'}")


@new.command("sink")
def sink(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The kind's name: `type` in a pipeline file.", show_default=False)],
    into: Into = Path("."),
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Makes a package with a kind of sink of your own, which works as it is, and its tests. Overwrites nothing.

    It keeps datasets in a SQLite file, exactly once; its README says what to change.

    \b
    Example:
      sluice new sink crm && pip install -e ./crm && pytest crm
    """
    speak(verbose, log_format)
    _kind("sink", name, into)


@new.command("source")
def source(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The kind's name: `type` in a pipeline file.", show_default=False)],
    into: Into = Path("."),
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Makes a package with a kind of source of your own, which works as it is, and its tests. Overwrites nothing.

    It follows a file of JSON lines, each line exactly once; its README says what to change.

    \b
    Example:
      sluice new source tickets && pip install -e ./tickets && pytest tickets
    """
    speak(verbose, log_format)
    _kind("source", name, into)


def _kind(what: Literal["sink", "source"], name: str, into: Path) -> None:
    """A package that registers a kind of sink or source."""
    from cli.answers import answer_line
    from pipeline.kinds import kinds

    if _KIND.fullmatch(name) is None:
        hint = "it has 1 to 40 lower-case letters, digits, _ and -, begins with a letter and ends with a letter or digit"
        raise ConfigError(f"{name!r} is not a name for a kind of {what}", hint=hint)
    if name in _YAML:
        raise ConfigError(f"`type: {name}` in a pipeline file would not be read as a name", hint="choose another one")
    known = kinds(f"sluice.{what}s")
    if name in known:
        raise ConfigError(f"there is a kind of {what} called {name}: {known[name].value}", hint="choose another name")
    folder = into / name
    words = re.split("[_-]+", name)
    module = "_".join(("sluice", what, *words))
    _write(what, folder, {"KIND": name, "MODULE": module, "CLASS": "".join(word.capitalize() for word in words)})
    shown = folder if folder.is_absolute() else f"./{folder}"  # pip takes `crm` for the name of a package
    answer_line(f"next: pip install -e {shown} && pytest {shown}")


def _write(scaffold: str, folder: Path, words: dict[str, str]) -> None:
    """Makes the folder of what the templates say, with these words put in, in their names too. Answers with each path."""
    from importlib import resources

    from cli.answers import answer_line

    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} is there already", hint="nothing was written; choose another name, or move it away")
        for template, path in _templates(Path(str(resources.files("cli") / "scaffold" / scaffold))):
            target = folder / _said(str(path).removesuffix(_TEMPLATE), words)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_said(template.read_text("utf-8"), words), "utf-8")
            answer_line(str(target))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error


def _said(text: str, words: dict[str, str]) -> str:
    for word, meant in words.items():
        text = text.replace(word, meant)
    return text


def _templates(root: Path) -> list[tuple[Path, Path]]:
    """Each template and its path in the new folder."""
    return [(path, path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
