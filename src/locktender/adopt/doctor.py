"""Say which model objects of a chain are unsafe for several callers, before any caller comes.

`examine` puts `discover` and `hazards` together and runs nothing; `shown` draws its result for a
terminal of 80 columns or more.  What a batch needs is known to who runs it, and told here as a
question.  The command is `cli_doctor`'s, and what an app serves is `deploy.examine`'s to find.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from locktender.adopt.discover import survey
from locktender.adopt.hazards import Action, Hazard, hazard_of

__all__ = ["Diagnosis", "Finding", "WhyNoBatch", "examine", "shown"]

WhyNoBatch = Callable[[object], str | None]  # of a model: a sentence; None if it can batch

_UNGUARDED = (
    "Nothing: no route of add_routes leads to it, or its guard is turned off. Give it an owner "
    "with locktender.guard(...)."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """An unsafe object: where it is, what is wrong, and what is going to be done."""

    path: str
    class_name: str
    hazard: Hazard
    plan: str  # what locktender will do, in sentences


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found among how many models, and whether all places were looked at."""

    findings: tuple[Finding, ...]
    n_models: int
    is_complete: bool = True


def examine(
    roots: Iterable[tuple[str, object]],
    *,
    why_no_batch: WhyNoBatch | None = None,
    is_guarded: Callable[[object], bool] | None = None,
) -> Diagnosis:
    """Find the unsafe models in objects, each with the name that begins its paths.

    Without `is_guarded`, each is taken to be guarded when it is served.
    """
    seen = survey(roots)
    findings = []
    for found in seen.found:
        hazard = hazard_of(found.model)
        if hazard is not None:
            is_left = is_guarded is not None and not is_guarded(found.model)
            plan = _UNGUARDED if is_left else _plan(hazard, found.model, why_no_batch)
            findings.append(Finding(found.path, type(found.model).__name__, hazard, plan))
    return Diagnosis(tuple(findings), len(seen.found), seen.is_complete)


def shown(diagnosis: Diagnosis) -> RenderableType:
    """Draw a diagnosis: a row for the objects that have the same hazard and the same cure."""
    parts: list[RenderableType] = []
    if diagnosis.findings:
        parts.append(_table(diagnosis.findings))
    parts.append(Text(_summary(diagnosis)))
    if not diagnosis.is_complete:
        parts.append(Text("The search met its bound: not all that is held was looked at."))
    return Group(*parts)


def _plan(hazard: Hazard, model: object, why_no_batch: WhyNoBatch | None) -> str:
    why = why_no_batch(model) if why_no_batch and hazard.action is Action.BATCHED else None
    if why is None:
        return hazard.action.value
    return f"{Action.EXCLUSIVE.value} Batching is off: {why}"


def _table(findings: tuple[Finding, ...]) -> Table:
    rows: dict[tuple[str, Hazard, str], list[str]] = {}
    for finding in findings:
        key = (finding.class_name, finding.hazard, finding.plan)
        rows.setdefault(key, []).append(finding.path)
    table = Table(show_lines=True)
    table.add_column("object, and where it is", ratio=2, overflow="fold")
    table.add_column("hazard, cure, and what locktender will do", ratio=3)
    for (class_name, hazard, plan), paths in rows.items():
        places = "\n".join(escape(path) for path in paths)
        table.add_row(f"[bold]{escape(class_name)}[/]\n{places}", _advice(hazard, plan))
    return table


def _advice(hazard: Hazard, plan: str) -> str:
    lines = (
        f"[bold]{hazard.title}[/]",
        escape(hazard.breaks),
        f"[bold]since:[/] {escape(hazard.since)}",
        f"[bold]cure:[/] {escape(hazard.cure)}",
        f"[bold]locktender:[/] {escape(plan)}",
    )
    return "\n".join(lines)


def _summary(diagnosis: Diagnosis) -> str:
    n = diagnosis.n_models
    objects = f"{n} model object{'' if n == 1 else 's'}"
    if not diagnosis.findings:
        return f"no hazard found in {objects}"
    n_unsafe = len(diagnosis.findings)
    verb = "is" if n_unsafe == 1 else "are"
    return f"{n_unsafe} of {objects} {verb} not safe for several callers"
