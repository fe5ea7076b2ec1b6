"""Lengths and times in the units of OME's formats, by their symbols and by their names."""

from collections.abc import Mapping

_UM = {
    "pm": 1e-6, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4,
    "picometer": 1e-6, "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "meter": 1e6,
}  # fmt: skip
_MIN = {
    "ns": 1e-9 / 60, "µs": 1e-6 / 60, "μs": 1e-6 / 60, "us": 1e-6 / 60, "ms": 1e-3 / 60, "s": 1 / 60, "min": 1.0,
    "h": 60.0, "d": 1440.0,
    "nanosecond": 1e-9 / 60, "microsecond": 1e-6 / 60, "millisecond": 1e-3 / 60, "second": 1 / 60, "minute": 1.0,
    "hour": 60.0, "day": 1440.0,
}  # fmt: skip


def in_um(value: float | None, unit: str | None) -> float | None:
    """Length in micrometres; None where it is none, or its unit is unknown."""
    return _converted(value, unit, _UM)


def in_min(value: float | None, unit: str | None) -> float | None:
    """Time in minutes; None where it is none, or its unit is unknown."""
    return _converted(value, unit, _MIN)


def _converted(value: float | None, unit: str | None, factors: Mapping[str, float]) -> float | None:
    factor = factors.get(unit or "")
    if value is None or factor is None:
        return None
    # Division where that is exact: 600 s are 10 min and not 9.999….
    return value / round(1 / factor) if factor < 1 else value * factor
