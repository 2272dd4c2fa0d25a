"""The command ``locktender new``.

It says what was written and what to do next; the project itself is `deploy.project`'s.  `cli`
mounts it beside the other commands.
"""

from pathlib import Path
from typing import Annotated

import typer

from locktender.deploy.project import write_project

__all__ = ["new_project"]


def new_project(
    name: Annotated[str, typer.Argument(help="The folder to make here, and the project's name.")],
) -> None:
    """Write a small project that runs: a chain, its settings, a test and a Dockerfile."""
    folder = write_project(name, Path.cwd())
    typer.echo(f"{folder.name} is written. Next:\n")
    typer.echo(f"  cd {folder.name} && locktender serve app.py:chain\n")
    typer.echo("Its README.md says how to try, test and build it.")
