"""Files onto the tape: which instrument each row is of, what was refused, and how it went."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from collector import exchanges
from collector.exchanges.adapter import Adapter
from collector.imports import formats
from collector.imports.candle_loader import CandleLoader
from collector.imports.source import EndedEarly, Hints, Source
from collector.imports.trade_loader import TradeLoader
from market import Candle, Instrument, Side, Timeframe, Trade, WrongUse
from storage.database import Connection, connect
from storage.instruments import note_instruments

SHOWN = 10
"""Refused rows that are told one by one."""
MAX_TIMES = 10_000
"""Times per symbol whose ordinals are remembered: no trade comes later than that many others."""
MILLISECONDS = frozenset(("binance", "binanceusdm", "bybit", "htx", "okx", "simulated"))
"""Exchanges whose canonical time is the millisecond, whatever a file says beyond it."""
RAW_IDS_SKIP = frozenset(("binanceusdm",))
"""Exchanges whose ids are consecutive for aggregates, but not for single trades."""
MAX_SEQ = 2**63 - 1
_Naming = Literal["aggregate", "number", "none"]


@dataclass(slots=True)
class ImportReport:
    """What came of an import. `counts` is what `deltatape import` prints."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("files", "rows", "new_trades", "new_candles", "known", "holes", "refused"), 0
        )
    )
    refused: list[str] = field(default_factory=list)

    def refuse(self, where: str, reason: str) -> None:
        """Count a row, or the rest of a file, that cannot be read; the first ones are told."""
        self.counts["refused"] += 1
        if len(self.refused) < SHOWN:
            self.refused.append(f"{where}: {reason}")


def load(
    files: Sequence[Path],
    url: str,
    hints: Hints,
    form: str | None = None,
    progress: Callable[[int], Any] = lambda _: None,
) -> ImportReport:
    """Write what `files` hold into the database at `url`; doing it again changes no row.

    Every file is understood before the first is written, so that what must be said is asked for at once.

    Args:
        files: of one or more formats, in the order of time.
        url: the database.
        hints: what the user says of all of them.
        form: the format, where it is not to be told by the file.
        progress: called now and then with the number of bytes read so far, of all files.

    Raises:
        WrongUse: a file is missing or of no known format, its exchange or symbol must be said, or not one
            row could be read.
        Unavailable: the database is missing.
    """
    report = ImportReport()
    sources, before = [], 0
    for path in files:
        sources.append(formats.find(path, form, hints, _teller(progress, before)))
        before += path.stat().st_size
    with connect(url, autocommit=True) as connection:
        importer = _Importer(connection, hints, report)
        for source in sources:
            importer.load(source)
    importer.count()
    if report.counts["rows"] == report.counts["refused"]:
        first = report.refused[0] if report.refused else f"{files[0]}: no rows"
        raise WrongUse(f"not one row could be read; {first}")
    return report


def _teller(progress: Callable[[int], Any], before: int) -> Callable[[int], None]:
    return lambda count: progress(before + count)


