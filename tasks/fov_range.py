"""FOV specifications: `"0-4, 7"`, a list of numbers, or a single number."""

import re

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
MOST_FOVS = 100_000
"""More FOVs than any recording holds; a larger range is a typing error, not a request."""


def parse_fovs(spec: object) -> list[int]:
    """Turn a FOV specification into a sorted list without repetitions.

    Parameters
    ----------
    spec
        Text of comma-separated numbers and inclusive ranges, a list of numbers, or one number.

    Raises
    ------
    ValueError
        Naming the part that cannot be understood.
    """
    if isinstance(spec, int) and not isinstance(spec, bool):
        numbers = {spec}
    elif isinstance(spec, list):
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in spec):
            raise ValueError(f"a list of FOVs holds whole numbers only, not {spec!r}")
        numbers = set(spec)
    elif isinstance(spec, str):
        ranges = [_parse_part(part.strip(), spec) for part in spec.split(",")]
        if sum(map(len, ranges)) > MOST_FOVS:
            raise ValueError(f"more than {MOST_FOVS} FOVs are named")
        numbers = set().union(*ranges)
    else:
        raise ValueError(f'FOVs are given as "0-4, 7", a list, or a number, not {spec!r}')
    if not numbers:
        raise ValueError("no FOV is named")
    if min(numbers) < 0:
        raise ValueError(f"FOV {min(numbers)} is negative; FOVs count from 0")
    if max(numbers) >= MOST_FOVS:
        raise ValueError(f"FOV {max(numbers)} is beyond {MOST_FOVS - 1}")
    return sorted(numbers)


def _parse_part(part: str, spec: str) -> range:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(f"cannot understand {part!r} in {spec!r}; write numbers and ranges like 0-4, 7")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ValueError(f"range {part!r} ends before it starts")
    if last >= MOST_FOVS:
        raise ValueError(f"FOV {last} in {spec!r} is beyond {MOST_FOVS - 1}")
    return range(first, last + 1)
