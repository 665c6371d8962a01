"""`Findings`: counts and first examples, whatever the order in which they were merged."""

from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.findings import FINDING_CODES, Example, Finding, Findings

PARTS = st.lists(
    st.builds(
        lambda code, rows: Findings.of(code, len(rows), [Example(r, "", "") for r in rows]),
        st.sampled_from(["duplicate", "bad_number", "out_of_range"]),
        st.lists(st.integers(1, 50), max_size=8),
    ),
    max_size=4,
)


@given(a=PARTS, b=PARTS, c=PARTS)
def test_findings_merge_is_associative_and_commutative(
    a: list[Findings], b: list[Findings], c: list[Findings]
) -> None:
    x, y, z = Findings.merge(a), Findings.merge(b), Findings.merge(c)
    assert (x + y) + z == x + (y + z) == Findings.merge([*c, *a, *b])
    assert x + y == y + x
    assert x + Findings() == x
    assert (x + y).total == x.total + y.total


def test_findings_keep_the_five_examples_with_the_smallest_rows() -> None:
    found = Findings.of("duplicate", 9, [Example(r, "", "") for r in (9, 3, 8, 1, 7, 2, 6)])
    assert [e.row for e in found.examples("duplicate")] == [1, 2, 3, 6, 7]
    assert found.count("duplicate") == 9
    assert found.count("bad_number") == 0
    assert found.examples("bad_number") == ()


def test_findings_are_sorted_by_code_and_empty_ones_vanish() -> None:
    found = Findings.of("out_of_range", 1) + Findings.of("bad_number", 2) + Findings.of("x", 0)
    assert found.entries == (Finding("bad_number", 2), Finding("out_of_range", 1))
    assert found.counts == {"bad_number": 2, "out_of_range": 1}
    assert found
    assert not Findings()


def test_every_code_has_a_meaning_on_one_line() -> None:
    assert all(meaning and "\n" not in meaning for meaning in FINDING_CODES.values())
