"""Every error that Hodios raises on purpose. Foreign exceptions are mapped to these where they enter.
What the store tells its callers alone stands in `store/failures.py`.

HodiosError                    what a client is told; carries its HTTP status
├── InvalidRequest         400 a parameter has a value that cannot be honoured
│   ├── MissingParameter       a required parameter is absent
│   ├── UnsupportedParameter   known or unknown, but not to be honoured here
│   ├── ContextLengthExceeded  prompt and answer do not fit the model
│   └── ContentFiltered        the policy of the key does not let the prompt pass
├── AuthenticationError    401
├── InsufficientQuota      402 a budget is spent
├── PermissionDenied       403
├── NotFound               404 no such route
│   └── ModelNotFound          with the closest ids
├── MethodNotAllowed       405
├── Conflict               409 what is there does not allow it
├── IdempotencyConflict    409 the same request is being answered
├── RequestTooLarge        413
├── IdempotencyMismatch    422 another request had this key
├── RateLimited            429 try again after `retry_after` seconds
├── NotAvailable           501 a documented gap
├── ProviderError          502 whoever should generate failed
├── Overloaded             503 try again after `retry_after` seconds
│   └── GuardDown              a guard could not judge in time, or at all, and nothing passes without
└── TimedOut               504

SetupError                     what an operator is told, before anything is served
├── ConfigError                a setting is unknown or impossible
├── UnsupportedModel           the file holds something the engine cannot run
├── NotEnoughMemory            the model does not fit
└── DownloadFailed             a model could not be fetched whole
"""

from __future__ import annotations

from collections.abc import Mapping


class HodiosError(Exception):
    """An error for the client: `message` is shown as it is, so it never holds secrets."""

    status = 500
    type = "internal_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        metadata: Mapping[str, object] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.metadata = metadata
        self.retry_after = retry_after


class InvalidRequest(HodiosError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class MissingParameter(InvalidRequest):
    code = "missing_parameter"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ContentFiltered(InvalidRequest):
    code = "content_filter"

    @property
    def categories(self) -> tuple[str, ...]:
        """For which it was refused."""
        blocked = (self.metadata or {}).get("blocked")
        return tuple(blocked) if isinstance(blocked, dict) else ()


class AuthenticationError(HodiosError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class InsufficientQuota(HodiosError):
    status = 402
    type = "insufficient_quota"
    code = "insufficient_quota"


class PermissionDenied(HodiosError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class NotFound(HodiosError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(HodiosError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(HodiosError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class IdempotencyConflict(HodiosError):
    status = 409
    type = "idempotency_error"
    code = "idempotency_conflict"


class IdempotencyMismatch(HodiosError):
    status = 422
    type = "idempotency_error"
    code = "idempotency_mismatch"


class RateLimited(HodiosError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class RequestTooLarge(HodiosError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class NotAvailable(HodiosError):
    status = 501
    type = "invalid_request_error"
    code = "not_available"


class ProviderError(HodiosError):
    status = 502
    type = "provider_error"
    code = "provider_error"


class Overloaded(HodiosError):
    status = 503
    type = "overloaded"
    code = "overloaded"


class GuardDown(Overloaded):
    code = "guard_unavailable"


class TimedOut(HodiosError):
    status = 504
    type = "timeout"
    code = "timeout"


class SetupError(Exception):
    """An error for the operator: says what is wrong and what to do about it."""


class NotYetReady(SetupError):
    """What is wrong may pass by itself: it is worth trying again."""


class ConfigError(SetupError):
    pass


class UnsupportedModel(SetupError):
    pass


class NotEnoughMemory(SetupError):
    pass


class DownloadFailed(SetupError):
    pass
