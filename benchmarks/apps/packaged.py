"""The runnables behind the `add_routes` of the package that WIRE_PACKAGE names."""

import importlib
import os

from fastapi import FastAPI
from runnable import add_one, speak

package = importlib.import_module(os.environ["WIRE_PACKAGE"])

app = FastAPI()
package.add_routes(app, add_one, path="/add_one")
package.add_routes(app, speak, path="/speak")
