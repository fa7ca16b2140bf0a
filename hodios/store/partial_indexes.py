"""Indexes of some rows of a table alone, for whoever compares the tables with what they should be.

Not part of `schema`: to look at conditions SQLAlchemy loads the dialects of both databases, which takes 3 MiB.
"""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import Column, ColumnElement, Index, MetaData, literal_column

from hodios.store.schema import OK, attempts, contents, metadata, requests


@functools.cache
def whole_metadata() -> MetaData:
    """The tables with all of their indexes."""
    newest = (requests.c.at_s, requests.c.request_id)
    is_unusual = requests.c.status != literal_column(str(OK))
    _index("ix_requests_status", is_unusual, requests.c.status, *newest)
    _index("ix_requests_errors", requests.c.error_code.is_not(None), *newest)
    _index_where_known(attempts.c.user, attempts.c.at_s, attempts.c.request_id, attempts.c.number)
    _index_where_known(requests.c.answer_id)
    for column in (requests.c.project_id, requests.c.user, requests.c.model, requests.c.provider):
        _index_where_known(column, *newest)
    _index_where_known(contents.c.user)
    return metadata


def _index_where_known(column: Column[Any], *others: Column[Any]) -> None:
    """Rows without a value take no room in it."""
    _index(None, column.is_not(None), column, *others)


def _index(name: str | None, condition: ColumnElement[bool], *columns: Column[Any]) -> None:
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)
