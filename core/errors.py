"""Every error rdv raises, and the exit code each one ends a command with.

A message says what happened, to which thing, and what to type next. Fields go to `super().__init__`, so an
error survives a process boundary. `Transient` in the bases answers "may I retry?".
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the `rdv` command."""

    OK = 0
    FAILED = 1
    CHANGES = 2
    USAGE = 3
    NOT_AUTHORISED = 4
    UNREACHABLE = 5
    TIMED_OUT = 6
    REFUSED = 7
    LOST_RACE = 8
    INTERRUPTED = 130


class RdvError(Exception):
    """Something failed for a reason that rdv knows."""

    exit_code: Exit = Exit.FAILED

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what, self.hint = what, hint

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what


class Transient:
    """Marks an error after which the same call may succeed."""


class UsageError(RdvError):
    """The command, its arguments or a value given to it make no sense."""

    exit_code = Exit.USAGE


class ConfigError(UsageError):
    """`rdv.toml`, a schema or the environment says something that rdv cannot use."""


class InputError(UsageError):
    """Data handed to rdv does not fit the declared input specification."""


class SchemaViolation(InputError):
    """A request does not fit its goal's schema; `field` is the one at fault, empty when it is the whole document."""

    def __init__(self, what: str, hint: str = "", field: str = "") -> None:
        super().__init__(what, hint)
        self.args = (what, hint, field)
        self.field = field


class NotFound(UsageError):
    """A model, version, artifact, run or goal of that name does not exist."""


class NotAuthorised(RdvError):
    """A server refused the credentials it was shown."""

    exit_code = Exit.NOT_AUTHORISED


class Unreachable(Transient, RdvError):
    """A server or socket did not answer."""

    exit_code = Exit.UNREACHABLE


class NobodyServes(Unreachable):
    """Nothing runs that could follow what was asked for; whoever starts next does."""


class TimedOut(Transient, RdvError):
    """Something did not happen within its time limit."""

    exit_code = Exit.TIMED_OUT


class Refused(RdvError):
    """A gate or a verdict said no; what was refused is kept, and nothing was published."""

    exit_code = Exit.REFUSED


class LostRace(RdvError):
    """Somebody else changed or created the same thing first; theirs stands."""

    exit_code = Exit.LOST_RACE


class Interrupted(RdvError):
    """A person or a supervisor asked for the end before it was reached."""

    exit_code = Exit.INTERRUPTED


class StepFailed(RdvError):
    """A step of a pipeline ended without its artifact."""


class RolloutFailed(RdvError):
    """A change of a serving job did not come to its end; what was there before serves on, or was brought back."""


class OutOfMemory(StepFailed):
    """A step was ended because it passed the memory limit of its resource class."""


class CorruptArtifact(RdvError):
    """The bytes of an artifact are not the ones its manifest names."""


class CorruptState(RdvError):
    """A file in which rdv keeps its own state is not what it should be."""


class ModelUnloadable(RdvError):
    """A model file could not be loaded, or what it computed was not usable."""


class BusError(RdvError):
    """A frame, topic or identity that the bus refuses."""
