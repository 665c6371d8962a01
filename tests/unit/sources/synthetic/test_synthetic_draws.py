"""The numbers beneath the generator, against the published algorithm and plain arithmetic."""

import numpy as np
import pytest

from marketpipe.sources.synthetic.draws import bits, draw, pick, time_knots, warp, zipf_slots

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def splitmix64(state: int, count: int) -> list[int]:
    """Vigna's reference ``splitmix64.c``, in Python integers."""
    out = []
    for _ in range(count):
        state = (state + GAMMA) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def test_reference_gives_the_published_first_outputs() -> None:
    # The values that implementations of SplitMix64 commonly test for seed 1234567.
    assert splitmix64(1234567, 3) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("lane", [0, 6])
def test_draws_are_splitmix64_of_the_lane(seed: int, lane: int) -> None:
    # splitmix64(state) mixes state + GAMMA, so mixing x is the first output from x - GAMMA.
    mixed_seed = splitmix64((seed - GAMMA) & MASK, 1)[0]
    key = splitmix64((mixed_seed + lane * GAMMA) & MASK, 1)[0]
    assert draw(seed, lane, 0, 20).tolist() == splitmix64(key, 20)


def test_draws_from_the_middle_are_those_of_the_whole() -> None:
    assert np.array_equal(draw(5, 2, 1_000, 50), draw(5, 2, 0, 1_050)[1_000:])


def test_bits_are_cut_from_the_low_end() -> None:
    assert bits(np.array([0xABCD], np.uint64), 4, 8).tolist() == [0xBC]


def test_zipf_slots_give_every_symbol_its_share_and_at_least_one() -> None:
    counts = np.bincount(zipf_slots(16_384, 2))
    assert counts.sum() == 65_536
    assert counts.min() >= 1
    harmonic = [1, 1 / 2, 1 / 3, 1 / 4]
    shares = np.bincount(zipf_slots(4, 1)) / 65_536
    assert shares == pytest.approx(np.array(harmonic) / sum(harmonic), abs=1e-3)


def test_time_knots_without_a_shape_are_evenly_spaced() -> None:
    assert np.array_equal(time_knots(0, 1024 * 50), np.arange(1025) * 50.0)


def test_time_knots_put_half_the_trades_before_the_middle() -> None:
    knots = time_knots(9, 10**12)
    assert knots[512] == 5 * 10**11
    assert knots[0] + knots[-1] == 10**12
    assert np.allclose(knots + knots[::-1], 10**12, atol=2)


def test_warp_stays_below_the_end_and_ascends() -> None:
    offsets = warp(np.nextafter(np.linspace(0, 1, 5_000), 0).clip(0), time_knots(4, 10**9))
    assert offsets.min() >= 0
    assert offsets.max() == 10**9 - 1
    assert (np.diff(offsets) >= 0).all()


def test_pick_takes_as_many_as_asked_in_row_order() -> None:
    rows = pick(draw(1, 0, 0, 65_536), 1_000)
    assert len(np.unique(rows)) == 1_000
    assert (np.diff(rows) > 0).all()
    assert len(pick(draw(1, 0, 0, 10), 0)) == 0
