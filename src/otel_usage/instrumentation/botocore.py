"""botocore, beneath boto3, and aiobotocore: their calls are seen by way of urllib3, aiohttp or httpx.

What only they know is the service and the operation, which name the call where the application has not, and which
attempt of it this is. Their endpoints make each attempt by one method, with which nothing else is sent, such as the
requests for credentials.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from ..guard import guarded
from .calls import Call
from .hooks import Function, Hook


def _do_get_response(original: Function) -> Function:
    def do_get_response(self: Any, request: Any, operation_model: Any, context: Any) -> Any:
        with _call(self, operation_model, context) or _NO_CALL:
            return original(self, request, operation_model, context)

    return do_get_response


def _async_do_get_response(original: Function) -> Function:
    async def do_get_response(self: Any, request: Any, operation_model: Any, context: Any) -> Any:
        with _call(self, operation_model, context) or _NO_CALL:
            return await original(self, request, operation_model, context)

    return do_get_response


@guarded(None)
def _call(endpoint: Any, operation: Any, context: Any) -> Call:
    sends = context.get("retries", {}).get("attempt", 1) - 1
    return Call(endpoint, operation.service_model.service_name, operation.name, sends=sends)


_NO_CALL: Final[AbstractContextManager[None]] = nullcontext()

TESTED: Final = {"botocore": "1.43", "boto3": "1.43", "aiobotocore": "3.10"}

HOOKS: Final = (
    Hook("botocore.endpoint", "Endpoint._do_get_response", _do_get_response),
    Hook("aiobotocore.endpoint", "AioEndpoint._do_get_response", _async_do_get_response),
)
