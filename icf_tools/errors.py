"""Every refusal of the package: one sentence and one exit code.

A subclass stands beside the code that raises it and inherits its exit code
from one of the kinds below. All arguments reach `args`, so an error survives
the way back from a worker process.
"""


class IcfError(Exception):
    """A refusal: what was wanted, what was found, what to do."""

    exit_code = 1
    message = "{}"

    def __str__(self) -> str:
        return self.message.format(*self.args)


class UsageError(IcfError):
    exit_code = 2


class NotFound(IcfError):
    exit_code = 3


class Conflict(IcfError):
    exit_code = 4


class Damaged(IcfError):
    exit_code = 5


class Refused(IcfError):
    exit_code = 6


class Locked(IcfError):
    exit_code = 7


class AccessDenied(IcfError):
    exit_code = 8


class RemoteFailed(IcfError):
    exit_code = 9


class PartlyDone(IcfError):
    exit_code = 10
