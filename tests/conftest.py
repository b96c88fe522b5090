"""Fixtures of every test: one file per concern."""

from hypothesis import settings

pytest_plugins = [
    "tests.fix_postgres",
    "tests.fix_duckdb",
    "tests.fix_pipeline",
    "tests.fix_follower",
    "tests.fix_files",
    "tests.fix_kafka",
    "tests.fix_gx",
    "tests.fix_life",
]

# Busy machines make single examples slow; what takes too long as a whole is for pytest-timeout to say.
settings.register_profile("sluice", deadline=None)
settings.load_profile("sluice")
