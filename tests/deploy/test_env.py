"""`deploy.sh env`: the shared secret and `.env`, against a real HTTP server that speaks Secrets Manager's API."""

import contextlib
import json
import math
import os
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from deploy.env import main, put
from deploy.secret import Content, Secret, SecretError, explained

ROOT = Path(__file__).parents[2]
NAME = "ANAMNESIS-Secrets"
HIDDEN = "v4lue-that-must-not-show"


def check_permissions(server: str, after: float) -> None:
    """From so many more requests on, the account checks what a caller may do."""
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(
        f"{server}/moto-api/reset-auth", data=str(after).encode(), headers=headers, method="POST"
    )
    urllib.request.urlopen(request, timeout=10).read()


def keep(content: str, name: str = NAME) -> None:
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=content)


def kept(name: str = NAME) -> dict[str, object]:
    content: dict[str, object] = json.loads(
        boto3.client("secretsmanager").get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"]
    )
    return content


@pytest.mark.usefixtures("aws")
def test_pull_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pull writes every variable, mode 600, keeps this machine's own lines, and prints no value."""
    (tmp_path / ".env").write_text("# this machine\nANAMNESIS_BIND=0.0.0.0\nANAMNESIS_API_KEY=old\n")
    keep(json.dumps({"ANAMNESIS_API_KEY": HIDDEN, "ANAMNESIS_GATEWAY_PORT": 3011, "ANAMNESIS_LOG_JSON": True}))
    assert main(["pull"]) == 0
    assert (tmp_path / ".env").read_text() == (
        f"# this machine\nANAMNESIS_BIND=0.0.0.0\nANAMNESIS_API_KEY={HIDDEN}\n"
        "ANAMNESIS_GATEWAY_PORT=3011\nANAMNESIS_LOG_JSON=true\n"
    )
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    shown = capsys.readouterr()
    assert shown.out == f".env: 2 added, 1 changed, 0 unchanged from {NAME}; 1 of this machine kept\n"
    assert HIDDEN not in shown.out + shown.err


@pytest.mark.usefixtures("aws")
def test_pull_leaves_what_is_not_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would choose programs, paths or users of this machine is not taken, and neither is what nobody knows.

    Their names are said, whatever they are, and the rest is taken.
    """
    refused = {"ANAMNESIS_PYTHON": HIDDEN, "CLAUDE_PROJECTS": "/", "PATH": HIDDEN, "nested": {"a": [HIDDEN]}, "\x1b": 1}
    keep(json.dumps({**refused, "ANAMNESIS_LOG_LEVEL": "debug"}))
    assert main(["pull"]) == 0
    assert (tmp_path / ".env").read_text() == "ANAMNESIS_LOG_LEVEL=debug\n"
    shown = capsys.readouterr()
    assert shown.err.startswith(f"env: not taken from {NAME}, ")
    assert shown.err.endswith(": 'ANAMNESIS_PYTHON', 'CLAUDE_PROJECTS', 'PATH', 'nested', '\\x1b'\n")
    assert HIDDEN not in shown.out + shown.err


@pytest.mark.usefixtures("aws")
def test_name_by_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ANAMNESIS_SECRETS_NAME chooses the secret."""
    keep('{"ANAMNESIS_API_KEY": "a"}')
    keep('{"ANAMNESIS_API_KEY": "b"}', "team/memory")
    monkeypatch.setenv("ANAMNESIS_SECRETS_NAME", "team/memory")
    assert main(["pull"]) == 0
    assert (tmp_path / ".env").read_text() == "ANAMNESIS_API_KEY=b\n"


