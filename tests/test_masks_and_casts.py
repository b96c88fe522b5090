"""What becomes of values on their way into a sink: masked with the pipeline's key, or cast without loss."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.types import parse_type
from pipeline.errors import ConfigError, TerminalError
from sinks.casts import ColumnCast
from sinks.masks import REDACTED, masked
from sinks.routing import mask_key

KEY = b"0123456789abcdef"


@given(st.lists(st.one_of(st.none(), st.text())))
def test_a_hash_is_the_keyed_one_of_the_standard_library(values: list[str | None]) -> None:
    found = masked(pa.array(values, pa.string()), "hash", KEY).to_pylist()
    assert found == [None if v is None else hmac.new(KEY, v.encode(), hashlib.sha256).hexdigest() for v in values]


@pytest.mark.parametrize("length", [16, 64, 65, 200])
def test_a_key_of_any_length_hashes_as_the_standard_says(length: int) -> None:
    key = b"k" * length
    assert masked(pa.array(["x"]), "hash", key)[0].as_py() == hmac.new(key, b"x", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "value, shown",
    [
        ("ann@example.com", "a***@example.com"),
        ("élodie@exämple.fr", "é***@exämple.fr"),
        ("al@example.com", "***@example.com"),
        ("a@b", "***@b"),
        ('"odd@local"@example.com', '"***@example.com'),
        ("two\nlines@example.com", "t***@example.com"),
        ("4111111111111111", "***1111"),
        ("12345678", "***5678"),
        ("1234567", "***"),
        ("", "***"),
        ("日本語のテキスト", "***テキスト"),
        ("🙂🙂🙂🙂🙂🙂🙂🙂", "***🙂🙂🙂🙂"),
        ("🙂🙂🙂", "***"),
        ("@handle", "***"),
        ("mail@", "***"),
        ("write to ann@example.com now", "*** now"),
    ],
)
def test_a_partial_mask_shows_the_edge_of_long_values_only(value: str, shown: str) -> None:
    assert masked(pa.array([value, None]), "partial", KEY).to_pylist() == [shown, None]


@given(st.text())
def test_a_partial_mask_never_shows_more_than_half_of_a_value_beside_a_domain(value: str) -> None:
    found = masked(pa.array([value], pa.string()), "partial", KEY)[0].as_py()
    hidden, _, domain = value.rpartition("@")
    if "***@" in found and hidden:
        assert found.partition("***@")[0] in ("", hidden[0])
        assert found.endswith("@" + domain)
    else:
        assert found == "***" or (found == "***" + value[-4:] and len(value) >= 8)


def test_redacting_hides_even_whether_values_differ_and_null_stays_null() -> None:
    assert masked(pa.array(["a", None, ""]), "redact", KEY).to_pylist() == [REDACTED, None, REDACTED]


@pytest.mark.parametrize(
    "source, target, value, result",
    [
        ("numeric", "numeric(10,2)", "1.990", "1.99"),
        ("numeric", "numeric(10,2)", "1.999", None),
        ("numeric", "integer", "3.0", "3"),
        ("numeric", "integer", "3.5", None),
        ("numeric", "double precision", "-Infinity", "-Infinity"),
        ("numeric(10,2)", "bigint", "7.00", "7"),
        ("double precision", "integer", "2.5", None),
        ("double precision", "numeric(10,2)", "0.1", "0.10"),
        ("real", "numeric(10,2)", "1e+07", "10000000.00"),
        ("bigint", "smallint", "40000", None),
        ("boolean", "integer", "t", "1"),
        ("text", "boolean", "yes", "t"),
        ("text", "date", "2024-02-30", None),
        ("text", "json", '{"a": 1', None),
        ("text", "uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("date", "timestamp with time zone", "0044-03-15 BC", "0044-03-15 00:00:00+00 BC"),
        ("timestamp with time zone", "date", "infinity", "infinity"),
        ("timestamp with time zone", "date", "2024-01-31 23:59:59.9+00", "2024-01-31"),
        ("timestamp without time zone", "date", "294276-01-01 00:00:00", None),
        ("bytea", "text", "\\x00ff", "\\x00ff"),
        ("text", "time without time zone", "24:00:00", "24:00:00"),
        ("integer[]", "text", "{1,2}", "{1,2}"),
    ],
)
def test_casts_are_exact_or_an_error_of_the_row(source: str, target: str, value: str, result: str | None) -> None:
    cast = ColumnCast(source, parse_type(target))
    assert cast.problem() is None
    texts, failed = cast.apply(pa.array([value, None], pa.string()))
    assert texts.to_pylist() == [result, None]
    assert failed.tolist() == [result is None, False]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9), st.integers(0, 4))
def test_a_number_is_never_rounded_by_a_cast(number: object, scale: int) -> None:
    texts, failed = ColumnCast("numeric", parse_type(f"numeric(20,{scale})")).apply(pa.array([f"{number:f}"], pa.string()))
    exact = number == round(number, scale)  # type: ignore[call-overload]
    assert failed.tolist() == [not exact]
    assert texts.to_pylist() == [f"{number:.{scale}f}" if exact else None]


def test_the_mask_key_of_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_MASK_KEY", " 0123456789abcdef\n")
    assert mask_key(tmp_path) == b"0123456789abcdef"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SLUICE_MASK_KEY", "short")
    with pytest.raises(ConfigError, match="SLUICE_MASK_KEY is shorter"):
        mask_key(tmp_path)


def test_a_mask_key_is_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_MASK_KEY", raising=False)
    state = tmp_path / "new" / "state"
    key = mask_key(state)
    assert len(key) == 64
    assert mask_key(state) == key
    assert [path.name for path in state.iterdir()] == ["mask_key"]
    assert stat.S_IMODE((state / "mask_key").stat().st_mode) == 0o600


def test_processes_that_start_together_agree_on_the_mask_key(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from sinks.mask_key import mask_key; print(mask_key(Path(sys.argv[1])).hex())"
    environment = {name: value for name, value in os.environ.items() if name != "SLUICE_MASK_KEY"}
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    started = [subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=environment, stdout=subprocess.PIPE) for _ in range(6)]
    keys = {process.communicate(timeout=60)[0] for process in started}
    assert len(keys) == 1
    assert len(keys.pop().strip()) >= 64


def test_a_mask_key_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_MASK_KEY", raising=False)
    (tmp_path / "mask_key").mkdir()
    with pytest.raises(TerminalError, match="cannot be read"):
        mask_key(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TerminalError):
        mask_key(tmp_path / "file")
