"""A local server that speaks the Telegram Bot API over HTTP, and misbehaves when told to.

It keeps every call with its time and what the chats look like after it. What Telegram refuses it refuses in
the same words: texts and captions that are too long, HTML that does not parse, edits that change nothing,
buttons whose data is too long, two programs that poll at once. Facts: https://core.telegram.org/bots/api
"""

import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl
from urllib.request import ProxyHandler, Request, build_opener

TOKEN = "4242:AAtest-token_that-must-never-be-seen"
MOST_TEXT = 4096
MOST_CAPTION = 1024
MOST_BUTTON = 64
PATIENCE = 60.0

_TAGS = {"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "a", "blockquote"}
_TAG = re.compile(r"<(/?)([a-zA-Z-]+)((?:\s[^<>]*)?)>")
_direct = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class Fault:
    """How one call goes wrong.

    Attributes:
        status: of the answer; 0: there is none.
        description: what it says.
        retry_after: seconds that it asks to wait.
        is_taken: whether the call has its effect all the same.
        is_held: the connection stays open without an answer, until the client or the test has enough.
        body: sent instead of any JSON.
    """

    status: int = 0
    description: str = ""
    retry_after: int | None = None
    is_taken: bool = False
    is_held: bool = False
    body: bytes | None = None


def too_many(retry_after: int) -> Fault:
    return Fault(429, f"Too Many Requests: retry after {retry_after}", retry_after)


def broken(status: int = 502) -> Fault:
    return Fault(status, body=b"<html>Bad Gateway</html>")


def refused(status: int, description: str) -> Fault:
    return Fault(status, description)


BLOCKED = refused(403, "Forbidden: bot was blocked by the user")
NOT_TAKEN = Fault()
"""The connection is cut before the call has any effect."""
TIMED_OUT = Fault(is_held=True)
"""No answer ever comes, and nothing was taken."""
ANSWER_LOST = Fault(is_taken=True)
"""The message was taken, then the connection is cut."""
ANSWER_LATE = Fault(is_taken=True, is_held=True)
"""The message was taken, and no answer ever comes."""
MALFORMED = Fault(200, is_taken=True, body=b'{"ok":true,"resul')


@dataclass
class Call:
    """One call of a method, as it came.

    Attributes:
        method: such as sendMessage.
        params: its parameters; what was sent as JSON is decoded.
        files: bytes by the name of their part.
        at: `time.monotonic()` of its arrival.
        fault: how it went wrong.
        status: what it was answered; 0 where it was not, or not yet.
        message: what it brought into being or changed.
    """

    method: str
    params: dict[str, Any]
    files: dict[str, bytes]
    at: float
    fault: Fault | None = None
    status: int = 0
    message: "Message | None" = None


@dataclass
class Message:
    """A message in a chat, as it looks now.

    Attributes:
        id: the message_id, unique on this server.
        chat: its chat.
        text: the text or the caption, markup and all.
        plain: what people see of it.
        photo: the picture's bytes.
        buttons: rows of buttons, as they came.
        edits: how often it was changed.
        at: `time.monotonic()` of its arrival.
    """

    id: int
    chat: int
    text: str
    plain: str
    photo: bytes | None = None
    buttons: list[list[dict[str, Any]]] = field(default_factory=list)
    edits: int = 0
    at: float = 0.0

    def button(self, label: str) -> str:
        """The data of the button whose label contains `label`."""
        (found,) = [each for row in self.buttons for each in row if label in each["text"]]
        return found["callback_data"]


class Refused(Exception):
    def __init__(self, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.status = status


class BotApi:
    """The server's state, to be looked at and told what to do from the test's thread.

    Attributes:
        token: the only one it knows.
        calls: every call that came, in order.
        messages: every message that was taken and not deleted, by id.
        webhook: what setWebhook was given; empty without one.
        pushes: what the webhook answered, push by push; 0 where it did not.
        polls: calls of getUpdates that were begun.
        misbehave: asked about each call for which no fault stands in line.
    """

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.address = ""
        self.calls: list[Call] = []
        self.messages: dict[int, Message] = {}
        self.misbehave: Callable[[Call], Fault | None] = lambda _: None
        self.webhook: dict[str, Any] = {}
        self.pushes: list[int] = []
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._updates: list[dict[str, Any]] = []
        self.polls = 0
        self._ids = iter(range(1, 10_000_000))
        self._changed = threading.Condition()
        self._is_over = False

    @property
    def base_url(self) -> str:
        """What the library calls base_url: the token and the method follow it."""
        return f"{self.address}/bot"

    def fail(self, method: str, *faults: Fault) -> None:
        """Let the next calls of `method` go wrong, one by one."""
        with self._changed:
            self._faults[method].extend(faults)

    def called(self, method: str) -> list[Call]:
        """The calls of `method` so far."""
        with self._changed:
            return [call for call in self.calls if call.method == method]

    def wait(self, is_so: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """What `is_so` gives once that is true; it is asked again after each call."""
        until = time.monotonic() + timeout
        while True:
            with self._changed:
                if found := is_so():
                    return found
                left = until - time.monotonic()
                assert left > 0, f"waited in vain; calls: {[call.method for call in self.calls]}"
                self._changed.wait(min(left, 0.2))

    def wait_for(self, method: str, count: int = 1) -> Call:
        """The `count`-th call of `method`, once it came and was dealt with."""

        def found() -> Call | None:
            calls = [call for call in self.calls if call.method == method]
            return calls[count - 1] if len(calls) >= count and calls[count - 1].status else None

        call: Call = self.wait(found)
        return call

    def say(self, text: str, user: int, chat: int | None = None, kind: str | None = None) -> int:
        """A person writes `text`, to the bot itself or in a group; gives the update's id."""
        chat = user if chat is None else chat
        kind = kind or ("private" if chat > 0 else "supergroup")
        message: dict[str, Any] = {
            "message_id": next(self._ids),
            "date": int(time.time()),
            "chat": {"id": chat, "type": kind, "title": "a group"},
            "from": _person(user),
            "text": text,
        }
        if text.startswith("/"):
            length = len(text.split()[0])
            message["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
        return self._update({"message": message})

    def press(self, message: Message, data: str, user: int) -> int:
        """A person presses a button of `message`; gives the update's id."""
        query = {
            "id": str(next(self._ids)),
            "from": _person(user),
            "chat_instance": "1",
            "data": data,
            "message": _shown(message),
        }
        return self._update({"callback_query": query})

    def _update(self, content: dict[str, Any]) -> int:
        with self._changed:
            update = {"update_id": 1000 + next(self._ids), **content}
            self._updates.append(update)
            self._changed.notify_all()
            webhook = dict(self.webhook)
        if webhook:
            threading.Thread(target=self._push, args=(webhook, update), daemon=True).start()
        return int(update["update_id"])

    def _push(self, webhook: dict[str, Any], update: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        if secret := webhook.get("secret_token"):
            headers["X-Telegram-Bot-Api-Secret-Token"] = secret
        while not self._is_over:
            request = Request(webhook["url"], json.dumps(update).encode(), headers)
            try:
                with _direct.open(request, timeout=PATIENCE) as answer:
                    status = answer.status
            except HTTPError as error:
                status = error.code
            except OSError:
                status = 0
            with self._changed:
                self.pushes.append(status)
                if status == 200:
                    self._updates.remove(update)
                self._changed.notify_all()
            if status == 200:
                return
            time.sleep(0.1)

    def close(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # What the handler asks.

    def answer(self, call: Call) -> tuple[int, bytes] | None:
        """Status and body for `call`; None: cut the connection."""
        with self._changed:
            self.calls.append(call)
            waiting = self._faults[call.method]
            call.fault = waiting.popleft() if waiting else self.misbehave(call)
        answered = self._answer(call)
        if call.fault is not None and call.fault.is_held:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over)
            return None
        with self._changed:
            call.status = answered[0] if answered else -1
            self._changed.notify_all()
        return answered

    def _answer(self, call: Call) -> tuple[int, bytes] | None:
        fault = call.fault
        result: Any = None
        if fault is None or fault.is_taken:
            try:
                result = self._obey(call)
            except Refused as error:
                return _refusal(error.status, str(error))
        if fault is None:
            return 200, json.dumps({"ok": True, "result": result}).encode()
        if fault.body is not None:
            return fault.status, fault.body
        return _refusal(fault.status, fault.description, fault.retry_after) if fault.status else None

    def _obey(self, call: Call) -> Any:
        name = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", call.method)
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise Refused("Not Found", 404)
        if call.method == "getUpdates":
            return method(call)
        with self._changed:
            return method(call)

    def _get_me(self, _: Call) -> Any:
        return {
            "id": int(self.token.split(":")[0]),
            "is_bot": True,
            "first_name": "Tape",
            "username": "tape_bot",
        }

    def _get_updates(self, call: Call) -> Any:
        offset, seconds = int(call.params.get("offset", 0)), float(call.params.get("timeout", 0))
        until = time.monotonic() + seconds
        with self._changed:
            if self.webhook:
                raise Refused(
                    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook"
                    " to delete the webhook first",
                    409,
                )
            self.polls = mine = self.polls + 1
            self._changed.notify_all()
            self._updates = [each for each in self._updates if each["update_id"] >= offset]
            while not self._updates and not self._is_over and time.monotonic() < until:
                self._changed.wait(until - time.monotonic())
                if self.polls != mine:
                    raise Refused(
                        "Conflict: terminated by other getUpdates request; make sure that only one bot"
                        " instance is running",
                        409,
                    )
            return self._updates[:100]

    def _set_webhook(self, call: Call) -> bool:
        self.webhook = call.params if call.params.get("url") else {}
        return True

    def _delete_webhook(self, _: Call) -> bool:
        self.webhook = {}
        return True

    def _set_my_commands(self, call: Call) -> bool:
        for each in call.params["commands"]:
            if not re.fullmatch("[a-z0-9_]{1,32}", each["command"]) or not each["description"]:
                raise Refused("Bad Request: BOT_COMMAND_INVALID")
        return True

    def _send_message(self, call: Call) -> Any:
        return self._new(call, "text", MOST_TEXT, None)

    def _send_photo(self, call: Call) -> Any:
        return self._new(call, "caption", MOST_CAPTION, _picture(call, call.params.get("photo")))

    def _new(self, call: Call, key: str, most: int, photo: bytes | None) -> Any:
        text, plain = _checked(call.params, key, most)
        if not plain and photo is None:
            raise Refused("Bad Request: message text is empty")
        chat = int(call.params["chat_id"])
        message = Message(next(self._ids), chat, text, plain, photo, _buttons(call.params), at=call.at)
        call.message = self.messages[message.id] = message
        return _shown(message)

    def _edit_message_text(self, call: Call) -> Any:
        message = self._known(call)
        if message.photo is not None:
            raise Refused("Bad Request: there is no text in the message to edit")
        return self._changed_to(call, message, *_checked(call.params, "text", MOST_TEXT), None)

    def _edit_message_caption(self, call: Call) -> Any:
        message = self._known(call)
        return self._changed_to(call, message, *_checked(call.params, "caption", MOST_CAPTION), message.photo)

    def _edit_message_media(self, call: Call) -> Any:
        message = self._known(call)
        media = call.params["media"]
        photo = _picture(call, media["media"])
        return self._changed_to(call, message, *_checked(media, "caption", MOST_CAPTION), photo)

    def _edit_message_reply_markup(self, call: Call) -> Any:
        message = self._known(call)
        return self._changed_to(call, message, message.text, message.plain, message.photo)

    def _changed_to(self, call: Call, message: Message, text: str, plain: str, photo: bytes | None) -> Any:
        buttons = _buttons(call.params)
        if (text, photo, buttons) == (message.text, message.photo, message.buttons):
            raise Refused(
                "Bad Request: message is not modified: specified new message content and reply markup are"
                " exactly the same as a current content and reply markup of the message"
            )
        message.text, message.plain, message.photo, message.buttons = text, plain, photo, buttons
        message.edits += 1
        call.message = message
        return _shown(message)

    def _delete_message(self, call: Call) -> bool:
        del self.messages[self._known(call).id]
        return True

    def _answer_callback_query(self, call: Call) -> bool:
        if len(call.params.get("text", "")) > 200:
            raise Refused("Bad Request: MESSAGE_TOO_LONG")
        return True

    def _send_chat_action(self, _: Call) -> bool:
        return True

    def _known(self, call: Call) -> Message:
        message = self.messages.get(int(call.params["message_id"]))
        if message is None or message.chat != int(call.params["chat_id"]):
            raise Refused("Bad Request: message to edit not found")
        return message


def _person(user: int) -> dict[str, Any]:
    return {"id": user, "is_bot": False, "first_name": f"<person {user}>"}


def _shown(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "message_id": message.id,
        "date": int(time.time()),
        "chat": {"id": message.chat, "type": "private" if message.chat > 0 else "supergroup"},
    }
    if message.photo is None:
        return shown | {"text": message.plain}
    photo = {"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}
    return shown | {"photo": [photo], "caption": message.plain}


def _refusal(status: int, description: str, retry_after: int | None = None) -> tuple[int, bytes]:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if retry_after is not None:
        body["parameters"] = {"retry_after": retry_after}
    return status, json.dumps(body).encode()


def _checked(params: dict[str, Any], key: str, most: int) -> tuple[str, str]:
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


def _buttons(params: dict[str, Any]) -> list[list[dict[str, Any]]]:
    markup = params.get("reply_markup") or {}
    rows: list[list[dict[str, Any]]] = markup.get("inline_keyboard", [])
    for row in rows:
        for button in row:
            if not 1 <= len(button.get("callback_data", "x").encode()) <= MOST_BUTTON:
                raise Refused("Bad Request: BUTTON_DATA_INVALID")
    return rows


def _picture(call: Call, name: Any) -> bytes:
    """The file that `attach://name` means, or that came as the parameter itself."""
    part = str(name).removeprefix("attach://") if name else "photo"
    data = call.files.get(part)
    if data is None or not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8")):
        raise Refused("Bad Request: IMAGE_PROCESS_FAILED")
    return data


def _read(content_type: str, body: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: BotApi

    def do_POST(self) -> None:
        at = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, token, method = self.path.split("/")
        if token != f"bot{self.api.token}":
            self._send(*_refusal(401, "Unauthorized"))
            return
        params, files = _read(self.headers.get("Content-Type", ""), body)
        answer = self.api.answer(Call(method, params, files, at))
        if answer is None:
            self.close_connection = True
            return
        self._send(*answer)

    def _send(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # HTTPServer asks the name service for this machine's name, which may take its time.
        self.server_name, self.server_port = "127.0.0.1", 0
        super(ThreadingHTTPServer, self).server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's."""


@contextmanager
def bot_api(token: str = TOKEN) -> Iterator[BotApi]:
    """The server, on a free port of this machine, while the context lasts."""
    api = BotApi(token)
    handler = type("Handler", (_Handler,), {"api": api})
    server = _Server(("127.0.0.1", 0), handler)
    api.address = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.close()
        server.shutdown()
        server.server_close()
        thread.join()
