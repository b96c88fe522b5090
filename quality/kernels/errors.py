"""What can be wrong with a rule that names an expectation."""

from __future__ import annotations

from pipeline.errors import SluiceError


class BadExpectation(SluiceError):  # noqa: N818  (reads as what it is)
    """An expectation that cannot be judged: `argument` names the argument at fault, if it is one's.

    It is wrong in itself (unknown, missing or ill-typed arguments), does not go with the types of its columns, or asks for what
    one batch cannot answer.
    """

    def __init__(self, message: str, argument: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.argument = argument

    def __reduce__(self) -> tuple[object, ...]:
        return _bad, (self.message, self.argument, self.hint)


def _bad(message: str, argument: str | None, hint: str | None) -> BadExpectation:
    return BadExpectation(message, argument, hint=hint)


class UnknownExpectation(BadExpectation):
    """A name that Great Expectations does not know. `nearest` are the names that look like it, the closest first."""

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        hint = (
            f"did you mean {nearest[0]}?"
            if nearest
            else "the names are those of Great Expectations, such as expect_column_values_to_be_between"
        )
        super().__init__(f"there is no expectation {name}", hint=hint)
        self.name = name
        self.nearest = nearest

    def __reduce__(self) -> tuple[object, ...]:
        return UnknownExpectation, (self.name, self.nearest)
