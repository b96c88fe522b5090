"""How often a query has been asked, and when."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Watermark:
    """After so many answers; `since` is when the last one was asked for (seconds since 1970), `digest` of all its rows, if it was small."""

    answers: int = 0
    since: float = 0.0
    digest: str | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Watermark:
        return cls(**json.loads(text))
