"""How a flow ends over an error of ours: each step lets go of it here, and the flow runs out as if its input were over.

An exception that leaves a step goes through the engine, which adds a report of its own in another language and loses what kind it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import SluiceError


class Ending:
    """The error that ends a flow, once there is one. A step that sees it does nothing any more: what came before is void."""

    def __init__(self) -> None:
        self.error: SluiceError | None = None

    def __bool__(self) -> bool:
        return self.error is not None

    def over(self, error: SluiceError) -> None:
        """Ends the flow with an error, unless one has already."""
        if self.error is None:
            self.error = error

    @contextmanager
    def on_error(self) -> Iterator[None]:
        """Keeps the first error of the block. What the block had begun has to be undone by whoever began it."""
        try:
            yield
        except SluiceError as error:
            self.over(error)

    def raised(self) -> None:
        """Raises the error, for whoever ran the flow."""
        if self.error is not None:
            raise self.error
