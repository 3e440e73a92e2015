"""The pace never crowds a vendor's window, uses most of it, and gives way after a refusal."""

import asyncio
import gc
import heapq
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count, pairwise
from weakref import finalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from assay.errors import SourceBusy
from assay.land import http, pace, running
from assay.land.pace import Here, Pace, Shared
from assay.land.source import SourceSettings
from assay.targets.sqlite import SqliteLedger
from assay_sandbox import Fault, Plan, Sandbox


class Clock:
    """Virtual time: it moves to the next sleeper when everybody sleeps and no request is on its way."""

    def __init__(self):
        self.now, self.away, self._sleepers, self._order = 0.0, 0, [], count()

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken

    def run(self, *coroutines):
        async def work():
            tasks = [asyncio.ensure_future(one) for one in coroutines]
            while not all(task.done() for task in tasks):
                for _ in range(10):
                    await asyncio.sleep(0)
                if self.away:
                    await asyncio.sleep(0.001)
                elif self._sleepers:
                    at, _, woken = heapq.heappop(self._sleepers)
                    self.now = max(self.now, at)
                    woken.set_result(None)
            return [task.result() for task in tasks]

        return asyncio.run(work())


def crowd(arrivals, per):
    """The most arrivals in any `per` seconds."""
    arrivals = sorted(arrivals)
    return max(sum(1 for other in arrivals[: i + 1] if other > at - per) for i, at in enumerate(arrivals))


@given(
    requests=st.integers(1, 400),
    per=st.floats(0.5, 60),
    jitter=st.floats(0, 2),
    steps=st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1), st.floats(0, 90)), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_no_window_is_crowded_however_late_requests_arrive(requests, per, jitter, steps):
    clock = Clock()
    one = Pace(requests, per, jitter=jitter, place=Here(clock), sleep=clock.sleep)
    arrivals = []

    async def work():
        for calls, late, idle in steps:
            for number in range(calls):
                await one.acquire()
                arrivals.append(clock.now + (jitter * late if number % 3 else 0))
            await clock.sleep(idle)

    clock.run(work())
    assert crowd(arrivals, per - 1e-6) <= requests


@pytest.mark.parametrize(("requests", "per"), [(300, 60.0), (750, 60.0), (3000, 60.0)])
def test_most_of_the_permitted_rate_is_used(requests, per):
    clock = Clock()
    one = Pace(requests, per, place=Here(clock), sleep=clock.sleep)

    async def work():
        for _ in range(2 * requests):
            await one.acquire()

    clock.run(work())
    assert 2 * requests / (clock.now / per) >= 0.96 * requests


def test_permits_come_in_the_order_they_were_asked_for():
    clock = Clock()
    one, order = Pace(10, 1.0, place=Here(clock), sleep=clock.sleep), []

    async def ask(number):
        await one.acquire()
        order.append((number, clock.now))

    clock.run(*(ask(number) for number in range(40)))
    assert [number for number, _ in order] == list(range(40))
    assert crowd([at for _, at in order], 1.0) <= 10


def test_after_a_refusal_nobody_leaves_before_the_vendors_wish_and_all_leave_at_a_lower_rate():
    clock = Clock()
    one, left = Pace(100, 10.0, place=Here(clock), sleep=clock.sleep), []
    full = one.rate

    async def ask():
        await one.acquire()
        left.append(clock.now)

    async def refuse():
        await clock.sleep(0.5)
        one.on_429(7.0)

    clock.run(refuse(), *(ask() for _ in range(60)))
    before, after = [at for at in left if at < 0.5], [at for at in left if at >= 0.5]
    assert before
    assert min(after) == pytest.approx(7.5)
    gaps = [later - earlier for earlier, later in pairwise(after[2:])]
    assert min(gaps) == pytest.approx(1 / (0.9 * full))


def test_a_volley_of_refusals_is_one_step_down_and_a_third_is_the_floor():
    clock = Clock()
    one = Pace(100, 10.0, place=Here(clock), sleep=clock.sleep)
    full = one.rate
    for _ in range(20):
        one.on_429()
    assert one.rate == pytest.approx(0.9 * full)
    for _ in range(30):
        clock.now += 2.0
        one.on_429()
    assert one.rate == pytest.approx(0.3 * full)


def test_the_rate_recovers_while_nobody_is_refused():
    clock = Clock()
    one = Pace(100, 10.0, place=Here(clock), sleep=clock.sleep)
    full = one.rate
    one.on_429()

    async def work():
        for _ in range(500):
            await one.acquire()

    clock.run(work())
    assert one.rate == full


