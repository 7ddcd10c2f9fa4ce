"""What the chats of the local Bot API look like: the methods that send, change and delete messages."""

from typing import Any

from tests.alerts.bot_calls import Call, Message
from tests.alerts.bot_words import MOST_CAPTION, MOST_TEXT, Refused, buttons, checked, picture, shown


class Chats:
    """All chats of one bot.

    Attributes:
        messages: every message that was taken and not deleted, by id.
    """

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self._ids = iter(range(1, 10_000_000))

    def _send_message(self, call: Call) -> Any:
        return self._new(call, "text", MOST_TEXT, None)

    def _send_photo(self, call: Call) -> Any:
        return self._new(call, "caption", MOST_CAPTION, picture(call, call.params.get("photo")))

    def _new(self, call: Call, key: str, most: int, photo: bytes | None) -> Any:
        text, plain = checked(call.params, key, most)
        if not plain and photo is None:
            raise Refused("Bad Request: message text is empty")
        chat = int(call.params["chat_id"])
        message = Message(next(self._ids), chat, text, plain, photo, buttons(call.params), at=call.at)
        call.message = self.messages[message.id] = message
        return shown(message)

    def _edit_message_text(self, call: Call) -> Any:
        message = self._known(call)
        if message.photo is not None:
            raise Refused("Bad Request: there is no text in the message to edit")
        return self._changed_to(call, message, *checked(call.params, "text", MOST_TEXT), None)

    def _edit_message_caption(self, call: Call) -> Any:
        message = self._known(call)
        return self._changed_to(call, message, *checked(call.params, "caption", MOST_CAPTION), message.photo)

    def _edit_message_media(self, call: Call) -> Any:
        message = self._known(call)
        media = call.params["media"]
        photo = picture(call, media["media"])
        return self._changed_to(call, message, *checked(media, "caption", MOST_CAPTION), photo)

    def _edit_message_reply_markup(self, call: Call) -> Any:
        message = self._known(call)
        return self._changed_to(call, message, message.text, message.plain, message.photo)

    def _changed_to(self, call: Call, message: Message, text: str, plain: str, photo: bytes | None) -> Any:
        rows = buttons(call.params)
        if (text, photo, rows) == (message.text, message.photo, message.buttons):
            raise Refused(
                "Bad Request: message is not modified: specified new message content and reply markup are"
                " exactly the same as a current content and reply markup of the message"
            )
        message.text, message.plain, message.photo, message.buttons = text, plain, photo, rows
        message.edits += 1
        call.message = message
        return shown(message)

    def _delete_message(self, call: Call) -> bool:
        del self.messages[self._known(call).id]
        return True

    def _known(self, call: Call) -> Message:
        message = self.messages.get(int(call.params["message_id"]))
        if message is None or message.chat != int(call.params["chat_id"]):
            raise Refused("Bad Request: message to edit not found")
        return message
