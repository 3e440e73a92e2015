"""Credentials in AWS Secrets Manager, read again after a minute, so that one that was rotated is taken up while a flow runs."""

import time
from secrets import token_bytes

from botocore import exceptions

from assay.errors import LakeBusy, SettingsError
from assay.targets.aws.clients import Clients, code_of, errors

FRESH = 60.0  # seconds
BYTES = 32  # of a secret of the lake's own


class AwsSecrets:
    """See `assay.ports.Secrets`: the secret `<prefix><name>` of the lake's region."""

    def __init__(self, clients: Clients, prefix: str) -> None:
        self._clients, self._prefix = clients, prefix
        self._read: dict[str, tuple[float, str | bytes]] = {}

    def get(self, name: str) -> str:
        found = self._get(name)
        if found is None:
            raise SettingsError(
                f"secret {self._prefix}{name} is missing: put it into Secrets Manager in {self._clients.aws.region}"
            )
        if isinstance(found, bytes) or not found.strip():
            raise SettingsError(f"secret {self._prefix}{name} holds no text: put one into it as SecretString")
        return found.strip()

    def ensure(self, name: str) -> bytes:
        with errors("secretsmanager", self._prefix + name):
            if (found := self._get(name)) is None:
                made = token_bytes(32)
                try:
                    self._clients("secretsmanager").create_secret(Name=self._prefix + name, SecretBinary=made)
                except exceptions.ClientError as error:
                    if code_of(error) != "ResourceExistsException":  # another made it first: it is read
                        raise
                    found = self._get(name)
                else:
                    found = made
        key = found.encode() if isinstance(found, str) else found
        if not key:
            raise LakeBusy(f"secret {self._prefix}{name} was made just now and cannot be read yet; run it again")
        if len(key) < BYTES:
            raise SettingsError(
                f"secret {self._prefix}{name} holds {len(key)} bytes, and {BYTES} are its least: delete it, and it is made anew"
            )
        return key

    def _get(self, name: str) -> str | bytes | None:
        at, kept = self._read.get(name, (0.0, ""))
        if kept and time.monotonic() - at < FRESH:
            return kept
        with errors("secretsmanager", self._prefix + name):
            try:
                said = self._clients("secretsmanager").get_secret_value(SecretId=self._prefix + name)
            except exceptions.ClientError as error:
                if code_of(error) == "ResourceNotFoundException":
                    return None
                raise
        found: str | bytes = said["SecretString"] if "SecretString" in said else said["SecretBinary"]
        self._read[name] = time.monotonic(), found
        return found
