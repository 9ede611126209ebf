"""Why a request is not answered, in fixed words: nothing of what was sent comes back.

Refusal        a status, a machine's word, a sentence for people
refusal_of     what an error of the engine amounts to
"""

from __future__ import annotations

import logging
import math

from miloco_edge import errors

log = logging.getLogger(__name__)


class Refusal(Exception):
    """Ends a request with this status; every dialect writes it in its own shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, and how to authenticate."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    @property
    def kind(self) -> str:
        """The family of the error, as OpenAI and llama-server name them."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 403:
            return "permission_error"
        if self.status == 404:
            return "not_found_error"
        if self.status == 429:
            return "rate_limit_error"
        if self.status == 503:
            return "unavailable_error"
        return "invalid_request_error" if self.status < 500 else "server_error"


def bad_request(code: str, message: str, param: str | None = None) -> Refusal:
    """A request that will never be answered as it stands."""
    return Refusal(400, code, message, param=param)


def loading() -> Refusal:
    """The model is not in memory yet."""
    return Refusal(503, "loading", "Loading model", retry_after_s=2)


def out_of_time() -> Refusal:
    """A request whose time ran out before there was anything to say."""
    return Refusal(504, "deadline", "the request's time ran out before the answer began")


def refusal_of(error: BaseException) -> Refusal:
    """What an error of the engine or of a decoder is to a client.

    Messages of decoders and of llama.cpp stay here: they have carried addresses (CVE-2026-22778).
    """
    match error:
        case Refusal():
            return error
        case errors.MediaError():
            return bad_request("media_unreadable", "expected media that can be decoded and shown")
        case errors.ContextFullError():
            return bad_request(
                "context_length_exceeded",
                f"expected at most {error.available} more tokens in the context, "
                f"got {error.needed}: send less, or ask for fewer tokens",
            )
        case errors.BusyError():
            return busy(error.retry_after_s)
        case errors.QuarantinedError():
            return bad_request(
                "media_quarantined", "expected media that the engine survives, got some it did not"
            )
        case errors.ClosedError():
            return Refusal(503, "shutting_down", "the server is shutting down", retry_after_s=10)
        case errors.EngineDownError() | errors.ModelLoadError():
            log.warning("a request found no engine: %s", error)
            return Refusal(503, "engine_down", "the engine is down", retry_after_s=5)
        case errors.NotFoundError() | errors.RefusedError():
            log.warning("the model cannot be used: %s", error)
            return Refusal(503, "model_unavailable", "the model cannot be loaded", retry_after_s=60)
        case errors.NonFiniteError():
            log.error("%s", error)
            return Refusal(500, "not_finite", "the model computed values that are not finite")
        case errors.EngineError():
            log.error("the engine failed: %s", error)
            return Refusal(500, "engine_failed", "the engine could not go on with this request")
        case _:
            log.error("a fault of ours", exc_info=error)
            return Refusal(500, "internal", "this is a fault of the server")


def busy(retry_after_s: float) -> Refusal:
    """More wait than may wait."""
    return Refusal(
        429, "busy", "too many requests are waiting; try again later", retry_after_s=retry_after_s
    )
