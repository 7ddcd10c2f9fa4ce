"""Plays a recorded session back over a local port, as the exchange would have sent it.

The recording says when each message and each REST answer came; the first websocket connection starts that
time running, at a chosen speed, once. Whatever is subscribed is ignored: every connection gets every message
from its own beginning on. Where the recording tells which endpoint each message came from, a connection to
one of these endpoints gets what came from there only, and time waits a moment for connections to all of them.

A REST answer is given when the playback has come to its time, but one that is not later than the recording's
first websocket frame at once, so that a collector may ask for the instruments before it connects. Played
faster than recorded, the playback in its turn waits a moment at a recorded answer that nobody asked for yet:
otherwise it would be over before a collector could ask.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from collector.exchanges.packed import is_packed
from collector.listening import Address, listen
from collector.recorded_answers import RecordedAnswer, RecordedAnswers
from collector.recording import Damaged, EndedEarly, Opened, Received, RestAnswer, read
from market import MICROSECONDS, WrongUse

MAX_SPEED = 1e9
PATIENCE = 1.0
"""Seconds that a fast playback waits for a recorded answer to be asked for."""
ALL_PATIENCE = 5.0
"""Seconds that it waits for such in all."""
CLOSE_SECONDS = 60.0
"""What a reader gets to catch up at the end."""
_SHORTEST_SLEEP = 0.001
_BREATH = 64
"""Frames after which others get a turn, however fast the readers are."""
_NOT_RECORDED = b'{"error":"this was not recorded"}'


class _Progress:
    """How far the playback has come, in recorded time, and who waits for it."""

    def __init__(self, reached: float) -> None:
        self.reached = reached
        self._waiting: list[tuple[int, int, asyncio.Event]] = []
        self._order = count()

    def move(self, reached: float) -> None:
        self.reached = max(self.reached, reached)
        while self._waiting and self._waiting[0][0] <= self.reached:
            heapq.heappop(self._waiting)[2].set()

    async def wait(self, t: int) -> None:
        if t > self.reached:
            event = asyncio.Event()
            heapq.heappush(self._waiting, (t, next(self._order), event))
            await event.wait()


class Playback:
    """A recording being played, made by `play`."""

    def __init__(self, paths: Sequence[Path], speed: float) -> None:
        if not 0 < speed <= MAX_SPEED:
            raise WrongUse(f"the speed must be above 0 and at most {MAX_SPEED:.0f}, not {speed:g}")
        self.address = Address("", 0)
        """Where it listens; its `ws_url` and `rest_url` are what `collect` wants."""
        self.damage: list[str] = []
        """What of the recording cannot be played, in words."""
        self._paths = paths
        self._speed = speed
        self._recorded = RecordedAnswers()
        self._answers: list[RecordedAnswer] = []
        self._endpoints: set[str] = set()
        self._first = self._survey()
        self._progress = _Progress(self._first)
        self._patience = ALL_PATIENCE if speed > 1 else 0.0
        self._websockets: dict[ServerConnection, str] = {}
        self._is_connected = asyncio.Event()
        self._unanswered = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()

    def _survey(self) -> int:
        """Read everything once; gives the time of the first websocket frame."""
        first: int | None = None
        messages = damaged = 0
        for frame in read(self._paths):
            match frame:
                case Opened() | Received():
                    first = frame.t if first is None else min(first, frame.t)
                    if isinstance(frame, Received):
                        messages += 1
                        self._endpoints.add(_endpoint(frame.url))
                case RestAnswer(url=url, t=t, body=body):
                    self._answers.append(self._recorded.add(url, t, body))
                case Damaged():
                    damaged += 1
                case EndedEarly(path=path, reason=reason):
                    self.damage.append(f"{path} ends early: {reason}")
                case _:
                    pass
        if damaged:
            self.damage.append(f"{damaged} damaged lines are left out")
        if first is None or not messages:
            raise WrongUse(f"{', '.join(map(str, self._paths))}: no websocket message to play")
        self._endpoints.discard("")
        return first

    async def get(self, target: str) -> tuple[int, bytes]:
        """Answer a GET of `target` in its time; 404 at once if it was not recorded."""
        answer = self._recorded.take(target)
        if answer is None:
            return 404, _NOT_RECORDED
        self._unanswered += 1
        self._all_answered.clear()
        try:
            await self._progress.wait(answer.t)
        finally:
            self._unanswered -= 1
            if not self._unanswered:
                self._all_answered.set()
        return 200, answer.body

    async def connected(self, websocket: ServerConnection) -> None:
        """Let a websocket hear the playback until it is closed."""
        self._websockets[websocket] = _endpoint(websocket.request.path if websocket.request else "")
        self._is_connected.set()
        try:
            async for _ in websocket:
                pass  # whatever it subscribes
        finally:
            del self._websockets[websocket]

    async def run(self) -> None:
        """Wait for the first connection, play everything once, and close all connections."""
        await self._is_connected.wait()
        await self._all_connected()
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = iter(self._answers)
        for number, frame in enumerate(read(self._paths)):
            due = began + (frame.t - self._first) / MICROSECONDS / self._speed
            if due - loop.time() > _SHORTEST_SLEEP:
                await asyncio.sleep(due - loop.time())
            elif number % _BREATH == 0:
                await asyncio.sleep(0)
            if isinstance(frame, Received):
                await self._send(frame.message, _endpoint(frame.url))
            self._progress.move(frame.t)
            if isinstance(frame, RestAnswer):
                await self._be_patient(next(answers))
        self._progress.move(inf)
        await self._all_answered.wait()
        await asyncio.gather(*(websocket.close() for websocket in self._websockets))

    def release(self) -> None:
        """Give every answer that is still held: the playback will not come to its time any more."""
        self._progress.move(inf)

    async def _all_connected(self) -> None:
        """Give connections to the other recorded endpoints a moment, once there is one to any of them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._endpoints.intersection(self._websockets.values()) not in (set(), self._endpoints):
                    await asyncio.sleep(_SHORTEST_SLEEP)

    async def _send(self, message: bytes, endpoint: str) -> None:
        for websocket, its_own in tuple(self._websockets.items()):
            if endpoint and its_own != endpoint and its_own in self._endpoints:
                continue
            with suppress(ConnectionClosed):
                await websocket.send(message, text=not is_packed(message))

    async def _be_patient(self, answer: RecordedAnswer) -> None:
        if answer.asked.is_set() or answer.t <= self._first or self._patience <= 0:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(PATIENCE, self._patience)):
                await answer.asked.wait()
        self._patience -= loop.time() - began


def _endpoint(url: str) -> str:
    """Where a URL leads to on its host, but for its query."""
    return urlsplit(url).path


@asynccontextmanager
async def play(
    paths: Sequence[Path], *, speed: float = 1.0, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Playback]:
    """Offer a recording for playing while the context lasts; `Playback.run` plays it.

    Args:
        paths: websocket and REST files of one session, merged by time.
        speed: recorded seconds a second; with a large one nothing sleeps.
        host: address to listen on, local or private.
        port: to listen on, for websocket and REST; 0 takes a free one, see `Playback.address`.

    Raises:
        WrongUse: a file cannot be read or holds nothing to play, or the port is taken.
    """
    playback = Playback(paths, speed)
    async with listen(
        host, port, playback.connected, playback.get, close_seconds=CLOSE_SECONDS
    ) as playback.address:
        try:
            yield playback
        finally:
            playback.release()
