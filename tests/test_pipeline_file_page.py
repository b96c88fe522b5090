"""The page about the pipeline file names every key there is, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from pipeline.alerts import CHANNELS, AlertsBlock
from pipeline.file import DatasetBlock, FeedBlock, JournalBlock, MonitoringBlock, PipelineFile, RouteBlock
from pipeline.kinds import kinds

PAGE = Path(__file__).parents[1] / "docs" / "pipeline-file.md"


def _blocks() -> dict[str, tuple[type[BaseModel], int]]:
    """Heading of the page -> the model, and which of the section's tables is its."""
    blocks: dict[str, tuple[type[BaseModel], int]] = {
        "The file": (PipelineFile, 0),
        "`journal`": (JournalBlock, 0),
        "`monitoring`": (MonitoringBlock, 0),
        "`alerts`": (AlertsBlock, 0),
        **{f"`{name}` channel": (model, 0) for name, model in CHANNELS.items()},
        "Datasets": (DatasetBlock, 0),
        "Datasets, from": (FeedBlock, 1),
        "Routes": (RouteBlock, 0),
    }
    for group, word in (("sources", "source"), ("sinks", "sink")):
        blocks |= {f"`{name}` {word}": (point.load().Config, 0) for name, point in kinds(f"sluice.{group}").items()}
    return blocks


def _rows(heading: str, place: int) -> dict[str, str]:
    """Key -> default, of a table of a section."""
    sections = re.split(r"^#{2,3} (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    text = dict(zip(sections[1::2], sections[2::2], strict=True))[heading.partition(",")[0]]
    table = text.split("| --- | --- | --- |")[place + 1].split("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, flags=re.MULTILINE))


@pytest.mark.parametrize("heading", _blocks())
def test_every_key_is_on_the_page_with_its_default(heading: str) -> None:
    model, place = _blocks()[heading]
    rows = _rows(heading, place)
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert rows.keys() == fields.keys()
    for key, field in fields.items():
        assert _agrees(rows[key], field), f"{key}: the page says {rows[key]!r}, its default is {field.default!r}"


def _agrees(written: str, field: FieldInfo) -> bool:
    if field.is_required():
        return written == "required"
    if not isinstance(field.default, str | int | float | bool):
        return written != "required"
    found = re.fullmatch(r"`(.+)`", written)
    return found is not None and TypeAdapter(field.rebuild_annotation()).validate_strings(found[1]) == field.default


def test_the_examples_of_the_page_load(tmp_path: Path) -> None:
    from pipeline.load import load_pipeline

    first, second, lookups, fourth = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    sinks = fourth.replace("sinks:\n", "")
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "orders.odcs.yaml").write_text("kind: DataContract\n")
    file = tmp_path / "pipeline.yaml"
    file.write_text(first + sinks + second + lookups)
    pipeline = load_pipeline(file, {"PORTAL_DSN": "host=a", "EU_DSN": "host=b"})
    assert set(pipeline.sinks) == {"warehouse", "eu"}
    assert set(pipeline.datasets) == {"orders"}
    assert set(pipeline.lookups) == {"products"}
