"""Clients of AWS's services, each with its region and address said explicitly, and what their errors ask of whom."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError

from assay.errors import AssayError, LakeBusy, SettingsError
from assay.settings import Aws

TRIES = 5
CONNECT, READ = 5, 30  # seconds
CONNECTIONS = 32
_EMULATED = {"aws_access_key_id": "emulated", "aws_secret_access_key": "emulated"}
_OF_DOUBLES = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_LAMBDA_FUNCTION_NAME")
"""Variables of a task or function that the doubles started, which has credentials of its own."""


class Clients:
    """One client a service, made when it is first asked for; threads share it. `aws` says region and addresses.

    `calls` counts what was sent, repeated requests too, by `service:Operation`: what AWS bills.

    Credentials are those of the process's role, as AWS hands them out. Doubles are never shown a person's: they get none
    but those of the task or environment they themselves started.
    """

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        own = aws.emulated and not any(name in os.environ for name in _OF_DOUBLES)
        keys = _EMULATED if own else {}
        self.emulated = {name.upper(): text for name, text in keys.items()}
        """Variables for another process that asks the doubles; none for one that asks AWS."""
        session: Any = boto3.session.Session
        with errors("sts", "this process's credentials"):
            self._session = session(region_name=aws.region, **keys)
        self.calls: Counter[str] = Counter()
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is one of its own."""
        return Clients, (self.aws,)

    def __call__(self, service: str) -> Any:
        """The client of a service, by boto3's name for it."""
        with self._lock:
            if service not in self._made:
                self._made[service] = self._client(service)
            return self._made[service]

    def _client(self, service: str) -> Any:
        endpoint = self.aws.endpoints.get(service)
        if self.aws.emulated and not endpoint:
            raise SettingsError(
                f"the doubles of AWS that run here have no {service}: `assay cloudsim up` of a newer assay may"
            )
        config = Config(
            retries={"mode": "standard", "total_max_attempts": TRIES},
            connect_timeout=CONNECT,
            read_timeout=READ,
            max_pool_connections=CONNECTIONS,
            s3={
                "addressing_style": "path" if self.aws.emulated else "virtual",
                "us_east_1_regional_endpoint": "regional",
            },
        )
        with errors(service, f"the client of {service}"):
            made = self._session.client(service, endpoint_url=endpoint, config=config)
        made.meta.events.register(f"before-send.{service}", self._count)
        return made

    def _count(self, event_name: str, **_: Any) -> None:
        service, operation = event_name.split(".")[1:3]
        self.calls[f"{service}:{operation}"] += 1

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            for one in self._made.values():
                one.close()
            self._made.clear()


def code_of(error: exceptions.ClientError) -> str:
    """AWS's word for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: exceptions.ClientError) -> int:
    """The HTTP status of the answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def errors(service: str, resource: str) -> Iterator[None]:
    """What AWS or the way to it says, as an error of who must act; what is no such error passes."""
    try:
        yield
    except (exceptions.BotoCoreError, exceptions.ClientError, ResponseParserError) as error:
        told = meaning(error, service, resource)
        if told is None:
            raise
        raise told from error


_EXPIRED = {
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId",
    "InvalidToken", "SignatureDoesNotMatch", "InvalidSignatureException", "TokenRefreshRequired", "MissingAuthenticationTokenException",
}  # fmt: skip
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AllAccessDisabled", "403", "Forbidden"}
_REGION = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
    "MovedPermanently",
}
_BUSY = {
    "SlowDown", "ServiceUnavailable", "InternalError", "InternalServerError", "InternalFailure", "RequestTimeout", "Throttling",
    "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "ProvisionedThroughputExceededException", "TooManyRequestsException",
    "TransactionInProgressException", "ReplicatedWriteConflictException", "BadDigest", "XAmzContentSHA256Mismatch", "LimitExceededException", "BandwidthLimitExceeded", "503", "500",
    "ConditionalRequestConflict", "OperationAborted", "InternalServiceException", "OperationTimeoutException", "ResourceNotReadyException",
}  # fmt: skip


_CALLERS = {"ConditionalCheckFailedException", "TransactionCanceledException", "TransactionConflictException"}
"""What a condition of ours is answered: the caller's to understand."""


def no_bucket(name: str) -> str:
    """What is said of a bucket that is missing."""
    return f"there is no bucket {name}: [aws] bucket of assay.toml names another, or it has to be made first"


def meaning(error: Exception, service: str, resource: str) -> AssayError | None:
    """Who must act on an error of botocore; None where it is of the call itself. No key and no value is quoted.

    Words of AWS: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and the services' "Common errors".
    """
    if isinstance(error, exceptions.ClientError):
        code, action = code_of(error), f"{service}:{error.operation_name}"
        if code in _EXPIRED:
            return SettingsError(
                f"AWS does not know these credentials, or they expired ({code}, at {action}): whoever runs this must sign in again, or give its role"
            )
        if code.startswith("KMS.") or code in {"KMSAccessDeniedException", "DisabledException"} or "kms:" in str(error):
            return SettingsError(
                f"{action} on {resource}: the key it is encrypted with refuses ({code}); who owns the KMS key must allow this role to use it, and keep it enabled"
            )
        if code in _DENIED:
            return SettingsError(
                f"AWS denies {action} on {resource}: whoever grants this process's role its policies must allow it ({code})"
            )
        if code == "NoSuchBucket":
            return SettingsError(no_bucket(resource))
        if code == "ResourceNotFoundException" and service == "dynamodb":
            return SettingsError(
                f"there is no table {resource}: it has to be made first, with what else the lake needs (docs/aws.md)"
            )
        if code in _REGION:
            return SettingsError(f"{resource} is of another region ({code}): mend [aws] region of assay.toml")
        if code in _BUSY or status_of(error) >= 500:
            return LakeBusy(f"{service} has no time for {error.operation_name} on {resource} ({code}); run it again")
        if code in _CALLERS:
            return None
        return SettingsError(
            f"AWS refuses {action} on {resource} ({code}): whoever provisions the lake must look at it (docs/aws.md)"
        )
    if isinstance(
        error,
        exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.CredentialRetrievalError
        | exceptions.TokenRetrievalError
        | exceptions.UnauthorizedSSOTokenError,
    ):
        return SettingsError("there are no AWS credentials here: run this under a role, or sign in (`aws sso login`)")
    if isinstance(
        error,
        exceptions.HTTPClientError
        | exceptions.ConnectionError
        | exceptions.IncompleteReadError
        | exceptions.ResponseStreamingError
        | exceptions.FlexibleChecksumError
        | exceptions.MetadataRetrievalError
        | ResponseParserError,
    ):
        return LakeBusy(
            f"{service} does not answer for {resource} ({type(error).__name__}, after {TRIES} tries); run it again"
        )
    if isinstance(error, exceptions.UnknownServiceError | exceptions.InvalidRegionError | exceptions.NoRegionError):
        return SettingsError(f"[aws] region of assay.toml: {error}")
    if isinstance(error, exceptions.BotoCoreError) and not isinstance(error, exceptions.ParamValidationError):
        # Profiles, sign-in, its own files: what it says names them, and holds no key.
        return SettingsError(
            f"AWS cannot be asked for {resource} ({type(error).__name__}): mend the profile, sign-in or settings of this machine"
        )
    return None
