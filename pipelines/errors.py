"""The exceptions that a run can end with, and the exit code of each.

TandemError                1
├── UsageError             2  wrong usage, configuration or encoder
│   ├── InputMissing       2  what the configuration names does not exist
│   └── ModelError         2  a model that cannot be found, loaded or used
├── NotPublished           3  the gate, the quarantine limit or an empty corpus held it back
├── TableHeld              4  another run holds the table, or committed first
├── StorageFault           1  an object store cannot be reached, or refuses
├── ClusterUnreachable     1  the cluster that jobs are submitted to does not answer
└── Interrupted            1  stopped by a signal; what was done is staged
"""


class TandemError(Exception):
    """A failure that is told to the user in one sentence."""

    exit_code = 1


class UsageError(TandemError):
    """The command or its configuration is wrong."""

    exit_code = 2


class InputMissing(UsageError):  # noqa: N818
    """Something that the configuration names does not exist."""


class ModelError(UsageError):
    """A model cannot be found, loaded or used as it is configured."""


class NotPublished(TandemError):  # noqa: N818
    """`live` was left where it stood, and this is why."""

    exit_code = 3


class TableHeld(TandemError):  # noqa: N818
    """Another run changed the table while this one worked."""

    exit_code = 4


class StorageFault(TandemError):  # noqa: N818
    """An object store cannot be reached, or refuses; nothing is known of what stands there."""


class ClusterUnreachable(TandemError):  # noqa: N818
    """The cluster that jobs are submitted to does not answer; asked again, it may."""


class Interrupted(TandemError):  # noqa: N818
    """A signal stopped the run; the next one takes what is staged."""
