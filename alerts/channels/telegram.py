"""The channel to a Telegram chat: a text with every reason and number at once, and then its picture.

Errors and their meaning: https://core.telegram.org/bots/api#making-requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from telegram import Bot, InputMediaPhoto, error
from telegram.request import HTTPXRequest

from alerts.plan import Failure
from alerts.telegram.markup import MOST_CAPTION, MOST_TEXT, bold, cut, safe
from alerts.telegram.secret import hidden
from alerts.texts import digest_lines, digest_title, lines, origin
from market.timeframe import MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from telegram import Message

    from storage.outbox import Alert

    Draw = Callable[[Alert], bytes | None]

log = logging.getLogger(__name__)

CALL_SECONDS = 20.0
Result = TypeVar("Result")
_KINDS = {"position_opened": "▶️ ", "position_closed": "⏹ ", "stop_loss": "🛑 ", "take_profit": "🎯 "}
_MARKS = {"warning": "⚠️ ", "critical": "🔴 "}
_SIGNALS = {"STRONG_BUY": "🟢🟢 ", "BUY": "🟢 ", "SELL": "🟥 ", "STRONG_SELL": "🟥🟥 "}


class TelegramChannel:
    """Sends to one chat; it belongs to the thread that first sends.

    Args:
        token: the bot's, which stands in no message and no log.
        chat: its number, or the @name of a channel.
        api_url: of the Bot API's server.
        draw: gives the picture (PNG) of an alert, where there is one to give.
        gap_seconds: between a message and its picture, since Telegram counts both.
    """

    def __init__(
        self, token: str, chat: int | str, api_url: str, draw: Draw | None = None, *, gap_seconds: float = 0
    ) -> None:
        self._token = token
        self._chat = chat
        self._draw = draw
        self._gap = gap_seconds
        self._taken: Message | None = None
        self._called = 0.0
        self._runner = asyncio.Runner()
        self._request = HTTPXRequest(
            connection_pool_size=2, connect_timeout=5, read_timeout=10, write_timeout=10, pool_timeout=1
        )
        self._bot = Bot(token, base_url=f"{api_url.rstrip('/')}/bot", request=self._request)

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        """Send these in one message, without a picture: that takes its time."""
        self._taken = None
        try:
            self._taken = self._run(
                self._bot.send_message(
                    self._chat, text(alerts, MOST_TEXT), parse_mode="HTML", disable_web_page_preview=True
                )
            )
        except (error.BadRequest, error.Forbidden, error.ChatMigrated) as refused:
            return self._failure(refused, is_permanent=True)
        except error.RetryAfter as asked:
            return Failure(f"Telegram: {asked}", retry_after=_microseconds(asked.retry_after))
        except (error.TelegramError, TimeoutError) as failed:
            return self._failure(failed, is_answer_lost=_is_answer_lost(failed))
        return None

    def add_picture(self, alerts: Sequence[Alert]) -> bool:
        """Put its picture to the message that was just sent, where there is one to draw.

        What goes wrong with it is logged, and no more: the text has arrived.

        Returns:
            Whether that made a call.
        """
        if self._taken is None or len(alerts) > 1 or (picture := self._drawn(alerts[0])) is None:
            return False
        time.sleep(max(self._called + self._gap - time.monotonic(), 0))
        try:
            self._run(self._with_picture(alerts, picture))
        except (error.TelegramError, TimeoutError) as failed:
            log.warning("alert %s stays without its picture: %s", alerts[0].id, self._failure(failed).reason)
        return True

    def _drawn(self, alert: Alert) -> bytes | None:
        try:
            return None if self._draw is None else self._draw(alert)
        except Exception as failed:  # noqa: BLE001 - whatever is wrong with it, the text has arrived
            log.warning("alert %s stays without a picture: %s", alert.id, failed)
            return None

    def _with_picture(self, alerts: Sequence[Alert], picture: bytes) -> Coroutine[Any, Any, object]:
        """The text becomes the picture's caption; where it is too long for one, the picture answers it."""
        caption, number = text(alerts, MOST_TEXT), self._taken.message_id if self._taken else 0
        if caption == text(alerts, MOST_CAPTION):
            media = InputMediaPhoto(picture, caption, parse_mode="HTML")
            return self._bot.edit_message_media(media, self._chat, number)
        return self._bot.send_photo(self._chat, picture, reply_to_message_id=number)

    def _run(self, call: Coroutine[Any, Any, Result]) -> Result:
        async def within() -> Result:
            async with asyncio.timeout(CALL_SECONDS):
                return await call

        try:
            return self._runner.run(within())
        finally:
            self._called = time.monotonic()

    def _failure(
        self, failed: Exception, *, is_permanent: bool = False, is_answer_lost: bool = False
    ) -> Failure:
        reason = hidden(f"{type(failed).__name__}: {failed}", self._token)
        return Failure(f"Telegram: {reason}", is_permanent=is_permanent, is_answer_lost=is_answer_lost)

    def close(self) -> None:
        """Close its connections."""
        self._runner.run(self._request.shutdown())
        self._runner.close()


def text(alerts: Sequence[Alert], most: int) -> str:
    """The message in Telegram's HTML: of one alert all that it knows, of several their titles."""
    if len(alerts) > 1:
        return cut("\n".join([bold(digest_title(alerts)), *map(safe, digest_lines(alerts))]), most)
    (alert,) = alerts
    mark = _SIGNALS.get(str(alert.payload.get("signal_type")), "") or _KINDS.get(alert.alert_type, "")
    mark = mark or _MARKS.get(alert.severity, "")
    return cut("\n".join([f"{mark}{bold(alert.title)}", *map(safe, lines(alert)), safe(origin(alert))]), most)


def _is_answer_lost(failed: Exception) -> bool:
    """Whether Telegram may have taken what the call brought."""
    cause = failed.__cause__
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return False
    if isinstance(failed, error.InvalidToken):
        return False
    # An answer that is no JSON, of a gateway or cut off; or none at all. Else the server says that it failed.
    return cause is not None or isinstance(failed, TimeoutError) or type(failed) is error.TelegramError


def _microseconds(asked: int | timedelta) -> int:
    return round((asked.total_seconds() if isinstance(asked, timedelta) else asked) * MICROSECONDS)
