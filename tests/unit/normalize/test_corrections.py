"""The book of cancels and corrections: one verdict whatever order the messages came in."""

import json
from dataclasses import replace
from itertools import permutations

from marketpipe.domain.batches import StreamKey
from marketpipe.normalize.corrections import (
    AS_IT_CAME,
    GONE,
    Content,
    Correction,
    CorrectionBook,
    Verdict,
)
from marketpipe.normalize.identity import Scope

SCOPE = Scope(StreamKey("alpaca", "sip", "AAPL"), "V", "C")
OTHER = Scope(StreamKey("alpaca", "sip", "AAPL"), "Q", "C")
DATE = 20_000


def fix(old: str, new: str | None, price: int, ts: int, *, offset: int = 0) -> Correction:
    """Correct a trade to a price, or cancel it (no new id)."""
    return Correction(
        kind="cancel" if new is None else "correction",
        scope=SCOPE,
        date=DATE,
        trade_id=old,
        new_trade_id=new,
        content=None if new is None else Content(price, 1, "@"),
        ts_event=ts,
        offset=offset,
        known_at=ts,
    )


def book_of(*messages: Correction, admitted: tuple[str, ...] = ("1",)) -> CorrectionBook:
    """Make a book, its trades admitted at instants 100, 101, …."""
    book = CorrectionBook()
    for message in messages:
        book.add(message)
    for number, trade_id in enumerate(admitted):
        book.admit(SCOPE, DATE, trade_id, 100 + number)
    return book


def test_verdict_of_a_trade_nobody_speaks_about_is_as_it_came() -> None:
    book = book_of(fix("1", "2", 5, 1))
    assert book.verdict(SCOPE, DATE, "77") == AS_IT_CAME
    assert book.verdict(OTHER, DATE, "1") == AS_IT_CAME
    assert book.verdict(SCOPE, DATE + 1, "1") == AS_IT_CAME


def test_verdict_follows_a_chain_to_its_latest_content() -> None:
    messages = [fix("1", "2", 5, 1), fix("2", "3", 6, 2), fix("3", "4", 7, 3)]
    for order in permutations(messages):
        book = book_of(*order)
        assert book.verdict(SCOPE, DATE, "1") == Verdict(True, Content(7, 1, "@"))


def test_verdict_of_a_cancelled_chain_is_gone_for_every_member() -> None:
    for order in permutations([fix("1", "2", 5, 1), fix("2", None, 0, 2), fix("2", "3", 6, 3)]):
        book = book_of(*order, admitted=("1", "2"))
        assert [book.verdict(SCOPE, DATE, i) for i in ("1", "2", "3")] == [GONE] * 3


def test_verdict_lets_only_the_first_admitted_member_count() -> None:
    book = book_of(fix("1", "2", 5, 1), admitted=("2", "1"))
    assert book.verdict(SCOPE, DATE, "2") == GONE
    assert book.verdict(SCOPE, DATE, "1") == Verdict(True, Content(5, 1, "@"))
    assert book_of(fix("1", "2", 5, 1), admitted=("2",)).verdict(SCOPE, DATE, "2").counts


def test_verdict_at_equal_times_is_decided_by_what_the_messages_say() -> None:
    messages = [fix("1", "2", 5, 1), fix("1", "3", 6, 1)]
    verdicts = {book_of(*order).verdict(SCOPE, DATE, "1") for order in permutations(messages)}
    assert verdicts == {Verdict(True, Content(6, 1, "@"))}


def test_verdict_in_a_ring_of_messages_comes_to_an_end() -> None:
    book = book_of(fix("1", "2", 5, 1), fix("2", "1", 6, 2))
    assert book.verdict(SCOPE, DATE, "1").counts
    assert book.verdict(SCOPE, DATE, "1").content == Content(6, 1, "@")


def test_add_of_a_correction_to_its_own_id_is_a_chain_of_one() -> None:
    book = CorrectionBook()
    assert book.add(fix("1", "1", 5, 1)) == ("1",)
    book.admit(SCOPE, DATE, "1", 100)
    assert book.verdict(SCOPE, DATE, "1") == Verdict(True, Content(5, 1, "@"))


def test_add_returns_the_chain_from_its_root() -> None:
    book = CorrectionBook()
    book.add(fix("2", "3", 6, 2))
    assert book.add(fix("1", "2", 5, 1)) == ("1", "2", "3")
    assert book.concerns(SCOPE, DATE) == {"1", "2", "3"}
    assert book.ids.to_pylist() == ["1", "2", "3"]


def test_add_of_an_id_from_two_trades_keeps_the_earliest_message() -> None:
    for order in permutations([fix("1", "3", 5, 1), fix("2", "3", 6, 2)]):
        book = book_of(*order, admitted=("1", "2", "3"))
        verdicts = [book.verdict(SCOPE, DATE, i) for i in ("1", "2", "3")]
        assert verdicts == [
            Verdict(True, Content(5, 1, "@")),
            Verdict(True, Content(6, 1, "@")),
            GONE,
        ]


def test_members_are_the_admitted_trades_of_a_chain_with_their_times() -> None:
    book = book_of(fix("1", "2", 5, 1), admitted=("2", "1"))
    assert book.members(SCOPE, DATE, "2") == {"1": 101, "2": 100}


def test_waiting_are_the_messages_without_a_trade() -> None:
    early, met = fix("5", "6", 5, 1, offset=9), fix("1", None, 0, 1, offset=3)
    book = book_of(early, met)
    assert list(book.waiting()) == [early]
    book.admit(SCOPE, DATE, "6", 100)
    assert list(book.waiting()) == []


def test_settle_tells_once_who_waited_in_vain() -> None:
    early, met = fix("5", "6", 5, 1, offset=9), fix("1", None, 0, 1, offset=3)
    book = book_of(early, met)
    assert book.settle(DATE) == ()
    assert book.settle(DATE + 1) == (early,)
    assert book.settle(DATE + 2) == ()
    assert CorrectionBook.load(book.save()).settle(DATE + 2) == ()


def test_save_and_load_through_json_gives_the_same_book() -> None:
    messages = [fix("1", "2", 5, 1, offset=1), fix("2", None, 0, 2, offset=2)]
    book, reverse = book_of(*messages), book_of(*messages[::-1])
    assert book.save() == reverse.save()
    again = CorrectionBook.load(json.loads(json.dumps(book.save())))
    assert again.save() == book.save()
    assert again.verdict(SCOPE, DATE, "1") == GONE


def test_verdict_of_a_replaced_trade_is_the_correction_where_that_is_known() -> None:
    # A stream says that 1 became 2; a history, that 1 was replaced, and has 2 as a trade.
    replaced = replace(fix("1", None, 0, 100), is_replaced=True)
    for order in permutations([fix("1", "2", 5, 1), replaced, fix("2", "3", 6, 2)]):
        book = book_of(*order, admitted=("1", "2"))
        assert book.verdict(SCOPE, DATE, "1") == Verdict(True, Content(6, 1, "@"))
        assert book.verdict(SCOPE, DATE, "2") == GONE
        saved = json.loads(json.dumps(book.save()))
        assert CorrectionBook.load(saved).save() == book.save()
    alone = book_of(replaced, admitted=("1", "2"))
    assert alone.verdict(SCOPE, DATE, "1") == GONE
    assert alone.verdict(SCOPE, DATE, "2") == AS_IT_CAME
    cancelled = book_of(fix("1", "2", 5, 1), replaced, fix("2", None, 0, 3))
    assert cancelled.verdict(SCOPE, DATE, "1") == GONE
