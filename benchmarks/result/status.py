"""What became of a trial, and so of a server at a point."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum


class Status(StrEnum):
    """What became of a trial, from best to worst; a server at a point is what its worst trial is.

    A refused point has no trials.
    """

    OK = "ok"
    SERVER_LIMITED = "server-limited"
    DISTURBED = "disturbed"
    CLIENT_LIMITED = "client-limited"
    ERROR = "error"
    FAILED = "failed"
    REFUSED = "refused"

    @property
    def has_numbers(self) -> bool:
        """Whether the numbers are right, even if they may not compare."""
        return self not in (Status.ERROR, Status.FAILED, Status.REFUSED)


class Refusal(Enum):
    """Why a point does not exist for a server, as a table says it in place of a number."""

    SERVER_FULL = "server full"
    TOO_FEW_DESCRIPTORS = "not tried"

    @classmethod
    def of_row(cls, row: dict) -> "Refusal":
        """Why a row of the file is there: only of a full server it is known what it held."""
        return cls.TOO_FEW_DESCRIPTORS if row["held"] is None else cls.SERVER_FULL


@dataclass(frozen=True)
class Outcome:
    """What a trial measured, or why it measured nothing.

    `reason` is one line for people. `series` is what happened through time, column by column.
    `held` is how many clients a server had let in that was full.
    """

    status: Status = Status.OK
    reason: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float | None]] | None = None
    held: int | None = None
