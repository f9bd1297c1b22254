"""The loop: one thread that does what it is told, in order, and survives what it is told to do."""

import queue
import socket
import threading

import pytest

from buskit.loop import LinkLoop
from tests.helpers.waiting import wait_until


def test_calls_run_in_order_on_one_thread() -> None:
    """Calls of one caller keep their order, and all run on the loop's thread."""
    loop = LinkLoop()
    seen: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
    for n in range(1000):
        loop.call(lambda n=n: seen.put((n, loop.in_loop)))
    assert [seen.get(timeout=20) for _ in range(1000)] == [(n, True) for n in range(1000)]
    assert not loop.in_loop
    loop.stop()
    loop.stop()
    with pytest.raises(RuntimeError, match="was stopped"):
        loop.call(print)


def test_timers_fire_in_the_order_of_their_times_unless_cancelled() -> None:
    """A later timer set first comes later; a cancelled one does not come."""
    loop = LinkLoop()
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()

    def set_timers() -> None:
        loop.call_later(0.06, lambda: seen.put("late"))
        loop.call_later(0.03, lambda: seen.put("cancelled")).cancel()
        loop.call_later(0.02, lambda: seen.put("early"))

    loop.call(set_timers)
    assert [seen.get(timeout=20), seen.get(timeout=20)] == ["early", "late"]
    loop.stop()


def test_a_handler_that_raises_is_reported_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our own mistakes become visible, and cost nobody else anything."""
    reported: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    loop = LinkLoop()
    done = threading.Event()
    loop.call(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    loop.call(done.set)
    assert done.wait(20)
    loop.stop()
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_names_are_found_without_holding_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer delays nobody, and is asked once for all who wait."""
    released, asked = threading.Event(), []
    real = socket.getaddrinfo

    def slow(host: str, *args: object, **more: object) -> object:
        if host != "slow.example":
            return real(host, *args, **more)  # type: ignore[arg-type]
        if more.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        asked.append(host)
        assert released.wait(20)
        return real("127.0.0.1", *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    loop = LinkLoop()
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()
    for _ in range(50):
        loop.call(lambda: loop.find("slow.example", 1, seen.put))
    loop.call(lambda: loop.find("127.0.0.1", 2, seen.put))
    assert seen.get(timeout=20) == [(socket.AF_INET, ("127.0.0.1", 2))]
    wait_until(lambda: asked, what="the name to be asked for")
    released.set()
    for _ in range(50):
        assert seen.get(timeout=20) == [(socket.AF_INET, ("127.0.0.1", 1))]
    assert asked == ["slow.example"]
    loop.call(lambda: loop.find("a" * 100 + ".example", 1, seen.put))
    assert isinstance(seen.get(timeout=20), OSError)
    loop.stop()
