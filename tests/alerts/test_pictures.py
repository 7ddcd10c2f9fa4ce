from alerts.pictures import signal_png
from market import Candle, Timeframe
from storage.database import Connection
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
    shown = signal_png(database, alert(payload=payload), "dark")
    assert shown is not None
    assert shown.startswith(b"\x89PNG")
    assert signal_png(database, alert(payload={**payload, "symbol": "ETH/USDT"}), "dark") is None
    assert signal_png(database, alert(payload=payload, alert_type="data_gap"), "dark") is None
