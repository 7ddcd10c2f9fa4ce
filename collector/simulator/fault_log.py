"""What went wrong in a simulation, as JSON lines: the schedule, and which trades each connection was sent.

{"event": "fault", "kind", "begin", "end", "symbol"} for each fault of the schedule, at the start;
{"event": "opened" | "closed" | "cut", "time", "connection"} for the connections, which count from 1;
{"event": "sent", "time", "connection", "symbol", "trade_ids"} for trades that were sent as they are: a trade
that was kept back, or altered, was not; {"event": "ended", "time"} once the market stops. Times are
microseconds UTC of simulated time.
"""

import gzip
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from collector.simulator.faults import Fault
from collector.simulator.protocol import Message, Protocol
from collector.simulator.tape import end_number, fills, next_number
from market import Unavailable, WrongUse


class FaultLog:
    """Writes the file; each line is in it when its method returns."""

    def __init__(self, path: Path, protocol: Protocol, faults: Iterable[Fault]) -> None:
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise WrongUse(f"cannot write the faults to {path}: {error.strerror}") from None
        self._protocol = protocol
        for fault in faults:
            self._write(event="fault", kind=fault.kind, begin=fault.begin, end=fault.end, symbol=fault.symbol)

    def say(self, event: str, time: int, connection: int | None = None) -> None:
        """A connection was opened or closed, or the market ended."""
        if connection is None:
            self._write(event=event, time=time)
        else:
            self._write(event=event, time=time, connection=connection)

    def sent(self, messages: Iterable[Message], time: int, connection: int) -> None:
        """These messages, which are not altered, went to a connection by `time`."""
        found: dict[str, list[str]] = {}
        for message in messages:
            if message.kind == "trade" and message.symbol is not None:
                found.setdefault(message.symbol, []).extend(self._ids(message, message.symbol))
        for symbol, ids in found.items():
            self._write(event="sent", time=time, connection=connection, symbol=symbol, trade_ids=ids)

    def _ids(self, message: Message, symbol: str) -> list[str]:
        """The trades of the message's millisecond whose ids stand in it."""
        market = self._protocol.markets[symbol]
        payload = message.payload
        text = payload if isinstance(payload, str) else gzip.decompress(payload).decode()
        moment = message.time // 1000
        first = next_number(market, moment)
        traded = fills(market, first, end_number(market, first, moment + 1))
        ids = [self._protocol.trade_id(market, fill.number) for fill in traded]
        return [name for name in ids if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", text)]

    def close(self) -> None:
        """The file is complete."""
        with self._failing():
            self._file.close()

    def _write(self, **line: Any) -> None:
        with self._failing():
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"cannot write the faults to {self._file.name}: {error.strerror}") from None
