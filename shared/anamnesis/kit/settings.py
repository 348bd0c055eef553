"""Settings: read once at start-up from the environment, wrong values named one by one.

A service derives one small frozen class from `Settings`; every field carries a one-line docstring
with its unit. The environment variable of field `port` is `ANAMNESIS_PORT` unless the class sets
another prefix. Lists are written as comma-separated values.
"""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_USER = re.compile(r"://[^\s,'\"]*@")

MIN_KEY, MAX_KEY = 16, 200
"""Characters of an API key: fewer can be guessed, more are no key."""


def presentable(key: str) -> bool:
    """Whether a header can carry this as a key; any other would lock its owner out, or let anybody in."""
    return MIN_KEY <= len(key) <= MAX_KEY and key.isascii() and key.isprintable() and " " not in key


def _key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not presentable(key):
        raise ValueError(f"a key has {MIN_KEY} to {MAX_KEY} printable characters without blanks")
    return SecretStr(key)


ApiKey = Annotated[SecretStr, AfterValidator(_key)]
"""An API key in the environment."""


def without_user(text: str) -> str:
    """Text with addresses as it may be shown: without who may use them (`https://user:password@host`)."""
    return _USER.sub("://", text)


class Settings(BaseSettings):
    """What all services share."""

    model_config = SettingsConfigDict(
        env_prefix="ANAMNESIS_", frozen=True, extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    """Address that the services bind; 0.0.0.0 inside containers."""
    data_dir: Path = Path("~/.local/share/anamnesis")
    """Directory that holds everything that must last: the store, keys, logs."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(lambda value: split(value))] = (
        "localhost",
        "127.0.0.1",
        "[::1]",
    )
    """Host names under which the services answer (comma-separated), besides `host`; others get 400."""
    service_key: ApiKey | None = None
    """The key between services; made by deploy.sh."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error."""
    log_json: bool = False
    """Write logs as JSON lines."""

    @property
    def data(self) -> Path:
        """`data_dir` with `~` resolved."""
        return self.data_dir.expanduser()

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """All names under which the services answer: those allowed, and the address that they bind."""
        return (*self.allowed_hosts, self.host)


def split(value: object) -> object:
    """Comma-separated text to a tuple; anything else is left for validation."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


StrList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
"""A list in one environment variable, separated by commas."""

S = TypeVar("S", bound=Settings)


def load(settings: type[S]) -> S:
    """Read the settings of a service, or end the process with what is wrong and what was expected."""
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix") or ""
        for problem in error.errors():
            field = str(problem["loc"][0]) if problem["loc"] else "?"
            variable = f"{prefix}{field}".upper()
            known = settings.model_fields.get(field)
            secret = known is not None and "Secret" in str(known.annotation)
            given = "(hidden)" if secret else without_user(repr(os.environ.get(variable, problem["input"])))
            print(f"{variable} = {given}: {problem['msg']}", file=sys.stderr)
        print("Set these variables (see .env.example) and start again.", file=sys.stderr)
        raise SystemExit(2) from None
