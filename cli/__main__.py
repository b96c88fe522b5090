"""The program: `sluice`, or `python -m cli`."""

from __future__ import annotations

from cli.loading import leave, loading


def main() -> None:
    """Runs the command that the arguments name, and ends the process."""
    with loading():
        from cli.main import app
    try:
        app(prog_name="sluice")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        leave(end.code or 0)


if __name__ == "__main__":
    main()
