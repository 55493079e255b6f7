"""Requests to the Hugging Face Hub, repeated if the Hub itself fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError

RETRIES, PAUSE = 3, 1.0  # attempts at a request; seconds before the second, doubled each time
TransportError: type[Exception] = HfHubHTTPError.__bases__[0]  # the HTTP library's; older clients use another one

Answer = TypeVar("Answer")


def patiently(ask: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
    """Call a function that asks the Hub, and call it again if the Hub answers with a server error (5xx)."""
    for attempt in range(RETRIES):
        try:
            return ask(*args, **kwargs)
        except Exception as error:
            if status_of(error) < 500 or attempt + 1 == RETRIES:
                raise
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError  # the last attempt returns or raises


def status_of(error: BaseException | None) -> int:
    """HTTP status behind an error or one of its causes; 0 if there was no answer."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return 0
