"""Read which of a run's events a caller wishes to have.

The bodies of `/stream_log` and `/stream_events` are those of `/stream` with six lists more, of the
names, types and tags of the runs that are told of, or not told of.  What they mean is LangChain's
to say, and `app.run_log`'s; LangServe's own words are sent for what is no list of strings.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from locktender.wire.langserve import Unprocessable, error_details

__all__ = ["EventFilter", "parse_event_filter"]


class EventFilter(BaseModel):
    """The runs that are told of: None stands for all, or for none to be left out."""

    include_names: Sequence[str] | None = None
    include_types: Sequence[str] | None = None
    include_tags: Sequence[str] | None = None
    exclude_names: Sequence[str] | None = None
    exclude_types: Sequence[str] | None = None
    exclude_tags: Sequence[str] | None = None

    def admits(self, name: str, kind: str, tags: Sequence[str]) -> bool:
        """Whether a run is told of: it is included by one of the lists, and excluded by none."""
        wanted = (self.include_names, self.include_types, self.include_tags)
        return (
            all(each is None for each in wanted) or _is_in(wanted, name, kind, tags)
        ) and not _is_in(
            (self.exclude_names, self.exclude_types, self.exclude_tags), name, kind, tags
        )


def parse_event_filter(body: bytes) -> EventFilter:
    """Read the lists of a body that is known to be an object.  Raises: Unprocessable."""
    try:
        return EventFilter.model_validate(from_json(body))
    except ValidationError as error:
        raise Unprocessable(error_details(error)) from error


def _is_in(
    lists: tuple[Sequence[str] | None, Sequence[str] | None, Sequence[str] | None],
    name: str,
    kind: str,
    tags: Sequence[str],
) -> bool:
    names, kinds, some_tags = (each or () for each in lists)
    return name in names or kind in kinds or any(tag in some_tags for tag in tags)
