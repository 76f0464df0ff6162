"""Objects of a bucket (`s3://`, `gs://`, `az://`), named and read as files are.

The options are those that Lance takes, under the same names, so that what opens a table opens what
stands beside it. What they leave out comes from the environment, or from the platform's identity.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import obstore
from obstore.exceptions import AlreadyExistsError

from pipelines.storage.ranges import Ranges
from pipelines.storage.requests import asked, told
from pipelines.storage.stores import Options, opened

# Read at once of an object that is read from its start.
_BUFFER_BYTES = 4 * 1024 * 1024


class Stat(NamedTuple):
    """Size in bytes and time of the last change (seconds since 1970), as `os.stat` names them."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or what stands before the names of several, with what opens it.

    It answers as a `pathlib.Path` would where both can; folders need not be made.

    Attributes:
        url: its name, without a slash at the end.
        options: Lance's storage options; never shown, since secrets may be among them.
        size_bytes: of an object that was listed; None where nobody asked yet.
    """

    url: str
    options: Options = field(default=(), repr=False)
    size_bytes: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, url: str, options: Mapping[str, str] | Options = ()) -> ObjectPath:
        """The path that a URL names."""
        pairs = options.items() if isinstance(options, Mapping) else options
        return cls(url.rstrip("/"), tuple(sorted(pairs)))

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, below: str) -> ObjectPath:
        return ObjectPath(f"{self.url}/{below}", self.options)

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """What stands before the last slash."""
        return ObjectPath(self.url.rpartition("/")[0], self.options)

    @property
    def key(self) -> str:
        """The name within the bucket."""
        return self.url.partition("://")[2].partition("/")[2]

    def with_suffix(self, suffix: str) -> ObjectPath:
        """The path with another ending."""
        stem = self.name.rpartition(".")[0] or self.name
        return self.parent / f"{stem}{suffix}"

    def stat(self) -> Stat:
        """Size and time of the last change.

        Raises:
            FileNotFoundError: there is no such object.
            StorageFault: the store cannot be asked, as with every call.
        """
        return _stat(asked(self.url, lambda: obstore.head(self._store, self.key)))

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        return next(self.below(), None) is not None

    def exists(self) -> bool:
        """Whether it is an object, or has some below."""
        return self.is_file() or self.is_dir()

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """The objects directly below whose names match."""
        return (path for path, _ in self.listed(pattern))

    def listed(self, pattern: str) -> Iterator[tuple[ObjectPath, Stat]]:
        """The same with what the store tells of each."""
        for meta in self._directly_below("objects"):
            name, found = str(meta["path"]).rpartition("/")[2], _stat(meta)
            if fnmatchcase(name, pattern):
                yield ObjectPath(f"{self.url}/{name}", self.options, found.st_size), found

    def folders(self) -> list[ObjectPath]:
        """What stands directly below and has objects below."""
        found = self._directly_below("common_prefixes")
        return [self / str(prefix).rstrip("/").rpartition("/")[2] for prefix in found]

    def below(self) -> Iterator[tuple[ObjectPath, Stat]]:
        """All objects below, however deep."""
        top = self.url[: len(self.url) - len(self.key)]
        for meta in asked(self.url, lambda: obstore.list(self._store, self._prefix).collect()):
            found = _stat(meta)
            yield ObjectPath(f"{top}{meta['path']}", self.options, found.st_size), found

    def read_bytes(self) -> bytes:
        """The content; raises FileNotFoundError if there is no such object."""
        return asked(self.url, lambda: bytes(obstore.get(self._store, self.key).bytes()))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: Literal["rb"] = "rb", buffer_bytes: int = _BUFFER_BYTES) -> IO[bytes]:
        """The content as a stream that can be sought in, read in parts of so many bytes."""
        size = self.stat().st_size if self.size_bytes is None else self.size_bytes
        reader = Ranges(self.read_range, size)
        return cast(IO[bytes], io.BufferedReader(reader, buffer_bytes))

    def read_range(self, start: int, end: int) -> memoryview:
        """The bytes [start, end)."""
        store, key = self._store, self.key
        found = asked(self.url, lambda: obstore.get_range(store, key, start=start, end=end))
        return memoryview(found)

    def write_bytes(self, content: bytes) -> None:
        """Put the content in the place of what was there; it is there whole or not at all."""
        with told(self.url):
            obstore.put(self._store, self.key, content)

    def download(self, file: Path) -> None:
        """Write the content to a file of this machine, in parts."""
        with told(self.url), file.open("wb") as target:
            for part in obstore.get(self._store, self.key):
                target.write(part)

    def upload(self, file: Path) -> None:
        """Put a file of this machine in the place of what was there, in parts if it is large."""
        with told(self.url):
            obstore.put(self._store, self.key, file)

    def create(self, content: bytes) -> bool:
        """Put the content if nothing is there; of several who try with their own, one does."""
        with told(self.url):
            try:
                obstore.put(self._store, self.key, content, mode="create")
            except AlreadyExistsError:
                # The answer may have been lost, and the object be this one's by a second try.
                try:
                    return self.read_bytes() == content
                except FileNotFoundError:  # whose it was removed it meanwhile
                    return False
        return True

    def unlink(self, missing_ok: bool = True) -> None:
        """Remove the object."""
        with told(self.url):
            try:
                obstore.delete(self._store, self.key)
            except FileNotFoundError:
                return

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing to do: a folder is what names begin with."""

    def _directly_below(self, kind: Literal["objects", "common_prefixes"]) -> Any:  # noqa: ANN401
        listed = asked(self.url, lambda: obstore.list_with_delimiter(self._store, self._prefix))
        return listed[kind]

    @property
    def _prefix(self) -> str | None:
        return f"{self.key}/" if self.key else None

    @property
    def _store(self) -> Any:  # noqa: ANN401 - a kind for each scheme
        scheme, _, rest = self.url.partition("://")
        return opened(f"{scheme}://{rest.partition('/')[0]}", self.options)


def _stat(meta: Any) -> Stat:  # noqa: ANN401 - obstore's
    return Stat(int(meta["size"]), meta["last_modified"].timestamp())
