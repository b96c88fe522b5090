"""What is promised of a dataset as a whole is understood, or refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from quality.contract_reading import load_contract
from quality.service_level import ServiceLevel

_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 1.0.0
status: active
schema: [{name: orders, properties: [{name: order_id, logicalType: integer}]}]
slaProperties:
"""


@pytest.mark.parametrize(
    "value, unit, seconds",
    [
        (4, "h", 14_400), ("4", "hours", 14_400), ("4h", None, 14_400), (1.5, "D", 129_600),
        ("P1Y", None, 31_536_000), ("PT1H30M", None, 5_400),
        ("p2w", None, 1_209_600), (0, "min", 0), ("2 yr", None, 63_072_000), (1, "month", 2_592_000), ("PT0.5S", None, 0.5),
    ],
)  # fmt: skip
def test_durations(value: object, unit: str | None, seconds: float) -> None:
    assert ServiceLevel("retention", value, unit).seconds() == seconds


@pytest.mark.parametrize(
    "value, unit",
    [(4, None), (4, "fortnights"), ("P", None), ("PT", None), ("soon", "h"), (True, "h"), (None, "h"), (-1, "h"), ("1e400", "h")],
)
def test_what_is_no_duration(value: object, unit: str | None) -> None:
    with pytest.raises(ValueError, match="retention"):
        ServiceLevel("retention", value, unit).seconds()


@pytest.mark.parametrize(
    "value, unit, share", [(99.5, "percent", 0.995), ("99.5%", None, 0.995), (0.9, None, 0.9), (1, None, 1), (1, "%", 0.01)]
)
def test_shares(value: object, unit: str | None, share: float) -> None:
    assert ServiceLevel("completeness", value, unit).share() == pytest.approx(share)


@pytest.mark.parametrize("value, unit", [(101, None), (-1, None), ("most", None), (5, "h")])
def test_what_is_no_share(value: object, unit: str | None) -> None:
    with pytest.raises(ValueError, match="completeness"):
        ServiceLevel("completeness", value, unit).share()


def test_a_contract_tells_what_was_promised_of_its_dataset(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        _CONTRACT
        + "  - {property: freshness, value: 1, unit: h}\n  - {property: retention, value: 9, unit: d, element: others}\n"
        + "  - {property: retention, value: 3, unit: y}\n  - {property: completeness, value: 99, unit: percent}\n"
        + "  - {property: generalAvailability, value: Available 24/7}\n"
    )
    contract = load_contract(file)
    assert (contract.within("freshness"), contract.within("retention"), contract.completeness) == (3600, 3 * 31_536_000, 0.99)
    assert contract.within("latency") is None


def test_a_promise_that_is_not_understood_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(_CONTRACT + "  - {property: freshness, value: soon}\n  - {property: retention, value: 3, unit: fortnights}\n")
    with pytest.raises(ConfigError) as caught:
        load_contract(file)
    assert [(one.line, one.message) for one in caught.value.problems] == [
        (9, "freshness cannot be 'soon'"),
        (10, "retention has no unit 'fortnights'"),
    ]
