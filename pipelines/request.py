"""What one index run is asked for beyond its configuration: the options of its command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """What one index run is asked for beyond its configuration.

    Attributes:
        only_add: the corpus is a part; documents that it does not have stay.
        delete: ids of documents to remove; the corpus is not read then.
        purge: remove older versions and staged copies of what was removed, too.
        limit: take the first rows of the corpus only, for a trial.
        wait: wait for another run on the table instead of ending.
    """

    only_add: bool = False
    delete: tuple[str, ...] | None = None
    purge: bool = False
    limit: int | None = None
    wait: bool = False

    @property
    def asked_for_deletions(self) -> bool:
        """Whether what goes was named one by one, or does not matter: no share is too large."""
        return self.delete is not None or self.limit is not None
