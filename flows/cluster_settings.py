"""How the environment asks for a cluster. Light: whoever checks its variables needs no Dask."""

import json
from typing import Any, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tasks.errors import InvalidParametersError
from tasks.problems import field_name, reason


class ClusterSettings(BaseSettings):
    """How the environment asks for a cluster."""

    model_config = SettingsConfigDict(env_prefix="PYAMA_DASK_", env_ignore_empty=True)

    address: str | None = Field(None, description="Address of a running scheduler, e.g. tcp://10.0.0.1:8786")
    cluster_class: str | None = Field(None, description="Importable name of a Dask cluster class")
    cluster_kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments, as JSON")
    minimum: int = Field(1, ge=1, description="Fewest workers of a cluster that grows with the work that waits")
    maximum: int | None = Field(None, ge=1, description="Most workers of such a cluster; unset: it does not grow")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises
        ------
        InvalidParametersError
            Naming the variable and what is wrong with it.
        """
        try:
            settings = cls()
        except ValidationError as error:
            problems = (
                f"PYAMA_DASK_{field_name(one['loc']).upper()}: {reason(one)}" for one in error.errors(include_url=False)
            )
            raise InvalidParametersError("; ".join(problems)) from error
        except SettingsError as error:  # of all settings, only this one is parsed
            raise InvalidParametersError(
                'PYAMA_DASK_CLUSTER_KWARGS must be a JSON object, e.g. {"n_workers": 2}'
            ) from error
        if settings.address and settings.cluster_class:
            raise InvalidParametersError(
                "PYAMA_DASK_ADDRESS and PYAMA_DASK_CLUSTER_CLASS exclude each other; unset one"
            )
        if settings.maximum is None:
            return settings
        if not settings.cluster_class:
            raise InvalidParametersError(
                "PYAMA_DASK_MAXIMUM needs PYAMA_DASK_CLUSTER_CLASS: other workers are not ours"
            )
        if settings.minimum > settings.maximum:
            raise InvalidParametersError(
                f"PYAMA_DASK_MINIMUM must be at most PYAMA_DASK_MAXIMUM (got {settings.minimum} and {settings.maximum})"
            )
        return settings

    def cluster_kwargs_of(self, run_id: str) -> dict[str, Any]:
        """Arguments of the cluster of a run: `{run}` in any text of them stands for the beginning of its id."""
        kwargs: dict[str, Any] = json.loads(json.dumps(self.cluster_kwargs).replace("{run}", run_id.partition("-")[0]))
        return kwargs

    @property
    def adapt_kwargs(self) -> dict[str, int] | None:
        """Bounds of a cluster that grows with the work that waits; None for one that does not."""
        return None if self.maximum is None else {"minimum": self.minimum, "maximum": self.maximum}
