"""`AlpacaConnector`: Alpaca's stock and crypto streams, live."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random  # noqa: TID251  # jitter of a live connection; nothing is built of it
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
from websockets.exceptions import ConnectionClosed

from marketpipe.domain.batches import TradeBatch
from marketpipe.errors import ConnectError, UnreachableError, UsageError, VendorError
from marketpipe.sources.alpaca import protocol, wire
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.alpaca.decode import symbol_reader
from marketpipe.sources.alpaca.protocol import Policy
from marketpipe.sources.alpaca.rest import AlpacaRest, historical_ticks
from marketpipe.sources.alpaca.subscriptions import Subscriptions, missing
from marketpipe.sources.clocks import Clock
from marketpipe.sources.connector import Capabilities, Probe
from marketpipe.sources.dialing import ANSWER_SECONDS, dial
from marketpipe.sources.links import Link
from marketpipe.sources.records import RecordBuilder
from marketpipe.sources.streaming import SocketConnector

SOURCE: Final = "alpaca"

_AGENT: Final = "marketpipe"
_SHORTEST_SECRET: Final = 8


@dataclass(slots=True)
class _Stage:
    """How far the talk on a connection has come.

    ``answer`` is of the request that waits for one; ``remark`` an error that was passed over.
    """

    is_welcome: bool = False
    is_in: bool = False
    were_keys_repeated: bool = False
    answer: "asyncio.Future[None] | None" = None
    remark: str = ""


class AlpacaConnector(SocketConnector):
    """One connection to one of Alpaca's streams, kept up; see `BaseConnector`.

    Parameters
    ----------
    stream : which one
    clock, random, probe, first_conn_id, silence_seconds : see `SocketConnector`
    """

    def __init__(
        self,
        stream: AlpacaStream,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        probe: Probe | None = None,
        first_conn_id: int = 0,
        silence_seconds: float = 30.0,
    ) -> None:
        super().__init__(
            name=f"alpaca.{stream.feed}",
            clock=clock,
            random=random,
            probe=probe,
            first_conn_id=first_conn_id,
            silence_seconds=silence_seconds,
            delay_ns=stream.delay_ns,
        )
        self._stream = stream
        self._url = stream.address
        self._secrets = (stream.key.get_secret_value(), stream.secret.get_secret_value())
        self._subscriptions = Subscriptions(stream.usual_channels, is_crypto=stream.is_crypto)
        self._asking = asyncio.Lock()
        self._stage = _Stage()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this feed can do."""
        return Capabilities(
            channels=self._subscriptions.known,
            has_history=True,
            has_sequence=False,
            has_trade_ids=True,
        )

    # Connecting

    async def _open(self, conn_id: int) -> Link:
        encoding = self._stream.encoding
        socket = await dial(
            self._url,
            {"Content-Type": f"application/{encoding}"},
            agent=_AGENT,
            compress=self._stream.compress,
        )
        now = self._clock.now_ns()
        builder = RecordBuilder(
            source=SOURCE,
            feed=self._stream.feed,
            stream=self._stream.path,
            conn_id=conn_id,
            conn_started_ns=now,
            symbol_of=symbol_reader(encoding),
        )
        builder.add_control({"event": "connected", "url": self._url, "encoding": encoding}, now)
        self._stage = _Stage()
        return Link(socket, builder, encoding, clock=self._clock, ears=self._ears)

    async def try_out(self) -> str:
        """Connect, be let in, subscribe what is wanted, and hang up; nothing is handed out.

        Returns what the vendor did not grant though it refused nothing, "" if that is nothing.

        Raises
        ------
        VendorError
            Whatever is in the way, also what waiting may mend.
        """
        link = await self._open(self._conn_id)
        try:
            await self._enter(link)
        finally:
            await link.socket.close()
        return self._status.last_error

    async def _enter(self, link: Link) -> None:
        # The welcome says that a server is there, not that it lets us in.
        await self._until(link, "welcome us", lambda: self._stage.is_welcome)
        await self._send_keys(link)
        await self._until(link, "take the keys", lambda: self._stage.is_in)
        async with self._asking:
            if not self._subscriptions.wanted:
                return
            try:
                await self._request(link, "subscribe", self._subscriptions.wanted)
            except VendorError as error:
                # What was added since the last connection is not to be had: what was had is.
                if isinstance(error, ConnectError) or not self._subscriptions.fall_back():
                    raise
                self._trouble(str(error))
                await self._request(link, "subscribe", self._subscriptions.wanted)
            self._subscriptions.settle()

    async def _send_keys(self, link: Link) -> None:
        await link.socket.send(protocol.credentials(*self._secrets, self._stream.encoding))

    async def _until(self, link: Link, what: str, done: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await link.receive_until(done)
        except TimeoutError as error:
            said = f"did not {what} within {ANSWER_SECONDS:g} s"
            raise UnreachableError(self._described(said)) from error
        except ConnectionClosed as error:
            raise UnreachableError(self._described(f"did not {what}: {error}")) from error

    def _described(self, what: str) -> str:
        remark = self._stage.remark
        return f"{self._url}: the server {what}" + (f". It had said: {remark}" if remark else "")

    # Subscribing

    async def subscribe(
        self, symbols: Iterable[str], channels: Iterable[str] | None = None
    ) -> None:
        """Add symbols to channels; see `BaseConnector.subscribe`. ``*`` is all symbols."""
        more = self._subscriptions.asked(symbols, channels)
        async with self._asking:
            before = self._subscriptions.wanted
            self._subscriptions.add(more)
            await self._change("subscribe", more, before)

    async def unsubscribe(
        self, symbols: Iterable[str], channels: Iterable[str] | None = None
    ) -> None:
        """Take symbols out of channels; see `BaseConnector.unsubscribe`."""
        less = self._subscriptions.asked(symbols, channels, whole=True)
        async with self._asking:
            before = self._subscriptions.wanted
            self._subscriptions.remove(less)
            await self._change("unsubscribe", less, before)

    async def _change(
        self, action: str, channels: protocol.Symbols, before: protocol.Symbols
    ) -> None:
        link = self._link
        if link is None or not channels:
            # Nobody to tell now: the next connection asks for all that is wanted.
            return
        try:
            await self._request(link, action, channels)
        except (UnreachableError, ConnectionClosed):
            # The link is gone or does not answer: the next one asks for all that is wanted.
            await link.socket.close()
        except VendorError:
            self._subscriptions.wanted = before
            raise
        else:
            self._subscriptions.settle()

    async def _request(self, link: Link, action: str, channels: protocol.Symbols) -> None:
        """Ask, and wait for the answer; raises what the vendor makes of it."""
        answer = self._stage.answer = asyncio.get_running_loop().create_future()
        try:
            await link.socket.send(protocol.request(action, channels, self._stream.encoding))
            if link.is_started:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await answer
            else:
                await self._until(link, f"answer '{action}'", answer.done)
                answer.result()
        except TimeoutError as error:
            raise UnreachableError(self._described(f"did not answer '{action}'")) from error
        finally:
            self._stage.answer = None

    # Listening

    _is_control = staticmethod(protocol.is_control)
    _is_message = staticmethod(protocol.is_message)

    def _clean(self, frame: bytes) -> bytes:
        for secret in self._secrets:
            if len(secret) >= _SHORTEST_SECRET:
                # As it is, and as JSON may write it.
                for said in {secret.encode(), secret.replace("/", "\\/").encode()}:
                    frame = frame.replace(said, b"*" * len(said))
        return frame

    def _newest(self, batch: pa.RecordBatch) -> Mapping[str, int | None]:
        return protocol.newest_of(batch.column("payload"), self._stream.encoding)

    async def _hear(self, link: Link, frame: bytes) -> None:
        said = protocol.controls(frame, self._stream.encoding)
        if not (said or self._stage.is_in):
            self._stage.remark = protocol.unread(frame, self._stream.encoding)
        for message in said:
            if isinstance(message, wire.Failure):
                await self._hear_failure(link, message)
            elif isinstance(message, wire.Success):
                self._stage.is_welcome |= message.msg == "connected"
                if message.msg == "authenticated":
                    await self._hear_authenticated(link)
            else:
                self._hear_echo(link, message.channels)

    async def _hear_authenticated(self, link: Link) -> None:
        self._stage.is_in = True
        if link.since_ns is not None:
            # The server had forgotten us, and so what we wanted.
            await link.socket.send(
                protocol.request("subscribe", self._subscriptions.wanted, self._stream.encoding)
            )

    def _hear_echo(self, link: Link, channels: dict[str, list[str]]) -> None:
        now = self._clock.now_ns()
        link.builder.add_control({"event": "subscribed", "channels": channels}, now)
        granted = {name: tuple(symbols) for name, symbols in channels.items() if symbols}
        self._status = replace(self._status, subscribed=MappingProxyType(granted))
        if granted:
            self._subscribed(link, now)
        if lacking := missing(self._subscriptions.wanted, granted):
            self._trouble(f"Alpaca {self._stream.path} did not grant {', '.join(lacking[:10])}")
        self._answered(None)

    async def _hear_failure(self, link: Link, message: wire.Failure) -> None:
        code, now = message.code, self._clock.now_ns()
        link.builder.add_control({"event": "error", "code": code, "msg": message.msg}, now)
        rule = protocol.RULES.get(code)
        if rule is None:
            self._stage.remark = f"error {code}, '{message.msg}'"
            self._log.warning("Alpaca %s: %s, which is not known", self._stream.path, code)
            return
        error = protocol.failure(self._stream.path, code, message.msg)
        if rule.policy is Policy.IGNORE:
            self._stage.is_in = True
        elif rule.policy is Policy.AUTH_AGAIN and not self._stage.were_keys_repeated:
            self._stage.were_keys_repeated = True
            await self._send_keys(link)
        elif rule.policy is Policy.KEEP and self._stage.is_in:
            # Who asked gets it raised, and says it: in the log it would stand twice.
            self._status = replace(self._status, last_error=str(error))
            if not self._answered(error):
                self._trouble(str(error))
        else:
            link.code = code
            if rule.policy is Policy.SLOW:
                link.gap_reason = "slow_client"
                slow = self._status.slow_clients + 1
                self._status = replace(self._status, slow_clients=slow)
            raise error

    def _answered(self, error: VendorError | None) -> bool:
        """Give whoever waits for an answer his own; say whether somebody did."""
        answer = self._stage.answer
        if answer is None or answer.done():
            return False
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        return True

    def _forget(self) -> None:
        self._answered(UnreachableError(self._described("hung up")))

    # History

    async def get_historical_ticks(
        self, symbol: str, start_ns: int, end_ns: int
    ) -> AsyncIterator[TradeBatch]:
        """Yield trades of ``[start_ns, end_ns)``; see `BaseConnector.get_historical_ticks`."""
        stream = self._stream
        async with AlpacaRest(
            stream.key,
            stream.secret,
            url=stream.rest_url,
            clock=self._clock,
            random=self._random,
        ) as rest:
            async for batch in historical_ticks(
                rest, symbol, start_ns, end_ns, stream.feed, crypto=stream.is_crypto
            ):
                yield batch


class StockConsumer(AlpacaConnector):
    """The stream of one of Alpaca's stock feeds.

    Raises
    ------
    UsageError
        If the stream is one of crypto.
    """

    def __init__(self, stream: AlpacaStream, **options: Any) -> None:
        if stream.is_crypto:
            raise UsageError(f"stocks: '{stream.path}' is crypto; v2/iex and v2/sip are stocks")
        super().__init__(stream, **options)


class CryptoConsumer(AlpacaConnector):
    """The stream of Alpaca's crypto venue.

    Raises
    ------
    UsageError
        If the stream is one of stocks.
    """

    def __init__(self, stream: AlpacaStream, **options: Any) -> None:
        if not stream.is_crypto:
            raise UsageError(f"crypto: '{stream.path}' is stocks; v1beta3/crypto/us is crypto")
        super().__init__(stream, **options)
