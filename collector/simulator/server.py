"""The simulator: runs the market's time, and sends its subscribers all that happens in it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from math import ceil
from pathlib import Path

from msgspec import Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from collector.listening import OK, Address, Refusal, listen
from collector.simulator.clock import Clock, Pace, RealClock, default_start
from collector.simulator.fault_log import FaultLog
from collector.simulator.faults import Fault
from collector.simulator.market import FIRST_HOUR
from collector.simulator.protocol import Message, Protocol, ProtocolSession
from collector.simulator.protocols import speaking
from collector.simulator.trouble import Line, Timeline, disturb, rest_trouble
from collector.simulator.truth import Truth
from market import MICROSECONDS, WrongUse, format_time, parse_time

_HOUR = 3600 * MICROSECONDS
FIRST_MOMENT = (FIRST_HOUR + 24) * _HOUR
"""Microseconds UTC before which no simulation starts."""
MAX_SPEED = 1e9
_TICK = 0.02
"""Seconds between two looks at the clock once time has caught up with it."""
_LAST_SLICE = 2.0
"""Seconds that the messages of the last moment get to reach slow readers."""


class _Subscriber(Struct, eq=False):
    websocket: ServerConnection
    session: ProtocolSession
    line: Line
    number: int


class Simulator:
    """A running simulator, made by `serve`.

    Simulated time stands still until the first subscription, and a symbol's trades happen from its own first
    subscription on, whether or not anybody stays connected. Time goes in slices of at most a second: what
    happens in one goes to the truth, then to every subscriber, and only then the next begins. So a slow
    reader makes the market wait, and nothing is ever left out.
    """

    def __init__(
        self,
        protocol: Protocol,
        pace: Pace,
        clock: Clock,
        *,
        until: int | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        self.address = Address("", 0)
        """Where it listens; its `ws_url` and `rest_url` are what `collect` wants."""
        self._protocol = protocol
        self._pace = pace
        self._clock = clock
        self._until = until
        self._faults = faults
        self._timeline = Timeline(faults)
        self._log: FaultLog | None = None
        self._connections = count(1)
        self._truth: Truth | None = None
        self._subscribers: list[_Subscriber] = []
        self._started: dict[str, None] = {}
        self._has_begun = asyncio.Event()
        self._is_stopping = False
        self._time: int | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def time(self) -> int:
        """Simulated time in microseconds UTC: everything before it has happened."""
        return self._pace.target() if self._time is None else self._time

    @property
    def is_live(self) -> bool:
        """Whether simulated time has caught up with the wall clock."""
        return self._time is not None and self._pace.is_live(self._time)

    def end_market(self) -> None:
        """Let nothing happen any more from now on; REST goes on answering."""
        self._until = self.time

    async def wait(self) -> None:
        """Wait until the simulation ends: never, unless it fails; then raises why."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def get(self, target: str) -> tuple[int, bytes]:
        """Answer a GET. In a thread, because a long answer must not hold up the market."""
        now = self.time
        trouble = rest_trouble(self._timeline, target, now)
        answer = await asyncio.to_thread(self._protocol.answer, target, trouble.now)
        await self._clock.sleep(self._pace.seconds(trouble.wait_until - now))
        return answer.status, answer.body[: len(answer.body) // 2] if trouble.is_broken else answer.body

    def refuse(self, target: str, is_websocket: bool) -> Refusal | None:
        """The refusal of a request, while the exchange is away or is asked too much."""
        now = self.time
        trouble = rest_trouble(self._timeline, target, now)
        if trouble.status == OK:
            return None
        if trouble.retry_at is None:
            return Refusal(trouble.status)
        if is_websocket:
            return None
        seconds = max(ceil(self._pace.seconds(trouble.retry_at - now)), 1)
        return Refusal(trouble.status, (("Retry-After", str(seconds)),))

    async def connected(self, websocket: ServerConnection) -> None:
        """Serve one websocket until it is closed."""
        path = websocket.request.path if websocket.request else ""
        session = self._protocol.connect(path)
        if session is None:
            await websocket.close(1008, f"{self._protocol.name} has no such endpoint")
            return
        line = Line(self._faults, self.time)
        subscriber = _Subscriber(websocket, session, line, next(self._connections))
        self._subscribers.append(subscriber)
        self._say("opened", subscriber.number)
        try:
            for text in session.greeting():
                await websocket.send(text)
            self._subscribed(session)
            async for message in websocket:
                for text in session.receive(message):
                    await websocket.send(text)
                self._subscribed(session)
        except ConnectionClosed:
            pass
        finally:
            self._subscribers.remove(subscriber)
            self._say("cut" if line.is_cut else "closed", subscriber.number)

    def _say(self, event: str, connection: int | None = None) -> None:
        if self._log is not None:
            self._log.say(event, self.time, connection)

    def _subscribed(self, session: ProtocolSession) -> None:
        self._started.update(dict.fromkeys(session.symbols))
        if self._started:
            self._has_begun.set()

    @asynccontextmanager
    async def running(self, truth: Path | None, log: Path | None = None) -> AsyncIterator[None]:
        """Let time pass in the background, from the first subscription on, until the context is left.

        The slice of time that is being sent then is finished. Raises why the simulation failed, if so.
        """
        try:
            if truth is not None:
                self._truth = Truth(truth, self._protocol)
            if log is not None:
                self._log = FaultLog(log, self._protocol, self._faults)
            self._running = asyncio.create_task(self._run(), name="simulated time")
            try:
                yield
            finally:
                await self._stop(self._running)
        finally:
            for file in (self._truth, self._log):
                if file is not None:
                    file.close()

    async def _stop(self, running: asyncio.Task[None]) -> None:
        self._is_stopping = True
        self._has_begun.set()
        await asyncio.wait({running}, timeout=_LAST_SLICE)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def _run(self) -> None:
        await self._has_begun.wait()
        if self._is_stopping:
            return
        self._time = self._pace.begin()
        has_ended = False
        while not self._is_stopping:
            target = self._pace.target()
            if self._until is not None:
                target = min(target, self._until)
            if target <= self._time:
                if self._time == self._until and not has_ended:
                    has_ended = True
                    self._say("ended")
                await self._clock.sleep(_TICK)
                continue
            second = self._time // MICROSECONDS * MICROSECONDS + MICROSECONDS
            end = min(target, second)
            await self._happen(self._time, end)
            self._time = end
            await asyncio.sleep(0)  # let requests and new subscribers in

    async def _happen(self, begin: int, end: int) -> None:
        # All is decided before anything is sent: who subscribes meanwhile begins with the next slice.
        batches = [(each, self._batch(each, begin, end)) for each in self._subscribers]
        if self._truth is not None:
            self._truth.write(self._started, begin, end)
        for subscriber, messages in batches:
            await self._send(subscriber, messages, end)

    def _batch(self, subscriber: _Subscriber, begin: int, end: int) -> list[Message]:
        """What a subscriber is sent of what happens in [begin, end)."""
        messages = subscriber.session.messages(begin, end)
        if any(self._is_closed(symbol, end) for symbol in subscriber.session.symbols):
            messages = [each for each in messages if not self._is_closed(each.symbol, each.time)]
        return subscriber.line.take(begin, end, messages)

    def _is_closed(self, symbol: str | None, time: int) -> bool:
        """Whether the symbol is traded no more at `time` (microseconds)."""
        closes = None if symbol is None else self._protocol.markets[symbol].closes
        return closes is not None and time >= closes * 1000

    async def _send(self, subscriber: _Subscriber, messages: Sequence[Message], time: int) -> None:
        done = 0
        try:
            for message in messages:
                await subscriber.websocket.send(message.payload)
                done += 1
        except ConnectionClosed:
            pass
        if self._log is not None:
            self._log.sent(messages[:done], time, subscriber.number)
        if subscriber.line.is_cut:
            subscriber.websocket.transport.abort()


@asynccontextmanager
async def serve(
    symbols: Sequence[str],
    seed: int,
    *,
    protocol: str = "binance",
    host: str = "127.0.0.1",
    port: int = 0,
    speed: float = 1.0,
    start: int | None = None,
    truth: Path | None = None,
    until: int | None = None,
    faults: Sequence[Fault] = (),
    fault_log: Path | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Simulator]:
    """Run a simulated exchange inside this event loop, while the context lasts.

    Args:
        symbols: unified symbols, as the exchange lists them that speaks this protocol.
        seed: of the market: the same seed, symbol and time give the same trades, for ever.
        protocol: what it speaks, by the id of the exchange.
        host: address to listen on, local or private.
        port: to listen on, for websocket and REST; 0 takes a free one, see `Simulator.address`.
        speed: simulated seconds a second. Time that starts in the past stops hurrying when it reaches the
            wall clock, and goes on with it.
        start: first moment, microseconds UTC. Default: the first subscription; with a speed above 1, the
            midnight (UTC) before the last one.
        truth: file to write every trade to.
        until: when the market stops, microseconds UTC: nothing happens any more, REST goes on answering.
        faults: what goes wrong, see `collector.simulator.faults.schedule`.
        fault_log: file to write the faults to, and what each connection was sent.
        clock: real time.

    Raises:
        WrongUse: an argument cannot be, the port is taken, the file cannot be written.
    """
    clock = clock or RealClock()
    if not 0 < speed <= MAX_SPEED:
        raise WrongUse(f"the speed must be above 0 and at most {MAX_SPEED:.0f}, not {speed:g}")
    if start is None:
        start = default_start(speed, clock)
    elif not FIRST_MOMENT <= start < parse_time("2200-01-01"):
        raise WrongUse(
            f"the simulated market exists from {format_time(FIRST_MOMENT)} to 2200: choose a start in it"
        )
    if until is not None and start is not None and until <= start:
        raise WrongUse(f"the market would end at {format_time(until)}, before it begins")
    spoken = speaking(protocol, symbols, seed)
    for symbol, market in spoken.markets.items():
        disturb(market, [fault for fault in faults if fault.symbol in (None, symbol)])
    simulator = Simulator(spoken, Pace(start, speed, clock), clock, until=until, faults=faults)
    # The file only once the port is ours: it may be another simulator's.
    async with (
        listen(host, port, simulator.connected, simulator.get, refuse=simulator.refuse) as simulator.address,
        simulator.running(truth, fault_log),
    ):
        yield simulator
