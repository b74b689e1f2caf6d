"""Results come in order, and neither too many nor too large ones are held before they are asked for."""

from __future__ import annotations

import threading
import time

import pytest

from braincam.ahead import ahead


def test_results_come_in_order_and_only_so_many_are_begun() -> None:
    begun: list[int] = []

    def work(job: int) -> int:
        begun.append(job)
        time.sleep(0.001 * (job % 3))
        return 10 * job

    found = ahead(range(40), work, lambda _: 0, threads=4, most=8, room=1)
    assert next(found) == (0, 0)
    assert len(begun) <= 8
    assert list(found) == [(job, 10 * job) for job in range(1, 40)]


def test_large_results_are_not_piled_up() -> None:
    lock, held, most = threading.Lock(), 0, 0

    def work(_: int) -> int:
        nonlocal held, most
        with lock:
            held += 100
            most = max(most, held)
        return 100

    for _job, result in ahead(range(60), work, lambda result: result, threads=4, most=64, room=250):
        time.sleep(0.002)  # slower than the work, which would run ahead
        with lock:
            held -= result
    assert held == 0
    assert most <= 250 + 5 * 100


def test_one_who_stops_asking_or_a_job_that_fails_waits_for_nothing() -> None:
    done: list[int] = []
    found = ahead(range(64), lambda job: done.append(job) or 100, lambda result: result, threads=2, most=64, room=100)
    next(found)
    found.close()
    assert len(done) < 10

    def fails(job: int) -> int:
        if job == 1:
            raise ValueError("broken")
        return 100

    with pytest.raises(ValueError, match="broken"):
        list(ahead(range(64), fails, lambda result: result, threads=2, most=64, room=100))
