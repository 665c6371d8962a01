"""Logging in to the simulated stream: what a raw client sees on the wire."""

import json

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from marketpipe.simulator import Plan, Wire, serve
from simkit import HEADERS, client, market, run


def error(code: int, msg: str) -> dict[str, object]:
    return {"T": "error", "code": code, "msg": msg}


def test_login_by_message_is_answered_after_the_welcome() -> None:
    async def work() -> None:
        async with serve(market()) as simulator, client(simulator) as one:
            await one.log_in()
            assert one.frames == [
                '[{"T":"success","msg":"connected"}]',
                '[{"T":"success","msg":"authenticated"}]',
            ]

    run(work())


@pytest.mark.parametrize(
    "headers",
    [HEADERS, {"Authorization": "Bearer SECRET"}],
    ids=["key and secret", "bearer"],
)
def test_login_by_headers_needs_no_message(headers: dict[str, str]) -> None:
    async def work() -> None:
        async with (
            serve(market()) as simulator,
            client(simulator, additional_headers=headers) as one,
        ):
            assert [(await one.one())["msg"] for _ in range(2)] == ["connected", "authenticated"]
            answer = await one.ask(action="subscribe", trades=["AAPL"])
            assert answer["trades"] == ["AAPL"]

    run(work())


def test_login_with_wrong_headers_fails_and_a_message_can_mend_it() -> None:
    async def work() -> None:
        wrong = HEADERS | {"APCA-API-SECRET-KEY": "WRONG"}
        async with (
            serve(market()) as simulator,
            client(simulator, additional_headers=wrong) as one,
        ):
            assert (await one.one())["msg"] == "connected"
            assert await one.one() == error(402, "auth failed")
            answer = await one.ask(action="auth", key="KEY", secret="SECRET")
            assert answer == {"T": "success", "msg": "authenticated"}

    run(work())


def test_login_order_is_kept_by_codes_401_402_403() -> None:
    async def work() -> None:
        async with serve(market()) as simulator, client(simulator) as one:
            assert (await one.one())["msg"] == "connected"
            early = await one.ask(action="subscribe", trades=["AAPL"])
            assert early == error(401, "not authenticated")
            for wrong in ({"key": "KEY", "secret": "NO"}, {"key": "NO", "secret": "SECRET"}):
                assert await one.ask(action="auth", **wrong) == error(402, "auth failed")
            right = {"action": "auth", "key": "KEY", "secret": "SECRET"}
            assert (await one.ask(**right))["msg"] == "authenticated"
            assert await one.ask(**right) == error(403, "already authenticated")

    run(work())


def test_login_not_in_time_is_told_404_and_the_connection_ends() -> None:
    async def work() -> None:
        wire = Wire(auth_seconds=0.2)
        async with serve(market(), wire=wire) as simulator, client(simulator) as one:
            assert (await one.rest())[1:] == [error(404, "auth timeout")]

    run(work())


def test_login_on_one_endpoint_twice_is_refused_406_until_the_first_leaves() -> None:
    async def work() -> None:
        async with serve(market(), market("crypto")) as simulator:
            async with client(simulator) as first:
                await first.log_in()
                async with client(simulator) as second:
                    await second.one()
                    refused = await second.ask(action="auth", key="KEY", secret="SECRET")
                    assert refused == error(406, "connection limit exceeded")
                    with pytest.raises(ConnectionClosed):
                        await second.frame()
                for path in ("v2/sip", "v1beta3/crypto/us"):
                    async with client(simulator, path) as elsewhere:
                        await elsewhere.log_in()
                assert (await first.ask(action="subscribe", bars=["*"]))["bars"] == ["*"]
            async with client(simulator) as third:
                await third.log_in()

    run(work())


def test_login_to_sip_without_the_plan_is_refused_409() -> None:
    async def work() -> None:
        async with serve(market(), plan=Plan.basic()) as simulator:
            async with client(simulator, "v2/sip") as one:
                await one.one()
                refused = await one.ask(action="auth", key="KEY", secret="SECRET")
                assert refused == error(409, "insufficient subscription")
                assert await one.rest() == []
            for path in ("v2/iex", "v2/delayed_sip", "v2/test"):
                async with client(simulator, path) as allowed:
                    await allowed.log_in()

    run(work())


def test_login_in_msgpack_goes_by_the_content_type() -> None:
    async def work() -> None:
        headers = {"Content-Type": "application/msgpack"}
        async with (
            serve(market()) as simulator,
            client(simulator, additional_headers=headers) as one,
        ):
            assert (await one.one())["msg"] == "connected"
            assert one.frames == [b"\x91\x82\xa1T\xa7success\xa3msg\xa9connected"]
            request = {"action": "auth", "key": "KEY", "secret": "SECRET"}
            await one.socket.send(json.dumps(request))
            assert await one.one() == error(400, "invalid syntax")
            await one.socket.send(msgspec.msgpack.encode(request))
            assert (await one.one())["msg"] == "authenticated"

    run(work())


def test_connecting_to_an_unknown_path_is_refused_404() -> None:
    async def work() -> None:
        async with serve(market()) as simulator:
            for path in ("v2/nope", "v1beta3/crypto/us"):  # there is no crypto market here
                with pytest.raises(InvalidStatus, match="404"):
                    async with client(simulator, path):
                        pass

    run(work())


@pytest.mark.parametrize("compress", [True, False])
def test_compression_is_agreed_to_if_the_server_has_it(compress: bool) -> None:
    async def work() -> None:
        wire = Wire(compress=compress)
        async with serve(market(), wire=wire) as simulator, client(simulator) as one:
            assert one.socket.response is not None
            agreed = one.socket.response.headers.get("Sec-WebSocket-Extensions", "")
            assert agreed.startswith("permessage-deflate") == compress
            await one.log_in()

    run(work())
