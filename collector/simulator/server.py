"""The simulator: runs the market's time, and sends its subscribers all that happens in it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from collector.listening import Address, listen
from collector.simulator.clock import Clock, Pace, RealClock, default_start
from collector.simulator.market import FIRST_HOUR
from collector.simulator.protocol import Protocol, ProtocolSession
from collector.simulator.protocols import speaking
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


class Simulator:
    """A running simulator, made by `serve`.

    Simulated time stands still until the first subscription, and a symbol's trades happen from its own first
    subscription on, whether or not anybody stays connected. Time goes in slices of at most a second: what
    happens in one goes to the truth, then to every subscriber, and only then the next begins. So a slow
    reader makes the market wait, and nothing is ever left out.
    """

    def __init__(self, protocol: Protocol, pace: Pace, clock: Clock) -> None:
        self.address = Address("", 0)
        """Where it listens; its `ws_url` and `rest_url` are what `collect` wants."""
        self._protocol = protocol
        self._pace = pace
        self._clock = clock
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

    async def wait(self) -> None:
        """Wait until the simulation ends: never, unless it fails; then raises why."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def get(self, target: str) -> tuple[int, bytes]:
        """Answer a GET. In a thread, because a long answer must not hold up the market."""
        answer = await asyncio.to_thread(self._protocol.answer, target, self.time)
        return answer.status, answer.body

    async def connected(self, websocket: ServerConnection) -> None:
        """Serve one websocket until it is closed."""
        path = websocket.request.path if websocket.request else ""
        session = self._protocol.connect(path)
        if session is None:
            await websocket.close(1008, f"{self._protocol.name} has no such endpoint")
            return
        subscriber = _Subscriber(websocket, session)
        self._subscribers.append(subscriber)
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

    def _subscribed(self, session: ProtocolSession) -> None:
        self._started.update(dict.fromkeys(session.symbols))
        if self._started:
            self._has_begun.set()

    @asynccontextmanager
    async def running(self, truth: Path | None) -> AsyncIterator[None]:
        """Let time pass in the background, from the first subscription on, until the context is left.

        The slice of time that is being sent then is finished. Raises why the simulation failed, if so.
        """
        if truth is not None:
            self._truth = Truth(truth, self._protocol)
        try:
            self._running = asyncio.create_task(self._run(), name="simulated time")
            try:
                yield
            finally:
                await self._stop(self._running)
        finally:
            if self._truth is not None:
                self._truth.close()

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
        while not self._is_stopping:
            target = self._pace.target()
            if target <= self._time:
                await self._clock.sleep(_TICK)
                continue
            second = self._time // MICROSECONDS * MICROSECONDS + MICROSECONDS
            end = min(target, second)
            await self._happen(self._time, end)
            self._time = end
            await asyncio.sleep(0)  # let requests and new subscribers in

    async def _happen(self, begin: int, end: int) -> None:
        # All is decided before anything is sent: who subscribes meanwhile begins with the next slice.
        batches = [(each.websocket, each.session.messages(begin, end)) for each in self._subscribers]
        if self._truth is not None:
            self._truth.write(self._started, begin, end)
        for websocket, messages in batches:
            try:
                for message in messages:
                    await websocket.send(message.payload)
            except ConnectionClosed:
                continue


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
    simulator = Simulator(speaking(protocol, symbols, seed), Pace(start, speed, clock), clock)
    # The file only once the port is ours: it may be another simulator's.
    async with (
        listen(host, port, simulator.connected, simulator.get) as simulator.address,
        simulator.running(truth),
    ):
        yield simulator
