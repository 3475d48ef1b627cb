"""Actions on moto's server: a handler becomes the method of moto's response class that moto calls for the action.

moto looks methods up by name, so an action it has is replaced and one it lacks is added. Requests and answers are checked
against botocore's model; an answer that AWS could not give is a fault of this fake and says so (500).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from moto.core.utils import camelcase_to_underscores

from penstock_local.aws import shapes
from penstock_local.aws.errors import AWSError, rendered
from penstock_local.aws.world import Caller, Handler, World

Answer = tuple[int, dict[str, Any], str]


def install(world: World, service: str, responses: type, refusal: str, handlers: Mapping[str, Handler]) -> None:
    """Put handlers, by action, on a response class of a service with a JSON protocol.

    `refusal`: the error code with which the service refuses a request that breaks its model.
    """
    for action, handler in handlers.items():
        shapes.operation(service, action)  # an action that botocore does not know fails here, at the start
        setattr(responses, camelcase_to_underscores(action), _method(world, service, action, refusal, handler))


def _method(world: World, service: str, action: str, refusal: str, handler: Handler) -> Callable[[Any], Answer]:
    def method(self: Any) -> Answer:  # self: moto's BaseResponse
        try:
            request = json.loads(self.body or "{}")
            if refused := shapes.request_error(service, action, request):
                raise AWSError(refusal, refused)
            with world.lock:
                answer = handler(world, Caller(self.current_account, self.region), request)
        except AWSError as error:
            headers, body = rendered(error, "json")
            return error.status, {**dict(headers), "status": error.status}, body.decode()
        if wrong := shapes.answer_problems(service, action, answer):
            raise RuntimeError(f"the fake's answer to {action} is not one AWS could give: {wrong}")
        return 200, {"Content-Type": "application/x-amz-json-1.1", "status": 200}, json.dumps(answer)

    return method
