"""`processing_config.yaml`: what an output folder was made from and with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from tasks.configuration import ScienceParameters, WorkflowRequest
from tasks.output.atomic import write_text_atomically
from tasks.output.fingerprint import Fingerprint
from tasks.output.layout import CONFIG_FILE
from tasks.output.os_errors import output_error
from tasks.output.provenance import InputFile, Provenance


@dataclass(frozen=True)
class _Config:
    schema: Literal[1]
    input: InputFile
    fingerprint: Fingerprint
    given: dict[str, Any]
    """Channels and science parameters, as far as the request named them."""
    resolved: dict[str, Any]
    """All channels and science parameters, defaults filled in."""


_ADAPTER = TypeAdapter(_Config)


def write_config(output_dir: Path, provenance: Provenance, request: WorkflowRequest) -> None:
    """Write channels and science parameters, as given and as resolved, with the input's name and fingerprint.

    How the run is executed (FOV range, workers, batch size) is no part of it, so that every run that belongs
    into the folder can write it.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    science = set(ScienceParameters.model_fields)
    parameters = dict(provenance.parameters)
    config = _Config(
        schema=1,
        input=provenance.input,
        fingerprint=provenance.fingerprint,
        given={
            "channels": request.channels.model_dump(mode="json", exclude_unset=True),
            "parameters": request.parameters.model_dump(mode="json", exclude_unset=True, include=science),
        },
        resolved={"channels": parameters.pop("channels"), "parameters": parameters},
    )
    write_text_atomically(output_dir / CONFIG_FILE, to_yaml(_ADAPTER.dump_python(config, mode="json")))


def read_config(output_dir: Path) -> Provenance | None:
    """What a folder was made from and with; None where it does not say so in a way that can be understood.

    Raises
    ------
    OutputError
        Where the system does not let it be read.
    """
    path = output_dir / CONFIG_FILE
    try:
        config = _ADAPTER.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
        parameters = {"channels": config.resolved["channels"], **config.resolved["parameters"]}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise output_error(error, "read", path) from error
    except (ValidationError, yaml.YAMLError, UnicodeError, KeyError, TypeError):
        return None
    return Provenance(config.fingerprint, config.input, parameters)


def to_yaml(content: object) -> str:
    """YAML in the order given, one item a line."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
