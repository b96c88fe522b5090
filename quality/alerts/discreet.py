"""What may be told outside of the house: no secrets, and no values of datasets that have sensitive columns."""

from __future__ import annotations

import re
import shlex

from journal.quarantine import Reason
from pipeline.redact import redact
from quality.contract import Contract
from quality.judgement import MASKED

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|=\s*\([^)]*\)|\([^()]*\)(?=\s*=)")
_QUOTING = re.compile(r", got |[\"(]")
"""Behind which a message tells of one record alone."""
_TELLING = re.compile(r"[0-9]*[^\W\d_]*[0-9][\w.:-]*|[^\s@]+@[^\s@]+")


def error_told(error: str, *, sensitive: bool) -> str:
    """What an error says, in one line: its first; where values may be in it, without what is quoted, has digits or is an address."""
    first = redact(error).strip().partition("\n")[0]
    if not sensitive:
        return first
    return _TELLING.sub(MASKED, _QUOTED.sub(MASKED, first))


def cause_told(reason: Reason, pattern: str, contract: Contract | None, *, sensitive: bool, shaped: bool) -> str:
    """What records are held back for: the rule, the column, what must hold; never a value.

    What a rule says comes from the contract where it has the rule, as the message of a record may quote the record. `shaped`: whether the
    shape of the values may be told.
    """
    where = f"{reason.rule} on {reason.column}" if reason.column else reason.rule
    rule = None if contract is None else next((rule for rule in contract.rules if rule.id == reason.rule), None)
    said = rule.says if rule is not None else "" if sensitive else _QUOTING.split(reason.message, maxsplit=1)[0]
    return where + (f": {said}" if said else "") + (f"; values like {pattern}" if shaped else "")


def command(*words: str) -> str:
    """A command for a shell, to be copied: also where a name has a line's end in it."""
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    shown = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(char if char.isprintable() else _escape(char) for char in shown) + "'"


def _escape(char: str) -> str:
    """As bash reads it within $'…'."""
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