@pytest.mark.parametrize(
    ("requests", "seconds", "together"),
    [(300, 0.2, 3), (300, 0.4, 4), (750, 0.4, 8), (3000, 0.2, 14), (3000, 0.4, 26), (3000, 30, 64), (1, 0.001, 2)],
)
def test_as_many_ask_as_are_on_their_way_and_a_few_more(requests, seconds, together):
    one = Pace(requests, 60.0)
    assert one.together == 2  # until an answer was seen
    for _ in range(9):
        one.took(seconds)
    assert one.together == together
    assert together == 64 or together > one.rate * seconds + 1


def test_how_many_ask_follows_what_answers_take_and_what_is_permitted():
    clock = Clock()
    one = Pace(3000, 60.0, place=Here(clock), sleep=clock.sleep)
    for _ in range(50):
        one.took(0.2)
    assert one.together == 14
    for _ in range(100):
        one.took(0.4)
    assert one.together == 26
    for _ in range(30):
        clock.now += 30.0
        one.on_429()
    assert one.together == 9


def test_workers_that_follow_the_latency_use_most_of_the_rate_from_the_first_minute_on():
    for requests, latency in ((300, 0.2), (300, 0.4), (750, 0.4), (3000, 0.2), (3000, 0.4)):
        clock = Clock()
        one, arrivals = Pace(requests, 60.0, place=Here(clock), sleep=clock.sleep), []

        async def ask(one=one, clock=clock, arrivals=arrivals, latency=latency):
            await one.acquire()
            arrivals.append(clock.now)
            await clock.sleep(latency)
            one.took(latency)

        async def work(one=one, clock=clock, ask=ask):
            await running.together(iter(lambda: clock.now > 60.0, True), lambda _: ask(), lambda: one.together)

        clock.run(work())
        in_time = sum(at <= 60.0 for at in arrivals)
        assert in_time >= 0.97 * requests, (requests, latency, in_time)
        assert crowd(arrivals, 60.0) <= requests


@contextmanager
def processes(where, number, clock, requests, per, jitter=1.0):
    """So many paces, each with a ledger of its own over one file, as in processes of one lake."""
    with ExitStack() as stack:
        out = []
        for _ in range(number):
            ledger = stack.enter_context(closing(SqliteLedger(where / "ledger.db")))
            out.append(Pace(requests, per, jitter=jitter, place=Shared(ledger, "a", clock), sleep=clock.sleep))
        yield out


@given(
    requests=st.integers(1, 400),
    per=st.floats(0.5, 60),
    jitter=st.floats(0, 2),
    steps=st.lists(
        st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1), st.floats(0, 90)), min_size=1, max_size=4),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_all_processes_of_a_lake_together_crowd_no_window(tmp_path_factory, requests, per, jitter, steps):
    clock, arrivals = Clock(), []

    async def work(one, mine):
        for calls, late, idle in mine:
            for number in range(calls):
                await one.acquire()
                arrivals.append(clock.now + (jitter * late if number % 3 else 0))
            await clock.sleep(idle)

    with processes(tmp_path_factory.mktemp("lake"), len(steps), clock, requests, per, jitter) as all_:
        clock.run(*(work(one, mine) for one, mine in zip(all_, steps, strict=True)))
    assert crowd(arrivals, per - 1e-6) <= requests


@pytest.mark.parametrize("requests", [300, 3000])
def test_four_processes_share_most_of_the_permitted_rate_evenly(tmp_path, requests):
    clock = Clock()
    served = [0] * 4

    async def work(number, one):
        while clock.now < 120:
            await one.acquire()
            served[number] += clock.now < 120

    with processes(tmp_path, 4, clock, requests, 60.0) as all_:
        clock.run(*(work(*one) for one in enumerate(all_) for _ in range(8)))
    assert 0.95 * 2 * requests <= sum(served) <= 2 * requests
    assert min(served) >= 0.8 * max(served)


def test_what_the_vendor_refused_one_process_holds_all_of_them_back_and_those_that_begin(tmp_path):
    clock, left = Clock(), []

    async def ask(one):
        for _ in range(20):
            await one.acquire()
            left.append(clock.now)

    async def refuse(one):
        await clock.sleep(0.5)
        one.on_429(7.0)

    with processes(tmp_path, 3, clock, 100, 10.0) as (first, second, third):
        full = first.rate
        clock.run(refuse(first), ask(first), ask(second))
        assert not [at for at in left if 0.6 < at < 7.5], "what was taken a tenth of a second ahead may leave"
        assert min(at for at in left if at > 0.6) == pytest.approx(7.5)
        clock.run(third.acquire())
        assert third.rate == pytest.approx(0.9 * full, rel=0.03), "and it recovers since"


