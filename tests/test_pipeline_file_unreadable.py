"""What is not a pipeline file at all is refused soon, and nothing makes the reader fail in another way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.load import load_pipeline

_UNREADABLE = {
    "empty": ("", 1, "the file is empty"),
    "only a comment": ("# nothing\n", 1, "the file is empty"),
    "a list": ("- a\n", 1, "this is not a pipeline"),
    "text": ("hello\n", 1, "this is not a pipeline"),
    "a variable without quotes between braces": ("a: {dsn: ${DSN}}\n", 1, "got '{'"),
    "a tab": ("pipeline: shop\n\tsources: x\n", 2, "cannot start any token"),
    "a quote that does not end": ("pipeline: 'shop\nsources: {", 2, "not valid YAML"),
    "two documents": ("pipeline: a\n---\npipeline: b\n", 2, "a second document"),
    "a control character": ("pipeline:\n  \x07\n", 2, "not valid YAML"),
    "half a character": ('pipeline: "\\ud83d"\n', 1, "half a character"),
    "an unknown alias": ("pipeline: *nobody\n", 1, "`*nobody` repeats"),
    "a key that is a list": ("? [a, b]\n: 1\n", 1, "a key is a list or a mapping"),
    "an alias that holds itself": ("pipeline: &a [*a]\n", 1, "too large or too deep"),
    "a merge that holds itself": ("a: &a {<<: &b {<<: *a}}\n", 1, "leads back"),
    "a bomb of aliases": (
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)), None, "too large",
    ),
    "a bomb of merges": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)), None, "too large",
    ),
    "brackets without end": ("[" * 100_000, 1, "levels deep"),
    "a tower": ("".join("  " * n + "a:\n" for n in range(200)), 61, "levels deep"),
}  # fmt: skip


@pytest.mark.parametrize("kind", _UNREADABLE)
@pytest.mark.timeout(20)
def test_what_is_not_a_pipeline_is_refused_soon(tmp_path: Path, kind: str) -> None:
    text, line, message = _UNREADABLE[kind]
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(tmp_path / "pipeline.yaml", {})
    assert message in caught.value.message
    assert line in (None, caught.value.problems[0].line)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_bytes(b"pipeline: shop\nowner: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"pipeline.yaml:2: not UTF-8 text"):
        load_pipeline(file)
    file.write_bytes(os.urandom(4096))
    with pytest.raises(ConfigError):
        load_pipeline(file)
    file.write_bytes(b"# " + b"x" * (5 << 20))
    with pytest.raises(ConfigError, match="larger than"):
        load_pipeline(file)
    with pytest.raises(ConfigError, match="larger than"):
        load_pipeline(Path("/dev/zero"))


@given(st.text(max_size=400))
def test_no_text_makes_the_reader_fail_otherwise_than_with_a_config_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "p.yaml")
        file.write_text(text, "utf-8", errors="replace", newline="")
        with pytest.raises(ConfigError):
            load_pipeline(file, {})


_KEYS = [
    "pipeline",
    "sources",
    "sinks",
    "datasets",
    "type",
    "dsn",
    "tables",
    "postgres",
    "duckdb",
    "path",
    "from",
    "journal",
    "orders",
    "<<",
]
_TREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(_KEYS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _TREE, min_size=2))
def test_no_shape_makes_the_reader_fail_otherwise_than_with_a_config_error(content: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "p.yaml")
        file.write_text(re.sub(r"\bNaN\b|-?\bInfinity\b", "0.5", json.dumps(content)))
        with contextlib.suppress(ConfigError):
            load_pipeline(file, {})
