"""What can go wrong with the store, for those who ask it. No client is told of it in these words."""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The database cannot be reached, or not within the time that it is given. Whether a change has been made is known
    only where the change says so itself."""


class NotStored(Exception):
    """There is no such record."""


class AlreadyStored(Exception):
    """There is such a record already, or one that shares what has to be unique."""


class StaleVersion(Exception):
    """Somebody else has changed the record in between: read it again."""
