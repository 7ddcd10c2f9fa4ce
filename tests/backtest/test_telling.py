"""What people are told of runs and sweeps: one alert each, with the row that it speaks of or not at all."""

import pytest

from backtest import grid
from backtest.feeds import Source
from backtest.run import run
from backtest.setup import setup
from backtest.store import Market, running
from backtest.sweep import sweep
from storage.outbox import AlertType, Severity, list_alerts
from storage.routes import SILENT, Routes, Rule

MARKET = Market("kraken", "BTC/USD")
TO_PHONE = Routes(("phone",))
SLOW = [20, 40, 80]


def ran(connection, frame, routes):
    with running(connection, setup("ema_cross"), frame, MARKET, routes=routes) as begun:
        assert list_alerts(connection) == []
        begun.complete(run(frame, "ema_cross"))
    return begun.run_id


def swept(connection, frame, routes, progress=lambda _: None):
    setups, _ = grid.setups("ema_cross", {"fast": [5, 10], "slow": SLOW})
    definition = {"strategy": "ema_cross"}
    options = {"definition": definition, "routes": routes, "progress": progress, "keep": 1}
    return sweep(connection, Source("", frame), setups, MARKET, **options)


def test_a_run_is_told_with_its_figures(connection, frame):
    run_id = ran(connection, frame, TO_PHONE)
    (alert,) = list_alerts(connection)
    assert (alert.alert_type, alert.severity, alert.channel) == ("run_finished", "info", "phone")
    assert alert.title == "backtest of ema_cross on BTC/USD 1m of kraken"
    (figures, command) = alert.message.splitlines()
    assert figures.startswith("return ")
    assert command == f"deltatape backtest show {run_id}"
    assert alert.payload["backtest_id"] == str(run_id)
    assert alert.payload["total_return_pct"] == run(frame, "ema_cross").metrics.total_return_pct


def test_a_sweep_is_one_alert_however_many_runs_it_has(connection, frame):
    done = swept(connection, frame, TO_PHONE)
    assert done.total == 6
    (alert,) = list_alerts(connection)
    assert alert.title == "sweep of ema_cross on BTC/USD 1m of kraken"
    best = done.best[0].setup.values
    first, _, command = alert.message.splitlines()
    assert first.startswith("6 runs in ")
    assert first.endswith(f"; the best by sharpe_ratio: fast={best['fast']:g} slow={best['slow']:g}")
    assert command == f"deltatape sweep show {done.sweep_id}"


@pytest.mark.parametrize("work", [ran, swept])
def test_rules_decide_by_strategy_and_market(connection, frame, work):
    wanted = Rule(types=(AlertType.RUN_FINISHED,), strategies=("ema_cross",), symbols=("BTC/USD",))
    other = Rule(strategies=("trend",))
    unwanted = Rule(exchanges=("kraken",), is_sent=False)
    for place, (routes, statuses) in enumerate(
        (
            (SILENT, []),
            (Routes(("phone",), (other,)), []),
            (Routes(("phone", "mail"), (wanted,)), ["pending", "pending"]),
            (Routes(("phone",), (unwanted, wanted)), ["suppressed"]),
        )
    ):
        connection.execute("DELETE FROM alerts")
        work(connection, frame, routes)
        assert [alert.status for alert in list_alerts(connection)] == statuses, place


def fail(error):
    raise error


def broken_run(connection, frame, error):
    with running(connection, setup("ema_cross"), frame, MARKET, routes=TO_PHONE):
        fail(error)


def broken_sweep(connection, frame, error):
    swept(connection, frame, TO_PHONE, lambda _: fail(error))


@pytest.mark.parametrize("work", [broken_run, broken_sweep])
def test_what_failed_says_so_and_what_was_cancelled_says_nothing(connection, frame, work):
    with pytest.raises(KeyboardInterrupt):
        work(connection, frame, KeyboardInterrupt())
    assert list_alerts(connection) == []
    with pytest.raises(RuntimeError):
        work(connection, frame, RuntimeError("no memory"))
    (alert,) = list_alerts(connection)
    assert alert.title.endswith(" of ema_cross on BTC/USD 1m of kraken failed")
    assert alert.message.startswith("RuntimeError: no memory\n")
    assert alert.severity == Severity.WARNING


def test_a_run_that_cannot_be_stored_is_not_told_as_completed(connection, frame):
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full'; END $$"
    )
    connection.execute("CREATE TRIGGER refusing BEFORE INSERT ON alerts EXECUTE FUNCTION refuse()")
    connection.commit()
    with pytest.raises(Exception, match="full"):
        ran(connection, frame, TO_PHONE)
    connection.rollback()
    assert connection.execute("SELECT status FROM backtest_runs").fetchall() == [("running",)]
