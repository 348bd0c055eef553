"""The shared secret in AWS Secrets Manager: one JSON object; the fields that are settings of ours are variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from deploy.envfile import BadName, BadValue, quote
from deploy.shared import check_shared

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

MAX_BYTES = 65_536  # of the whole secret; the service's own bound
NEXT = "ANAMNESIS_NEXT"
"""Label of a version that is written and not current yet."""

_ADVICE = {
    "AccessDeniedException": "these credentials may not use it; they need secretsmanager:{action} on it",
    "DecryptionFailure": "its encryption key cannot be used with these credentials (kms:Decrypt)",
    "ExpiredTokenException": "these credentials have expired; sign in again",
    "InvalidRequestException": "it is marked for deletion or otherwise unusable",
    "InvalidSignatureException": "the secret access key does not belong to the access key id",
    "ResourceNotFoundException": "there is no such secret in this account and region",
    "ThrottlingException": "the service is throttling; try again in a minute",
    "UnrecognizedClientException": "the service does not know these credentials",
}


class SecretError(Exception):
    """Why the secret could not be used, in words for the person at the terminal; never a value."""


class Content(NamedTuple):
    """What the secret held when it was read."""

    fields: dict[str, object]
    """As they stand in its JSON."""
    version: str

    def variables(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """The values of the fields that this machine takes over, and the names of the others.

        Raises SecretError for a value that cannot be used.
        """
        values: dict[str, str] = {}
        refused: list[str] = []
        for name, field in self.fields.items():
            try:
                check_shared(name)
            except BadName:
                refused.append(name)
                continue
            if (value := as_text(field)) is None:
                raise SecretError(f"the secret's value of {name} is not a text, a number or a truth value")
            try:
                quote(value)
            except BadValue as error:
                raise SecretError(f"the secret's value of {name} cannot be used: {error}") from None
            values[name] = value
        return values, tuple(refused)


class Secret:
    """One secret by name. Region, credentials and endpoint come from the usual AWS variables and files."""

    def __init__(self, name: str, profile: str | None = None) -> None:
        self.name = name
        self._client = _client(profile)

    def read(self) -> Content:
        """All that is in it.

        Raises SecretError when it cannot be had or is no JSON object.
        """
        try:
            answer = self._client.get_secret_value(SecretId=self.name, VersionStage="AWSCURRENT")
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise explained(self.name, "GetSecretValue", error) from None
        text = answer.get("SecretString")
        if text is None:
            raise SecretError(f"{self.name} holds bytes; expected a JSON object of names and values")
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise SecretError(f"{self.name} is not a JSON object of names and values")
        return Content(fields, answer["VersionId"])

    def replace(self, content: Content, fields: Mapping[str, object]) -> bool:
        """Put `fields` in the place of what was read; false, and nothing done, when it has changed since.

        A plain put would overwrite what others have put meanwhile. The new version is made beside the current one
        instead, and becomes current only in exchange for the one that was read. Secrets Manager keeps that one.
        """
        text = json.dumps(fields, ensure_ascii=False)
        if (size := len(text.encode())) > MAX_BYTES:
            raise SecretError(f"{self.name} would take {size} bytes; a secret holds at most {MAX_BYTES}")
        try:
            made = self._client.put_secret_value(SecretId=self.name, SecretString=text, VersionStages=[NEXT])
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise explained(self.name, "PutSecretValue", error) from None
        try:
            self._client.update_secret_version_stage(
                SecretId=self.name,
                VersionStage="AWSCURRENT",
                MoveToVersionId=made["VersionId"],
                RemoveFromVersionId=content.version,
            )
        except (aws.ClientError, aws.BotoCoreError) as error:
            if isinstance(error, aws.ClientError) and error.response["Error"]["Code"] == "InvalidParameterException":
                return False  # the version that was read is not current any more
            raise explained(self.name, "UpdateSecretVersionStage", error) from None
        return True

    def create(self) -> None:
        """Make it, empty."""
        try:
            self._client.create_secret(
                Name=self.name, SecretString="{}", Description="Settings of an Anamnesis installation"
            )
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise explained(self.name, "CreateSecret", error) from None


def _client(profile: str | None) -> SecretsManagerClient:
    config = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "max_attempts": 3})
    try:
        return boto3.session.Session(profile_name=profile).client("secretsmanager", config=config)
    except aws.ProfileNotFound:
        raise SecretError(f"there is no AWS profile {profile!r}; see ~/.aws/config") from None
    except aws.NoRegionError:
        raise SecretError("no AWS region: set AWS_REGION, or a region in the profile") from None
    except (aws.BotoCoreError, ValueError) as error:
        raise SecretError(f"the AWS settings of this machine do not work: {error}") from None


def as_text(field: object) -> str | None:
    """A field's value as a variable holds it; none for what no variable can hold."""
    if isinstance(field, bool):
        return str(field).lower()
    return str(field) if isinstance(field, str | int | float) else None


def explained(name: str, action: str, error: aws.ClientError | aws.BotoCoreError) -> SecretError:
    """An AWS error in words, with what to do about it; the service's own text is left out."""
    if isinstance(error, aws.ClientError):
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code not in _ADVICE and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403:
            code = "AccessDeniedException"  # what stands between here and the service may word its refusal otherwise
        advice = _ADVICE.get(code, f"the service answered {code}").format(action=action)
        return SecretError(f"{name}: {advice}")
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return SecretError("no AWS credentials: set AWS_PROFILE or name a profile, or sign in with the AWS command")
    if isinstance(error, aws.HTTPClientError | aws.ConnectionError):
        return SecretError("AWS Secrets Manager cannot be reached from here; nothing was changed")
    return SecretError(f"{name}: {error}")
