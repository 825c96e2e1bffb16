"""The list that a loop of one body appended to: its new items are rows of tensors, looked up when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tjit.errors import CaptureError
from tjit.ir.dims import Dim
from tjit.location import user_location
from tjit.tensor import Tensor

__all__ = ["StackedList"]


class StackedList(list):
    """A list of `trip` groups of items behind the items that the list had before.

    `rows` are tensors [trip, ...]; `group` makes the items of one trip of its rows.
    """

    def __init__(
        self, before: Sequence[Any], rows: Sequence[Tensor], trip: Dim, group: Callable[[list[Tensor]], list[Any]]
    ) -> None:
        super().__init__(before)
        self.rows: Sequence[Tensor] | None = rows
        self.trip = trip
        self.group = group

    def stacked(self) -> Tensor | None:
        """All items as one tensor [n, ...], where they are the rows of one."""
        if self.rows is None or len(self.rows) != 1 or list.__len__(self):
            return None
        return self.rows[0]

    def _listed(self) -> None:
        """Become a list of single items."""
        if self.rows is None:
            return
        rows, self.rows = self.rows, None
        if not isinstance(self.trip, int):
            raise CaptureError(
                f"a loop appended {self.trip} items, a number that depends on the call",
                user_location(),
                hint="only tjit.stack(items) and tjit.cat(items) take such a list",
            )
        for i in range(self.trip):
            list.extend(self, self.group([r[i] for r in rows]))

    def __len__(self) -> int:
        self._listed()
        return super().__len__()

    def __iter__(self) -> Iterator[Any]:
        self._listed()
        return super().__iter__()


def _listing(name: str) -> Callable[..., Any]:
    inherited = getattr(list, name)

    def method(self: StackedList, *args: Any, **kwargs: Any) -> Any:
        self._listed()
        return inherited(self, *args, **kwargs)

    method.__name__ = name
    return method


for _name in (
    "__getitem__", "__setitem__", "__delitem__", "__contains__", "__add__", "__iadd__", "__mul__", "__eq__", "__repr__",
    "__reversed__", "append", "extend", "insert", "pop", "remove", "reverse", "sort", "index", "count", "copy", "clear",
):  # fmt: skip
    setattr(StackedList, _name, _listing(_name))
