"""The book of what Telegram bears: which calls to a chat came too soon.

https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.alerts.bot_calls import Call

OVERALL = (30, 1.0)
IN_CHAT = (1, 1.0)
IN_GROUP = (20, 60.0)
"""So many calls in so many seconds."""


def excess(calls: Sequence[Call]) -> list[str]:
    """What was more than Telegram bears of messages and their changes, wherever a call stands in the line."""
    times: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        if (chat := call.params.get("chat_id")) is not None:
            times["all chats"].append(call.at)
            times[str(chat)].append(call.at)
    return [line for where, found in times.items() for line in _excess(where, sorted(found))]


def _excess(where: str, times: list[float]) -> Iterator[str]:
    limits = [OVERALL] if where == "all chats" else [IN_CHAT, *([IN_GROUP] if where[0] in "-@" else [])]
    for most, seconds in limits:
        for place, at in enumerate(times):
            if (count := place + 1 - bisect_right(times, at - seconds)) > most:
                yield f"{where}: {count} calls within {seconds:g} s"
