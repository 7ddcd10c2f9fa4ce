"""A local server that speaks the Telegram Bot API over HTTP, and misbehaves when told to.

It keeps every call with its time and what the chats look like after it; two programs that poll at once are
told so. Facts: https://core.telegram.org/bots/api
"""

import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tests.alerts.bot_calls import Call, Fault, Message
from tests.alerts.bot_chats import Chats
from tests.alerts.bot_words import Refused, person, read, refusal, shown

TOKEN = "4242:AAtest-token_that-must-never-be-seen"
PATIENCE = 60.0

_direct = build_opener(ProxyHandler({}))


class BotApi(Chats):
    """The server's state, to be looked at and told what to do from the test's thread.

    Attributes:
        token: the only one it knows.
        calls: every call that came, in order.
        webhook: what setWebhook was given; empty without one.
        pushes: what the webhook answered, push by push; 0 where it did not.
        polls: calls of getUpdates that were begun.
        misbehave: asked about each call for which no fault stands in line.
    """

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.address = ""
        super().__init__()
        self.calls: list[Call] = []
        self.misbehave: Callable[[Call], Fault | None] = lambda _: None
        self.webhook: dict[str, Any] = {}
        self.pushes: list[int] = []
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._updates: list[dict[str, Any]] = []
        self.polls = 0
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
            "from": person(user),
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
            "from": person(user),
            "chat_instance": "1",
            "data": data,
            "message": shown(message),
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
                return refusal(error.status, str(error))
        if fault is None:
            return 200, json.dumps({"ok": True, "result": result}).encode()
        if fault.body is not None:
            return fault.status, fault.body
        return refusal(fault.status, fault.description, fault.retry_after) if fault.status else None

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

    def _answer_callback_query(self, call: Call) -> bool:
        if len(call.params.get("text", "")) > 200:
            raise Refused("Bad Request: MESSAGE_TOO_LONG")
        return True

    def _send_chat_action(self, _: Call) -> bool:
        return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: BotApi

    def do_POST(self) -> None:
        at = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, token, method = self.path.split("/")
        if token != f"bot{self.api.token}":
            self._send(*refusal(401, "Unauthorized"))
            return
        params, files = read(self.headers.get("Content-Type", ""), body)
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
