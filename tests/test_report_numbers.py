"""What the numbers of a report mean: stretches of time, the service level, the error budget."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.lengths import Lengths
from quality.report.effectiveness import Effectiveness, budget, budgets_together, burn_down, together
from quality.report.levels import DEFAULT_TARGET, Measured, freshness_of, level_lines, target_of
from quality.report.trend import LONGEST, Moment, Stretches
from quality.service_level import ServiceLevel

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = 86_400


@given(st.floats(0, 2e9), st.floats(0, 5e8))
def test_stretches_are_few_and_reach_from_the_beginning_to_now(begun: float, age: float) -> None:
    now = begun + age
    stretches = Stretches.over(begun, now)
    assert 1 <= stretches.number <= 60
    assert stretches.place(now) == stretches.number - 1
    assert stretches.first <= max(begun, now - LONGEST)
    assert stretches.first % stretches.width == 0
    assert len(stretches.starts) == stretches.number


@pytest.mark.parametrize(
    "age, word",
    [
        (0, "minute"),
        (1800, "minute"),
        (4 * 3600, "5 minutes"),
        (14 * 3600, "15 minutes"),
        (2 * DAY, "hour"),
        (20 * DAY, "12 hours"),
        (50 * DAY, "day"),
        (900 * DAY, "week"),
    ],
)
def test_stretches_are_as_short_as_they_can_be(age: float, word: str) -> None:
    assert Stretches.over(1_700_000_000.0, 1_700_000_000.0 + age).word == word


def test_nothing_yet_is_one_stretch() -> None:
    assert Stretches.over(None, 1_700_000_000.0).number == 1


@pytest.mark.parametrize(
    "level, measured, state, promised",
    [
        (ServiceLevel("freshness", 1, "h"), Measured(freshness=3600), "met", "at most 1 h"),
        (ServiceLevel("Freshness", "PT90S"), Measured(freshness=91), "missed", "at most 1 min 30 s"),
        (ServiceLevel("freshness", 1, "h"), Measured(), "unknown", "at most 1 h"),
        (ServiceLevel("latency", 5, "min"), Measured(delay=301), "missed", "at most 5 min"),
        (ServiceLevel("completeness", 99.5, "percent"), Measured(complete=0.995), "met", "at least 99.5 %"),
        (ServiceLevel("completeness", 0.999), Measured(complete=0.9989), "missed", "at least 99.9 %"),
        (ServiceLevel("errorRate", 1, "%"), Measured(first_pass=0.98), "missed", "at most 1 %"),
        (ServiceLevel("timeToDetect", 10, "s"), Measured(detecting=Lengths.of([2, 4, 10])), "met", "at most 10 s"),
        (ServiceLevel("timeToRepair", 1, "d"), Measured(resolving=Lengths.of([60] * 9 + [2 * DAY])), "missed", "at most 1 d"),
        (ServiceLevel("endOfLife", "2026-11-20"), Measured(), "missed", "not before 2026-11-20"),
        (ServiceLevel("endOfSupport", "2027-01-01T00:00:00Z"), Measured(), "met", "not before 2027-01-01"),
        (ServiceLevel("generalAvailability", "2027-01-01"), Measured(), "told", "from 2027-01-01"),
        (ServiceLevel("retention", 3, "y"), Measured(), "told", "at most 3 y"),
        (ServiceLevel("freshness", "often"), Measured(freshness=1), "told", "often"),
        (ServiceLevel("completeness", True), Measured(complete=1.0), "told", "True"),
        (ServiceLevel("</script>", "</script>", "</script>"), Measured(), "told", "</script> </script>"),
    ],
)
def test_a_promise_is_compared_with_what_was_measured(level: ServiceLevel, measured: Measured, state: str, promised: str) -> None:
    (line,) = level_lines([level], measured, NOW)
    assert (line.state, line.promised) == (state, promised)


def test_the_target_is_the_contracts_or_the_default() -> None:
    assert target_of([]) == (DEFAULT_TARGET, False)
    assert target_of([ServiceLevel("retention", 1, "y"), ServiceLevel("completeness", 99.9, "percent")]) == pytest.approx((0.999, True))
    assert target_of([ServiceLevel("errorRate", 2, "percent")]) == pytest.approx((0.98, True))
    assert freshness_of([ServiceLevel("freshness", 2, "d")]) == 2 * DAY


def test_a_budget_is_spent_by_what_is_bad_and_given_back_by_what_is_released() -> None:
    assert budget(0.99, True, 10_000, 60, 10).remaining == pytest.approx(0.5)
    assert budget(0.99, True, 10_000, 150, 0).remaining == pytest.approx(-0.5)
    assert budget(0.99, True, 0, 0, 0).remaining is None
    assert budget(1.0, True, 100, 0, 0).remaining == 1
    assert budget(1.0, True, 100, 3, 0).remaining == -3
    assert budget(0.99, True, 100, 1, 5).remaining == 1


def test_the_burn_down_ends_at_what_is_left() -> None:
    whole = budget(0.9, True, 400, 30, 10)
    days = [(0, 500), (20, 10), (29, 15), (30, 5)]
    moments = [Moment(datetime.fromtimestamp(1_700_000_000 + day * DAY, UTC), rows=100, quarantined=bad) for day, bad in days]
    moments[-1] = Moment(moments[-1].start, rows=100, quarantined=5, released=10)
    left = [moment.budget for moment in burn_down(moments, whole)]
    assert left == [None, pytest.approx(0.75), pytest.approx(0.375), pytest.approx(0.5)]
    assert left[-1] == whole.remaining


def test_an_owner_is_judged_by_all_datasets_together() -> None:
    one = Effectiveness("30 days", DAY, rows=100, bad=10, detecting=Lengths.of([2.0, 5.0]), steps=3)
    other = Effectiveness(
        "30 days", DAY, rows=300, bad=2, released=2, detecting=Lengths.of([6.0]), resolving=Lengths.of([40.0, 60.0]), refused=1
    )
    both = together([one, other])
    assert (both.rows, both.success, both.complete) == pytest.approx((400, 0.97, 0.975))
    assert (both.detecting.median, both.detecting.worst) == pytest.approx((5.0, 6.0))
    assert (both.resolving.median, both.resolving.p95, both.resolved, both.refused, both.steps) == pytest.approx((50.0, 60.0, 2, 1, 3))
    budgets = budgets_together([budget(0.9, True, 100, 10, 0), budget(0.99, False, 300, 2, 2)])
    assert (budgets.rows, budgets.spent, budgets.agreed) == (400, 10, False)
    assert budgets.remaining == pytest.approx(1 - 10 / 13)
