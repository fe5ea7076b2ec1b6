"""Whether the packages that are installed are those that this project asks for, and was tested with."""

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from deployments.health.finding import Finding

_PROJECT = "pyama-backend"
_CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
_MOST_TOLD = 5


def version_findings() -> Iterator[Finding]:
    """Hold what is installed to the requirements of the project, and tell how it differs from what was tested."""
    required = [Requirement(line) for line in metadata.requires(_PROJECT) or []]
    yield from broken_requirements([one for one in required if one.marker is None or one.marker.evaluate()])
    if _CONSTRAINTS.is_file():
        tested = dict(line.split("==") for line in _CONSTRAINTS.read_text().split() if "==" in line)
        yield compared_with_tested(tested)


def broken_requirements(required: list[Requirement]) -> Iterator[Finding]:
    """Each requirement that is not met."""
    for one in required:
        installed = _installed(one.name)
        if installed is None or not one.specifier.contains(installed, prereleases=True):
            there = f"{one.name} {installed} is installed" if installed else f"{one.name} is not installed"
            yield Finding(
                False,
                f"packages: {there}, but {one.name}{one.specifier} is needed",
                "install again, with --constraint constraints.txt",
            )


def compared_with_tested(tested: Mapping[str, str]) -> Finding:
    """Packages of another version than the one that was tested; no problem by itself, but the first suspects."""
    installed = {name: _installed(name) for name in tested}
    others = [
        f"{name} {version} (tested: {tested[name]})"
        for name, version in sorted(installed.items())
        if version is not None and version != tested[name]
    ]
    if not others:
        return Finding(True, "packages: all versions are those that were tested")
    more = f" and {len(others) - _MOST_TOLD} more" if len(others) > _MOST_TOLD else ""
    return Finding(True, f"packages: not of the versions that were tested: {', '.join(others[:_MOST_TOLD])}{more}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