@pytest.mark.usefixtures("aws")
def test_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The profile named on the command line gives credentials and region; one that does not exist is named."""
    keep('{"ANAMNESIS_API_KEY": "a"}')
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert main(["pull", "team"]) == 0
    assert (tmp_path / ".env").exists()
    assert main(["pull", "nobody"]) == 1
    assert "no AWS profile 'nobody'" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_as_a_process() -> None:
    """The command runs by itself, as deploy.sh runs it; a value read from standard input reaches no output."""
    keep("{}")
    command = [sys.executable, "-m", "deploy.env", "set", "ANAMNESIS_SERVICE_KEY", "-"]
    done = subprocess.run(
        command, cwd=ROOT, input=HIDDEN + "\n", capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert HIDDEN not in done.stdout + done.stderr
    assert kept() == {"ANAMNESIS_SERVICE_KEY": HIDDEN}


@pytest.mark.usefixtures("aws")
def test_set_changes_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`set` adds a variable or changes one, leaves the others, and says which without the value."""
    keep('{"ANAMNESIS_LOG_LEVEL": "1"}')
    assert main(["set", "ANAMNESIS_SERVICE_KEY", HIDDEN]) == 0
    assert main(["set", "ANAMNESIS_LOG_LEVEL", "2"]) == 0
    assert main(["set", "ANAMNESIS_LOG_LEVEL", "2"]) == 0
    assert kept() == {"ANAMNESIS_LOG_LEVEL": "2", "ANAMNESIS_SERVICE_KEY": HIDDEN}
    shown = capsys.readouterr()
    assert [line.split(";")[0].split()[-1] for line in shown.out.splitlines()] == ["added", "changed", "unchanged"]
    assert HIDDEN not in shown.out + shown.err


@pytest.mark.usefixtures("aws")
def test_the_value_is_asked_for() -> None:
    """Without a value on the command line a terminal is asked for it, and does not show it."""
    keep("{}")
    terminal, inside = os.openpty()
    command = [sys.executable, "-m", "deploy.env", "set", "ANAMNESIS_SERVICE_KEY"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=inside, stdout=inside, stderr=inside, start_new_session=True, env=dict(os.environ)
    ) as process:
        os.close(inside)
        shown = b""
        while b"not shown" not in shown:  # typed before the question, it would be echoed
            shown += os.read(terminal, 1000)
        os.write(terminal, HIDDEN.encode() + b"\n")
        with contextlib.suppress(OSError):  # how a terminal says that its last user is gone
            while piece := os.read(terminal, 1000):
                shown += piece
    os.close(terminal)
    assert process.returncode == 0, shown
    assert HIDDEN.encode() not in shown
    assert kept() == {"ANAMNESIS_SERVICE_KEY": HIDDEN}


