"""Great Expectations itself, loaded once: that takes seconds."""

from __future__ import annotations

import pytest

from quality.kernels.gx import Reference


@pytest.fixture(scope="session")
def reference() -> Reference:
    """One thread's; tests do not share a frame."""
    return Reference()
