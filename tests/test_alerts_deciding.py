"""What is told, and when: once for a cause, together for a dataset, nothing twice within the cool-down, and once that it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from journal.alerting import Kept
from quality.alerts.conditions import Blind, Condition, Kind, Seen, Subject, decoded
from quality.alerts.deciding import Notice, Timing, decide

TIMING = Timing(group_wait=30, cool_down=3600)


def cause(name: str = "a", dataset: str = "orders", count: int = 1, kind: Kind = Kind.CAUSE) -> Condition:
    return Condition(f"{kind}/{dataset}/{name}", kind, Subject(dataset), f"rule {name}", 1000.0, "sluice", count, 100)


class Watch:
    """Who decides and remembers, under a clock that is set by hand."""

    def __init__(self, timing: Timing = TIMING) -> None:
        self.timing = timing
        self.known: dict[str, Kept] = {}
        self.now = 1_700_000_000.0

    def look(self, *conditions: Condition, after: float = 0.0, blind: Blind = ()) -> Sequence[Notice]:
        self.now += after
        decision = decide(self.now, Seen(conditions, blind), self.known, self.timing)
        self.known = {key: one for key, one in self.known.items() if key not in decision.forgotten}
        self.known |= {one.key: one for one in decision.kept}
        return decision.notices

    def told(self, *conditions: Condition, after: float = 0.0) -> list[str]:
        """The keys that are told of as wrong."""
        return [line.condition.key for notice in self.look(*conditions, after=after) for line in notice.wrong]


def test_a_new_cause_is_told_once_after_the_wait_for_others() -> None:
    watch = Watch()
    assert watch.look(cause()) == []
    assert watch.look(cause(), after=29) == []
    assert watch.told(cause(), after=1) == ["quarantine/orders/a"]
    assert [watch.look(cause(), after=600) for _ in range(50)] == [[]] * 50


def test_several_causes_of_a_dataset_are_one_message_and_datasets_have_their_own() -> None:
    watch = Watch()
    watch.look(cause("a"))
    watch.look(cause("a"), cause("b"), cause("c", "customers"), after=20)
    (orders,) = watch.look(cause("a"), cause("b"), cause("c", "customers"), after=10)
    assert [line.condition.key for line in orders.wrong] == ["quarantine/orders/a", "quarantine/orders/b"]
    assert watch.told(cause("a"), cause("b"), cause("c", "customers"), after=20) == ["quarantine/customers/c"]


def test_that_it_is_over_is_told_once_when_it_has_been_over_for_a_while() -> None:
    watch = Watch()
    watch.look(cause())
    watch.look(cause(), after=30)
    assert watch.look(after=5) == []
    assert watch.look(cause(), after=5) == []  # there again: it was not over
    watch.look(after=5)
    (notice,) = watch.look(after=30)
    assert [(line.condition.key, line.until) for line in notice.over] == [("quarantine/orders/a", watch.now - 30)]
    assert notice.wrong == []
    assert watch.look(after=5000) == []


def test_what_came_and_went_before_it_was_told_is_not_told_at_all() -> None:
    watch = Watch()
    watch.look(cause())
    assert watch.look(after=10) == []
    assert watch.look(after=1000) == []


def test_what_comes_again_within_the_cool_down_is_counted_and_told_with_the_next() -> None:
    watch = Watch()
    watch.look(cause())
    watch.look(cause(), after=30)
    watch.look(after=10)
    assert len(watch.look(after=30)) == 1  # over
    for _ in range(3):
        assert watch.look(cause(), after=60) == []
        assert watch.look(cause(), after=60) == []
        assert watch.look(after=60) == []
    assert watch.look(cause(), after=60) == []
    (notice,) = watch.look(cause(), after=3600)
    assert [line.held for line in notice.wrong] == [3]
    watch.look(after=10)
    (notice,) = watch.look(after=30)
    assert [line.held for line in notice.over] == [0]


def test_a_cause_that_grows_is_told_again_after_the_cool_down_and_no_sooner() -> None:
    watch = Watch()
    watch.look(cause(count=10))
    watch.look(cause(count=10), after=30)
    assert watch.look(cause(count=8312), after=3599) == []
    (notice,) = watch.look(cause(count=8312), after=1)
    assert [(line.again, line.more) for line in notice.wrong] == [(True, 8302)]
    assert watch.look(cause(count=9000), after=7200) == []  # a little more is no news


def test_repeat_tells_again_what_is_still_so() -> None:
    watch = Watch(replace(TIMING, repeat=86_400))
    watch.look(cause())
    watch.look(cause(), after=30)
    assert watch.look(cause(), after=86_399) == []
    (notice,) = watch.look(cause(), after=1)
    assert [(line.again, line.more) for line in notice.wrong] == [(True, 0)]


def test_what_cannot_be_seen_is_not_taken_for_over() -> None:
    watch = Watch()
    stopped = cause("b", kind=Kind.STOPPED)
    watch.look(cause(), stopped)
    watch.look(cause(), stopped, after=30)
    for _ in range(10):
        assert watch.look(after=60, blind=[(Kind.CAUSE, None), (Kind.STOPPED, "orders")]) == []
    assert watch.look(cause(), stopped, after=60) == []
    watch.look(after=1, blind=[(Kind.CAUSE, "customers")])
    (notice,) = watch.look(after=30, blind=[(Kind.CAUSE, "customers")])
    assert len(notice.over) == 2


def test_a_clock_that_was_set_back_keeps_nothing_waiting() -> None:
    watch = Watch()
    watch.look(cause())
    watch.look(cause(), after=30)
    watch.look(after=30)
    watch.look(after=30)
    watch.look(cause(), after=-1_000_000)
    assert watch.told(cause(), after=3600) == ["quarantine/orders/a"]


def test_what_has_long_been_over_is_forgotten() -> None:
    watch = Watch()
    watch.look(cause())
    watch.look(after=5)
    assert watch.known
    watch.look(after=8 * 86_400)
    assert not watch.known


_SIGHTS = st.lists(
    st.tuples(
        st.floats(0, 5000, allow_nan=False),
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 10_000), max_size=3),
        st.sampled_from([(), ((Kind.CAUSE, None),)]),
    ),
    max_size=60,
)
_TIMINGS = st.builds(
    Timing, st.sampled_from([0.0, 30.0, 600.0]), st.sampled_from([0.0, 60.0, 3600.0]), st.sampled_from([None, 60.0, 7200.0])
)


@given(sights=_SIGHTS, timing=_TIMINGS)
def test_nothing_is_told_twice_within_the_cool_down_and_each_end_once(
    sights: Sequence[tuple[float, Mapping[str, int], Blind]], timing: Timing
) -> None:
    watch = Watch(timing)
    told: dict[str, float] = {}
    opened: set[str] = set()
    for after, seen, blind in sights:
        conditions = [cause(name, dataset="orders" if name < "c" else "customers", count=count) for name, count in seen.items()]
        notices = watch.look(*conditions, after=after, blind=blind)
        assert len({notice.subject for notice in notices}) == len(notices)
        for notice in notices:
            for line in notice.wrong:
                key = line.condition.key
                assert line.condition in conditions, "only what is the case is told"
                assert watch.now - told.get(key, float("-inf")) >= timing.cool_down
                assert line.again == (key in opened)
                told[key] = watch.now
                opened.add(key)
            for line in notice.over:
                assert line.condition.key in opened
                assert line.condition.key not in {one.key for one in conditions}
                opened.remove(line.condition.key)
        assert watch.look(*conditions, blind=blind) == []
    lasting = cause("a", count=0)
    for _ in range(4):
        watch.look(lasting, after=max(timing.group_wait, timing.cool_down) + 1)
    assert lasting.key in told or watch.known[lasting.key].phase == "told"


@given(st.text(), st.text(), st.integers(0, 10**18))
def test_what_is_remembered_of_a_condition_is_what_was_seen(name: str, text: str, count: int) -> None:
    condition = Condition(name, Kind.INCIDENT, Subject(text, name, None), text, 1.5, text, count, None)
    assert decoded(condition.encoded()) == condition
