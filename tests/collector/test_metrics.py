"""What a collector measures: quantiles against sorting, windows that forget, rates, and what is unhealthy."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.metrics import METRICS, LagWindow, Meter
from collector.session import Counts

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def exact(delays, share):
    return sorted(delays)[max(ceil(share * len(delays)), 1) - 1] / SECOND


@given(
    st.lists(st.integers(0, 10**10), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0])
)
def test_a_quantile_is_that_of_sorting_to_a_fifteenth(delays, share):
    window = LagWindow()
    for delay in delays:
        window.add(delay)
    (found,) = window.quantiles(share)
    assert found == pytest.approx(exact(delays, share), rel=1 / 15, abs=1e-9)


@given(st.integers(-(2**70), 2**70))
def test_any_delay_is_taken(delay):
    window = LagWindow()
    window.add(delay)
    (found,) = window.quantiles(0.5)
    assert 0 <= found < 2**40 / SECOND
    if delay <= 0:
        assert found == 0


def test_a_count_stands_for_so_many():
    one, many = LagWindow(), LagWindow()
    one.add(100, 98)
    one.add(5_000_000, 2)
    for _ in range(98):
        many.add(100)
    many.add(5_000_000)
    many.add(5_000_000)
    assert one.quantiles(0.5, 0.98, 0.99) == many.quantiles(0.5, 0.98, 0.99)


def test_without_a_delay_there_is_no_quantile():
    assert LagWindow().quantiles(0.5, 0.99) == [None, None]


def test_what_is_older_than_the_window_is_forgotten():
    window = LagWindow(seconds=60)
    window.turn(START)
    window.add(10 * SECOND)
    for step in range(1, 59):
        window.turn(START + step * SECOND)
        assert window.quantiles(1.0) != [None], step
    window.add(1)
    for step in range(59, 72):
        window.turn(START + step * SECOND)
    assert window.quantiles(1.0) == [1e-6]
    for step in range(72, 200):
        window.turn(START + step * SECOND)
    assert window.quantiles(1.0) == [None]


@given(st.lists(st.integers(-300, 300), max_size=100))
def test_a_clock_that_jumps_does_no_harm(steps):
    window, now = LagWindow(), START
    for step in steps:
        now += step * SECOND
        window.turn(now)
        window.add(7)
    window.turn(now + 61 * SECOND)
    window.turn(now + 122 * SECOND)
    assert window.quantiles(0.5) == [None]


def test_a_meter_measures_receipt_and_commit():
    meter, counts = Meter("kraken"), Counts()
    assert meter.reading(START, counts).exchange_lag_p50 is None
    meter.received([lag * 1000 for lag in range(1, 101)])
    meter.committed([START, START + 100_000, START + 200_000], START + SECOND // 2)
    found = meter.reading(START + 2 * SECOND, counts)
    assert found.exchange_lag_p50 == pytest.approx(0.050, rel=1 / 15)
    assert found.exchange_lag_p99 == pytest.approx(0.099, rel=1 / 15)
    assert found.commit_lag_p50 == pytest.approx(0.4, rel=1 / 15)
    assert found.commit_lag_p99 == pytest.approx(0.5, rel=1 / 15)
    assert found.commit_age == 1.5


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5_000, 50_000])
def test_a_large_commit_is_measured_by_a_part_that_stands_for_all(count):
    meter = Meter("kraken")
    # The first tenth waited for a second, the others for 10 ms.
    meter.committed([START] * (count // 10) + [START + 990_000] * (count - count // 10), START + SECOND)
    found = meter.reading(START + SECOND, Counts())
    assert found.commit_lag_p50 == pytest.approx(0.010, rel=1 / 15)
    if count >= 10:
        assert found.commit_lag_p99 == pytest.approx(1.0, rel=1 / 15)


def test_rates_are_those_of_the_last_seconds():
    meter, counts = Meter("kraken"), Counts()
    for step in range(60):
        counts.messages, counts.trades = 100 * step, 10 * step
        found = meter.reading(START + step * SECOND, counts)
        if step:
            assert found.messages_per_second == pytest.approx(100)
            assert found.trades_per_second == pytest.approx(10)
    for step in range(60, 75):
        found = meter.reading(START + step * SECOND, counts)
    assert found.messages_per_second == found.trades_per_second == 0


def test_being_read_often_changes_no_rate():
    meter, counts = Meter("kraken"), Counts()
    for step in range(3000):
        counts.messages = step
        found = meter.reading(START + step * SECOND // 100, counts)
    assert found.messages_per_second == pytest.approx(100, rel=0.01)
    assert len(meter._samples) < 15


def test_values_have_every_number_that_is_known():
    meter = Meter("kraken")
    early = meter.reading(START, Counts()).values()
    assert set(METRICS) - set(early) == {
        "exchange_lag_p50",
        "exchange_lag_p99",
        "commit_lag_p50",
        "commit_lag_p99",
        "commit_age",
    }
    meter.received([5])
    meter.committed([START], START)
    late = meter.reading(START, Counts(messages=3), stale=["BTC/USD: silent"], queue_depth=7).values()
    assert set(late) == set(METRICS)
    assert (late["messages"], late["streams_stale"], late["queue_depth"]) == (3.0, 1.0, 7.0)


def test_problems_name_what_is_wrong():
    meter = Meter("kraken")
    assert meter.reading(START, Counts()).problems() == ["kraken: nothing was written yet"]
    meter.committed([], START)
    assert meter.reading(START + 15 * SECOND, Counts(), streams_live=2).problems() == []
    (late,) = meter.reading(START + 20 * SECOND, Counts()).problems()
    assert late == "kraken: nothing was written for 20 s"
    found = meter.reading(START, Counts(), stale=["BTC/USD: not connected"], spool_batches=2).problems()
    assert found == ["kraken: BTC/USD: not connected", "kraken: 2 batches wait on disk for the database"]