def test_what_the_vendor_refused_one_process_voids_what_another_took_ahead(tmp_path):
    clock, left = Clock(), []

    async def ask(one):
        await one.acquire()
        left.append(clock.now)

    async def refuse(one):
        await clock.sleep(0.5)
        one.on_429(30.0)

    with processes(tmp_path, 2, clock, 6000, 60.0) as (first, second):
        clock.run(refuse(second), *(ask(first) for _ in range(605)))
    assert len(left) == 605
    assert not [at for at in left if 0.7 < at < 30.5]


def test_who_goes_on_with_a_ledger_that_was_lost_learns_what_was_said_since_in_the_new_one(tmp_path):
    clock = Clock()

    class Lost:
        """A ledger that is another from some moment on."""

        def __init__(self, ledger):
            self.ledger = ledger

        def newest(self, *of):
            return self.ledger.newest(*of)

        def record(self, facts):
            return self.ledger.record(facts)

    with closing(SqliteLedger(tmp_path / "former.db")) as former, closing(SqliteLedger(tmp_path / "anew.db")) as anew:
        ledger = Lost(former)
        old, new = (Pace(60, 60.0, place=Shared(one, "a", clock), sleep=clock.sleep) for one in (ledger, anew))
        for _ in range(20):
            clock.run(old.acquire())
        ledger.ledger = anew
        clock.run(new.acquire())
        new.on_429(300.0)
        refused = clock.now
        clock.now += 2
        clock.run(old.acquire())
        assert clock.now == pytest.approx(refused + 300.0)
        assert anew.newest("rate", "", "a").body["refusals"] == 1


def test_permits_that_were_taken_ahead_and_not_used_are_void(tmp_path):
    clock, arrivals = Clock(), []

    async def work(one, begin):
        await clock.sleep(begin)
        for number in range(150):
            await one.acquire()
            arrivals.append(clock.now)
            if number == 0:
                await clock.sleep(30 - begin)

    with processes(tmp_path, 8, clock, 1000, 10.0, jitter=0.0) as all_:
        clock.run(*(work(one, number) for number, one in enumerate(all_)))
    assert crowd(arrivals, 10.0 - 1e-6) <= 1000


def test_no_permit_is_given_twice_to_those_that_take_at_the_same_moment(tmp_path):
    first, number = pace.State(1.0), 60

    def take(_):
        with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
            place = Shared(ledger, "a")
            return [place.change(first, lambda was: replace(was, due=was.due + 1)).due for _ in range(number)]

    take(0)
    with ThreadPoolExecutor(4) as pool:
        taken = sorted(due for some in pool.map(take, range(4)) for due in some)
    assert len(set(taken)) == len(taken) == 4 * number
    # Who does not find itself among the newest writers takes another; that one is lost, and never given twice.
    assert 5 * number <= taken[-1] < 6 * number


def test_a_write_whose_answer_was_lost_gives_its_permit_once(tmp_path):
    first = pace.State(1.0)

    def take(was):
        return replace(was, due=was.due + 1)

    class Repeated:
        """Who has no answer says it again, as clients of AWS do; meanwhile others wrote."""

        def __init__(self, ledger, others):
            self._ledger, self._others, self.newest = ledger, others, ledger.newest

        def record(self, facts):
            self._ledger.record(facts)
            self._others()
            return self._ledger.record(facts)

    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        other = Shared(ledger, "a")
        between = [lambda: None, lambda: [other.change(first, take) for _ in range(3)]]
        for n, others in enumerate(between):
            before = Shared(ledger, "a").read(first).due
            assert Shared(Repeated(ledger, others), "a").change(first, take).due == before + 1
            assert Shared(ledger, "a").read(first).due == before + 1 + 3 * n


