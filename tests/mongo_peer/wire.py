"""MongoDB's wire protocol as far as the proxy needs it: OP_MSG, and OP_QUERY for the first hello.

A message is a 16-byte header (length, request id, response to, opcode) and a body. OP_MSG's body is
flags and sections: kind 0 holds one document, kind 1 a named sequence of documents that belongs in it.
"""

import asyncio
import struct
from dataclasses import dataclass

import bson
from bson import CodecOptions

OP_REPLY = 1
OP_QUERY = 2004
OP_MSG = 2013

CHECKSUM_PRESENT = 1 << 0
MORE_TO_COME = 1 << 1
EXHAUST_ALLOWED = 1 << 16

MAX_MESSAGE = 48_000_000  # bytes, as the server itself announces
HEADER = struct.Struct("<iiii")

Document = dict[str, object]
CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True)


@dataclass(frozen=True)
class Message:
    request_id: int
    response_to: int
    opcode: int
    body: bytes

    def pack(self) -> bytes:
        length = HEADER.size + len(self.body)
        return HEADER.pack(length, self.request_id, self.response_to, self.opcode) + self.body

    @property
    def flags(self) -> int:
        """OP_MSG's flags, 0 for any other opcode."""
        return int.from_bytes(self.body[:4], "little") if self.opcode == OP_MSG else 0


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; none where the other side has closed. Raises ValueError for a length out of bounds."""
    try:
        header = await reader.readexactly(HEADER.size)
        length, request_id, response_to, opcode = HEADER.unpack(header)
        if not HEADER.size <= length <= MAX_MESSAGE + 16_384:
            raise ValueError(f"a message of {length} bytes")
        body = await reader.readexactly(length - HEADER.size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Message(request_id, response_to, opcode, body)


def without_exhaust(message: Message) -> Message:
    """The same request, to be answered once: one request, one reply keeps the proxy simple."""
    if not message.flags & EXHAUST_ALLOWED:
        return message
    flags = message.flags & ~EXHAUST_ALLOWED
    return Message(message.request_id, message.response_to, OP_MSG, flags.to_bytes(4, "little") + message.body[4:])


def command_name(message: Message) -> str:
    """The command's name, lower case, without decoding the whole document; empty when there is none."""
    at = _document_at(message)
    if at is None or at + 5 > len(message.body):
        return ""
    end = message.body.find(b"\x00", at + 5)
    return message.body[at + 5 : end].decode("utf-8", "replace").lower()


def _document_at(message: Message) -> int | None:
    if message.opcode == OP_MSG:
        return 5 if len(message.body) > 5 and message.body[4] == 0 else None
    if message.opcode == OP_QUERY:
        return message.body.index(b"\x00", 4) + 1 + 8
    return None


def decode(message: Message) -> Document:
    """The command (or the reply) of a message, with the documents of kind-1 sections put back in their places."""
    if message.opcode == OP_QUERY:
        at = message.body.index(b"\x00", 4) + 1 + 8
        return bson.decode(_slice(message.body, at)[0], codec_options=CODEC)
    if message.opcode == OP_REPLY:
        return bson.decode(_slice(message.body, 20)[0], codec_options=CODEC)
    end = len(message.body) - (4 if message.flags & CHECKSUM_PRESENT else 0)
    at = 4
    command: Document = {}
    sequences: Document = {}
    while at < end:
        kind = message.body[at]
        at += 1
        if kind == 0:
            raw, at = _slice(message.body, at)
            command = bson.decode(raw, codec_options=CODEC)
        elif kind == 1:
            size = int.from_bytes(message.body[at : at + 4], "little")
            name_end = message.body.index(b"\x00", at + 4)
            name = message.body[at + 4 : name_end].decode()
            sequences[name] = bson.decode_all(message.body[name_end + 1 : at + size], codec_options=CODEC)
            at += size
        else:
            raise ValueError(f"a section of kind {kind}")
    return {**command, **sequences}


def _slice(body: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(body[at : at + 4], "little")
    return body[at : at + size], at + size


def request(request_id: int, command: Document) -> Message:
    return Message(request_id, 0, OP_MSG, b"\x00\x00\x00\x00\x00" + bson.encode(command, codec_options=CODEC))


def reply(to: Message, document: Document, request_id: int = 0) -> Message:
    """An answer in the same dialect as the question."""
    encoded = bson.encode(document, codec_options=CODEC)
    if to.opcode == OP_QUERY:
        return Message(request_id, to.request_id, OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + encoded)
    return Message(request_id, to.request_id, OP_MSG, b"\x00\x00\x00\x00\x00" + encoded)
