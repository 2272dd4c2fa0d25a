"""The command ``locktender doctor``.

It draws what `deploy.examine` finds in a chain or an app, before any request.  With `--strict` a
finding is exit code 1, for continuous integration, and so is what nobody could look at.  The table
goes to standard output.
"""

import logging
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["examine_models"]


def examine_models(
    target: Annotated[
        str, typer.Argument(help="'app.py:app', 'app.py:chain' or 'package.module:app'.")
    ],
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 unless all is known to be safe.")
    ] = False,
) -> None:
    """Find the models that are not safe for several callers, and say what is done about each."""
    # LangChain takes a second to load, which no other command is to wait for.
    from locktender.adopt.doctor import shown  # noqa: PLC0415 - see above
    from locktender.deploy.examine import examine_target  # noqa: PLC0415 - see above

    logging.getLogger("locktender").setLevel(logging.ERROR)  # the table says what is guarded
    diagnosis = examine_target(target)
    Console().print(shown(diagnosis), highlight=False)
    if strict and not diagnosis.is_clean:
        raise typer.Exit(1)
