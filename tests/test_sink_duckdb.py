"""The DuckDB sink keeps what every sink must keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from tests.fix_duckdb import FilePlace
from tests.sink_conformance import SinkConformance


class TestDuckDB(SinkConformance):
    lacks: ClassVar[Mapping[str, str]] = {"away": "a file is not away; who holds it is tested on its own"}

    @pytest.fixture
    def place(self, place: FilePlace) -> FilePlace:
        return place
