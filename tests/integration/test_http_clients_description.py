"""schemathesis calls every route of our own OpenAPI description with what it can think of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from miloco_edge.serve.openapi import description
from tests.serve.test_leaving import Running

pytestmark = pytest.mark.integration
SCHEMA = schemathesis.openapi.from_dict(description())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    running = Running()
    assert running.engine.hold is not None
    running.engine.hold.set()
    yield f"http://127.0.0.1:{running.port}"
    running.server.should_exit = True
    running.thread.join(30)


def no_fault_of_ours(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> bool | None:
    """No server error, but that the time was over which the call itself gave."""
    given = case.body.get("deadline_s") if isinstance(case.body, dict) else None
    if response.status_code == 504 and given is not None and float(given) < 1:
        assert response.json()["error"]["code"] == "deadline"
        return None
    return not_a_server_error(context, response, case)


@SCHEMA.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_call_is_a_fault_of_ours(case: schemathesis.Case, address: str) -> None:
    case.call_and_validate(base_url=address, checks=[no_fault_of_ours])
