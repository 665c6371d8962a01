"""`AlpacaRest` in trouble: it waits where that helps; errors speak, and keep the keys."""

import json
import logging
from random import Random  # noqa: TID251  # the client's, with a seed

import pytest
from pydantic import SecretStr

from marketpipe.errors import (
    AuthError,
    ConnectError,
    EntitlementError,
    RateLimitError,
    RefusedError,
    UsageError,
    VendorError,
)
from marketpipe.sources.alpaca import rest as rest_module
from marketpipe.sources.alpaca.rest import AlpacaRest, Page
from restkit import (
    CUT,
    DATA,
    EVERYTHING,
    HANG,
    KEY,
    REAL_S,
    SECRET,
    FakeAlpaca,
    Reply,
    StillClock,
    Used,
    all_pages,
    ids,
)
from servers import free_port


def failing(*replies: Reply, error: type[VendorError]) -> tuple[str, Used]:
    """Return the words of the error that answers end in, and what was done."""
    used = Used(FakeAlpaca(DATA, *replies))
    with pytest.raises(error) as caught:
        used.run(all_pages)
    assert type(caught.value) is error
    return str(caught.value), used


def said(code: int, message: str) -> bytes:
    return json.dumps({"code": code, "message": message}).encode()


# -- limits and passing troubles -------------------------------------------------------------------


def test_limit_is_waited_out_until_its_reset_by_the_servers_clock() -> None:
    limited = Reply(
        429,
        said(42910000, "too many requests."),
        {"X-RateLimit-Reset": "1666383585", "Date": "Fri, 21 Oct 2022 20:19:03 GMT"},
    )
    used = Used(FakeAlpaca(DATA, limited))
    assert ids(used.run(all_pages)) == EVERYTHING
    # 42 s by the server, and up to a second more so that not all come back at one moment.
    [pause] = used.paused
    assert 42 <= pause <= 43
    assert not used.clock.slept


def test_limit_without_the_servers_time_is_waited_out_by_real_time() -> None:
    limited = Reply(429, b"", {"X-RateLimit-Reset": str(REAL_S + 20)})
    used = Used(FakeAlpaca(DATA, limited))
    assert ids(used.run(all_pages)) == EVERYTHING
    assert 20 <= used.paused[0] <= 21


@pytest.mark.parametrize(
    "headers", [{}, {"X-RateLimit-Reset": "soon"}, {"X-RateLimit-Reset": "99999999999"}]
)
def test_limit_without_a_credible_reset_is_waited_out_longer_and_longer(
    headers: dict[str, str],
) -> None:
    replies = [Reply(429, b"<html>slow down</html>", headers)] * (rest_module.LIMITED_TRIES - 1)
    used = Used(FakeAlpaca(DATA, *replies))
    assert ids(used.run(all_pages)) == EVERYTHING
    assert len(used.paused) == len(replies)
    for nth, pause in enumerate(used.paused):
        assert 0 <= pause <= min(30, 2**nth)


def test_limit_that_does_not_end_is_an_error() -> None:
    replies = [Reply(429, said(42910000, "too many requests."))] * rest_module.LIMITED_TRIES
    words, used = failing(*replies, error=RateLimitError)
    assert "429 42910000 too many requests." in words
    assert "history of AAPL, B, MSFT from 2022-10-21T20:19:03" in words
    assert len(used.paused) == len(replies) - 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, said(50010000, "internal server error occurred")),
        Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}),
        Reply(504, b""),
        Reply(200, b'{"trades":{"AAPL":[{'),
        Reply(200, b'{"next_page_token":7}'),
        Reply(200, CUT),
        Reply(200, b"", {"Content-Encoding": "gzip", "X": "y"}),
    ],
)
def test_passing_trouble_is_tried_again_and_lasting_trouble_is_an_error(reply: Reply) -> None:
    used = Used(FakeAlpaca(DATA, *[reply] * (rest_module.TRIES - 1)))
    assert ids(used.run(all_pages)) == EVERYTHING
    assert len(used.clock.slept) == rest_module.TRIES - 1
    for nth, wait in enumerate(used.clock.slept):
        assert 0 <= wait <= 2**nth
    words, _ = failing(*[reply] * rest_module.TRIES, error=ConnectError)
    assert "history of AAPL" in words
    assert not used.paused


def test_server_that_never_answers_is_given_up() -> None:
    # Real seconds, and the only ones that these tests wait.
    used = Used(FakeAlpaca(DATA, *[Reply(200, HANG)] * rest_module.TRIES))
    with pytest.raises(ConnectError, match="ReadTimeout"):
        used.run(all_pages, answer_seconds=0.05)
    assert len(used.clock.slept) == rest_module.TRIES - 1


def test_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_module, "MAX_BODY_BYTES", 1000)
    words, _ = failing(*[Reply(200, b" " * 1001)] * rest_module.TRIES, error=ConnectError)
    assert "more than 1,000 bytes" in words


