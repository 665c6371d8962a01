"""Laws of deduplication: exact, blind to batching, bounded by sealing; kernel beside its twin."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketpipe.domain.batches import Dictionaries, StreamKey, TradeBatch
from marketpipe.domain.findings import Findings
from marketpipe.domain.units import DAY_NS
from marketpipe.normalize import Normalized, RuleSet, TickNormalizer
from marketpipe.normalize import _dedup_kernel as kernel

PLAIN = RuleSet.load("plain")
NAMES = Dictionaries(
    streams=(StreamKey("s", "f", "AAA"), StreamKey("s", "f", "BBB")),
    venues=("", "N", "Q"),
    tapes=("", "A", "C"),
)
KERNELS = (
    *("mix", "home", "find", "admit", "fill_slots", "fingerprint"),
    *("bounds", "within", "search"),
)

# (stream, day, nanosecond in the day, price, id_hi, id_lo, venue, tape); few values, so that
# identities meet often
ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from([-1, 5, 6]),
        st.sampled_from([-1, 0, 0, 0, 7]),
        st.one_of(st.integers(0, 3), st.sampled_from([2**62, 2**63 - 1])),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=30,
)
Row = tuple[int, int, int, int, int, int, int, int]
LAWS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["compiled", "py_func"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the same test over the compiled kernel and over its Python source."""
    if request.param == "py_func":
        for name in KERNELS:
            source: Callable[..., Any] = getattr(kernel, name).py_func
            monkeypatch.setattr(kernel, name, np.errstate(over="ignore")(source))
    return str(request.param)


def batch(rows: list[Row], first: int = 0) -> TradeBatch:
    """Lay rows out as a batch whose first row number is ``first + 1``."""
    columns = np.array(rows, np.int64).reshape(-1, 8).T.copy()
    stream, day, offset, price, id_hi, id_lo, venue, tape = columns
    return TradeBatch(
        dictionaries=NAMES,
        stream=stream.astype(np.int32),
        row=np.arange(first, first + len(rows), dtype=np.int64) + 1,
        ts_event=day * DAY_NS + offset,
        price=price,
        size=np.ones(len(rows), np.int64),
        id_hi=id_hi,
        id_lo=id_lo,
        venue=venue.astype(np.int32),
        tape=tape.astype(np.int32),
    )


def feed(normalizer: TickNormalizer, rows: list[Row], cuts: list[int]) -> list[Normalized]:
    edges = [0, *sorted(c for c in cuts if c <= len(rows)), len(rows)]
    return [normalizer.apply(batch(rows[a:b], first=a)) for a, b in pairwise(edges)]


def ticks_of(parts: list[Normalized]) -> list[tuple[int, ...]]:
    return [
        tuple(int(c[i]) for c in (t.stream, t.ts_event, t.price, t.key_major, t.key_mid, t.flags))
        for t in (p.ticks for p in parts)
        for i in range(len(t))
    ]


def summary(normalizer: TickNormalizer) -> dict[str, list[Any]]:
    return {name: array.tolist() for name, array in normalizer.save().items()}


def oracle(rows: list[Row]) -> tuple[list[int], list[int], list[int]]:
    """Rows that must be admitted, repeated alike, repeated otherwise: a dictionary, no hashing."""
    seen: dict[tuple[int, ...], tuple[int, int]] = {}
    admitted: list[int] = []
    alike: list[int] = []
    otherwise: list[int] = []
    for number, (stream, day, offset, price, id_hi, id_lo, venue, tape) in enumerate(rows):
        if price <= 0:
            continue
        identity = (stream, day, id_hi, id_lo, venue, tape)
        if id_hi >= 0 and identity in seen:
            (alike if seen[identity] == (offset, price) else otherwise).append(number)
            continue
        seen[identity] = (offset, price)
        admitted.append(number)
    return admitted, alike, otherwise


@LAWS
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_dedup_any_split_admits_what_a_dictionary_admits(
    twin: str, rows: list[Row], cuts: list[int]
) -> None:
    normalizer = TickNormalizer(rule_set=PLAIN)
    parts = feed(normalizer, rows, cuts)
    admitted, alike, otherwise = oracle(rows)
    got = [(t[1], t[2]) for t in ticks_of(parts)]
    assert got == [(rows[i][1] * DAY_NS + rows[i][2], rows[i][3]) for i in admitted]
    findings = Findings.merge(p.findings for p in parts)
    assert findings.count("duplicate") == len(alike)
    assert findings.count("conflicting_duplicate") == len(otherwise)
    whole = TickNormalizer(rule_set=PLAIN)
    assert ticks_of(feed(whole, rows, [])) == ticks_of(parts)
    assert summary(whole) == summary(normalizer)
    assert feed(TickNormalizer(rule_set=PLAIN), rows, [])[0].findings == findings


