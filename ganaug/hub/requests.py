"""Requests to the Hugging Face Hub: repeated if the Hub itself fails, given up if it takes too long."""

from __future__ import annotations

import concurrent.futures.thread as pools
import re
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

RETRIES, PAUSE = 3, 1.0  # attempts at a request; seconds before the second, doubled each time
PATIENCE, SLOWEST = 60.0, 50_000  # seconds for a request with all of its attempts, and bytes for one second more
TransportError: type[Exception] = HfHubHTTPError.__bases__[0]  # the HTTP library's; older clients use another one
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

Answer = TypeVar("Answer")


class AnswerError(ValueError):
    """The Hub answers what the client cannot read, or too slowly."""


def is_hub_id(name: object) -> bool:
    """Whether a value has the form ``"user/repo"`` of the Hub."""
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def is_revision(name: str) -> bool:
    """Whether a branch, tag or commit can have this name; the client takes it for a path in its cache."""
    return bool(re.fullmatch(r"[\w./+#=-]{1,250}", name)) and not name.startswith("/") and ".." not in name.split("/")


def patiently(ask: Callable[..., Answer], *args: Any, of_bytes: int = 0, **kwargs: Any) -> Answer:
    """Call a function that asks the Hub, and call it again if the Hub answers with a server error (5xx).

    Args:
        ask (callable): the function.
        args, kwargs: for it.
        of_bytes (int): that it downloads or uploads at most.

    Raises:
        AnswerError: the answer has values of wrong types; or nothing was returned after a minute and a second for each
            50 kB. The request then goes on in a thread that ends with the process.
    """

    def attempts() -> Answer:
        for attempt in range(RETRIES):
            try:
                return ask(*args, **kwargs)
            except Exception as error:
                if status_of(error) < 500 or attempt + 1 == RETRIES or given_up.is_set():
                    raise
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError  # the last attempt returns or raises

    def work() -> None:
        try:
            outcome.append(attempts())
        except BaseException as error:
            problem.append(error)
        finished.set()

    # The client waits as long as the Hub tells it to, or as bytes keep coming, so another thread keeps the time.
    outcome: list[Answer] = []
    problem: list[BaseException] = []
    finished, given_up = threading.Event(), threading.Event()
    pooled: Any = getattr(pools, "_threads_queues", {})  # threads of pools, which Python waits for at its end
    before, seconds = set(pooled), PATIENCE + of_bytes / SLOWEST
    threading.Thread(target=copy_context().run, args=(work,), name="ganaug-hub", daemon=True).start()
    if not finished.wait(seconds):
        given_up.set()
        for thread in set(pooled) - before:
            if thread.daemon:  # as those of the client are, whose pool was made in a thread of that kind
                pooled.pop(thread, None)
        raise AnswerError(f"the Hub was too slow: there was no whole answer after {seconds:,.1f} s")
    if not problem:
        return outcome[0]
    if isinstance(problem[0], (TypeError, AttributeError, LookupError, AssertionError, RecursionError)):
        kind = type(problem[0]).__name__
        raise AnswerError(f"the Hub's answer cannot be read ({kind}: {problem[0]})") from problem[0]
    raise problem[0]


def status_of(error: BaseException | None) -> int:
    """HTTP status behind an error or one of its causes; 0 if there was no answer."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return 0
