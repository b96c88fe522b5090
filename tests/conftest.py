"""Fixtures of every test: one file per concern."""

pytest_plugins = ["tests.fix_postgres", "tests.fix_pipeline"]
