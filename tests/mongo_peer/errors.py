"""Errors in the words of the server and of Atlas, so that what is written against them holds there too."""

from dataclasses import dataclass

from tests.mongo_peer.wire import Document


@dataclass
class CommandError(Exception):
    """What a command fails with: the server's code, its name and its message."""

    code: int
    code_name: str
    message: str

    def reply(self) -> Document:
        return {"ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": self.code_name}


def executor(namespace: str, cause: str) -> CommandError:
    """What the search process refuses, in the frame that mongod 8 puts around it."""
    message = f"Executor error during aggregate command on namespace: {namespace} :: caused by :: {cause}"
    return CommandError(8, "UnknownError", message)


def bad_value(message: str) -> CommandError:
    return CommandError(2, "BadValue", message)
