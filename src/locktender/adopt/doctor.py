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
from locktender.adopt.remark import cut_remark, open_remark

__all__ = ["Diagnosis", "Finding", "WhyNoBatch", "examine", "shown"]

WhyNoBatch = Callable[[object], str | None]  # of a model: a sentence; None if it can batch

_UNGUARDED = (
    "Nothing: no route of add_routes leads to it, or its guard is turned off. Give it an owner "
    "with locktender.guard(...)."
)


_NONE_FOUND = (
    "If there is a model in it, it was not found: give it an owner with locktender.guard(model), "
    "and examine what holds it."
)
_MAX_NAMED = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """An unsafe object: where it is, what is wrong, and what is going to be done."""

    path: str
    class_name: str
    hazard: Hazard
    plan: str  # what locktender will do, in sentences


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found among how many models, where nobody looked, and where one may come later."""

    findings: tuple[Finding, ...]
    n_models: int
    cuts: tuple[str, ...] = ()  # paths
    open_places: tuple[str, ...] = ()  # each a path, and in words why

    @property
    def is_complete(self) -> bool:
        """Whether all that is there was looked at."""
        return not self.cuts

    @property
    def is_clean(self) -> bool:
        """Whether all models are known, and none is unsafe: where none is, nothing is known."""
        is_all = self.is_complete and not self.open_places
        return is_all and self.n_models > 0 and not self.findings


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
            is_left = is_left and hazard.action is not Action.NAMED
            plan = _UNGUARDED if is_left else _plan(hazard, found.model, why_no_batch)
            findings.append(Finding(found.path, type(found.model).__name__, hazard, plan))
    places = tuple(f"{opening.path} {opening.why}" for opening in seen.said)
    return Diagnosis(tuple(findings), len(seen.found), seen.cuts, places)


def shown(diagnosis: Diagnosis) -> RenderableType:
    """Draw a diagnosis: a row for the objects that have the same hazard and the same cure."""
    parts: list[RenderableType] = []
    if diagnosis.findings:
        parts.append(_table(diagnosis.findings))
    parts.append(Text(_summary(diagnosis)))
    if diagnosis.n_models == 0:
        parts.append(Text(_NONE_FOUND))
    if diagnosis.cuts:
        parts.append(Text(cut_remark(diagnosis.cuts)))
    if diagnosis.open_places:
        parts.append(Text(open_remark(diagnosis.open_places, max_named=_MAX_NAMED)))
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
