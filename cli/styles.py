"""How log lines are written."""

from __future__ import annotations

import enum


class LogFormat(enum.StrEnum):
    """`console`: colours on a terminal, key=value lines otherwise; `json`: a JSON object a line."""

    console = "console"
    json = "json"
