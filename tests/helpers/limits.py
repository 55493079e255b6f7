"""How much a refusal may cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_GROWTH, LONGEST = 50e6, 2.0  # bytes, seconds of processor time


@contextmanager
def soon_and_small() -> Iterator[None]:
    """Fail if the block takes two seconds of this process's processor time, or 50 MB more memory than before.

    Processor time, for that does not depend on what else runs; what waits for ever is ended by the test's time-out.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, started = _memory("VmRSS"), time.process_time()
    yield
    assert time.process_time() - started < LONGEST
    assert _memory("VmHWM") - before < MOST_GROWTH


def _memory(which: str) -> int:
    """Bytes of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024
