"""A route of ours on a user's app: all that it answers has the request's id, whoever answers.

That is a dependency's 401, a 405 and what the app's own handlers say, too.  No other route of the
app is touched.
"""

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from locktender.app.streaming import DIRECT_SEND
from locktender.core.scope import current_request
from locktender.http.request_name import ID_HEADER, is_named, name_of, naming

__all__ = ["NamedRoute"]


class NamedRoute(APIRoute):
    """FastAPI's own, with an id."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as one whose name is known unless the server has named it already."""
        scope[DIRECT_SEND] = send
        if is_named(scope):
            await super().handle(scope, receive, send)
            return
        before = current_request.get()  # of a caller in this process
        try:
            await super().handle(scope, receive, naming(scope, send))
        except HTTPException as error:  # a method that it does not have; answered further out
            error.headers = {**(error.headers or {}), ID_HEADER: name_of(scope).id}
            raise
        finally:
            current_request.set(before)
