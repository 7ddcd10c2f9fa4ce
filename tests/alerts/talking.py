"""The bot at work: the real one in a thread of its own, on a real database, against the local Bot API."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bot_api import BotApi, bot_api

from alerts.telegram.run import BotOptions, run
from tests.alerts.bot_calls import Message

ALICE, BOB, EVE = 501, 502, 666
GROUP = -1009
PATIENCE = 60.0


@dataclass
class Talk:
    """What people do in their chats, and what they are shown."""

    api: BotApi
    failures: list[BaseException] = field(default_factory=list)

    def ask(self, text: str, user: int = ALICE, chat: int | None = None) -> Message:
        """Write `text` and wait for the answer."""
        before = self._answers()
        self.api.say(text, user, chat)
        found: Message = self.api.wait(lambda: self._answers()[len(before) :] or self.failures)[0]
        assert isinstance(found, Message), found
        return found

    def press(self, message: Message, label: str, user: int = ALICE) -> str | None:
        """Press the button that holds `label`; what the circle's end said."""
        return self.press_data(message, message.button(label), user)

    def press_data(self, message: Message, data: str, user: int = ALICE) -> str | None:
        """Press a button that carries `data`."""
        count = len(self.api.called("answerCallbackQuery"))
        self.api.press(message, data, user)
        text: str | None = self.api.wait_for("answerCallbackQuery", count + 1).params.get("text")
        return text

    def _answers(self) -> list[Message]:
        sent = [each for each in self.api.calls if each.method in ("sendMessage", "sendPhoto")]
        return [each.message for each in sent if each.status == 200 and each.message]


@contextmanager
def talking(database: str, **options: Any) -> Iterator[Talk]:
    """The bot runs while the context lasts; Alice and Bob may ask it."""
    with bot_api() as api:
        talk = Talk(api)
        stop = threading.Event()
        ready = threading.Event()
        given: dict[str, Any] = {
            "users": frozenset({ALICE, BOB}),
            "channels": ("phone", "console"),
            **options,
        }

        def work() -> None:
            try:
                run(
                    database,
                    BotOptions(token=api.token, api_url=api.address, **given),
                    stop,
                    lambda _: ready.set(),
                )
            except BaseException as error:  # noqa: BLE001 - the test's thread looks at it
                talk.failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            yield talk
        finally:
            stop.set()
            thread.join(PATIENCE)
            assert not thread.is_alive()
