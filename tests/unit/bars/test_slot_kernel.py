"""The monoid of slots: order and grouping never matter, compiled or not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.bars import _slot_kernel as kernel
from marketpipe.bars._sums_kernel import HI_MAX
from marketpipe.bars.layout import AUX, I64_MIN, SLOT, blank, blank_aux
from marketpipe.domain.ticks import (
    FIRST_ONLY,
    HIGH_LOW,
    LAST,
    OFFICIAL_CLOSE,
    OFFICIAL_OPEN,
    VOLUME,
    VWAP,
)

Form: TypeAlias = Callable[[Any], Any]
State: TypeAlias = tuple[npt.NDArray[np.void], npt.NDArray[np.void]]
Tick: TypeAlias = tuple[int, ...]
LIMB = 10**18
MAX_NANOS = 10**18 - 1


@pytest.fixture(scope="module", params=["compiled", "plain"])
def form(request: pytest.FixtureRequest) -> Form:
    """Return what picks the compiled function or its Python source."""
    if request.param == "compiled":
        return lambda function: function
    return lambda function: getattr(function, "py_func", function)


@dataclass(frozen=True)
class Monoid:
    """The kernel's operations on (slot, aux) pairs, which leave their arguments alone."""

    form: Form

    def neutral(self) -> State:
        return blank(np.empty(1, SLOT)), blank_aux(np.empty(1, AUX))

    def fold(self, state: State, ticks: Sequence[Tick]) -> State:
        slot, aux = state[0].copy(), state[1].copy()
        for f, fl, *rest in ticks:
            values = [np.int64(v) for v in rest]
            f64, fl64 = np.int64(f), np.int64(fl)
            assert self.form(kernel.fold)(slot[0], f64, *values)
            self.form(kernel.fold_aux)(aux[0], f64, fl64, *values[:-1])
        return slot, aux

    def merge(self, a: State, b: State) -> State:
        slot, aux = a[0].copy(), a[1].copy()
        assert self.form(kernel.merge)(slot[0], b[0][0])
        self.form(kernel.merge_aux)(aux[0], b[1][0])
        return slot, aux


@pytest.fixture(scope="module")
def monoid(form: Form) -> Monoid:
    return Monoid(form)


def said(state: State) -> tuple[bytes, bytes]:
    return state[0].tobytes(), state[1].tobytes()


intraday = st.sampled_from(
    [LAST | HIGH_LOW | VOLUME | VWAP, VOLUME, FIRST_ONLY | VOLUME, HIGH_LOW, LAST, 0]
)
whole_day = st.sampled_from([0, OFFICIAL_OPEN, OFFICIAL_CLOSE, OFFICIAL_OPEN | OFFICIAL_CLOSE])


@st.composite
def ticks_lists(draw: st.DrawFn, most: int = 8) -> list[Tick]:
    """Draw ticks with distinct order keys that often agree in their first parts."""
    keys = draw(
        st.lists(st.tuples(*(st.integers(0, 2) for _ in range(4))), max_size=most, unique=True)
    )
    return [
        (
            draw(intraday),
            draw(whole_day),
            *key,
            draw(st.one_of(st.integers(1, 5), st.integers(1, MAX_NANOS))),
            draw(st.one_of(st.integers(0, 5), st.integers(0, MAX_NANOS))),
            draw(st.one_of(st.just(I64_MIN), st.integers(0, 2**62))),
        )
        for key in keys
    ]


@given(ticks_lists(), st.data())
def test_fold_in_any_order_gives_the_same_state(
    monoid: Monoid, ticks: list[Tick], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(ticks))
    assert said(monoid.fold(monoid.neutral(), shuffled)) == said(
        monoid.fold(monoid.neutral(), ticks)
    )


@given(ticks_lists())
def test_fold_equals_the_merge_of_singletons(monoid: Monoid, ticks: list[Tick]) -> None:
    singletons = [monoid.fold(monoid.neutral(), [tick]) for tick in ticks]
    merged = reduce(monoid.merge, singletons, monoid.neutral())
    assert said(merged) == said(monoid.fold(monoid.neutral(), ticks))


