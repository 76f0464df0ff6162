"""`live`: which version readers see, and what a run starts from.

The base of a run is the content of `live`, never what some other run left as the newest version.
"""

from __future__ import annotations

from dataclasses import dataclass

import lance

from pipelines.errors import InputMissing, TableHeld, UsageError
from pipelines.table.lineage import same_rows
from pipelines.table.place import Place
from pipelines.table.schema import Fingerprints, fingerprints_of

LIVE = "live"
_OWN = "published-"


@dataclass(frozen=True)
class Base:
    """What a run plans and commits on.

    Attributes:
        dataset: the version that the commit reads, None if there is no table yet.
        live: the version that readers see, None if nothing was published.
        fingerprints: what made the rows of `live`.
    """

    dataset: lance.LanceDataset | None
    live: int | None
    fingerprints: Fingerprints | None

    def require(self) -> lance.LanceDataset:
        """The dataset of a table that has a published version.

        Raises:
            InputMissing: it has none.
        """
        if self.dataset is None or self.live is None:
            raise InputMissing("The table has no published version; run `tandem index`.")
        return self.dataset


def live_version(place: Place) -> int | None:
    """The version that `live` names, None if there is none."""
    if not place.exists():
        return None
    tag = place.open().tags.list().get(LIVE)
    return tag["version"] if tag else None


def open_live(place: Place, version: int | None = None) -> lance.LanceDataset:
    """The published version, or one that was published when a run noted it.

    Raises:
        InputMissing: nothing is published.
    """
    version = version or live_version(place)
    if version is None or not place.exists():
        raise InputMissing(
            f"The table {place.name} in {place.uri} has no published version; run `tandem index`."
        )
    return place.open(version)


def open_base(place: Place) -> Base:
    """What a run starts from: the newest version if its rows are those of `live`."""
    live = live_version(place)
    if live is None:
        newest = place.open() if place.exists() else None
        return Base(newest, None, None)
    published = place.open(live)
    newest = place.open()
    dataset = newest if same_rows(newest, live) else published
    return Base(dataset, live, fingerprints_of(published.schema))


def restore_base(place: Place, base: Base) -> Base:
    """Make the content of `live` the newest version, if another run left one unpublished.

    Raises:
        TableHeld: another run committed meanwhile; what it left is not the newest version now.
    """
    if base.live is None or base.dataset is None:
        return base
    newest = place.open().version
    if newest == base.dataset.version:
        return base
    base.dataset.restore()  # type: ignore[no-untyped-call]
    restored = place.open()
    if restored.version != newest + 1:
        raise TableHeld(
            f"Another run committed to the table {place.name} meanwhile; run the command again."
        )
    return Base(restored, base.live, base.fingerprints)


def require_same_encoder(fingerprints: Fingerprints | None, fingerprint: str, name: str) -> None:
    """Refuse to search a table with another encoder than the one that filled it.

    Raises:
        UsageError: the fingerprints differ.
    """
    if fingerprints is None or fingerprints.encoder == fingerprint:
        return
    raise UsageError(
        f"encoder.model is {name!r}, but the published table was made by "
        f"{fingerprints.encoder_name!r} (another fingerprint); name that model, or index again."
    )


def publish(place: Place, version: int, expected_live: int | None) -> None:
    """Move `live` to a checked version, and give it a tag of its own.

    Raises:
        TableHeld: `live` is no longer where the run found it, or did not stay where it was put.
    """
    if live_version(place) != expected_live:
        raise TableHeld("Another run published while this one worked; run the command again.")
    # `live` first: a version that has a tag of its own has been live, whenever a run dies.
    move_live(place, version)
    mark_published(place, version)


def mark_published(place: Place, version: int) -> None:
    """Give a version that is live a tag of its own, so that it stays when `live` moves on."""
    tags = place.open().tags
    own = f"{_OWN}{version}"
    if own not in tags.list():
        tags.create(own, version)


def move_live(place: Place, version: int) -> None:
    """Point `live` to a version.

    Raises:
        TableHeld: another run pointed it elsewhere at the same time.
    """
    tags = place.open().tags
    if LIVE in tags.list():
        tags.update(LIVE, version)
    else:
        tags.create(LIVE, version)
    if live_version(place) != version:
        raise TableHeld("Another run published at the same time; look at `tandem versions`.")


def published_versions(place: Place) -> list[int]:
    """The versions that are or were `live` and are still kept, in ascending order."""
    if not place.exists():
        return []
    names = place.open().tags.list()
    return sorted(int(name.removeprefix(_OWN)) for name in names if name.startswith(_OWN))


def unpublish(place: Place, version: int) -> None:
    """Take its own tag from a version, so that clean-up may remove it."""
    place.open().tags.delete(f"{_OWN}{version}")
