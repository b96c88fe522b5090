"""A pipeline file is read whole, and whatever is wrong with it is said at once, with its line and what to do."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, Problem
from pipeline.load import load_pipeline
from pipeline.model import Feed, Pipeline
from pipeline.names import is_pattern, join_name, split_name

_HEAD = """\
pipeline: shop
sources:
  portal: {type: postgres, dsn: "host=db dbname=shop", tables: [public.orders, public.customers]}
sinks:
  warehouse: {type: duckdb, path: w.duckdb}
"""


class Folder:
    """A folder for pipeline files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str, environment: dict[str, str] | None = None) -> Pipeline:
        """Loads the text as a pipeline file."""
        file = self.path / "pipeline.yaml"
        file.write_text(textwrap.dedent(text), "utf-8")
        return load_pipeline(file, environment or {})

    def problems(self, text: str, environment: dict[str, str] | None = None) -> list[Problem]:
        """What is said to be wrong with the text."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, environment)
        assert all(problem.file == self.path / "pipeline.yaml" for problem in caught.value.problems)
        return list(caught.value.problems)

    def only(self, text: str, environment: dict[str, str] | None = None) -> Problem:
        """The one thing that is wrong with the text."""
        (problem,) = self.problems(text, environment)
        return problem


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_minimal_file_is_a_name_a_source_and_a_sink(folder: Folder) -> None:
    pipeline = folder.load(_HEAD)
    assert pipeline.name == "shop"
    assert pipeline.state == folder.path / ".sluice" / "shop"
    assert pipeline.sources["portal"].config.tables == ["public.orders", "public.customers"]  # type: ignore[attr-defined]
    assert pipeline.sinks["warehouse"].config.path == folder.path / "w.duckdb"  # type: ignore[attr-defined]
    assert pipeline.sinks["warehouse"].routes is None
    assert pipeline.monitoring == {}


def test_everything_that_can_be_said_is_read(folder: Folder) -> None:
    (folder.path / "c").mkdir()
    (folder.path / "c" / "orders.yaml").write_text("kind: DataContract\n")
    pipeline = folder.load(
        """\
        pipeline: shop
        owner: integration@example.com
        state: here/state
        journal: {type: local, max_size: 2GiB, retention: 12h}
        monitoring: {port: 9100}
        sources:
          portal: {type: postgres, dsn: "${DSN:-host=db}", tables: [public.*, 'sales."my orders"']}
        datasets:
          orders: {from: 'portal.sales."my orders"', key: order_id, contract: c/orders.yaml}
          products: {from: {source: portal.products}, key: [a, b]}
        sinks:
          warehouse: {type: duckdb, path: /w/w.duckdb}
          eu:
            type: postgres
            dsn: host=eu
            schema: sales
            datasets:
              orders:
                table: orders_eu
                where: region = 'EU'
                columns: {email: mask(hash)}
                mode: history
                on_delete: soft
                on_truncate: ignore
              products:
        """
    )
    assert pipeline.state == folder.path / "here/state"
    assert (pipeline.journal.max_bytes, pipeline.journal.retention_seconds) == (2 << 30, 43200.0)
    assert pipeline.monitoring == {
        "ingest": ("127.0.0.1", 9100),
        "deliver:warehouse": ("127.0.0.1", 9101),
        "deliver:eu": ("127.0.0.1", 9102),
        "watch": ("127.0.0.1", 9103),
    }
    orders, products = pipeline.datasets["orders"], pipeline.datasets["products"]
    assert orders.feeds == (Feed("portal", 'sales."my orders"'),)
    assert (orders.key, products.key) == (("order_id",), ("a", "b"))
    assert orders.contract == folder.path / "c/orders.yaml"
    assert products.feeds == (Feed("portal", "public.products"),)
    route = pipeline.sinks["eu"].route("orders")
    assert route is not None
    assert (route.table, route.where, route.mode, route.line) == ("orders_eu", "region = 'EU'", "history", 18)
    assert pipeline.sinks["eu"].route("products") is not None
    assert pipeline.sinks["eu"].route("customers") is None
    assert pipeline.dataset_of("portal", 'sales."my orders"') == "orders"


def test_lists_of_datasets_and_a_single_name_stand_for_themselves(folder: Folder) -> None:
    pipeline = folder.load(_HEAD.replace("path: w.duckdb", "path: w.duckdb, datasets: [orders]"))
    assert list(pipeline.sinks["warehouse"].routes or {}) == ["orders"]
    assert list(folder.load(_HEAD.replace("path: w.duckdb", "path: w, datasets: orders")).sinks["warehouse"].routes or {}) == ["orders"]


def test_variables_are_filled_in_from_the_environment(folder: Folder) -> None:
    pipeline = folder.load(_HEAD.replace("w.duckdb", '"${DIR:-data}/${NAME}.duckdb"'), {"NAME": "w"})
    assert pipeline.sinks["warehouse"].config.path == folder.path / "data/w.duckdb"  # type: ignore[attr-defined]


def test_two_dollars_stand_for_one_that_is_no_variable(folder: Folder) -> None:
    pipeline = folder.load(_HEAD.replace("path: w.duckdb", "path: w, datasets: {orders: {where: \"note = '$${X}$5'\"}}"))
    route = pipeline.sinks["warehouse"].route("orders")
    assert route is not None
    assert route.where == "note = '${X}$5'"


def test_the_file_may_be_in_another_folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.load(_HEAD)
    monkeypatch.chdir(folder.path.parent)
    pipeline = load_pipeline(Path(folder.path.name, "pipeline.yaml"), {})
    assert pipeline.sinks["warehouse"].config.path == folder.path / "w.duckdb"  # type: ignore[attr-defined]


_MISTAKES = {
    "an unknown key": ("ownr: me", "", 1, "unknown key `ownr`", "did you mean owner?"),
    "an unknown key of a block": ("journal: {type: local, max_sizes: 1}", "", 1, "unknown key `max_sizes` in `journal`", "max_size"),
    "a missing key": ("monitoring: {host: 0.0.0.0}", "", 1, "`monitoring.port` is missing", None),
    "a number for text": ("owner: 5", "", 1, "`owner` is not text", "in quotes"),
    "text for a number": ("monitoring: {port: http}", "", 1, "`monitoring.port` is not a whole number", None),
    "a port that is none": ("monitoring: {port: 70000}", "", 1, "`monitoring.port`: input should be less than or equal to 65535", None),
    "ports that run out": ("monitoring: {port: 65535}", "", 1, "the 2 processes need the ports up to 65536", None),
    "a size that is none": ("journal: {max_size: big}", "", 1, "`journal.max_size`: a size is a number of bytes", None),
    "a size of nothing": ("journal: {max_size: 0}", "", 1, "`journal.max_size`: input should be greater than 0", None),
    "a time that is none": ("journal: {retention: soon}", "", 1, "`journal.retention`: a time is a number of seconds", None),
    "an endless time": ("journal: {retention: .inf}", "", 1, "`journal.retention`: input should be a finite number", None),
    "an unknown journal": ("journal: {type: redis}", "", 1, "`journal.type`: expected 'local' or 'kafka', not 'redis'", None),
    "a journal nowhere": ("journal: {type: kafka}", "", 1, "`journal`: `type: kafka` needs `bootstrap_servers`", None),
    "a local journal with topics": ("journal: {prefix: a}", "", 1, "`journal`: `prefix` is of `type: kafka`", None),
    "no partitions": ("journal: {type: kafka, bootstrap_servers: a, partitions: 0}", "", 1, "`journal.partitions`: input should", None),
    "a prefix that no topic has": ("journal: {type: kafka, bootstrap_servers: a, prefix: a/b}", "", 1, "`journal.prefix`: what", None),
    "an option of nobody's": (
        "journal: {type: kafka, bootstrap_servers: a, options: {sasl.pasword: x}}", "", 1, "`journal.options`: librdkafka has no", None
    ),
    "a list for a block": ("journal: [local]", "", 1, "`journal` is not a block of keys", None),
    "a block for a list": ("datasets: [orders]", "", 1, "`datasets` is not a block of keys", None),
    "a dataset without from": ("datasets: {orders: {}}", "", 1, "`datasets.orders.from` is missing", None),
    "an empty dataset": ("datasets: {orders: }", "", 1, "`datasets.orders` is not a block of keys", None),
    "an unknown key of a dataset": ("datasets: {orders: {from: portal.public.orders, contrct: x}}", "", 1, "`contrct`", "contract"),
    "from another source": ("datasets: {orders: {from: prtal.public.orders}}", "", 1, "there is no source `prtal`", "did you mean portal?"),
    "from no table": ("datasets: {orders: {from: portal}}", "", 1, "`portal` names no table", "portal.public.TABLE"),
    "from a pattern": ("datasets: {orders: {from: portal.public.*}}", "", 1, "`portal.public.*` is a pattern", "each table"),
    "from several tables": ("datasets: {a: {from: [portal.orders, portal.customers]}}", "", 1, "has several sources", "a contract"),
    "from a table that is not read": ("datasets: {a: {from: portal.public.order}}", "", 1, "does not have public.order", "public.orders"),
    "from a broken name": ("datasets: {a: {from: 'portal.\"x'}}", "", 1, "is not a name", None),
    "from a misspelt block": ("datasets: {a: {from: {surce: portal.orders}}}", "", 1, "unknown key `surce`", "did you mean source?"),
    "a key with a column twice": ("datasets: {orders: {from: portal.orders, key: [a, a]}}", "", 1, "a is there twice", None),
    "an empty key column": ("datasets: {orders: {from: portal.orders, key: ['']}}", "", 1, "`datasets.orders.key.0` is empty", None),
    "a contract that is not there": ("datasets: {orders: {from: portal.orders, contract: no.yaml}}", "", 1, "contract no.yaml", "folder"),
    "a dataset's name that is none": ('datasets: {"a\\nb": {from: portal.orders}}', "", 1, "all printable", None),
    "a table in two datasets": (
        "datasets: {a: {from: portal.orders}, b: {from: portal.public.orders}}", "", 1, "is in two datasets, `a` and `b`", "one dataset",
    ),
    "two tables with one name": ("datasets: {customers: {from: portal.orders}}", "", 4, "both be the dataset `customers`", "name one"),
    "a variable that is not set": ("owner: ${NOBODY}", "", 1, "the environment variable NOBODY is not set", "${NOBODY:-default}"),
    "a variable that is empty": ("owner: ${EMPTY}", "", 1, "the environment variable EMPTY is empty", "${EMPTY:-default}"),
    "a variable that is none": ("owner: ${NAME:default}", "", 1, "`${NAME…` is not a variable", "$${"),
    "a key that is there twice": ("owner: a\nowner: b", "", 2, "the key `owner` is there twice, first in line 1", None),
    "a tag": ("owner: !!python/name:os.system x", "", 1, "the tag", None),
    "an unknown source": ("", "type: postgres, d>type: postgrs, d", 3, "has an unknown type `postgrs`", "did you mean postgres?"),
    "a source without type": ("", "type: postgres, >", 3, "`sources.portal` has no `type`", "postgres"),
    "a type that is a list": ("", "type: postgres, >type: [postgres], ", 3, "has an unknown type `['postgres']`", None),
    "a source without tables": ("", ", tables: [public.orders, public.customers]>", 3, "`sources.portal.tables` is missing", None),
    "a source with no table": ("", "[public.orders, public.customers]>[]", 3, "`sources.portal.tables` is empty", None),
    "a misspelt key of a source": ("", "tables>table", 3, "unknown key `table` in `sources.portal`", "did you mean tables?"),
    "a broken dsn": ("", '"host=db dbname=shop">"host=db s3cret"', 3, "`sources.portal.dsn`: not a libpq connection string", None),
    "a table's name that is none": ("", "public.orders,>public..orders,", 3, "is not a name", None),
    "a table's name with three parts": ("", "public.orders,>a.b.c,", 3, "3 parts", None),
    "an unknown sink": ("", "duckdb, path>dukdb, path", 5, "`sinks.warehouse` has an unknown type `dukdb`", "did you mean duckdb?"),
    "a sink that is text": ("", "{type: duckdb, path: w.duckdb}>w.duckdb", 5, "`sinks.warehouse` is not a block of keys", "type"),
    "a sink without a path": ("", ", path: w.duckdb>", 5, "`sinks.warehouse.path` is missing", None),
    "a misspelt key of a sink": ("", "path: w>paths: w", 5, "unknown key `paths` in `sinks.warehouse`", "did you mean path?"),
    "a sink's name that is none": ("", "  warehouse:>  ware house:", 5, "a name has 1 to 63 letters", None),
    "a sink of an unknown dataset": ("", "w.duckdb>w, datasets: [order]", 5, "`order`, which is not a dataset", "did you mean orders?"),
    "a sink with a dataset twice": ("", "w.duckdb>w, datasets: [orders, orders]", 5, "`orders` is there twice", None),
    "a sink of nothing": ("", "w.duckdb>w, datasets: []", 5, "`datasets` is empty", "leave the key out"),
    "a sink of numbers": ("", "w.duckdb>w, datasets: [5]", 5, "is a list of names, or a mapping", None),
    "an unknown key of a route": ("", "w.duckdb>w, datasets: {orders: {were: x}}", 5, "in `sinks.warehouse.datasets.orders`", "where"),
    "an unknown mode": ("", "w.duckdb>w, datasets: {orders: {mode: miror}}", 5, "expected 'mirror' or 'history', not 'miror'", "mirror"),
    "a route that is text": ("", "w.duckdb>w, datasets: {orders: all}", 5, "`sinks.warehouse.datasets.orders` is not a block", None),
    "an empty where": ("", 'w.duckdb>w, datasets: {orders: {where: ""}}', 5, "`sinks.warehouse.datasets.orders.where` is empty", None),
    "one table for two datasets": (
        "", "w.duckdb>w, datasets: {orders: {table: t}, customers: {table: t}}", 5, "would both write the table t", "table",
    ),
    "a pipeline's name that is none": ("", "pipeline: shop>pipeline: my shop", 1, "`pipeline`: a name has", None),
    "a pipeline's name that is a number": ("", "pipeline: shop>pipeline: 2024", 1, "`pipeline` is not text", "in quotes"),
    "no pipeline": ("", "pipeline: shop>owner: me", 1, "`pipeline` is missing", None),
}  # fmt: skip


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_a_mistake_is_named_with_its_line_and_what_to_do(folder: Folder, mistake: str) -> None:
    before, change, line, message, hint = _MISTAKES[mistake]
    old, _, new = change.partition(">")
    assert old in _HEAD
    text = (before + "\n" if before else "") + (_HEAD.replace(old, new, 1) if old else _HEAD)
    found = folder.problems(text, {"EMPTY": ""})
    problem = next((one for one in found if message in one.message), None)
    assert problem is not None, found
    assert problem.line == line
    assert (hint or "") in (problem.hint or "")
    assert "s3cret" not in str(found)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(folder: Folder) -> None:
    found = folder.problems(
        """\
        pipelin: shop
        owner: ${NOBODY}
        journal: {max_size: big}
        sources:
          portal: {type: postgres, dsn: "host=db", tables: [public.orders], slott: a}
          other: {type: postgress}
        datasets:
          orders: {from: portl.public.orders}
          items: {form: portal.public.items}
        sinks:
          warehouse: {type: duckdb, paths: w.duckdb, datasets: {orders: {mode: both}}}
        """
    )
    assert [problem.line for problem in found] == sorted(problem.line or 0 for problem in found)
    told = "\n".join(map(str, found))
    for word in ("pipelin", "`pipeline` is missing", "NOBODY", "max_size", "slott", "postgress", "portl", "form", "paths", "both"):
        assert word in told


def test_a_missing_section_is_named(folder: Folder) -> None:
    assert [problem.message for problem in folder.problems("pipeline: shop\n")] == ["`sources` is missing", "`sinks` is missing"]
    assert "`sinks` is empty" in str(folder.problems(_HEAD.partition("sinks:")[0] + "sinks: {}\n"))


def test_a_route_may_name_what_a_pattern_can_bring(folder: Folder) -> None:
    text = _HEAD.replace("[public.orders, public.customers]", "['public.ord*']").replace("path: w.duckdb", "path: w, datasets: [{}]")
    folder.load(text.replace("[{}]", "[orders]"))
    assert "customers" in folder.only(text.replace("[{}]", "[customers]")).message


def test_two_sinks_may_not_write_the_same_table(folder: Folder) -> None:
    found = folder.only(_HEAD + "  copy: {type: duckdb, path: w.duckdb, datasets: [orders]}\n")
    assert "the sinks `warehouse` and `copy` would both write the table orders" in found.message
    folder.load(_HEAD + "  copy: {type: duckdb, path: other.duckdb, datasets: [orders]}\n")


def test_yaml_can_repeat_itself(folder: Folder) -> None:
    pipeline = folder.load(
        """\
        pipeline: shop
        sources:
          portal: {type: postgres, dsn: host=db, tables: [public.orders]}
        sinks:
          a: {type: duckdb, path: a.duckdb, datasets: {orders: &eu {where: region = 'EU', columns: {email: drop}}}}
          b: {type: duckdb, path: b.duckdb, datasets: {orders: {<<: *eu, where: region = 'US'}}}
          c: {type: duckdb, path: c.duckdb, datasets: {orders: {<<: [{mode: history}, *eu]}}}
        """
    )
    route = pipeline.sinks["b"].route("orders")
    assert route is not None
    assert (route.where, dict(route.columns)) == ("region = 'US'", {"email": "drop"})
    route = pipeline.sinks["c"].route("orders")
    assert route is not None
    assert (route.where, route.mode) == ("region = 'EU'", "history")


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        load_pipeline(tmp_path / "none.yaml")
    (tmp_path / "pipeline.yaml").write_text(_HEAD)
    with pytest.raises(ConfigError, match="Is a directory") as caught:
        load_pipeline(tmp_path)
    assert "pipeline.yaml" in (caught.value.hint or "")


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + _HEAD.replace("\n", "\r\n").encode())
    assert load_pipeline(file, {}).name == "shop"


def test_passwords_are_in_no_message(folder: Folder) -> None:
    secret = "hunter2"
    for text in (
        f'pipeline: shop\nsources:\n  a: {{type: postgres, dsn: "postgresql://u:{secret}@h:port/d", tables: [x]}}\n',
        f'pipeline: shop\nsources:\n  a:\n    type: postgres\n    dsn: "host=h password={secret}"\n    dsn: "password={secret}"\n',
        f"pipeline: shop\nsources:\n  a: {{type: postgres, dsn: [password={secret}], tables: [x]}}\n",
        f"pipeline: shop\nsources:\n  a: {{type: postgres, dsn: 5, tables: [x], pasword: {secret}}}\n",
        "pipeline: shop\nsources:\n  a: {type: postgres, dsn: 'password=${DSN:" + secret + "}', tables: [x]}\n",
    ):
        assert secret not in "\n".join(map(str, folder.problems(text)))
    pipeline = folder.load(_HEAD.replace("host=db", f"host=db password={secret}"))
    assert secret not in repr(pipeline)


_PART = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda part: "\0" not in part)


@given(st.lists(_PART, min_size=1, max_size=4))
def test_every_name_is_read_back_as_it_was_written(parts: list[str]) -> None:
    assert split_name(join_name(*parts)) == tuple(parts)


@given(st.text())
def test_what_is_a_name_has_parts_and_what_is_not_is_refused(text: str) -> None:
    try:
        parts = split_name(text)
    except ValueError:
        return
    assert all(parts) or '""' in text
    assert split_name(join_name(*parts)) == parts


@given(_PART)
def test_a_part_in_quotes_is_no_pattern(part: str) -> None:
    quoted = '"' + part.replace('"', '""') + '"'
    assert not is_pattern(f"public.{quoted}")
    assert is_pattern(f"{quoted}.a*")
