"""Bodies of administration, as large as a client likes."""

import asyncio
import threading

import pytest

from pyserving.api import json_object
from pyserving.api.json_object import read_object
from pyserving.api.long_work import LONG_BODY
from pyserving.core.errors import ServingError


def test_a_large_body_is_not_read_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read_on: list[threading.Thread] = []
    parse = json_object.parse_object

    def watched(body: bytes) -> dict[str, object]:
        read_on.append(threading.current_thread())
        return parse(body)

    monkeypatch.setattr(json_object, "parse_object", watched)
    large = b'{"a": 1%s}' % b" ".ljust(LONG_BODY)
    assert [asyncio.run(read_object(body)) for body in (b"", b" ", b'{"a": 1}', large)] == [{}, {}, {"a": 1}, {"a": 1}]
    assert [thread is threading.main_thread() for thread in read_on] == [True, False]
    for body in (b"[]", b"{", b"x" * LONG_BODY):
        with pytest.raises(ServingError):
            asyncio.run(read_object(body))
