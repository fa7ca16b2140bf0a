"""Projects, kept. A project that still has keys is not deleted."""

from __future__ import annotations

from hodios.store.database import Database
from hodios.store.records import ProjectRecord
from hodios.store.schema import projects
from hodios.store.versioned import Versioned


class Projects(Versioned[ProjectRecord]):
    def __init__(self, database: Database) -> None:
        super().__init__(database, projects, ProjectRecord)
