"""What every ledger promises, in each store; leases end by ageing a row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest

from cueapi_tasks.run.ledger.base import (
    OVERLAP,
    RUN,
    Answer,
    Claim,
    Claimed,
    Died,
    Entry,
    Finished,
    Lapsed,
    Ledger,
    Running,
)
from cueapi_tasks.run.ledger.tokens import make_token
from cueapi_tasks.run.outcome import Outcome

from .stores import Store

OK = Answer(status=200, body={"status": "success", "reason": "completed"})
DONE = Outcome(success=True, evidence={"result": "sent", "metadata": {"text": "naïve \0 \ud800"}})
DELIVERY = {"execution_id": "e1", "payload": {"text": "naïve \0 \ud800", "none": None, "list": []}}
HOUR = 3600.0
E1 = Entry(
    execution_id="e1",
    scope="billing",
    task="report",
    cue_id="cue_1",
    transport="webhook",
    attempt=1,
    max_attempts=3,
)
SECOND = replace(E1, attempt=2)
THIRD = replace(E1, attempt=3)
OTHER = replace(E1, execution_id="e2")
KEPT = replace(E1, transport="worker", delivery=DELIVERY)

T = TypeVar("T")


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return store.open()


def claimed(claim: Claim | None) -> Claimed:
    assert isinstance(claim, Claimed)
    return claim


def claim(ledger: Ledger, entry: Entry = E1) -> Claimed:
    return claimed(ledger.claim(entry, lease=30))


def hold(ledger: Ledger, entry: Entry = E1) -> Claimed:
    return claimed(ledger.hold(entry, lease=30))


def finish(ledger: Ledger, entry: Entry = E1) -> None:
    assert ledger.finish(entry.execution_id, claim(ledger, entry).token, OK, DONE)


def at_once(times: int, step: Callable[[int], T]) -> list[T]:
    start = threading.Barrier(times)

    def run(number: int) -> T:
        start.wait()
        return step(number)

    with ThreadPoolExecutor(times) as pool:
        return [*pool.map(run, range(times))]


# claim


def test_a_claim_tells_what_was_claimed(ledger: Ledger) -> None:
    got = claim(ledger, SECOND)
    assert got == Claimed(token=got.token, starts=1, attempt=2, decision=RUN, crashed=False)


def test_one_owner_at_a_time(ledger: Ledger) -> None:
    claim(ledger)
    assert ledger.claim(E1, lease=30) == Running()
    assert ledger.hold(E1, lease=30) == Running()
    claim(ledger, OTHER)


def test_what_is_finished_is_never_claimed_again(ledger: Ledger, store: Store) -> None:
    finish(ledger)
    for _ in range(2):
        assert ledger.claim(E1, lease=30) == Finished(answer=OK)
        assert ledger.hold(E1, lease=30) == Finished(answer=OK)
        store.age("e1", HOUR)


def test_what_was_written_is_there_for_another_process(store: Store) -> None:
    finish(store.open())
    assert store.open().claim(E1, lease=30) == Finished(answer=OK)


def test_a_lapsed_lease_is_taken_over_and_the_starts_are_counted(ledger: Ledger, store: Store) -> None:
    first = claim(ledger)
    store.age("e1", HOUR)
    second = claim(ledger)
    assert (first.starts, second.starts) == (1, 2)
    assert (first.crashed, second.crashed) == (False, True)
    assert first.token != second.token
    assert ledger.claim(E1, lease=30) == Running()


def test_what_is_decided_first_stands(ledger: Ledger) -> None:
    assert ledger.release("e1", claim(ledger, replace(E1, decision="late")).token, max_attempts=3)
    assert claim(ledger, replace(E1, decision=RUN)).decision == "late"


def test_the_highest_attempt_seen_is_kept(ledger: Ledger, store: Store) -> None:
    first = claim(ledger, SECOND)
    assert ledger.claim(THIRD, lease=30) == Running()
    assert not ledger.release("e1", first.token, max_attempts=3)
    store.age("e1", HOUR)
    assert claim(ledger, E1).attempt == 3


def test_of_many_at_once_one_gets_it(store: Store) -> None:
    ledgers = [store.open() for _ in range(8)]
    claims = at_once(8, lambda number: ledgers[number].claim(E1, lease=30))
    assert sum(isinstance(each, Claimed) for each in claims) == 1
    assert sum(each == Running() for each in claims) == 7


def test_of_many_threads_that_take_over_one_gets_it(ledger: Ledger, store: Store) -> None:
    claim(ledger)
    store.age("e1", HOUR)
    claims = at_once(8, lambda number: ledger.claim(E1, lease=30))
    assert sum(isinstance(each, Claimed) for each in claims) == 1


# exclusive


def test_an_exclusive_task_does_not_run_beside_another_execution(ledger: Ledger) -> None:
    claim(ledger)
    assert claim(ledger, replace(OTHER, exclusive=True)).decision == OVERLAP
    assert claim(ledger, replace(E1, execution_id="e3")).decision == RUN


@pytest.mark.parametrize("other", [{"task": "invoice"}, {"scope": "billing@staging"}])
def test_exclusive_looks_only_at_its_own_task(ledger: Ledger, other: dict[str, str]) -> None:
    claim(ledger, replace(OTHER, **other))  # type: ignore[arg-type]
    assert claim(ledger, replace(E1, exclusive=True)).decision == RUN


def test_exclusive_looks_only_at_what_runs_now(ledger: Ledger, store: Store) -> None:
    exclusive = replace(E1, exclusive=True)
    released, finished, crashed, held = (replace(E1, execution_id=each) for each in ("e2", "e3", "e4", "e5"))
    ledger.release("e2", claim(ledger, released).token, max_attempts=3)
    finish(ledger, finished)
    claim(ledger, crashed)
    store.age("e4", HOUR)
    hold(ledger, held)
    assert claim(ledger, exclusive).decision == RUN


def test_an_execution_that_may_not_run_is_in_nobodys_way(ledger: Ledger) -> None:
    running = claim(ledger)
    assert claim(ledger, replace(OTHER, exclusive=True)).decision == OVERLAP
    ledger.finish("e1", running.token, OK, DONE)
    assert claim(ledger, replace(E1, execution_id="e3", exclusive=True)).decision == RUN


def test_a_renewed_run_is_still_in_the_way(ledger: Ledger, store: Store) -> None:
    running = claim(ledger)
    store.age("e1", HOUR)
    ledger.renew([running.token], lease=30)
    assert claim(ledger, replace(OTHER, exclusive=True)).decision == OVERLAP


def test_a_decision_against_a_run_needs_no_other(ledger: Ledger) -> None:
    claim(ledger)
    assert claim(ledger, replace(OTHER, exclusive=True, decision="late")).decision == "late"


def test_its_own_earlier_run_is_not_in_the_way(ledger: Ledger, store: Store) -> None:
    claim(ledger, replace(E1, exclusive=True))
    store.age("e1", HOUR)
    assert claim(ledger, replace(E1, exclusive=True)).decision == RUN


def test_of_many_exclusive_executions_at_once_one_runs(store: Store) -> None:
    ledgers = [store.open() for _ in range(8)]

    def race(number: int) -> str | None:
        return claim(ledgers[number], replace(E1, execution_id=f"x{number}", exclusive=True)).decision

    assert sorted(map(str, at_once(8, race))) == [OVERLAP] * 7 + [RUN]


def test_of_many_held_exclusive_executions_started_at_once_one_runs(store: Store) -> None:
    entries = [replace(E1, execution_id=f"x{number}", exclusive=True) for number in range(8)]
    ledgers = [store.open() for _ in entries]
    tokens = [hold(ledger, entry).token for ledger, entry in zip(ledgers, entries, strict=True)]

    def race(number: int) -> str | None:
        return claimed(ledgers[number].start(entries[number], tokens[number])).decision

    assert sorted(map(str, at_once(8, race))) == [OVERLAP] * 7 + [RUN]


# hold and start


def test_what_is_held_is_neither_started_nor_decided(ledger: Ledger, store: Store) -> None:
    got = hold(ledger)
    assert got == Claimed(token=got.token, starts=0, attempt=1, decision=None, crashed=False)
    assert ledger.hold(E1, lease=30) == ledger.claim(E1, lease=30) == Running()
    store.age("e1", HOUR)
    assert (claim(ledger).starts, claim(ledger, OTHER).crashed) == (1, False)


def test_the_holder_of_an_execution_that_lapsed_waiting_took_it_from_no_run(ledger: Ledger, store: Store) -> None:
    hold(ledger)
    store.age("e1", HOUR)
    assert not claim(ledger).crashed


def test_what_is_held_is_started_and_decided_by_its_owner(ledger: Ledger) -> None:
    got = hold(ledger, SECOND)
    assert ledger.start(SECOND, got.token) == Claimed(token=got.token, starts=1, attempt=2, decision=RUN)
    assert ledger.claim(E1, lease=30) == Running()


def test_a_hold_sees_attempts_too(ledger: Ledger) -> None:
    first = claim(ledger)
    assert ledger.hold(THIRD, lease=30) == Running()
    assert not ledger.release("e1", first.token, max_attempts=3)


def test_a_crash_is_told_until_somebody_starts_it_again(ledger: Ledger, store: Store) -> None:
    claim(ledger)
    store.age("e1", HOUR)
    assert hold(ledger).crashed
    store.age("e1", HOUR)
    second = hold(ledger)
    assert second.crashed
    assert claimed(ledger.start(E1, second.token)).crashed
    assert ledger.release("e1", second.token, max_attempts=3)
    assert not claim(ledger).crashed


def test_what_is_held_can_be_finished_without_a_start(ledger: Ledger) -> None:
    assert ledger.finish("e1", hold(ledger).token, OK, DONE)
    assert ledger.claim(E1, lease=30) == Finished(answer=OK)


# postpone


def test_a_postponed_execution_stays_its_owners_until_it_starts_again(ledger: Ledger, store: Store) -> None:
    got = claim(ledger, replace(E1, decision="late"))
    assert ledger.postpone("e1", got.token, attempt=2, delay=60)
    assert ledger.claim(E1, lease=30) == Running()
    again = claimed(ledger.start(SECOND, got.token))
    assert (again.starts, again.attempt, again.decision, again.crashed) == (2, 2, "late", False)


def test_a_postponed_execution_is_not_running_and_does_not_crash(ledger: Ledger, store: Store) -> None:
    ledger.postpone("e1", claim(ledger).token, attempt=2, delay=60)
    assert claim(ledger, replace(OTHER, exclusive=True)).decision == RUN
    store.age("e1", HOUR)
    assert not claim(ledger).crashed


def test_to_postpone_sees_the_attempt(ledger: Ledger) -> None:
    got = claim(ledger)
    ledger.postpone("e1", got.token, attempt=3, delay=60)
    ledger.postpone("e1", got.token, attempt=2, delay=60)
    assert not ledger.release("e1", got.token, max_attempts=3)


# renew and abandon


def test_a_renewed_lease_is_not_taken_over(ledger: Ledger, store: Store) -> None:
    tokens = [claim(ledger).token, hold(ledger, OTHER).token]
    store.age("e1", HOUR)
    store.age("e2", HOUR)
    ledger.renew(tokens, lease=30)
    assert ledger.claim(E1, lease=30) == ledger.claim(OTHER, lease=30) == Running()


def test_an_abandoned_lease_has_run_out(ledger: Ledger) -> None:
    tokens = [claim(ledger).token, hold(ledger, OTHER).token]
    ledger.abandon(tokens)
    assert claim(ledger).crashed
    assert not claim(ledger, OTHER).crashed


def test_nothing_is_renewed_or_abandoned_for_no_tokens(ledger: Ledger) -> None:
    claim(ledger)
    ledger.renew([], lease=30)
    ledger.abandon([])
    assert ledger.claim(E1, lease=30) == Running()


# forget, release, finish


@pytest.mark.parametrize("take", [hold, claim])
def test_what_is_somebody_elses_is_forgotten(ledger: Ledger, take: Callable[..., Claimed]) -> None:
    ledger.forget("e1", take(ledger, replace(KEPT, exclusive=True)).token)
    assert ledger.lapsed("billing", transport="worker", limit=10) == []
    assert claim(ledger, replace(OTHER, exclusive=True)).decision == RUN
    assert claim(ledger, replace(KEPT, max_attempts=1)).starts == 1


def test_a_released_execution_is_claimed_by_its_next_attempt(ledger: Ledger) -> None:
    assert ledger.release("e1", claim(ledger).token, max_attempts=3)
    again = claim(ledger, SECOND)
    assert (again.starts, again.attempt, again.crashed) == (2, 2, False)


def test_what_is_held_can_be_given_back(ledger: Ledger) -> None:
    assert ledger.release("e1", hold(ledger).token, max_attempts=3)
    assert claim(ledger).starts == 1


def test_nothing_is_released_after_the_last_attempt(ledger: Ledger) -> None:
    got = claim(ledger, THIRD)
    assert not ledger.release("e1", got.token, max_attempts=3)
    assert ledger.claim(E1, lease=30) == Running()
    assert ledger.finish("e1", got.token, OK, DONE)


def test_a_stale_owner_changes_nothing(ledger: Ledger, store: Store) -> None:
    stale = hold(ledger, KEPT).token
    store.age("e1", HOUR)
    fresh = hold(ledger, KEPT).token
    refuse_all(ledger, stale)
    assert ledger.claim(E1, lease=30) == Running()
    assert claimed(ledger.start(E1, fresh)).starts == 1
    refuse_all(ledger, stale)
    assert ledger.finish("e1", fresh, OK, DONE)
    refuse_all(ledger, stale)
    refuse_all(ledger, fresh)
    assert len(ledger.unreported("billing", limit=10)) == 1


def test_a_stale_owner_does_not_renew(ledger: Ledger, store: Store) -> None:
    stale = claim(ledger).token
    store.age("e1", HOUR)
    claim(ledger)
    store.age("e1", HOUR)
    ledger.renew([stale], lease=30)
    assert claim(ledger).starts == 3


def test_who_gave_it_back_owns_nothing(ledger: Ledger) -> None:
    token = claim(ledger).token
    ledger.release("e1", token, max_attempts=3)
    refuse_all(ledger, token)
    assert claim(ledger).starts == 2


def test_what_died_in_its_last_attempt_is_listed_until_its_end_is_written_down(ledger: Ledger, store: Store) -> None:
    token = claim(ledger, THIRD).token
    claim(ledger, OTHER)  # two attempts are left
    claim(ledger, replace(THIRD, execution_id="worker's", transport="worker"))
    claim(ledger, replace(THIRD, execution_id="fresh"))
    for each in ("e1", "e2", "worker's"):
        store.age(each, HOUR)
    store.age("fresh", 31)
    assert ledger.died("billing", since=60, limit=10) == [Died("e1", token)]
    assert ledger.died("crm", since=60, limit=10) == []
    assert ledger.finish("e1", token, OK, DONE)
    assert ledger.died("billing", since=60, limit=10) == []


def test_what_the_store_has_lost_is_still_its_owners_to_report(ledger: Ledger) -> None:
    assert ledger.finish("lost", make_token("lost"), OK, DONE)
    assert ledger.unreported("billing", limit=1) == []


def refuse_all(ledger: Ledger, token: str) -> None:
    assert ledger.start(E1, token) is None
    assert not ledger.postpone("e1", token, attempt=2, delay=60)
    assert not ledger.release("e1", token, max_attempts=9)
    assert not ledger.finish("e1", token, Answer(status=500, body={}), Outcome(success=False))
    ledger.forget("e1", token)
    ledger.abandon([token])
    ledger.renew([token], lease=0)


# lapsed


def test_what_nobody_holds_is_listed_with_its_delivery(ledger: Ledger, store: Store) -> None:
    claim(ledger, KEPT)
    assert ledger.lapsed("billing", transport="worker", limit=10) == []
    store.age("e1", HOUR)
    expected = Lapsed(execution_id="e1", delivery=DELIVERY, attempt=1, retry_in=0)
    assert ledger.lapsed("billing", transport="worker", limit=10) == [expected]


@pytest.mark.parametrize("entry", [replace(KEPT, scope="crm"), replace(KEPT, transport="webhook"), E1])
def test_only_what_is_kept_for_this_app_and_transport_is_listed(ledger: Ledger, entry: Entry) -> None:
    ledger.abandon([hold(ledger, entry).token])
    assert ledger.lapsed("billing", transport="worker", limit=10) == []


def test_what_was_held_abandoned_released_or_postponed_is_listed_oldest_first(ledger: Ledger, store: Store) -> None:
    entries = [replace(KEPT, execution_id=each) for each in ("held", "abandoned", "released", "postponed", "finished")]
    tokens = [
        claim(ledger, entry).token if number else hold(ledger, entry).token for number, entry in enumerate(entries)
    ]
    ledger.abandon([tokens[1]])
    assert ledger.release("released", tokens[2], max_attempts=3)
    assert ledger.postpone("postponed", tokens[3], attempt=2, delay=2 * HOUR)
    assert ledger.finish("finished", tokens[4], OK, DONE)
    for days, entry in enumerate(entries):
        store.age(entry.execution_id, (10 - days) * HOUR)
    found = ledger.lapsed("billing", transport="worker", limit=10)
    assert [each.execution_id for each in found] == ["held", "abandoned", "released", "postponed"]
    assert [each.execution_id for each in ledger.lapsed("billing", transport="worker", limit=2)] == [
        "held",
        "abandoned",
    ]


def test_what_lapsed_tells_when_its_next_attempt_is_due(ledger: Ledger, store: Store) -> None:
    ledger.postpone("e1", claim(ledger, KEPT).token, attempt=2, delay=2 * HOUR)
    store.age("e1", HOUR)
    (found,) = ledger.lapsed("billing", transport="worker", limit=10)
    assert found.attempt == 2
    assert HOUR - 60 < found.retry_in <= HOUR
    ledger.abandon([hold(ledger, KEPT).token])
    assert ledger.lapsed("billing", transport="worker", limit=10)[0].retry_in > 0
    ledger.abandon([claim(ledger, KEPT).token])
    assert ledger.lapsed("billing", transport="worker", limit=10)[0].retry_in == 0


def test_what_is_taken_up_is_listed_no_longer(ledger: Ledger, store: Store) -> None:
    hold(ledger, KEPT)
    store.age("e1", HOUR)
    token = hold(ledger, replace(KEPT, delivery=None)).token
    assert ledger.lapsed("billing", transport="worker", limit=10) == []
    ledger.abandon([token])
    assert [each.delivery for each in ledger.lapsed("billing", transport="worker", limit=10)] == [DELIVERY]


def test_the_first_delivery_is_kept_until_a_start_brings_another(ledger: Ledger, store: Store) -> None:
    other = replace(KEPT, delivery={"payload": {}})
    hold(ledger, KEPT)
    store.age("e1", HOUR)
    token = hold(ledger, other).token
    ledger.abandon([token])
    assert [each.delivery for each in ledger.lapsed("billing", transport="worker", limit=10)] == [DELIVERY]
    token = hold(ledger).token
    ledger.start(other, token)
    ledger.abandon([token])
    assert [each.delivery for each in ledger.lapsed("billing", transport="worker", limit=10)] == [other.delivery]


# reports and purge


def test_outcomes_wait_for_their_own_app_until_they_are_reported(ledger: Ledger, store: Store) -> None:
    finish(ledger)
    finish(ledger, replace(OTHER, scope="billing@staging"))
    store.age("e1", HOUR)
    (due,) = ledger.unreported("billing", limit=10)
    assert (due.execution_id, due.task, due.outcome) == ("e1", E1.task, DONE)
    assert HOUR <= due.age < HOUR + 60
    ledger.reported("e1", accepted=True)
    assert ledger.unreported("billing", limit=10) == []
    ledger.reported("e2", accepted=False)
    assert ledger.unreported("billing@staging", limit=10) == []
    assert ledger.claim(E1, lease=30) == Finished(answer=OK)


def test_the_oldest_outcomes_come_first(ledger: Ledger, store: Store) -> None:
    for age, name in enumerate("cab"):
        finish(ledger, replace(E1, execution_id=name))
        store.age(name, age * HOUR)
    assert [each.execution_id for each in ledger.unreported("billing", limit=2)] == ["b", "a"]


def test_to_report_what_is_unknown_or_unfinished_changes_nothing(ledger: Ledger) -> None:
    token = claim(ledger).token
    ledger.reported("e1", accepted=True)
    ledger.reported("nothing", accepted=True)
    assert ledger.finish("e1", token, OK, DONE)
    assert len(ledger.unreported("billing", limit=10)) == 1


def test_purge_removes_what_is_old_and_reported_and_no_more_than_asked(ledger: Ledger, store: Store) -> None:
    if store.kind == "redis":
        pytest.skip("reported rows expire by themselves")
    for name in ("a", "b", "c", "young"):
        finish(ledger, replace(E1, execution_id=name))
        store.age(name, 0 if name == "young" else 2 * HOUR)
        ledger.reported(name, accepted=name != "b")
    claim(ledger)
    store.age("e1", 2 * HOUR)
    assert [ledger.purge("crm", age=HOUR, limit=2) for _ in range(3)] == [2, 1, 0]
    assert claim(ledger, replace(E1, execution_id="a")).starts == 1
    assert ledger.claim(replace(E1, execution_id="young"), lease=30) == Finished(answer=OK)
    assert claim(ledger).starts == 2


def test_purge_removes_what_is_old_and_was_never_reported_of_its_own_scope(ledger: Ledger, store: Store) -> None:
    for name in ("a", "b", "c", "young"):
        finish(ledger, replace(E1, execution_id=name))
        store.age(name, 0 if name == "young" else 2 * HOUR)
    claim(ledger)
    store.age("e1", 2 * HOUR)
    assert ledger.purge("crm", age=HOUR, limit=2) == 0
    assert [ledger.purge(E1.scope, age=HOUR, limit=2) for _ in range(3)] == [2, 1, 0]
    assert [each.execution_id for each in ledger.unreported(E1.scope, limit=9)] == ["young"]
    assert claim(ledger, replace(E1, execution_id="a")).starts == 1
    assert claim(ledger).starts == 2
