"""The shared secret in AWS Secrets Manager: one flat JSON object, variable name to value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from deploy.envfile import BadName, BadValue, check_name, quote

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

MAX_BYTES = 65_536  # of the whole secret; the service's own bound

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


class Secret:
    """One secret by name. Region, credentials and endpoint come from the usual AWS variables and files."""

    def __init__(self, name: str, profile: str | None = None) -> None:
        self.name = name
        self._client = _client(profile)

    def read(self) -> dict[str, str]:
        """All variables in it.

        Raises SecretError when it cannot be had or is no flat JSON object of names and values.
        """
        try:
            answer = self._client.get_secret_value(SecretId=self.name)
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise explained(self.name, "GetSecretValue", error) from None
        text = answer.get("SecretString")
        if text is None:
            raise SecretError(f"{self.name} holds bytes; expected a JSON object of names and values")
        return _parse(self.name, text)

    def write(self, values: Mapping[str, str]) -> None:
        """Replace its content by `values`; Secrets Manager keeps the version before."""
        text = json.dumps(dict(sorted(values.items())), ensure_ascii=False)
        if (size := len(text.encode())) > MAX_BYTES:
            raise SecretError(f"{self.name} would take {size} bytes; a secret holds at most {MAX_BYTES}")
        try:
            self._client.put_secret_value(SecretId=self.name, SecretString=text)
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise explained(self.name, "PutSecretValue", error) from None

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


def _parse(name: str, text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise SecretError(f"{name} is not a JSON object of names and values")
    values: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(value, str | int | float):
            raise SecretError(f"{name}: the value of {str(key)[:100]!r} is not a text, a number or a truth value")
        try:
            values[check_name(key)] = str(value)
            quote(values[key])
        except BadName as error:
            raise SecretError(f"{name}: {error}") from None
        except BadValue as error:
            raise SecretError(f"{name}: the value of {key} cannot be used: {error}") from None
    return values


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
