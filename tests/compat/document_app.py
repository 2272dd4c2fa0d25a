"""The captured app and the routes of `routes_app`: few enough to be described and tried out whole.

Run as ``python -m compat.document_app PORT``.
"""

import sys

import uvicorn
from langchain_core.runnables import RunnableLambda

from compat import routes_app
from compat.captured_app import add_one, add_routes, app, package

add_routes(app, RunnableLambda(add_one))  # at the root
__all__ = ["app"]

routes_app.add(app, add_routes, package.APIHandler)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