def test_nobody_at_the_address_is_an_error_that_names_it() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    used = Used(FakeAlpaca(DATA))
    with pytest.raises(ConnectError) as caught:
        used.run(all_pages, url=address)
    assert address in str(caught.value)
    assert "Check the network" in str(caught.value)
    assert len(used.clock.slept) == rest_module.TRIES - 1


@pytest.mark.parametrize("tokens", ["aa", "aba", "abcb"])
def test_page_tokens_in_a_circle_end_in_an_error(tokens: str) -> None:
    replies = [
        Reply(body=json.dumps({"trades": {}, "next_page_token": token}).encode())
        for token in tokens
    ]
    words, used = failing(*replies, error=ConnectError)
    assert f"'{tokens[-1]}', came a second time" in words
    assert len(used.fake.asked) == len(tokens)


# -- errors that trying again cannot mend ----------------------------------------------------------

HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (
            Reply(403, said(42210000, "subscription does not permit querying recent SIP data")),
            EntitlementError,
            ["recent SIP data", "feed iex", "15 minutes", "Algo Trader Plus"],
        ),
        (
            Reply(403, b'{"message":"your subscription does not permit this"}'),
            EntitlementError,
            ["feed iex"],
        ),
        (Reply(403, b'{"message":"forbidden."}'), AuthError, ["refuses the key", "sandbox"]),
        (Reply(401, b""), AuthError, ["401", "refuses the key"]),
        (
            Reply(400, said(40010001, "invalid symbol: B")),
            RefusedError,
            ["400 40010001 invalid symbol: B", "AAPL, B, MSFT", "feed sip"],
        ),
        (Reply(404, b'{"message":"endpoint not found."}'), RefusedError, ["endpoint not found"]),
        (Reply(200, b"<html><title>Sign in</title>", HTML), ConnectError, ["Sign in", "proxy"]),
        (Reply(403, b"<html>Blocked</html>", HTML), ConnectError, ["Blocked", "proxy"]),
        (Reply(407, b""), ConnectError, ["407", "proxy"]),
        (Reply(302, b"", {"Location": "http://login.example"}), ConnectError, ["302", "proxy"]),
        (Reply(400, b"\xff\x00\x1b[31m" + b"x" * 10_000), RefusedError, ["400"]),
    ],
)
def test_error_says_what_to_do_and_is_not_tried_again(
    reply: Reply, error: type[VendorError], words: list[str]
) -> None:
    text, used = failing(reply, error=error)
    assert text.startswith("Alpaca: history of AAPL, B, MSFT from 2022-10-21T20:19:03")
    for word in words:
        assert word in text
    assert len(text) < 1_000
    assert text.isprintable()
    assert len(used.fake.asked) == 1


def test_missing_key_is_told_from_a_wrong_one() -> None:
    used = Used(FakeAlpaca(DATA, Reply(401)))
    with pytest.raises(AuthError, match="wants a key"):
        used.run(all_pages, key=None)


# -- keys ------------------------------------------------------------------------------------------


def test_keys_are_in_no_error_log_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for reply in (
        Reply(401, f"no such key: {KEY}, {SECRET}".encode()),
        Reply(400, said(1, f"{KEY}:{SECRET}")),
        *(Reply(status, f"<html>{KEY}{SECRET}".encode(), HTML) for status in (200, 403)),
    ):
        used = Used(FakeAlpaca(DATA, reply))

        async def use(client: AlpacaRest) -> list[Page]:
            told.append(f"{client!r} {vars(client)!r} {vars(client._client)!r}")
            return await all_pages(client)

        with pytest.raises(VendorError) as caught:
            used.run(use)
        told.append(f"{caught.value} {caught.value!r} {caught.value.__cause__!r}")
    used = Used(FakeAlpaca(DATA, Reply(429), Reply(500, f"{KEY} {SECRET}".encode())))
    told += map(repr, used.run(all_pages))
    told += [record.getMessage() for record in caplog.records]
    assert any("limits requests" in text for text in told)
    assert any("try 1 of 5" in text for text in told)
    for text in told:
        assert KEY not in text
        assert SECRET not in text


@pytest.mark.parametrize("key", ["", " ", "TOP7\n", "TOP7 KEY", "TOP7\u00c4"])
def test_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(UsageError, match="the key is empty, or has blanks") as caught:
        AlpacaRest(SecretStr(key), SecretStr("s"), clock=StillClock(), random=Random(1))
    assert "TOP7" not in str(caught.value)


def test_key_without_secret_is_refused() -> None:
    with pytest.raises(UsageError, match="the secret is missing"):
        AlpacaRest(SecretStr("k"), None, clock=StillClock(), random=Random(1))


@pytest.mark.parametrize("url", ["data.alpaca.markets", "ftp://x", "http://", "http://u:pw@host"])
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="valid is an address") as caught:
        AlpacaRest(None, None, url=url, clock=StillClock(), random=Random(1))
    assert "pw" not in str(caught.value)
