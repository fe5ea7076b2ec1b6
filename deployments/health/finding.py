"""What a check says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    good: bool
    text: str
    remedy: str = ""
    """What to do, where it is not good."""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{'ok     ' if self.good else 'PROBLEM'} {self.text}{remedy}"


def checked(name: str, check: Callable[[], Iterable[Finding]], remedy: str = "") -> list[Finding]:
    """Findings of a check, whose failure is a finding too.

    Parameters
    ----------
    remedy
        What to do where it fails.
    """
    try:
        return list(check())
    except Exception as error:  # any failure of a check is what is looked for
        return [Finding(False, f"{name}: {type(error).__name__}: {error}", remedy)]
