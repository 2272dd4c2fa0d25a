"""Read which of a run's events a caller wishes to have.

The bodies of `/stream_log` and `/stream_events` are those of `/stream` with six lists more, of the
names, types and tags of the runs that are told of, or not told of.  What they mean is LangChain's
to say, and `app.run_log`'s; LangServe's own words are sent for what is no list of strings.
"""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from locktender.wire.langserve import Unprocessable, error_details, parse_json

__all__ = ["EventFilter", "parse_event_filter"]

# Each of a run's steps is looked for in every list, while other callers wait.
_List: TypeAlias = Annotated[Sequence[str], Field(max_length=1000)] | None


class EventFilter(BaseModel):
    """The runs that are told of: None stands for all, or for none to be left out."""

    include_names: _List = None
    include_types: _List = None
    include_tags: _List = None
    exclude_names: _List = None
    exclude_types: _List = None
    exclude_tags: _List = None

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
        return EventFilter.model_validate(parse_json(body))
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
