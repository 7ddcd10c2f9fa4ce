"""What Telegram bears of one bot, and how the bot's answers and the alerts share it.

About 30 messages a second overall, one a second in a chat, 20 a minute in a group:
https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this

In a chat all calls are counted together (`storage.turns`). Overall each has its half: alerts go to at most
`MOST_CHATS` chats, each of which takes less than a call a second, and the bot answers `ANSWERS_PER_SECOND`
times at most, so that no second has more than 30.
"""

from __future__ import annotations

from alerts.pace import Limits
from market.timeframe import MICROSECONDS

GAP = round(1.1 * MICROSECONDS)
"""From the end of a call in a chat to the next one."""
GROUP_PER_MINUTE = 18
MOST_CHATS = 15
ANSWERS_PER_SECOND = 14
IN_CHAT = Limits(gap=GAP)
IN_GROUP = Limits(gap=GAP, per_minute=GROUP_PER_MINUTE)


def place(chat: int | str) -> str:
    """Where the calls to a chat are counted."""
    return f"telegram:{chat}"
