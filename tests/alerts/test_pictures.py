import pytest

from alerts.charts import Theme
from alerts.pictures import alert_png
from market import Candle, Timeframe
from storage.database import Connection
from storage.outbox import AlertType
from storage.tape import write_candles
from tests.alerts.test_console import alert

MINUTE = 60_000_000
CLOSE = 1_800_000_000_000_000


def candle(place: int) -> Candle:
    return Candle(
        symbol="BTC/USDT",
        timeframe=Timeframe.M1,
        timestamp=CLOSE - place * MINUTE,
        open=100.0,
        high=102.0,
        low=99.0,
        close=101.0,
        volume=3.0,
        buy_volume=2.0,
        sell_volume=1.0,
        vwap=100.5,
        trade_count=3,
        cvd_close=1.0,
        imbalance_mean=None,
        imbalance_last=None,
        spread_bps_mean=None,
        snapshot_count=0,
        is_closed=True,
        is_whole=True,
    )


def test_a_signal_is_drawn_on_its_candles(connection: Connection, database: str) -> None:
    write_candles(connection, "binance", [candle(place) for place in range(20, 0, -1)])
    connection.commit()
    payload = {"exchange": "binance", "symbol": "BTC/USDT", "interval": "1m", "signal_type": "SELL"}
    shown = alert_png(database, alert(payload=payload), "dark")
    assert shown is not None
    assert shown.startswith(b"\x89PNG")
    assert alert_png(database, alert(payload={**payload, "symbol": "ETH/USDT"}), "dark") is None
    assert alert_png(database, alert(payload=payload, alert_type="data_gap"), "dark") is None


FILLS = (
    AlertType.POSITION_OPENED,
    AlertType.POSITION_CLOSED,
    AlertType.STOP_LOSS,
    AlertType.TAKE_PROFIT,
)


@pytest.mark.parametrize(("theme", "side"), [("dark", "long"), ("light", "short")])
def test_the_fills_of_a_position_are_drawn_each_in_its_way(
    connection: Connection, database: str, theme: Theme, side: str
) -> None:
    write_candles(connection, "binance", [candle(place) for place in range(20, 0, -1)])
    connection.commit()
    market = {"exchange": "binance", "symbol": "BTC/USDT", "interval": "1m"}
    pictures = [
        alert_png(
            database,
            alert(payload={**market, "side": side}, alert_type=kind, timestamp=CLOSE - MINUTE // 2),
            theme,
        )
        for kind in FILLS
    ]
    assert None not in pictures
    assert len(set(pictures)) == len(pictures)
    assert alert_png(database, alert(payload=market, alert_type=AlertType.STOP_LOSS), theme) is None
    nothing_yet = alert(
        payload={**market, "side": "long"}, alert_type=AlertType.STOP_LOSS, timestamp=CLOSE * 2
    )
    assert alert_png(database, nothing_yet, theme) is None
