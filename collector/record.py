"""Recording an exchange, live, without a database: feed → recorder, until told to stop."""

import asyncio
from pathlib import Path

from collector.collect import Target, learn_instruments
from collector.feed import Clock, Feed
from collector.recorder import Recorder
from collector.session import Counts, Session
from market import Unavailable
from storage.clock import wall_clock

TAKE_SECONDS = 0.25
"""How often what the session has built is dropped: it is there to say what must be asked for, no more."""


async def open_recording(target: Target, folder: Path, *, clock: Clock = wall_clock) -> "Recording":
    """Reach the exchange and learn its instruments; all that it says is recorded from now on.

    Args:
        target: what to record, and from where.
        folder: where the files go.
        clock: microseconds UTC now.

    Raises:
        WrongUse: the exchange or a symbol is unknown, or nothing can be written into `folder`.
        Unavailable: the exchange does not answer.
    """
    adapter = target.adapter()
    for symbol in target.symbols:
        adapter.instrument_for(symbol)
    recorder = Recorder(folder, target.exchange)
    rest = target.rest(adapter, recorder, clock)
    try:
        await learn_instruments(adapter, rest)
        session = Session(adapter, target.symbols)
        for symbol in target.symbols:
            session.stream(symbol)
        feed = Feed(session, target.symbols, ws_url=target.ws_url, rest=rest, clock=clock, tap=recorder)
        await feed.probe()
    except BaseException:
        await rest.close()
        recorder.close()
        raise
    return Recording(feed, recorder)


class Recording:
    """A feed whose every message is written down; `open_recording` makes it."""

    def __init__(self, feed: Feed, recorder: Recorder) -> None:
        self.feed = feed
        self.recorder = recorder

    @property
    def counts(self) -> Counts:
        """What came so far."""
        return self.feed.session.counts

    async def run(self, seconds: float | None = None) -> None:
        """Record until cancelled, or for `seconds`.

        Raises:
            Unavailable: the disk does not take any more.
        """
        tasks = {asyncio.create_task(self.feed.run()), asyncio.create_task(self._take())}
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.feed.take()

    async def close(self) -> None:
        """Give everything back, and finish the file."""
        await self.feed.close()
        await asyncio.to_thread(self.recorder.close)

    async def _take(self) -> None:
        while self.recorder.failure is None:
            await asyncio.sleep(TAKE_SECONDS)
            self.feed.take()
        raise Unavailable(f"recording ended: {self.recorder.failure}")
