"""The Hub's Xet storage, as far as an upload goes: chunks come in xorbs, and shards say which of them make a file.

Source: the formats are those of https://huggingface.co/docs/xet.
"""

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from aiohttp import web

_ENTRY = 48  # bytes of every entry of a shard, its header among them
_END = b"\xff" * 32
_WITH_VERIFICATION, _WITH_METADATA = 1 << 31, 1 << 30
_PLAIN, _LZ4, _LZ4_BY_FOURS = range(3)


class XetStorage:
    """Keeps chunks and hands on whole files.

    Attributes:
        xorbs: hash to its chunks.
        n_bytes: that came, of xorbs and shards.
    """

    def __init__(self) -> None:
        self.xorbs: dict[str, list[bytes]] = {}
        self.n_bytes = 0

    async def take(self, request: web.Request, path: str) -> tuple[web.Response, list[bytes]]:
        """An answer to a request for the storage, and the files that it completes."""
        body = await request.read()
        self.n_bytes += len(body)
        match path.split("/"):
            case ["xorbs", "default", hash]:
                is_new = hash not in self.xorbs
                self.xorbs[hash] = list(_chunks(body))
                return web.json_response({"was_inserted": is_new}), []
            case ["shards"]:
                files = [b"".join(parts) for parts in self._files(body)]
                return web.json_response({"result": 1}), files
            case _:  # who asks whether a chunk is known elsewhere
                return web.json_response({"error": "not here"}, status=404), []

    def _files(self, shard: bytes) -> Iterator[list[bytes]]:
        """Each file as the runs of chunks that make it."""
        at = _ENTRY
        while shard[at : at + 32] != _END:
            flags, n_entries = struct.unpack_from("<II", shard, at + 32)
            parts: list[bytes] = []
            for _ in range(n_entries):
                at += _ENTRY
                _, n_bytes, start, end = struct.unpack_from("<IIII", shard, at + 32)
                part = b"".join(self.xorbs[_name(shard[at : at + 32])][start:end])
                assert len(part) == n_bytes
                parts.append(part)
            at += _ENTRY * (1 + n_entries * bool(flags & _WITH_VERIFICATION) + bool(flags & _WITH_METADATA))
            yield parts


def _chunks(xorb: bytes) -> Iterator[bytes]:
    """The chunks of a xorb; what follows them, its own index, is not needed."""
    at = 0
    while at < len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        kind, n_packed, n_bytes = xorb[at + 4], _three(xorb, at + 1), _three(xorb, at + 5)
        packed = xorb[at + 8 : at + 8 + n_packed]
        content = packed if kind == _PLAIN else _unpack(packed, n_bytes)
        yield _from_fours(content) if kind == _LZ4_BY_FOURS else content
        at += 8 + n_packed


def _unpack(packed: bytes, n_bytes: int) -> bytes:
    codec: Any = pa.Codec("lz4")
    return codec.decompress(packed, n_bytes, asbytes=True)


def _from_fours(content: bytes) -> bytes:
    """Undo the grouping: all first bytes of four, then all second ones, and so on."""
    whole = bytearray(len(content))
    at = 0
    for first in range(4):
        n = len(range(first, len(content), 4))
        whole[first::4] = content[at : at + n]
        at += n
    return bytes(whole)


def _three(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 3], "little")


def _name(hash: bytes) -> str:
    """Four numbers of 8 bytes, the least byte first, in hexadecimal digits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", hash))