@pytest.mark.usefixtures("aws")
def test_no_value_and_nobody_to_ask() -> None:
    """Without a value and a terminal it says how to give one, and changes nothing."""
    keep("{}")
    command = [sys.executable, "-m", "deploy.env", "set", "ANAMNESIS_SERVICE_KEY"]
    done = subprocess.run(command, cwd=ROOT, input=HIDDEN, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "give - to read it from standard input" in done.stderr
    assert kept() == {}


@pytest.mark.usefixtures("aws")
def test_set_leaves_other_fields_alone() -> None:
    """The fields of others keep their type, value and place, also those that are no variables of ours."""
    content = '{"PORT": 5432, "zone": {"a": [1, null]}, "RATE": 1.5, "ANAMNESIS_LOG_JSON": true, "A": "ä"}'
    keep(content)
    assert main(["set", "ANAMNESIS_LOG_LEVEL", "debug"]) == 0
    after = boto3.client("secretsmanager").get_secret_value(SecretId=NAME, VersionStage="AWSCURRENT")["SecretString"]
    assert after == content.removesuffix("}") + ', "ANAMNESIS_LOG_LEVEL": "debug"}'


class Contested(Secret):
    """A secret that somebody else changes between its reading and its replacement, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__(NAME)
        self.times = times

    def read(self) -> Content:
        content = super().read()
        if self.times:
            self.times -= 1
            assert main(["set", "ANAMNESIS_LOG_LEVEL", f"level-{self.times}"]) == 0
        return content


@pytest.mark.usefixtures("aws")
def test_two_who_set_at_once() -> None:
    """When another value is set meanwhile both are there afterwards; when that does not end, it is said."""
    keep("{}")
    assert put(Contested(3), "ANAMNESIS_SERVICE_KEY", HIDDEN, create=False) == "added"
    assert kept() == {"ANAMNESIS_LOG_LEVEL": "level-0", "ANAMNESIS_SERVICE_KEY": HIDDEN}
    with pytest.raises(SecretError, match="nothing was set"):
        put(Contested(1000), "ANAMNESIS_SERVICE_KEY", "other", create=False)
    assert kept()["ANAMNESIS_SERVICE_KEY"] == HIDDEN


@pytest.mark.usefixtures("aws")
def test_set_can_create() -> None:
    """With --create the first `set` makes the secret; without, it says that there is none."""
    assert main(["set", "ANAMNESIS_LOG_LEVEL", "1"]) == 1
    assert main(["set", "ANAMNESIS_LOG_LEVEL", "1", "--create"]) == 0
    assert kept() == {"ANAMNESIS_LOG_LEVEL": "1"}


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set", "lower", "x"], "no variable name"),
        (["set", "COMPOSE_FILE", "x"], "COMPOSE_FILE is not a setting that a shared secret may set"),
        (["set", "ANAMNESIS_PYTHON", "x"], "set it in .env on this machine"),
        (["set", "ANAMNESIS_LOG_LEVEL", "two\nlines"], "control characters"),
        (["set", "ANAMNESIS_LOG_LEVEL", "x" * 70_000], "at most 65536"),
    ],
)
def test_set_refuses(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name or value is refused with the reason, and the secret stays as it was."""
    keep('{"ANAMNESIS_LOG_LEVEL": "1"}')
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
    assert kept() == {"ANAMNESIS_LOG_LEVEL": "1"}


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"not json {HIDDEN}", "not a JSON object"),
        (f'["{HIDDEN}"]', "not a JSON object"),
        (f'{{"ANAMNESIS_LOG_LEVEL": {{"nested": "{HIDDEN}"}}}}', "value of ANAMNESIS_LOG_LEVEL is not a text"),
        ('{"ANAMNESIS_LOG_LEVEL": null}', "value of ANAMNESIS_LOG_LEVEL is not a text"),
        (f'{{"ANAMNESIS_LOG_LEVEL": "{HIDDEN}\\u0000"}}', "value of ANAMNESIS_LOG_LEVEL cannot be used"),
    ],
)
def test_unusable_secret(content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that does not fit is refused as a whole, by name and reason, never by value; `.env` stays."""
    (tmp_path / ".env").write_text("OLD=1\n")
    keep(content)
    assert main(["pull"]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert HIDDEN not in error
    assert (tmp_path / ".env").read_text() == "OLD=1\n"


@pytest.mark.usefixtures("aws")
def test_no_such_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing secret is named."""
    assert main(["pull"]) == 1
    assert f"{NAME}: there is no such secret" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_binary_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret of bytes is refused."""
    boto3.client("secretsmanager").create_secret(Name=NAME, SecretBinary=b"bytes")
    assert main(["pull"]) == 1
    assert "holds bytes" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_deleted_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that waits for its deletion is said to be so."""
    keep("{}")
    boto3.client("secretsmanager").delete_secret(SecretId=NAME)
    assert main(["pull"]) == 1
    assert "marked for deletion" in capsys.readouterr().err


def test_access_denied(aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Credentials without the permission are told which one they lack."""
    keep("{}")
    users = boto3.client("iam")
    users.create_user(UserName="guest")
    key = users.create_access_key(UserName="guest")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    check_permissions(aws, after=0)
    try:
        assert main(["pull"]) == 1
        assert "need secretsmanager:GetSecretValue" in capsys.readouterr().err
    finally:
        check_permissions(aws, after=math.inf)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "need secretsmanager:PutSecretValue"),
        ("DecryptionFailure", "kms:Decrypt"),
        ("ExpiredTokenException", "sign in again"),
        ("InvalidSignatureException", "does not belong"),
        ("UnrecognizedClientException", "does not know these credentials"),
        ("InternalServiceError", "answered InternalServiceError"),
    ],
)
def test_refusals_in_words(code: str, said: str) -> None:
    """Each refusal that AWS documents says what to do, without the service's own text."""
    refusal = ClientError({"Error": {"Code": code, "Message": HIDDEN}}, "PutSecretValue")
    words = str(explained(NAME, "PutSecretValue", refusal))
    assert said in words
    assert HIDDEN not in words


@pytest.mark.usefixtures("aws")
def test_no_credentials(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without credentials the message says how to give them."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["pull"]) == 1
    assert "no AWS credentials" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_no_region(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a region the message says how to give one."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert main(["pull"]) == 1
    assert "no AWS region" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_unreachable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that cannot be reached is said to be so, within seconds."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert main(["pull"]) == 1
    assert "cannot be reached" in capsys.readouterr().err
