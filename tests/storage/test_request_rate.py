"""`RequestRate` on a simulated clock, with stores whose limits are known exactly."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

import pytest

from cloudimg.storage.request_rate import RequestRate

LATENCY_S = 0.03
NOISE_S = 0.0005
AT_ONCE = 64
SEEDS = range(4)


@dataclass
class Limited:
    """A store that accepts so many requests a second, of which `burst` may come at once."""

    per_s: float
    burst: int
    allowed: float = field(init=False)
    at: float = 0.0
    n_asked: int = 0

    def __post_init__(self) -> None:
        self.allowed = self.burst

    def accepts(self, now: float) -> bool:
        self.n_asked += 1
        self.allowed = min(self.burst, self.allowed + self.per_s * (now - self.at))
        self.at = now
        is_accepted = self.allowed >= 1
        self.allowed -= is_accepted
        return is_accepted


@dataclass
class Worker:
    """A process that asks for some objects, many at once, until it has all of them."""

    n_left: int
    rate: RequestRate = field(default_factory=RequestRate)
    n_open: int = 0
    looks_at: float = 0.0
    """When it looks next whether it may ask."""

    @property
    def may_begin(self) -> bool:
        return self.n_left > 0 and self.n_open < AT_ONCE


def run(store: Limited, *workers: Worker, start: float = 0.0, seed: int = 0) -> float:
    """Let workers ask until they have everything; return when the last one has."""
    random.seed(seed)
    order = itertools.count()
    events = [(start, next(order), "look", worker, 0.0) for worker in workers]
    now = start

    def later(seconds: float, what: str, worker: Worker, begun: float) -> None:
        seconds += abs(random.gauss(0, NOISE_S))
        heapq.heappush(events, (now + seconds, next(order), what, worker, begun))

    while events:
        now, _, what, worker, begun = heapq.heappop(events)
        if what == "arrive":
            answer = "accept" if store.accepts(now) else "refuse"
            later(LATENCY_S / 2, answer, worker, begun)
            continue
        if what == "accept":
            worker.rate.accept(begun, now)
        elif what == "refuse":
            worker.rate.refuse(begun, now)
            worker.n_left += 1
        worker.n_open -= what != "look"
        while worker.may_begin and worker.rate.next_at <= now:
            worker.rate.begin(now)
            worker.n_left, worker.n_open = worker.n_left - 1, worker.n_open + 1
            later(LATENCY_S / 2, "arrive", worker, now)
        if worker.may_begin and not now < worker.looks_at <= worker.rate.next_at:
            worker.looks_at = worker.rate.next_at
            later(worker.rate.next_at - now, "look", worker, 0.0)
    return now


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("per_s", "burst"), [(100, 1), (100, 100), (20, 1), (20, 20), (300, 30), (1000, 100)]
)
def test_a_limit_is_found_and_kept(per_s: int, burst: int, seed: int) -> None:
    n = 3.6 * per_s if per_s >= 100 else 360
    store = Limited(per_s, burst)
    took_s = run(store, Worker(int(n)), seed=seed)
    assert took_s <= 1.4 * (n - burst) / per_s + 0.5
    assert store.n_asked <= 1.5 * n


@pytest.mark.parametrize("seed", SEEDS)
def test_a_willing_store_is_not_limited(seed: int) -> None:
    worker = Worker(2000)
    store = Limited(1e6, 10_000)
    run(store, worker, seed=seed)
    assert worker.rate.per_s is None
    assert store.n_asked == 2000


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_allows_more_later_is_asked_for_more(seed: int) -> None:
    worker = Worker(200)
    store = Limited(20, 20)
    start = run(store, worker, seed=seed)
    store.per_s, store.burst, worker.n_left = 500, 50, 5000
    took_s = run(store, worker, start=start, seed=seed)
    assert took_s - start <= 2 * 10


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_allows_less_later_is_asked_for_less(seed: int) -> None:
    worker = Worker(2000)
    store = Limited(500, 50)
    start = run(store, worker, seed=seed)
    store.per_s, store.burst, worker.n_left, store.n_asked = 50, 5, 500, 0
    run(store, worker, start=start, seed=seed)
    assert store.n_asked <= 1.5 * 500


@pytest.mark.parametrize("seed", SEEDS)
def test_workers_share_a_limit(seed: int) -> None:
    workers = [Worker(200) for _ in range(10)]
    store = Limited(200, 200)
    took_s = run(store, *workers, seed=seed)
    assert took_s <= 2.5 * 2000 / 200
    assert store.n_asked <= 1.5 * 2000 + 10 * AT_ONCE
