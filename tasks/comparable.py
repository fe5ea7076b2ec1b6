"""Whether FOVs may be put side by side: their numbers can be compared where they were made alike."""

from tasks.output import Fingerprint, Manifest
from tasks.samples import fovs_in_words


class MadeAlike:
    """Looks at one FOV after the other, and tells which were not made like the first."""

    def __init__(self) -> None:
        self._first: Manifest | None = None
        self._foreign: list[int] = []

    @property
    def fingerprint(self) -> Fingerprint | None:
        """What all are to be made from and with; None where no FOV has told."""
        return self._first.fingerprint if self._first is not None else None

    def add(self, manifest: Manifest | None) -> None:
        """Look at a FOV; those of other programs have no manifest, and nothing is said of them."""
        if manifest is None:
            return
        self._first = self._first or manifest
        if manifest.fingerprint != self._first.fingerprint:
            self._foreign.append(manifest.fov)

    def problem(self) -> str | None:
        """Tell of the FOVs that were made in another way; None where there are none."""
        if not self._foreign or self._first is None:
            return None
        return (
            f"{fovs_in_words(self._foreign)}: from another recording or with other parameters than FOV "
            f"{self._first.fov}, so that their numbers cannot be compared; process them alike"
        )
