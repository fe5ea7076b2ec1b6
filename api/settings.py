"""How the API is set up, by environment variables named `PYAMA_...`; a wrong value stops the start."""

from pathlib import Path
from typing import Annotated, Self

from prefect.client.schemas.schedules import CronSchedule
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.containment import is_inside, resolve
from api.security import ApiKey, parse_api_key
from api.webhooks import Webhook, normalize_allowed
from tasks.errors import InvalidParametersError


def _listed(value: object) -> object:
    """Split comma-separated text."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise ValueError("names nothing; unset it, or separate what it names by commas")
    return parts


def _listed_in_file(value: object) -> object:
    """Read what a file lists, one a line; empty lines and those that begin with # count for nothing."""
    if not isinstance(value, str):
        return value
    path = _absolute(value)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise ValueError(f"{path} lists nothing; unset it, or write one entry a line")
    return entries


def _absolute(value: object) -> Path:
    path = Path(str(value))
    if path.parts[:1] == ("~",):
        path = Path.home().joinpath(*path.parts[1:])
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {str(value)!r}")
    return path


def _origin(value: object) -> object:
    text = str(value)
    if text != "*" and not text.startswith(("http://", "https://")):
        raise ValueError(f"an origin is written as https://lab.example.org, or *, not {text!r}")
    return text.rstrip("/")


AbsoluteFolder = Annotated[Path, BeforeValidator(_absolute)]
"""An absolute path; `~` stands for the home directory."""


def _web_address(value: object) -> object:
    text = str(value)
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"an address is written as https://lab.example.org/pyama, not {text!r}")
    return text.rstrip("/")


WebAddress = Annotated[str, BeforeValidator(_web_address)]
"""Where browsers find something; a path may be part of it."""

Origin = Annotated[str, BeforeValidator(_origin)]
"""Where a web page comes from, as browsers tell it: scheme, host and port."""

Key = Annotated[ApiKey, BeforeValidator(parse_api_key)]
"""`NAME:ROLE:SHA256`."""

AllowedWebhook = Annotated[str, AfterValidator(normalize_allowed)]
"""An address that jobs may name, and with it all below it."""

_SECRET = {"api_keys", "api_keys_file", "webhooks", "allowed_webhooks", "webhook_secret"}
"""Settings whose values are not repeated: who mistakes the form may have put a key or a token into them."""