@LAWS
@given(rows=ROWS, cut=st.integers(0, 30))
def test_normalizer_no_row_vanishes(twin: str, rows: list[Row], cut: int) -> None:
    for part, total in zip(
        feed(TickNormalizer(rule_set=PLAIN), rows, [cut]),
        (min(cut, len(rows)), len(rows) - cut) if cut <= len(rows) else (len(rows),),
        strict=True,
    ):
        repeated = part.findings.count("duplicate") + part.findings.count("conflicting_duplicate")
        assert len(part.ticks) + len(part.quarantined) + repeated == total


@LAWS
@given(rows=ROWS, cut=st.integers(0, 30), before=st.integers(0, 4))
def test_seal_and_unseal_is_as_if_never_sealed(
    twin: str, rows: list[Row], cut: int, before: int
) -> None:
    plain, sealing = TickNormalizer(rule_set=PLAIN), TickNormalizer(rule_set=PLAIN)
    expected = [*feed(plain, rows[:cut], []), plain.apply(batch(rows[cut:], cut))]
    got = feed(sealing, rows[:cut], [])
    sealed = sealing.seal(before)
    assert sealing.sealed_dates == tuple(s.date for s in sealed)
    assert all(date >= before for date in sealing.held_dates)
    sealing.unseal(reversed(sealed))
    got.append(sealing.apply(batch(rows[cut:], cut)))
    assert ticks_of(got) == ticks_of(expected)
    assert [p.findings for p in got] == [p.findings for p in expected]
    assert summary(sealing) == summary(plain)


@LAWS
@given(rows=ROWS, cut=st.integers(0, 30), before=st.integers(0, 3))
def test_save_and_load_changes_nothing(twin: str, rows: list[Row], cut: int, before: int) -> None:
    running = TickNormalizer(rule_set=PLAIN)
    feed(running, rows[:cut], [])
    sealed = running.seal(before)
    loaded = TickNormalizer.load(running.save(), rule_set=PLAIN)
    assert summary(loaded) == summary(running)
    assert loaded.sealed_dates == running.sealed_dates
    for normalizer in (running, loaded):
        normalizer.unseal(sealed)
    rest = batch(rows[cut:], cut)
    first, second = running.apply(rest), loaded.apply(rest)
    assert ticks_of([first]) == ticks_of([second])
    assert first.findings == second.findings
    assert summary(loaded) == summary(running)


@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3))
@settings(max_examples=200, deadline=None)
def test_hash_compiled_and_python_agree(numbers: list[int]) -> None:
    a, b, c = (np.int64(n) for n in numbers)
    with np.errstate(over="ignore"):
        assert int(kernel.mix(a, b, c)) == int(kernel.mix.py_func(a, b, c))
        mask = np.int64(1023)
        assert int(kernel.home(a, b, c, mask)) == int(kernel.home.py_func(a, b, c, mask))


@LAWS
@given(
    rows=ROWS,
    cuts=st.lists(st.integers(0, 30), max_size=6),
    in_memory=st.integers(1, 8),
)
def test_dedup_frozen_to_disk_is_as_if_all_were_in_memory(
    twin: str, tmp_path: Path, rows: list[Row], cuts: list[int], in_memory: int
) -> None:
    plain = TickNormalizer(rule_set=PLAIN)
    frozen = TickNormalizer(rule_set=PLAIN, folder=tmp_path, ids_in_memory=in_memory)
    expected, got = feed(plain, rows, cuts), feed(frozen, rows, cuts)
    assert ticks_of(got) == ticks_of(expected)
    assert [part.findings for part in got] == [part.findings for part in expected]
    assert summary(frozen) == summary(plain)
    assert list(tmp_path.iterdir()) == []


@LAWS
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=6), in_memory=st.integers(1, 8))
def test_dedup_frozen_and_sealed_sessions_come_back_whole(
    twin: str, tmp_path: Path, rows: list[Row], cuts: list[int], in_memory: int
) -> None:
    plain = TickNormalizer(rule_set=PLAIN)
    frozen = TickNormalizer(rule_set=PLAIN, folder=tmp_path, ids_in_memory=in_memory)
    feed(plain, rows, cuts)
    feed(frozen, rows, cuts)
    sealed = frozen.seal(10)
    assert sealed == plain.seal(10)
    frozen.unseal(sealed)
    frozen.forget(10)
    assert frozen.sealed_dates == tuple(session.date for session in sealed)
    frozen.unseal(sealed)
    plain.unseal(sealed)
    again = [feed(each, rows, [])[0].findings for each in (frozen, plain)]
    assert again[0] == again[1]
