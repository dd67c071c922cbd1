"""The limits of servers, and who is asked next.

Oracles: the rules of the module's docstring worked out by hand, the schedule of a server that rejects above a number in
flight, and vLLM's own metrics text.
"""

import asyncio
import heapq

import pytest

from datagen.backends.endpoints import Load, Replica, Replicas, parse_load

METRICS = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:num_requests_running{engine="0",model_name="m"} 64.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
"""


def sent(replica: Replica, n: int) -> None:
    replica.in_flight += n


def test_a_burst_lowers_the_limit_once_to_what_the_server_kept():
    """64 sent at 0 s, the server keeps 40 of them: 24 rejections, one cut, limit 40."""
    replica = Replica("http://a/v1", 64)
    sent(replica, 64)
    for _ in range(24):
        replica.rejected(sent_at=0.0, now=1.0)
        replica.in_flight -= 1
    assert (replica.n_cuts, replica.limit, replica.room) == (1, 40, 0)
    replica.rejected(sent_at=1.5, now=2.0)  # sent after the cut: another burst, 39 kept, but nine tenths are less
    assert (replica.n_cuts, replica.limit) == (2, 36)


def test_a_burst_never_takes_more_than_half():
    """All 64 rejected leave 32, then 16, and 1 is the least."""
    replica = Replica("http://a/v1", 64)
    for burst, expected in enumerate([32, 16, 8, 4, 2, 1, 1]):
        n = int(replica.limit)
        sent(replica, n)
        for _ in range(n):
            replica.rejected(sent_at=burst, now=burst + 0.5)
            replica.in_flight -= 1
        assert replica.limit == expected


def test_growth_is_a_request_a_round_and_slow_where_it_was_rejected():
    """One of 20 rejected leaves 18: whole ones to 19, eighths to 20. Past what was rejected whole ones again."""
    replica = Replica("http://a/v1", 20)
    sent(replica, 20)
    replica.rejected(sent_at=0.0, now=1.0)
    assert replica.limit == 18  # nine tenths; it was rejected at 20

    def rounds(n: int) -> list[float]:
        limits: list[float] = []
        for _ in range(n):
            replica.in_flight = int(replica.limit + 1e-9)
            for _ in range(replica.in_flight):
                replica.answered(sent_at=2.0, now=2.1, timeout_s=10.0)
            limits.append(replica.limit)
        return limits

    assert rounds(3) == pytest.approx([19, 19.125, 19.25])
    assert rounds(6)[-1] == pytest.approx(20)
    replica = Replica("http://a/v1", 100)
    sent(replica, 8)
    for _ in range(4):
        replica.rejected(sent_at=0.0, now=1.0)
        replica.in_flight -= 1
    assert replica.limit == 50  # half: that few in flight say nothing of a limit of 100
    assert rounds(2) == pytest.approx([50.125, 50.25])
    past = rounds(25)
    assert past[-1] - past[-2] == pytest.approx(1, abs=0.02) and past[-1] < 65


def test_an_idle_limit_does_not_grow_and_a_slow_answer_lowers_it():
    """Half of the time limit is slow; only a limit that is reached may grow."""
    replica = Replica("http://a/v1", 100)
    sent(replica, 10)
    replica.answered(sent_at=0.0, now=6.0, timeout_s=10.0)
    assert (replica.limit, replica.n_cuts) == (90, 1)
    replica.answered(sent_at=7.0, now=8.0, timeout_s=10.0)
    assert replica.limit == 90


def test_vllm_metrics():
    """Two engines: queues add up, the fuller cache counts; other servers have no load."""
    assert parse_load(METRICS) == Load(7.0, 0.5)
    assert parse_load(METRICS.replace("kv_cache", "gpu_cache")) == Load(7.0, 0.5)
    assert parse_load("process_cpu_seconds_total 1.0\n") is None


def test_vllm_queue_and_cache_lower_the_limit():
    """7 of 64 wait: not at once, but twice in a row; a full cache at once; neither lets it grow."""
    replica = Replica("http://a/v1", 64)
    replica.reported(Load(7.0, 0.5), now=1.0)
    assert replica.limit == 64
    replica.reported(Load(7.0, 0.5), now=2.0)
    assert replica.limit == pytest.approx(57.6)
    sent(replica, 57)
    replica.answered(sent_at=2.1, now=2.2, timeout_s=10.0)
    assert replica.limit == pytest.approx(57.6)
    replica.reported(Load(0.0, 0.96), now=3.0)
    assert replica.limit == pytest.approx(51.84)
    replica.reported(Load(0.0, 0.5), now=4.0)
    sent(replica, 51)
    replica.answered(sent_at=4.1, now=4.2, timeout_s=10.0)
    assert replica.limit > 51.84


def test_the_least_loaded_is_asked_and_waiting_is_in_order():
    """Limits 4 and 2: six requests fill both in proportion, and the seventh waits for a place."""

    async def scenario() -> list[str]:
        large, small = Replica("http://large/v1", 4), Replica("http://small/v1", 2)
        replicas = Replicas([large, small])
        taken = [await replicas.take() for _ in range(6)]
        assert (large.in_flight, small.in_flight) == (4, 2)
        waiting = [asyncio.create_task(replicas.take()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        replicas.give_back(small)
        assert await waiting[1] is small
        return [one.base_url for one in taken[:3]]

    assert asyncio.run(scenario()) == ["http://large/v1", "http://small/v1", "http://large/v1"]


def test_a_server_that_refuses_rests_longer_each_time_and_is_tried_by_one():
    """1, 2, 4 s; one refusal of a burst counts; where all rest, the first to wake is asked."""
    a, b = Replica("http://a/v1", 8), Replica("http://b/v1", 8)
    replicas = Replicas([a, b])
    for now, until in [(0.0, 1.0), (0.1, 1.0), (1.0, 3.0), (3.0, 7.0)]:
        a.refused(now)
        assert a.rests_until() == until
    assert a.room == 1 and replicas.is_another_up(a, 3.0) and not replicas.is_another_up(b, 3.0)
    b.refused(6.5)
    assert replicas._choose(6.6) is a
    a.answered(sent_at=7.0, now=7.1, timeout_s=600.0)
    assert a.rests_until() == 0.0 and a.room == 8


def test_a_server_that_rejects_above_half_loses_little():
    """400 requests of 0.2 s, 64 allowed, 32 kept, rejected ones back after 1 s: 2.5 s at best, 40 rejected at most."""
    replica, now, events, order = Replica("http://a/v1", 64), 0.0, list[tuple[float, int, float]](), 0
    ready, n_done, n_rejected, at_server = [0.0] * 400, 0, 0, 0
    while n_done < 400:
        while replica.room and ready and ready[0] <= now:
            heapq.heappop(ready)
            replica.in_flight += 1
            order += 1
            if at_server == 32:
                heapq.heappush(events, (now + 0.001, -order, now))  # a rejection comes back at once
            else:
                at_server += 1
                heapq.heappush(events, (now + 0.2, order, now))
        if not events or (ready and now < ready[0] < events[0][0] and replica.room):
            now = ready[0]
            continue
        now, kind, sent_at = heapq.heappop(events)
        if kind < 0:
            n_rejected += 1
            replica.rejected(sent_at, now)
            heapq.heappush(ready, now + 1.0)
        else:
            at_server -= 1
            n_done += 1
            replica.answered(sent_at, now, 600.0)
        replica.in_flight -= 1
    assert now <= 3.5 and n_rejected <= 40
