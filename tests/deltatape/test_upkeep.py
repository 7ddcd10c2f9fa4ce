"""The upkeep of old days: what is configured, one after the other; failures are told, and end nothing."""

from threading import Event

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from beside import during
from old_days import DAYS, days_in, write_days
from streaming import MIDNIGHT

from deltatape import upkeep
from deltatape.daemon import Daemon
from deltatape.parts import Part
from deltatape.settings import CollectOptions, RetainOptions, Settings, SweepOptions, TierOptions
from market import DAY, format_time
from storage import read
from storage.clock import wall_clock
from storage.database import connect
from storage.outbox import list_alerts

RETAIN = (RetainOptions(table="trades", days=30),)


@pytest.fixture
def tape(connection):
    write_days(connection)
    return connection


def configured(tmp_path, **more):
    return Settings(home=tmp_path, tier=TierOptions(url=str(tmp_path / "tier"), tables=("trades",)), **more)


def metrics(connection):
    rows = connection.execute(
        "SELECT metric, value FROM system_metrics WHERE component = 'upkeep'"
    ).fetchall()
    connection.rollback()
    return dict(rows)


def test_old_days_are_copied_then_dropped(tape, database, tmp_path):
    before = len(read.trades(database, "simulated", "BTC/USDT"))
    upkeep.run(database, configured(tmp_path, retain=RETAIN), Event())
    assert days_in(tape, "trades") == {DAYS}
    assert len(read.trades(database, "simulated", "BTC/USDT")) == before
    found = metrics(tape)
    assert (found["tier_days"], found["tier_waiting"], found["retain_days"], found["retain_kept"]) == (
        DAYS,
        1,
        DAYS,
        1,
    )
    assert found["tier_bytes"] > 0
    assert list_alerts(tape) == []


def test_without_a_configuration_nothing_is_done(tape, database, tmp_path):
    upkeep.run(database, Settings(home=tmp_path), Event())
    assert metrics(tape) == {}
    assert days_in(tape, "trades") == set(range(DAYS + 1))


def test_a_failure_is_told_once_a_day_and_the_next_goes_on(tape, database, tmp_path, caplog):
    (tmp_path / "tier").write_text("a file where the folder should be")
    candles = RetainOptions(table="candles", days=30, interval="1m")
    for _ in range(2):
        upkeep.run(database, configured(tmp_path, retain=(*RETAIN, candles)), Event())
    (alert,) = list_alerts(tape)
    assert (alert.alert_type, alert.title, alert.status) == ("system_error", "upkeep: tier", "pending")
    assert str(tmp_path / "tier") in alert.message
    assert "upkeep: tier: cannot write" in caplog.text
    assert days_in(tape, "trades") == set(range(DAYS + 1)), "what the tier is to keep and has not stays"
    times = read.candles(database, "simulated", "BTC/USDT", "1m")["timestamp"].to_physical()
    assert times[0] == MIDNIGHT + DAYS * DAY


def test_funding_of_what_is_collected_is_kept(connection, database, tmp_path):
    contract, counts = "BTC/USDT:USDT", []

    def job(rest, _ws):
        wanted = CollectOptions(exchange="binanceusdm", symbols=(contract,), rest_url=rest)
        for _ in range(2):
            upkeep.run(database, Settings(home=tmp_path, collect=(wanted,)), Event())
            counts.append(len(read.funding(database, "binanceusdm", contract)))

    during(format_time(wall_clock()), job, symbol=contract, protocol="binanceusdm")
    # The hour may be one of payment.
    assert counts[0] in (89, 90, 91)
    assert counts[1] - counts[0] in (0, 1)
    assert list_alerts(connection) == []


def test_an_exchange_that_does_not_answer_is_told(connection, database, tmp_path):
    gone = CollectOptions(exchange="binanceusdm", symbols=("BTC/USDT:USDT",), rest_url="http://127.0.0.1:9")
    spot = CollectOptions(exchange="kraken", symbols=("BTC/USD",), ws_url="ws://127.0.0.1:9")
    upkeep.run(database, Settings(home=tmp_path, collect=(gone, spot)), Event())
    (alert,) = list_alerts(connection)
    assert alert.title == "upkeep: funding"
    assert "cannot reach binanceusdm" in alert.message


def test_one_process_at_a_time(tape, database, tmp_path):
    with connect(database) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('upkeep', 0))")
        upkeep.run(database, configured(tmp_path, retain=RETAIN), Event())
        assert days_in(tape, "trades") == set(range(DAYS + 1))


def test_it_ends_between_two_days(tape, database, tmp_path, caplog):
    class Second(Event):
        looks = 0

        def is_set(self):
            self.looks += 1
            return self.looks > 2

    caplog.set_level("INFO", "deltatape.upkeep")
    upkeep.run(database, configured(tmp_path, retain=RETAIN), Second())
    assert len(list((tmp_path / "tier").rglob("*.parquet"))) == 2
    assert "stopped; what is left is for the next time" in caplog.text


def test_a_database_that_is_away_is_no_trouble(tmp_path, caplog):
    upkeep.run("postgresql://127.0.0.1:1/none", configured(tmp_path), Event())
    assert "upkeep: cannot connect" in caplog.text


@pytest.mark.parametrize(
    ("parts", "times"),
    [
        ((Part.UPKEEP,), ["3:30"]),
        ((Part.SWEEPS,), ["2:0"]),
        (tuple(Part), ["2:0", "3:30"]),
        ((Part.ALERTS,), []),
    ],
)
def test_the_daemon_does_it_once_a_day(tmp_path, parts, times):
    sweep = SweepOptions(
        exchange="kraken", symbol="BTC/USD", timeframe="1h", strategy="ema_cross", grid={"fast": "5:30:5"}
    )
    daemon = Daemon(Settings(home=tmp_path, sweep=(sweep,)), "postgresql://nowhere", [], {}, parts)
    scheduler = daemon._schedule()
    try:
        assert isinstance(scheduler, BackgroundScheduler)
        fields = [{field.name: str(field) for field in job.trigger.fields} for job in scheduler.get_jobs()]
        assert sorted(f"{found['hour']}:{found['minute']}" for found in fields) == times
    finally:
        scheduler.shutdown()