class Settings(BaseSettings):
    """Settings of the API; each is the environment variable of its name with `PYAMA_` before it.

    An empty variable means the same as none.
    """

    model_config = SettingsConfigDict(env_prefix="PYAMA_", env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", min_length=1, description="Address that `python -m pyama_backend` listens at")
    port: int = Field(8000, ge=0, le=65535, description="Port that it listens at; 0: any free one")
    public_url: WebAddress | None = Field(
        None,
        description="Where browsers find the API, for links in the Prefect UI and notices; unset: this host and port",
    )
    debug: bool = Field(False, description="Log more")
    home: AbsoluteFolder = Field(
        default_factory=lambda: Path.home() / ".pyama", description="Folder of what the API processes of a host share"
    )
    max_jobs: int = Field(10, ge=1, le=10_000, description="Most jobs that compute at once; more wait as pending")
    job_timeout: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds that a job may take from its first start; unset: any"
    )
    allowed_paths: Annotated[tuple[AbsoluteFolder, ...] | None, NoDecode, BeforeValidator(_listed)] = Field(
        None, description="Comma-separated folders that requests may name; unset: any, from this host only"
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="Comma-separated origins of web pages that may call the API from a browser; unset: none"
    )
    rate_limit: int | None = Field(
        None, ge=1, description="Most requests a minute of one client to one API process; unset: any number"
    )
    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest body of a request, in bytes")
    api_keys: Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="Comma-separated keys, each NAME:ROLE:SHA256; unset: requests need no key"
    )
    api_keys_file: Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_listed_in_file)] = Field(
        (), description="File of more such keys, one a line; unset: none"
    )
    dask_address: str | None = Field(
        None, description="Address of the Dask scheduler that computes, e.g. tcp://10.0.0.1:8786; unset: this machine"
    )

    nightly_folder: AbsoluteFolder | None = Field(
        None, description="Folder whose new recordings are processed every night; unset: none"
    )
    nightly_output: AbsoluteFolder | None = Field(
        None, description="Folder of their results, in which each recording gets its own", validate_default=True
    )
    nightly_cron: str = Field("0 2 * * *", description="When it is looked into, as cron has it")
    nightly_timezone: str = Field("UTC", description="Time zone of that, e.g. Europe/Berlin")
    nightly_wait: bool = Field(False, description="Whether that run waits for the end of what it started")

    webhooks: Annotated[tuple[Webhook, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="Comma-separated addresses that are told of the end of every job; unset: none"
    )
    allowed_webhooks: Annotated[tuple[AllowedWebhook, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="Comma-separated addresses that a job may name, with all below them; unset: none"
    )
    webhook_secret: SecretStr | None = Field(None, min_length=16, description="Secret that notices are signed with")
    keep_runs_days: int | None = Field(
        None, ge=1, le=100_000, description="Days after its end that a run is forgotten, with its logs; unset: never"
    )

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """All keys that the API knows; requests need one of them, where there is any."""
        return (*self.api_keys, *self.api_keys_file)

    @property
    def local_url(self) -> str:
        """Where the API is for programs of its own host, without a slash at its end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def url(self) -> str:
        """Where the API is for browsers, without a slash at its end."""
        return self.public_url or self.local_url

    def require_webhook_secret(self) -> None:
        """Make sure that notices can be signed, for whoever sends them; others need not know the secret.

        Raises
        ------
        InvalidParametersError
            Where there are receivers and no secret.
        """
        if self.webhook_secret is None and (self.webhooks or self.allowed_webhooks):
            raise InvalidParametersError(
                "PYAMA_WEBHOOK_SECRET: must be set where PYAMA_WEBHOOKS or PYAMA_ALLOWED_WEBHOOKS is, since notices "
                "are signed"
            )

    @field_validator("nightly_folder", "nightly_output")
    @classmethod
    def _inside_allowed_paths(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        allowed: tuple[Path, ...] | None = info.data.get("allowed_paths")
        if folder is None or allowed is None:
            return folder
        resolved = resolve(folder)
        roots = [root for root in map(resolve, allowed) if root is not None]
        if resolved is None or not is_inside(resolved, roots):
            raise ValueError("is outside the folders of PYAMA_ALLOWED_PATHS")
        return folder

    @field_validator("nightly_output")
    @classmethod
    def _output_of_nightly_folder(cls, output: Path | None, info: ValidationInfo) -> Path | None:
        if output is None and info.data.get("nightly_folder") is not None:
            raise ValueError("must be set where PYAMA_NIGHTLY_FOLDER is")
        return output

    @field_validator("nightly_cron")
    @classmethod
    def _known_cron(cls, text: str) -> str:
        try:
            CronSchedule(cron=text)
        except ValidationError as error:
            raise ValueError("must be written as cron does: minute, hour, day, month, weekday") from error
        return text

    @field_validator("nightly_timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            CronSchedule(cron="0 2 * * *", timezone=name)
        except ValidationError as error:
            raise ValueError("is no time zone; they are named as Europe/Berlin is") from error
        return name

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises
        ------
        InvalidParametersError
            One line that names each wrong variable, what is wrong with it, and the value given.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = [_problem(detail) for detail in error.errors(include_url=False)]
            raise InvalidParametersError("; ".join(dict.fromkeys(problems))) from error


def _problem(detail: ErrorDetails) -> str:
    name = str(detail["loc"][0])
    given = "" if name in _SECRET else f" (got {detail['input']!r})"
    return f"PYAMA_{name.upper()}: {detail['msg'].removeprefix('Value error, ')}{given}"