@given(ticks_lists(), st.integers(0, 8), st.integers(0, 8))
def test_merge_any_grouping_gives_the_same_state(
    monoid: Monoid, ticks: list[Tick], i: int, j: int
) -> None:
    cuts = (ticks[: min(i, j)], ticks[min(i, j) : max(i, j)], ticks[max(i, j) :])
    a, b, c = (monoid.fold(monoid.neutral(), part) for part in cuts)
    left = monoid.merge(monoid.merge(a, b), c)
    assert said(left) == said(monoid.merge(a, monoid.merge(b, c)))


@given(ticks_lists(), st.integers(0, 8))
def test_merge_either_way_round_gives_the_same_state(
    monoid: Monoid, ticks: list[Tick], i: int
) -> None:
    a = monoid.fold(monoid.neutral(), ticks[:i])
    b = monoid.fold(monoid.neutral(), ticks[i:])
    assert said(monoid.merge(a, b)) == said(monoid.merge(b, a))


@given(ticks_lists())
def test_merge_with_the_neutral_state_changes_nothing(monoid: Monoid, ticks: list[Tick]) -> None:
    state = monoid.fold(monoid.neutral(), ticks)
    assert said(monoid.merge(state, monoid.neutral())) == said(state)
    assert said(monoid.merge(monoid.neutral(), state)) == said(state)


@given(ticks_lists())
def test_fold_says_what_the_ticks_say(monoid: Monoid, ticks: list[Tick]) -> None:
    slot = monoid.fold(monoid.neutral(), ticks)[0][0]
    counted = [t for t in ticks if t[0] & VOLUME]
    edges = sorted((t[2:6], t[6]) for t in ticks if t[0] & LAST)
    spread = [t[6] for t in ticks if t[0] & HIGH_LOW]
    assert slot["count"] == len(counted)
    assert int(slot["vol_hi"]) * LIMB + int(slot["vol_lo"]) == sum(t[7] for t in counted)
    assert int(slot["not_hi"]) * LIMB + int(slot["not_lo"]) == sum(t[6] * t[7] for t in counted)
    if edges:
        assert (slot["open"], slot["close"]) == (edges[0][1], edges[-1][1])
    if spread:
        assert (slot["high"], slot["low"]) == (max(spread), min(spread))


@given(ticks_lists())
def test_compiled_and_plain_leave_the_same_bytes(ticks: list[Tick]) -> None:
    compiled, plain = Monoid(lambda f: f), Monoid(lambda f: getattr(f, "py_func", f))
    states = [m.fold(m.neutral(), ticks) for m in (compiled, plain)]
    assert said(states[0]) == said(states[1])
    assert said(compiled.merge(*states)) == said(plain.merge(*states))


@given(ticks_lists(most=3))
def test_clear_a_used_state_makes_it_neutral(monoid: Monoid, ticks: list[Tick]) -> None:
    slot, aux = monoid.fold(monoid.neutral(), ticks)
    monoid.form(kernel.clear)(slot[0])
    monoid.form(kernel.clear_aux)(aux[0])
    assert said((slot, aux)) == said(monoid.neutral())


@given(ticks_lists(most=3))
def test_copy_takes_every_field(monoid: Monoid, ticks: list[Tick]) -> None:
    slot, _ = monoid.fold(monoid.neutral(), ticks)
    for place, name in enumerate(SLOT.names or ()):
        slot[name] = place
    target = blank(np.empty(1, SLOT))
    monoid.form(kernel.copy)(target[0], slot[0])
    assert target.tobytes() == slot.tobytes()


def nearly_full() -> npt.NDArray[np.void]:
    slot = blank(np.empty(1, SLOT))
    slot["not_hi"], slot["not_lo"], slot["count"] = HI_MAX, LIMB - 1, 7
    return slot


def test_fold_beyond_the_limit_is_refused_and_writes_nothing(form: Form) -> None:
    slot = nearly_full()
    values = (LAST | HIGH_LOW | VOLUME, 1, 0, 0, 1, MAX_NANOS, MAX_NANOS, 1)
    assert not form(kernel.fold)(slot[0], *(np.int64(v) for v in values))
    assert slot.tobytes() == nearly_full().tobytes()


def test_merge_beyond_the_limit_is_refused_and_writes_nothing(form: Form) -> None:
    slot = nearly_full()
    with np.errstate(over="raise"):
        assert not form(kernel.merge)(slot[0], nearly_full()[0])
    assert slot.tobytes() == nearly_full().tobytes()
