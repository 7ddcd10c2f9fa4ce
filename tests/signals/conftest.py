from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market.candle import Candle
from market.timeframe import Timeframe
from signals import registry
from signals.frame import COLUMNS, CandleFrame
from signals.registry import indicator
from signals.target import Target
from storage.database import Connection, connect
from storage.tape import write_candles

START = 1_700_000_040_000_000 // 60_000_000 * 60_000_000
MakeFrame = Callable[..., CandleFrame]


def random_frame(
    count: int, *, seed: int = 1, holes: tuple[int, ...] = (), timeframe: Timeframe = Timeframe.M1
) -> CandleFrame:
    """A walk with order flow and a book; the candles at the indices `holes` are missing."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, count)))
    volume = rng.exponential(5.0, count)
    buying = np.clip(0.5 + 0.3 * np.sin(np.arange(count) / 40) + rng.normal(0, 0.1, count), 0, 1)
    high, low = close * (1 + rng.exponential(1e-3, count)), close * (1 - rng.exponential(1e-3, count))
    columns = {
        "open": np.clip(np.roll(close, 1), low, high),
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "buy_volume": volume * buying,
        "sell_volume": volume * (1 - buying),
        "cvd_close": np.cumsum(volume * (2 * buying - 1)),
        "imbalance_mean": np.where(rng.random(count) < 0.1, np.nan, rng.uniform(-90, 90, count)),
        "imbalance_last": rng.uniform(-90, 90, count),
        "spread_bps_mean": rng.exponential(8.0, count),
    }
    length = timeframe.microseconds
    times = START - START % length + np.arange(count) * length
    kept = np.setdiff1d(np.arange(count), holes)
    columns = {name: columns[name][kept] for name in COLUMNS}
    return CandleFrame(timeframe, times[kept], **columns, is_whole=rng.random(count)[kept] > 0.01)


@pytest.fixture(scope="session")
def make_frame() -> MakeFrame:
    return random_frame


@pytest.fixture
def real_frame(shared_data: Path) -> Callable[[str], CandleFrame]:
    def read(name: str) -> CandleFrame:
        table = pl.read_ipc(shared_data / "candles" / f"{name}.feather").rename({"date": "timestamp"})
        return CandleFrame.from_polars(table, Timeframe.parse(name.split("-")[1]))

    return read


@pytest.fixture
def target() -> Target:
    return Target("simulated", "BTC/USDT", Timeframe.M1)


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    """A connection in autocommit mode, as the engine wants it."""
    with connect(database, autocommit=True) as connection:
        yield connection


def put_candles(connection: Connection, target: Target, frame: CandleFrame) -> None:
    """Write the candles of `frame` onto the tape, as a stream of trades builds them."""

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    candles = (
        Candle(
            symbol=target.symbol,
            timeframe=target.timeframe,
            timestamp=int(frame.timestamp[i]),
            **{name: float(frame.column(name)[i]) for name in ("open", "high", "low", "close", "volume")},
            buy_volume=float(frame.buy_volume[i]),
            sell_volume=float(frame.sell_volume[i]),
            vwap=float(frame.close[i]),
            trade_count=1,
            cvd_close=float(frame.cvd_close[i]),
            imbalance_mean=known(frame.imbalance_mean[i]),
            imbalance_last=known(frame.imbalance_last[i]),
            spread_bps_mean=known(frame.spread_bps_mean[i]),
            snapshot_count=1,
            is_closed=True,
            is_whole=bool(frame.is_whole[i]),
            source="trades",
        )
        for i in range(len(frame))
    )
    write_candles(connection, target.exchange, candles)


@pytest.fixture
def put(target: Target, session: Connection) -> Callable[[CandleFrame], None]:
    return lambda frame: put_candles(session, target, frame)


@pytest.fixture
def bad_indicator() -> Iterator[str]:
    """A registered indicator that looks ahead: the mean of a window centred on the candle."""

    @indicator(warmup=lambda: 5)
    def centred_mean(close: np.ndarray) -> np.ndarray:
        """Looks two candles ahead."""
        result = np.full(len(close), np.nan)
        for i in range(2, len(close) - 2):
            result[i] = close[i - 2 : i + 3].mean()
        return result

    yield "centred_mean"
    del registry._indicators["centred_mean"]
    registry._bind.cache_clear()
