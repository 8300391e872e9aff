"""Tables of measurements, the best two of each column marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A row: values by the key of their column; those that are missing are shown as a dash.
Row = Mapping[str, Any]
DASH = '-'


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Key of its values in a row.
        title: Its heading.
        form: Text of a value.
        best: Whether ``max`` or ``min`` of its values is best, None where nothing is.
    """

    key: str
    title: str
    form: Callable[[Any], str] = str
    best: Callable[..., Any] | None = None


def rank(rows: Sequence[Row], column: Column) -> list[int | None]:
    """Place of each row in a column: 1 for the best value, 2 for the second best, None for others.

    Values count as they are shown, so that two that look the same share a place, and the place
    below it is free. A single value has no rival and no place.
    """
    shown = [column.form(row[column.key]) if column.key in row else None for row in rows]
    values = [row.get(column.key) for row in rows]
    if column.best is None or sum(text is not None for text in shown) < 2:
        return [None] * len(rows)
    places: list[int | None] = [None] * len(rows)
    left = {index for index, text in enumerate(shown) if text is not None}
    for place in (1, 2):
        if not left or sum(p is not None for p in places) >= 2:
            break
        best = shown[column.best(left, key=lambda index: values[index])]
        same = {index for index in left if shown[index] == best}
        for index in same:
            places[index] = place
        left -= same
    return places


def to_markdown(rows: Sequence[Row], columns: Sequence[Column], head: Sequence[Row] = ()) -> str:
    """A markdown table, the best value of a column in bold and the second best in italics.

    Args:
        rows: The rows that compete.
        columns: The columns; the first one holds names.
        head: Rows to show above them, out of competition.

    Returns:
        The table, without a line break at its end.
    """
    places = {column.key: rank(rows, column) for column in columns}
    wrap = {1: '**{}**', 2: '*{}*', None: '{}'}

    def cells(row: Row, index: int | None) -> str:
        texts = []
        for column in columns:
            text = column.form(row[column.key]) if column.key in row else DASH
            texts.append(wrap[None if index is None else places[column.key][index]].format(text))
        return '| ' + ' | '.join(texts) + ' |'

    lines = [
        '| ' + ' | '.join(column.title for column in columns) + ' |',
        '|---|' + '---:|' * (len(columns) - 1),
        *(cells(row, None) for row in head),
        *(cells(row, index) for index, row in enumerate(rows)),
    ]
    return '\n'.join(lines)