class _Importer:
    """Holds what goes on from file to file: adapters, instruments and their loaders."""

    def __init__(self, connection: Connection, hints: Hints, report: ImportReport) -> None:
        self._connection = connection
        self._hints = hints
        self._report = report
        self._adapters: dict[str, Adapter] = {}
        self._trades: dict[tuple[str, str, _Naming], TradeLoader] = {}
        self._candles: list[CandleLoader] = []
        self._ordinals: dict[tuple[str, str], dict[int, int]] = {}

    def load(self, source: Source) -> None:
        """Write one file, up to where it can be read."""
        if source.kind == "changes":
            raise WrongUse(
                f"{source.path.name} holds changes of an order book, which the tape has no place for:"
                f" deltatape backtest run --recording {source.path.name} runs over them"
            )
        exchange = self._hints.exchange or source.exchange
        if not exchange:
            raise WrongUse(f"{source.path.name}: of which exchange is it? Add --exchange")
        if exchange not in self._adapters:
            self._adapters[exchange] = exchanges.find(exchange)
        self._report.counts["files"] += 1
        if source.timeframe is None:
            self._load_trades(source, self._adapters[exchange])
        else:
            self._load_candles(source, self._adapters[exchange], source.timeframe)

    def count(self) -> None:
        """Say in the report what the loaders wrote."""
        counts, trades = self._report.counts, self._trades.values()
        counts["new_trades"] = sum(loader.written for loader in trades)
        counts["new_candles"] = sum(loader.written for loader in self._candles)
        counts["holes"] = sum(loader.holes for loader in trades)
        counts["known"] = counts["rows"] - counts["refused"] - counts["new_trades"] - counts["new_candles"]

    def _rows(self, source: Source) -> Iterator[dict[str, Any] | None]:
        """The file's good rows; None where one was refused, which is counted and told."""
        try:
            for frame in source.batches:
                self._report.counts["rows"] += frame.height
                for row in frame.iter_rows(named=True):
                    if row["reason"] is not None:
                        self._report.refuse(f"{source.path.name} line {row['line']}", row["reason"])
                    yield row if row["reason"] is None else None
        except EndedEarly as error:
            self._report.counts["rows"] += 1
            self._report.refuse(source.path.name, str(error))

    def _instrument(self, source: Source, adapter: Adapter, named: str | None) -> Instrument:
        """Whose row this is: as the user says, as the row says, as the file says."""
        symbol = self._hints.symbol or (source.symbol if named is None else None)
        name = named or source.exchange_symbol
        if symbol is None and name is not None and "/" in name and adapter.by_rule(name) is None:
            symbol = name
        if symbol is not None:
            found = adapter.instrument_for(symbol)
        elif name is not None:
            found = adapter.instrument_of(name)
        else:
            raise WrongUse(f"{source.path.name}: of which instrument is it? Add --symbol, such as BTC/USDT")
        with self._connection.transaction():
            note_instruments(self._connection, [found])
        return found

    # Trades

    def _load_trades(self, source: Source, adapter: Adapter) -> None:
        loaders: dict[tuple[str | None, _Naming], tuple[Instrument, TradeLoader]] = {}
        refused = 0
        refused_before: dict[str, int] = {}
        for row in self._rows(source):
            if row is None or self._is_nameless(source, adapter, row):
                refused += 1
                continue
            key = (row["symbol"], _naming(row["trade_id"]))
            if key not in loaders:
                instrument = self._instrument(source, adapter, row["symbol"])
                loaders[key] = instrument, self._loader(instrument, key[1])
            instrument, loader = loaders[key]
            is_after_refused = refused_before.get(instrument.symbol, refused) < refused
            refused_before[instrument.symbol] = refused
            trade = self._trade(instrument, row)
            loader.add(trade, row["received"], is_after_refused=is_after_refused)
        for _, loader in loaders.values():
            loader.flush()

    def _is_nameless(self, source: Source, adapter: Adapter, row: dict[str, Any]) -> bool:
        """Refuse a trade without its number where the exchange gives one: it could stand there twice."""
        if not adapter.has_consecutive_ids or _naming(row["trade_id"]) != "none":
            return False
        reason = f"no id, and {adapter.exchange} numbers its trades: --column trade_id=NAME says where it is"
        self._report.refuse(f"{source.path.name} line {row['line']}", reason)
        return True

    def _loader(self, instrument: Instrument, naming: _Naming) -> TradeLoader:
        key = (instrument.exchange, instrument.symbol, naming)
        if key not in self._trades:
            can_skip = naming == "none" or (naming == "number" and instrument.exchange in RAW_IDS_SKIP)
            has_ids = instrument.trade_ids_consecutive and not can_skip
            self._trades[key] = TradeLoader(self._connection, instrument, has_consecutive_ids=has_ids)
        self._trades[key].begin_file()
        return self._trades[key]

    def _trade(self, instrument: Instrument, row: dict[str, Any]) -> Trade:
        time: int = row["timestamp"]
        if instrument.exchange in MILLISECONDS:
            time -= time % 1000
        trade_id: str | None = row["trade_id"]
        sequence = _number(trade_id)
        if sequence is None:
            sequence = self._ordinal(instrument, time)
        return Trade(
            instrument.symbol,
            time,
            trade_id or f"{time}-{sequence}",
            sequence,
            row["price"],
            row["size"],
            None if row["side"] is None else Side(row["side"]),
            row["fill_count"],
        )

    def _ordinal(self, instrument: Instrument, time: int) -> int:
        """The place of a trade without a number among those of its time."""
        counts = self._ordinals.setdefault((instrument.exchange, instrument.symbol), {})
        ordinal = counts.get(time, 0)
        counts[time] = ordinal + 1
        if len(counts) > MAX_TIMES:
            del counts[next(iter(counts))]
        return ordinal

    # Candles

    def _load_candles(self, source: Source, adapter: Adapter, timeframe: Timeframe) -> None:
        loaders: dict[str | None, tuple[Instrument, CandleLoader]] = {}
        for row in self._rows(source):
            if row is None:
                continue
            if row["symbol"] not in loaders:
                instrument = self._instrument(source, adapter, row["symbol"])
                loader = CandleLoader(self._connection, instrument, timeframe)
                loaders[row["symbol"]] = instrument, loader
                self._candles.append(loader)
            instrument, loader = loaders[row["symbol"]]
            loader.add(
                Candle(
                    symbol=instrument.symbol,
                    timeframe=timeframe,
                    timestamp=row["timestamp"],
                    open=row["open"],
                    high=row["high"],
                    low=row["low"],
                    close=row["close"],
                    volume=row["volume"],
                    buy_volume=row["buy_volume"],
                    trade_count=row["trade_count"],
                    is_closed=True,
                    source="import",
                )
            )
        for _, loader in loaders.values():
            loader.flush()


def _naming(trade_id: str | None) -> _Naming:
    """What kind of id it is: of an aggregate (a17), a number, or none that orders trades."""
    if trade_id is None:
        return "none"
    digits = trade_id.removeprefix("a")
    if not (digits.isascii() and digits.isdecimal()) or int(digits) > MAX_SEQ:
        return "none"
    return "number" if digits == trade_id else "aggregate"


def _number(trade_id: str | None) -> int | None:
    """The number in an id: 17 of 17 and of a17; None where there is none."""
    if trade_id is None or _naming(trade_id) == "none":
        return None
    return int(trade_id.removeprefix("a"))
