"""What a GPU finds wrong, told of once it is there. Stand-ins for its values and events, as there is none here."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch

from ganaug.core.hardware import LateChecks


class Tensorlike(SimpleNamespace):
    """A bool () of a GPU."""

    device = torch.device("cuda")

    def to(self, *_, **__):
        return self.holds


def test_an_error_of_the_last_call_is_logged_when_the_checks_are_dropped(monkeypatch, caplog):
    waited, reached = [], []
    event = SimpleNamespace(record=int, query=lambda: bool(reached), synchronize=lambda: waited.append(1))
    monkeypatch.setattr(torch, "Event", lambda _: event)
    checks = LateChecks()
    for number, holds in enumerate([True, False, False]):
        checks.expect(Tensorlike(holds=holds), lambda number=number: ValueError(f"number {number}"))
    assert not waited
    del checks
    assert [record.getMessage() for record in caplog.records] == ["number 1"]
    assert len(waited) == 2
    # What a later call has told is not told again.
    checks = LateChecks()
    checks.expect(Tensorlike(holds=False), lambda: ValueError("told"))
    reached.append("it")
    with pytest.raises(ValueError, match="told"):
        checks.expect(Tensorlike(holds=True), lambda: ValueError("never"))
    del checks
    assert len(caplog.records) == 1


def test_an_error_comes_with_a_later_call_and_at_once_on_a_cpu(monkeypatch):
    reached = []
    monkeypatch.setattr(torch, "Event", lambda _: SimpleNamespace(record=int, query=lambda: bool(reached)))
    right, wrong = (
        SimpleNamespace(device=torch.device("cuda"), to=lambda *_, it=it, **__: it) for it in (True, False)
    )
    checks = LateChecks()
    for number, holds in enumerate([right, wrong, right]):
        checks.expect(holds, lambda number=number: ValueError(f"number {number}"))
    reached.append("all of it")
    for other in (copy.deepcopy(checks), pickle.loads(pickle.dumps(checks))):
        other.expect(right, lambda: ValueError("another's"))
    with pytest.raises(ValueError, match="number 1"):
        checks.expect(right, lambda: ValueError("this one"))
    checks.expect(right, lambda: ValueError("told of twice"))
    checks.expect(torch.tensor(True), lambda: ValueError("right"))
    with pytest.raises(ValueError, match="at once"):
        checks.expect(torch.tensor(False), lambda: ValueError("at once"))
