"""A sweep of the settings that comes to nothing says so: in the log and in the outbox."""

import logging

import pytest

from deltatape.settings import Settings, SweepOptions
from deltatape.sweeps import sweep_of_the_day
from storage.outbox import list_alerts


@pytest.mark.parametrize(
    ("strategy", "wrong"),
    [
        (
            "ema_cross",
            "no closed candles of BTC/EUR 1h on kraken are stored: collect",
        ),
        ("moon_phase", "unknown strategy 'moon_phase'"),
    ],
)
def test_what_comes_to_nothing_is_told(database, connection, tmp_path, caplog, strategy, wrong):
    options = SweepOptions(
        exchange="kraken", symbol="BTC/EUR", timeframe="1h", strategy=strategy, grid={"fast": "5:10:5"}
    )
    with caplog.at_level(logging.WARNING):
        sweep_of_the_day(database, options, Settings(home=tmp_path))
    (alert,) = list_alerts(connection)
    assert (alert.alert_type, alert.severity) == ("system_error", "critical")
    assert alert.title == f"sweep of {strategy} on BTC/EUR 1h on kraken"
    assert alert.message.startswith(wrong)
    assert wrong in caplog.text


def test_without_the_database_it_is_logged(tmp_path, caplog):
    options = SweepOptions(
        exchange="kraken", symbol="BTC/EUR", timeframe="1h", strategy="ema_cross", grid={"fast": "5:10:5"}
    )
    sweep_of_the_day("postgresql://127.0.0.1:1/none", options, Settings(home=tmp_path))
    assert "cannot tell: cannot connect" in caplog.text
