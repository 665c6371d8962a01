"""The tick CSV reader against a slow one made of csv, Decimal and datetime, line by line."""

import csv
import io
import re
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

from hypothesis import example, given, settings
from hypothesis import strategies as st

from marketpipe.domain.batches import Batch, QuoteBatch
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import MarketPipeError
from marketpipe.sources.csvfile import CsvSource

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(|[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
UNITS = {"ts_ns": 1, "ts_us": 1_000, "ts_ms": 1_000_000}
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # naive arithmetic on UTC


class Bad(Exception):
    """A reason."""


def read_decimal(text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise Bad("bad_number")
    exponent = int(re.split("[eE]", text)[1]) if re.search("[eE]", text) else 0
    with localcontext() as context:
        context.prec = 1_000
        value = Decimal(re.split("[eE]", text)[0])
        if value and exponent > 400:
            raise Bad("out_of_range")
        if value and exponent < -400:
            raise Bad("below_resolution")
        nanos = value.scaleb(exponent + 9) if value else Decimal(0)
        if abs(int(nanos)) > 10**18 - 1:
            raise Bad("out_of_range")
        if nanos != int(nanos):
            raise Bad("below_resolution")
        return int(nanos)


def read_epoch(text: str, unit: int) -> int:
    if not re.fullmatch("[+-]?[0-9]+", text):
        raise Bad("bad_timestamp")
    if not 0 <= int(text) * unit < 2**63:
        raise Bad("out_of_range")
    return int(text) * unit


def read_instant(text: str) -> int:
    match = INSTANT.fullmatch(text)
    if not match:
        raise Bad("bad_timestamp")
    date, time, fraction, zone = match.groups()
    try:
        year_zero = date.startswith("0000")
        shown = date.replace("0000", "0004", 1) if year_zero else date
        moment = datetime.strptime(f"{shown} {time}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        minutes = 0
        if zone[:1] in ("+", "-"):
            span = datetime.strptime(zone[1:], "%H:%M")  # noqa: DTZ007
            minutes = (span.hour * 60 + span.minute) * (1 if zone[0] == "+" else -1)
    except ValueError:
        raise Bad("bad_timestamp") from None
    if not zone:
        raise Bad("naive_timestamp")
    seconds = (moment - EPOCH) // timedelta(seconds=1) - minutes * 60
    ns = seconds * 10**9 + int((fraction or "").ljust(9, "0"))
    if year_zero or not 0 <= ns < 2**63:
        raise Bad("out_of_range")
    return ns


def split(line: str) -> list[str]:
    fields = []
    rest = line
    while True:
        quoted = re.match(r'"((?:[^"]|"")*)"(?=,|$)', rest, re.DOTALL)
        plain = re.match(r'[^",]*(?=,|\Z)', rest)
        if quoted and quoted.end() <= len(rest):
            fields.append(quoted[1].replace('""', '"'))
            rest = rest[quoted.end() :]
        elif plain:
            fields.append(plain[0])
            rest = rest[plain.end() :]
        else:
            raise Bad("bad_quote")
        if not rest:
            return fields
        if not rest.startswith(","):
            raise Bad("bad_quote")
        rest = rest[1:]


def read_line(raw: bytes, header: bytes, wanted: frozenset[str] | None) -> tuple[object, ...]:
    columns = header.decode().split(",")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("bad_utf8") from None
    fields = split(text)
    if len(fields) != len(columns):
        raise Bad("bad_field_count")
    row = dict(zip(columns, fields, strict=True))
    if not row["symbol"]:
        raise Bad("missing_value")
    if not is_valid_symbol(row["symbol"]):
        raise Bad("bad_symbol")
    if wanted is not None and row["symbol"] not in wanted:
        raise Bad("filtered")
    values: dict[str, object] = {}
    for column, value in row.items():
        values[column] = read_field(column, value)
    if "bid" in row and not row["bid"] and not row["ask"]:
        raise Bad("missing_value")
    return tuple(values.values())


def read_field(column: str, text: str) -> object:
    if column in UNITS or column == "timestamp" or column in ("price", "size"):
        if not text:
            raise Bad("missing_value")
    elif not text and column in ("bid", "ask", "bid_size", "ask_size", "ts_recv_ns"):
        return None
    if column in UNITS:
        return read_epoch(text, UNITS[column])
    if column == "timestamp":
        return read_instant(text)
    if column == "ts_recv_ns":
        return read_epoch(text, 1)
    if column in ("price", "size", "bid", "ask", "bid_size", "ask_size"):
        return read_decimal(text)
    if column in ("source", "feed") and text and not is_valid_symbol(text):
        raise Bad("bad_name")
    if column == "side":
        sides = {"": 0, "n": 0, "b": 1, "buy": 1, "s": 2, "sell": 2}
        if text.lower() not in sides or not text.isascii():
            raise Bad("bad_side")
        return sides[text.lower()]
    if column == "source":
        return text or "file"
    return text


def reference(data: bytes, wanted: frozenset[str] | None) -> dict[str, list[object]]:
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    header = lines[0].removesuffix(b"\r")
    found: dict[str, list[object]] = {"rows": [], "bad": [], "filtered": [], "blank": []}
    for number, line in enumerate(lines[1:], 2):
        raw = line.removesuffix(b"\r")
        if not raw:
            found["blank"].append(number)
            continue
        try:
            found["rows"].append((number, *read_line(raw, header, wanted)))
        except Bad as bad:
            reason = "repeated_header" if raw == header else str(bad)
            if reason == "filtered":
                found["filtered"].append(number)
            else:
                found["bad"].append((number, reason, raw))
    return found


def read(
    data: bytes, columns: list[str], *, symbols: frozenset[str] | None, batch: int, block: int
) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {"rows": [], "bad": []}
    source = CsvSource(io.BytesIO(data), symbols=symbols, batch_rows=batch, block_bytes=block)
    for part in source.batches():
        assert len(part) <= batch
        found["rows"] += as_rows(part, columns)
        found["bad"] += [(bad.row, bad.reason, bad.raw) for bad in part.bad]
    counts = source.counts()
    assert counts.rows == len(found["rows"])
    assert counts.bad == len(found["bad"])
    found["filtered"] = [None] * counts.filtered
    found["blank"] = [None] * counts.blank
    return found


def as_rows(part: Batch, columns: list[str]) -> list[object]:
    names = part.dictionaries
    rows: list[object] = []
    for k in range(len(part)):
        stream = names.streams[part.stream[k]]
        values: list[object] = [int(part.row[k])]
        for column in columns:
            if column in ("symbol", "source", "feed"):
                values.append(getattr(stream, column))
            elif column in ("venue", "conditions", "tape"):
                texts = {"venue": names.venues, "conditions": names.conditions}
                codes = getattr(part, column)
                values.append(texts.get(column, names.tapes)[codes[k]])
            elif column == "trade_id":
                values.append(None)
            else:
                attribute = {"ts_recv_ns": "ts_recv"}.get(column, column)
                attribute = "ts_event" if column in (*UNITS, "timestamp") else attribute
                value = int(getattr(part, attribute)[k])
                values.append(None if value == NULL_I64 else value)
        rows.append(tuple(values))
    assert isinstance(part, QuoteBatch) == ("bid" in columns)
    return rows


decimals = st.one_of(
    st.from_regex(r"\A[+-]?[0-9]{0,12}\.?[0-9]{0,12}\Z"),
    st.from_regex(r"\A-?[0-9]{1,3}\.?[0-9]{0,3}[eE][+-]?[0-9]{1,3}\Z"),
    st.decimals(0, 1000, places=4).map(str),
    st.sampled_from(
        [
            "NaN",
            "inf",
            "1e300",
            "1e-10",
            "999999999.999999999",
            "1000000000",
            "1_0",
            "-0",
            "0.1234567890",
            "0.1234567891",
            "999999999.9999999995",
            "0x1",
            "1,5",
            ".",
            "-",
            "+.5",
            "5.",
        ]
    ),
    st.sampled_from(["", " 1", "1 "]),
)
epochs = st.one_of(
    st.integers(-5, 2**63 + 5).map(str),
    st.integers(0, 10**14).map(str),
    st.sampled_from(["", "1.5", "abc", "9223372036854775807", "9223372036854775808", "-0", "-"])
    | st.sampled_from(["09223372036854775807", "9223372036854", "99999999999999999999", "+7"]),
)
instants = st.one_of(
    st.datetimes(datetime(1969, 12, 30), datetime(2262, 4, 13)).map(  # noqa: DTZ001
        lambda t: t.isoformat() + "Z"
    ),
    st.from_regex(
        r"\A(0000|19[67][0-9]|20[0-9]{2}|2262)-(0[0-9]|1[0-3])-[0-3][0-9][Tt ]"
        r"[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)\Z"
    ),
    st.sampled_from(["", "2026-01-05", "2016-12-31T23:59:60Z", "2262-04-11T23:47:16.854775807Z"])
    | st.sampled_from(["2262-04-11T23:47:16.854775808Z", "2100-02-29T00:00:00Z", "x" * 25]),
)
texts = st.sampled_from(["", "V", "Q", "@ T I", 'a"b', "x,y", "é", "long text " * 5, "\0", "\r"])
names = st.sampled_from(["", "sip", "iex", "../x", "a/b", ".a", "UPPER", "a b", "x" * 33])
symbols = st.sampled_from(["A", "AAPL", "BTC/USD", "BRK.B", "^GSPC", "GC=F", "", "../../x", "é"])
FIELDS = {
    "symbol": symbols,
    "price": decimals,
    "size": decimals,
    "bid": decimals,
    "ask": decimals,
    "bid_size": decimals,
    "ask_size": decimals,
    "ts_ns": epochs,
    "ts_us": epochs,
    "ts_ms": epochs,
    "timestamp": instants,
    "ts_recv_ns": epochs,
    "source": names,
    "feed": names,
    "venue": texts,
    "conditions": texts,
    "tape": texts,
    "trade_id": texts,
    "side": st.sampled_from(["", "buy", "SELL", "b", "S", "n", "N", "up", "bux", "sele"]),
}

good_decimals = st.one_of(
    st.decimals(-(10**9) + 1, 10**9 - 1, places=9).map(lambda d: format(d, "f")),
    st.decimals(0, 1000, places=2).map(str),
    st.integers(0, 10**8).map(str),
    st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}0{0,12})?([eE][+-]?[0-6])?\Z"),
)
GOOD = {
    **FIELDS,
    "symbol": st.sampled_from(["A", "AAPL", "BTC/USD", "BRK.B", "LONGER-THAN-7", "LONGER-THAN-8"]),
    **dict.fromkeys(("price", "size", "bid", "ask", "bid_size", "ask_size"), good_decimals),
    "ts_ns": st.integers(0, 2**63 - 1).map(str),
    "ts_us": st.integers(0, 2**63 // 10**3 - 1).map(str),
    "ts_ms": st.integers(0, 2**63 // 10**6 - 1).map(str),
    "timestamp": st.tuples(
        st.datetimes(datetime(1971, 1, 1), datetime(2262, 1, 1)),  # noqa: DTZ001
        st.sampled_from("T t"),
        st.sampled_from(["Z", "z", "+00:00", "-05:00", "+05:30", "+23:59", "-23:59"]),
    ).map(lambda parts: parts[0].isoformat(parts[1]) + parts[2]),
    "ts_recv_ns": st.integers(0, 2**63 - 1).map(str) | st.just(""),
    "source": st.sampled_from(["", "alpaca", "x"]),
    "feed": st.sampled_from(["", "sip", "iex"]),
    "side": st.sampled_from(["", "buy", "SELL", "b", "S", "n", "N"]),
}


@st.composite
def columns_of_file(draw: st.DrawFn) -> list[str]:
    trades = draw(st.booleans())
    must = ["price", "size"] if trades else ["bid", "ask"]
    may = ["conditions", "tape", "side", "trade_id"] if trades else ["bid_size", "ask_size"]
    may += ["source", "feed", "venue", "ts_recv_ns"]
    extra = draw(st.lists(st.sampled_from(may), unique=True))
    time = draw(st.sampled_from([*UNITS, "timestamp"]))
    return draw(st.permutations(["symbol", time, *must, *extra]))


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    columns = draw(columns_of_file())
    header = ",".join(columns)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines: list[bytes] = [header.encode()]
    for _ in range(draw(st.integers(0, 8))):
        shape = draw(st.integers(0, 11))
        row = [draw((FIELDS if shape < 5 else GOOD)[column]) for column in columns]
        if shape == 0:
            lines.append(draw(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b""))))
        elif shape == 1:
            lines.append(header.encode())
        elif shape == 2:
            lines.append(b"")
        else:
            if shape == 3:
                row = row[:-1] if draw(st.booleans()) else [*row, "1"]
            out = io.StringIO()
            if shape == 4:
                csv.writer(out, lineterminator="", quoting=csv.QUOTE_ALL).writerow(row)
            else:
                csv.writer(out, lineterminator="").writerow(row)
            lines.append(out.getvalue().encode())
    return end.encode().join(lines) + draw(st.sampled_from([b"", end.encode()])), columns


def without_ids(rows: list[object], columns: list[str]) -> list[object]:
    places = {k + 1 for k, column in enumerate(columns) if column == "trade_id"}
    return [
        tuple(None if k in places else value for k, value in enumerate(row))
        for row in rows
        if isinstance(row, tuple)
    ]


@settings(max_examples=300, deadline=None)
@given(
    file=files(),
    batch=st.integers(1, 5),
    block=st.sampled_from([1, 2, 3, 7, 16, 61, 1 << 12]),
    wanted=st.sampled_from([None, frozenset({"AAPL", "BTC/USD"})]),
)
def test_csv_of_random_rows_equals_the_reference_whatever_the_blocks(
    file: tuple[bytes, list[str]], batch: int, block: int, wanted: frozenset[str] | None
) -> None:
    data, columns = file
    expected = reference(data, wanted)
    found = read(data, columns, symbols=wanted, batch=batch, block=block)
    assert found["rows"] == without_ids(expected["rows"], columns)
    assert found["bad"] == expected["bad"]
    assert len(found["filtered"]) == len(expected["filtered"])
    assert len(found["blank"]) == len(expected["blank"])


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=400), block=st.sampled_from([1, 5, 1 << 12]))
@example(body=b'\n\n\r\n,,,\n"""\n\0\0\n\xff\xfe,1,1,1\nA,1,1,1', block=1)
def test_csv_of_arbitrary_bytes_accounts_for_every_line(body: bytes, block: int) -> None:
    data = b"symbol,ts_ns,price,size\n" + body
    source = CsvSource(io.BytesIO(data), block_bytes=block, batch_rows=3)
    rows = [int(row) for part in source.batches() for row in part.row]
    counts = source.counts()
    lines = len(body.split(b"\n")) - (not body or body.endswith(b"\n"))
    assert rows == sorted(set(rows))
    assert counts.rows + counts.bad + counts.filtered + counts.blank == lines


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=200), magic=st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"])
)
def test_csv_of_arbitrary_bytes_raises_only_errors_of_the_project(
    data: bytes, magic: bytes
) -> None:
    with suppress(MarketPipeError):
        list(CsvSource(io.BytesIO(magic + data)).batches())
