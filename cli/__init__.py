"""The command line: typer commands, each a thin call into the rooms below. Nothing heavy is imported before a command needs it."""