@pytest.mark.parametrize("requests", [60, 6000])
@pytest.mark.parametrize("refused", [False, True])
def test_a_clock_that_was_put_back_keeps_nobody_waiting(tmp_path, requests, refused):
    clock = Clock()
    clock.now = 86_400.0
    with processes(tmp_path, 2, clock, requests, 60.0) as (first, second):
        clock.run(*(first.acquire() for _ in range(requests // 6 + 1)))
        if refused:
            first.on_429(50.0)
        clock.now = 0.0
        if refused:
            second.on_429(5.0)
        clock.run(*(one.acquire() for one in (first, second) for _ in range(requests // 12)))
        assert clock.now < 25


def test_an_account_has_one_pace_in_a_process_for_each_lake_as_long_as_it_is_open(tmp_path):
    assert pace.shared("a", 10, 1.0) is pace.shared("a", 10, 1.0)
    assert pace.shared("a", 10, 1.0) is not pace.shared("b", 10, 1.0)
    with closing(SqliteLedger(tmp_path / "1.db")) as one, closing(SqliteLedger(tmp_path / "2.db")) as other:
        kept = pace.shared("a", 10, 1.0, one)
        assert kept is pace.shared("a", 10, 1.0, one)
        assert kept is not pace.shared("a", 10, 1.0, other)
        asyncio.run(kept.acquire())
        assert one.newest("rate", "", "a 10 1")
        gone = finalize(one, int)
    del one, other
    gc.collect()
    assert not gone.alive


@pytest.mark.parametrize(("requests", "per"), [(0, 1.0), (1, 0.0)])
def test_a_rate_of_nothing_is_refused(requests, per):
    with pytest.raises(ValueError, match="is not a rate"):
        Pace(requests, per)


def ask_sandbox(url, one, requests, workers):
    """How many of `requests` were served."""

    async def work():
        permitted = SourceSettings(url, "sandbox", allow_private=True, options={"attempts": 1})
        todo, served = iter(range(requests)), []
        async with http.client(permitted, {"apikey": "sandbox-key"}, one) as remote:

            async def ask():
                for _ in todo:
                    try:
                        await remote.get("splits", {"symbol": "AAPL"}, http.plain)
                    except SourceBusy:
                        continue
                    served.append(1)

            await asyncio.gather(*(ask() for _ in range(workers)))
        return len(served)

    return asyncio.run(work())


class Told:
    """A key's pace, which tells when each of its requests left."""

    def __init__(self, clock, requests, per):
        self._pace, self._clock, self.left = Pace(requests, per, place=Here(clock), sleep=clock.sleep), clock, []

    async def acquire(self):
        await self._pace.acquire()
        self._clock.away += 1
        self.left.append(self._clock.now)

    def took(self, seconds):
        self._clock.away -= 1
        self._pace.took(seconds)

    def on_429(self, retry_after=None):
        self._pace.on_429(retry_after)


def two_keys(url, clock):
    """When the requests of two keys of one vendor left, asked at once for another symbol each; and who had an answer."""
    paces, served = (Told(clock, 10, 10.0), Told(clock, 10, 10.0)), [0, 0]

    async def work(key, symbol):
        permitted = SourceSettings(url, "sandbox", allow_private=True, options={"attempts": 1})
        async with http.client(permitted, {"apikey": f"key-{key}"}, paces[key]) as remote:
            for _ in range(20):
                try:
                    await remote.get("splits", {"symbol": symbol}, http.plain)
                except SourceBusy:
                    continue
                served[key] += 1

    clock.run(work(0, "AAPL"), work(1, "MSFT"))
    return paces[0].left, paces[1].left, served


@pytest.mark.parametrize(("said", "wait"), [({}, 0.5), ({"retry_after": 40}, 40.0)])
def test_one_429_slows_its_own_key_and_no_other(said, wait):
    sandbox = Sandbox({f"key-{n}": Plan(requests=10**6) for n in range(2)})
    with sandbox.running() as url:
        usual = two_keys(url, Clock())
        assert usual[0] == usual[1]
        assert usual[2] == [20, 20]
        sandbox.faults.add(Fault("limit", symbol="AAPL", params=said))
        sandbox.log.clear()
        slow, other, served = two_keys(url, Clock())
    assert other == usual[1], "the other key asks as often and at the same times"
    assert served == [19, 20]
    assert [one.status for one in sandbox.log].count(429) == 1
    assert slow[0] == 0.0
    assert slow[1] == pytest.approx(wait), "after what the vendor wishes for, or a twentieth of its seconds"
    gap = usual[0][-1] - usual[0][-2]
    assert slow[3] - slow[2] == pytest.approx(gap / 0.9), "and then at nine tenths of the rate"
    assert slow[-1] > usual[0][-1]


@pytest.mark.slow
def test_a_strict_vendor_refuses_nothing_that_is_paced_and_much_that_is_not():
    sandbox = Sandbox(limit=(60, 1.0))
    with sandbox.running() as url:
        assert ask_sandbox(url, Pace(60, 1.0, jitter=1.0), 75, 8) == 75
        assert {one.status for one in sandbox.log} == {200}
    patient = Sandbox(limit=(60, 600.0))  # however slowly the machine asks, all fall into one window
    with patient.running() as url:
        assert ask_sandbox(url, Pace(10**6, 1.0), 75, 8) == 60
        assert [one.status for one in patient.log].count(429) == 15
