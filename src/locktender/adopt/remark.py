"""Say in words what a search could not look at, and what may come after it.

For the log, when a chain is served, and for the doctor.  What is found is not told of here.
"""

from collections.abc import Sequence

from locktender.adopt.discover import Survey

__all__ = ["cut_remark", "open_remark", "remarks"]

_MAX_NAMED = 8


def remarks(seen: Survey) -> list[str]:
    """Return a sentence or two for each thing that a search left undone."""
    places = [f"{opening.path} {opening.why}" for opening in seen.said]
    said = [cut_remark(seen.cuts)] if seen.cuts else []
    return [*said, open_remark(places, max_named=_MAX_NAMED)] if places else said


def cut_remark(cuts: Sequence[str]) -> str:
    """Say where a search met its bound."""
    return (
        f"The search for models met its bound at {', '.join(cuts)}: what lies beyond is neither "
        "found nor guarded. Call locktender.guard(model) for each model there, before add_routes."
    )


def open_remark(places: Sequence[str], *, max_named: int) -> str:
    """Say where a model may come later, or is only made in a run."""
    n_more = len(places) - max_named
    more = f"; and {n_more} more (see `locktender doctor`)" if n_more > 0 else ""
    return (
        f"Models may come later: {'; '.join(places[:max_named])}{more}. A model of LangChain that "
        "answers there is guarded at its first call, anything else before the first run that "
        "begins when it is there. To be sure, make it before add_routes, or call "
        "locktender.guard(...) where it is made."
    )
