"""Lists in pages: `limit` and `after` in, and out the URL of the next page, as `Link` (RFC 8288) and, as the vendor's
clients know it, as `next_page`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeVar

from fastapi import Depends, HTTPException, Query, Request, Response
from starlette.datastructures import MutableHeaders

__all__ = ["MOST", "Page", "say_next"]

MOST: Final = 10_000
T = TypeVar("T")


def say_next(headers: MutableHeaders | dict[str, str], request: Request, last: object, *, name: str = "after") -> None:
    """There is more behind `last`; `name` is what the parameter is called."""
    url = str(request.url.include_query_params(**{name: last}))
    headers["next_page"] = url
    headers["Link"] = f'<{url}>; rel="next"'


class _Page:
    """The part of a list that a request asks for."""

    def __init__(
        self,
        request: Request,
        response: Response,
        after: Annotated[str | None, Query(max_length=400, description="what ends the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST, description="at most so many")] = 1000,
    ) -> None:
        self._request = request
        self._response = response
        self._after = after
        self._limit = limit

    def of(self, items: Iterable[T], key: Callable[[T], str]) -> list[T]:
        """The page of a whole list, and the way to the next.

        Args:
            items: in the order in which they are always given.
            key: names an item; `after` is the key of the last one of the page before.

        Raises:
            HTTPException: 422, no item is `after`, and there is no telling where it would be.
        """
        everything = list(items)
        page = everything[self._start([key(item) for item in everything]) :]
        if len(page) > self._limit:
            page = page[: self._limit]
            say_next(self._response.headers, self._request, key(page[-1]))
        return page

    def _start(self, keys: list[str]) -> int:
        if self._after is None:
            return 0
        if self._after in keys:
            return keys.index(self._after) + 1
        if keys == sorted(keys):
            return sum(key < self._after for key in keys)
        raise HTTPException(422, "query/after: nothing of that name is in the list; begin anew")


Page = Annotated[_Page, Depends()]
"""Parameter of a route that answers with a list."""
