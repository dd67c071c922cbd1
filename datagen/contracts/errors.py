"""Errors a user meets. Each says what was wrong, where, the value, and what to do, in one line.

The stage runner prints them without a traceback and ends with their exit code; any other exception is a bug of
ours and keeps its traceback and exit code 1.
"""


class DatastillError(Exception):
    """An error with a remedy; `exit_code` is what the process ends with."""

    exit_code = 1


class ParamsError(DatastillError, ValueError):
    """The command line or the params file is wrong."""

    exit_code = 2


class MissingError(DatastillError, RuntimeError):
    """Something that the params ask for is not here: a package, a model, a device, a key."""

    exit_code = 2


class DataError(DatastillError, ValueError):
    """Input data that cannot be used: which file, which line, why."""

    exit_code = 3


class BackendError(DatastillError, RuntimeError):
    """A teacher or its ledger refused in a way that no retry can mend."""

    exit_code = 4


class LockedError(DatastillError, RuntimeError):
    """Another live process writes the same output."""

    exit_code = 5
