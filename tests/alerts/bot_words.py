"""How the local Bot API reads and writes: requests, texts in Telegram's HTML, buttons, pictures, answers.

What Telegram refuses is refused in the same words: https://core.telegram.org/bots/api
"""

import json
import re
import time
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from html import unescape
from typing import Any
from urllib.parse import parse_qsl

from tests.alerts.bot_calls import Call, Message

MOST_TEXT = 4096
MOST_CAPTION = 1024
MOST_BUTTON = 64

_TAGS = {"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "a", "blockquote"}
_TAG = re.compile(r"<(/?)([a-zA-Z-]+)((?:\s[^<>]*)?)>")


class Refused(Exception):
    def __init__(self, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.status = status


def person(user: int) -> dict[str, Any]:
    return {"id": user, "is_bot": False, "first_name": f"<person {user}>"}


def shown(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "message_id": message.id,
        "date": int(time.time()),
        "chat": {"id": message.chat, "type": "private" if message.chat > 0 else "supergroup"},
    }
    if message.photo is None:
        return shown | {"text": message.plain}
    photo = {"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}
    return shown | {"photo": [photo], "caption": message.plain}


def refusal(status: int, description: str, retry_after: int | None = None) -> tuple[int, bytes]:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if retry_after is not None:
        body["parameters"] = {"retry_after": retry_after}
    return status, json.dumps(body).encode()


def checked(params: dict[str, Any], key: str, most: int) -> tuple[str, str]:
    """A text as it came and as people see it."""
    text = str(params.get(key, ""))
    plain = seen(text) if params.get("parse_mode") == "HTML" else text
    # Telegram counts units of UTF-16, after the markup was read.
    if len(plain.encode("utf-16-le")) // 2 > most:
        raise Refused(f"Bad Request: message {'caption ' if key == 'caption' else ''}is too long")
    return text, plain.strip()


def seen(text: str) -> str:
    """What people see of Telegram's HTML; what it would not parse is refused."""
    plain, stack, at = "", [], 0
    while at < len(text):
        if text[at] != "<":
            end = text.find("<", at)
            end = len(text) if end < 0 else end
            plain += unescape(text[at:end])
            at = end
            continue
        tag = _TAG.match(text, at)
        if tag is None or tag[2].lower() not in _TAGS:
            raise Refused(f"Bad Request: can't parse entities: unsupported start tag at byte offset {at}")
        if not tag[1]:
            stack.append(tag[2])
        elif not stack or stack.pop() != tag[2]:
            raise Refused(f"Bad Request: can't parse entities: unmatched end tag at byte offset {at}")
        at = tag.end()
    if stack:
        raise Refused(f"Bad Request: can't parse entities: can't find end tag corresponding to {stack[-1]}")
    return plain


def buttons(params: dict[str, Any]) -> list[list[dict[str, Any]]]:
    markup = params.get("reply_markup") or {}
    rows: list[list[dict[str, Any]]] = markup.get("inline_keyboard", [])
    for row in rows:
        for button in row:
            if not 1 <= len(button.get("callback_data", "x").encode()) <= MOST_BUTTON:
                raise Refused("Bad Request: BUTTON_DATA_INVALID")
    return rows


def picture(call: Call, name: Any) -> bytes:
    """The file that `attach://name` means, or that came as the parameter itself."""
    part = str(name).removeprefix("attach://") if name else "photo"
    data = call.files.get(part)
    if data is None or not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8")):
        raise Refused("Bad Request: IMAGE_PROCESS_FAILED")
    return data


def read(content_type: str, body: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Parameters and files of a request."""
    params: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    if content_type.startswith("application/json"):
        params = json.loads(body or b"{}")
    elif content_type.startswith("multipart/form-data"):
        whole = b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
        message = BytesParser(_class=EmailMessage, policy=HTTP).parsebytes(whole)
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            data = part.get_payload(decode=True)
            assert isinstance(name, str)
            assert isinstance(data, bytes)
            if part.get_filename() is None:
                params[name] = data.decode()
            else:
                files[name] = data
    else:
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
    return {name: _decoded(name, value) for name, value in params.items()}, files


def _decoded(name: str, value: Any) -> Any:
    if name in {"text", "caption"} or not isinstance(value, str) or value[:1] not in "[{":
        return value
    return json.loads(value)
