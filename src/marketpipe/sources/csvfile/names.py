"""The Python side of the kernel's dictionaries: seeds them, grows them, reads them back."""

import numpy as np

from marketpipe.domain.batches import I64, MAX_TEXTS, Dictionaries, StreamKey
from marketpipe.errors import InputError
from marketpipe.sources.csvfile import _intern_kernel as intern

_FIRST_TEXTS = 1 << 12
_FIRST_ARENA_BYTES = 1 << 18
_MAX_ARENA_BYTES = 1 << 28


class Names:
    """Dictionaries of one file, or of all files of one feed.

    Parameters
    ----------
    symbols : to be known from the start
    streams : to have the codes 0, 1, …

    Attributes
    ----------
    table : what the kernel works on
    """

    def __init__(
        self, symbols: frozenset[str] | None = None, streams: tuple[StreamKey, ...] = ()
    ) -> None:
        room = _FIRST_TEXTS
        while room < 2 * len(symbols or ()) + 4 * len(streams):
            room *= 2
        self.table = intern.new_table(room, max(_FIRST_ARENA_BYTES, 64 * room))
        self._texts: list[list[str]] = [[""] for _ in range(intern.DICTIONARIES)]
        self._read = 0
        self._streams: list[StreamKey] = []
        self._latest = Dictionaries(streams=())
        for symbol in sorted(symbols or ()):
            self._seed(intern.SYMBOL, symbol)
        for key in streams:
            source, feed = self.codes(key.source, key.feed).tolist()
            symbol_code = self._seed(intern.SYMBOL, key.symbol)
            _, _, _, slots, keys, used = self.table
            intern.intern_stream(slots, keys, used, source, feed, symbol_code)

    def codes(self, source: str, feed: str) -> I64:
        """Return the codes of a source and a feed, as the kernel takes them."""
        return np.array([self._seed(intern.SOURCE, source), self._seed(intern.FEED, feed)])

    def _seed(self, dictionary: int, text: str) -> int:
        if not text:
            return 0
        encoded = text.encode()
        raw = np.frombuffer(encoded + bytes(7), np.uint8).copy()
        slots, texts, arena, _, _, used = self.table
        code = intern.intern_text(slots, texts, arena, used, dictionary, raw, 0, len(encoded), True)
        return int(code)

    def grow(self, file: str) -> None:
        """Make room; raises `InputError` where there are too many distinct texts."""
        texts = 2 * len(self.table.texts)
        arena = 2 * len(self.table.arena)
        if texts > MAX_TEXTS or arena > _MAX_ARENA_BYTES:
            raise InputError(
                f"{file}: more than {len(self.table.texts):,} distinct symbols, venues, "
                "conditions and other texts. Is a column of ids named venue, conditions or tape?"
            )
        self.table = intern.grown_table(self.table, texts, arena)

    def dictionaries(self) -> Dictionaries:
        """Return the dictionaries with all that the kernel has met so far."""
        used = self.table.used
        if self._read == used[intern.TEXTS] and len(self._streams) == used[intern.STREAMS]:
            return self._latest
        for entry in range(self._read, int(used[intern.TEXTS])):
            begin, size, dictionary = (int(x) for x in self.table.texts[entry, :3])
            raw = self.table.arena[begin : begin + size].tobytes()
            self._texts[dictionary].append(raw.decode("utf-8"))
        self._read = int(used[intern.TEXTS])
        low = (1 << intern.CODE_BITS) - 1
        for code in range(len(self._streams), int(used[intern.STREAMS])):
            key = int(self.table.stream_keys[code])
            self._streams.append(
                StreamKey(
                    self._texts[intern.SOURCE][key >> (2 * intern.CODE_BITS)],
                    self._texts[intern.FEED][(key >> intern.CODE_BITS) & low],
                    self._texts[intern.SYMBOL][key & low],
                )
            )
        self._latest = Dictionaries(
            streams=tuple(self._streams),
            venues=tuple(self._texts[intern.VENUE]),
            conditions=tuple(self._texts[intern.CONDITIONS]),
            tapes=tuple(self._texts[intern.TAPE]),
        )
        return self._latest
