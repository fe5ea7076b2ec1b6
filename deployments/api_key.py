"""Making an API key: `pyama api-key NAME`."""

from typing import Annotated

import typer

from api.security import Role, new_api_key, parse_api_key
from deployments.terminal import say
from tasks.errors import InvalidParametersError


def api_key(
    name: Annotated[str, typer.Argument(help="Who will use it; told in the log of the API.")],
    role: Annotated[
        Role, typer.Option(help="Whether it may only look, or also start, cancel and delete.")
    ] = "operator",
) -> None:
    """Make a key for the REST API. It is shown once; the server is given its hash alone."""
    key, entry = new_api_key(name, role)
    try:
        parse_api_key(entry)
    except ValueError as error:
        raise InvalidParametersError(
            f"{name!r} cannot be the name of a key: letters, digits and . _ - are allowed, 64 at most"
        ) from error
    print(key)
    say(f"give the line above to {name}, and add to PYAMA_API_KEYS or PYAMA_API_KEYS_FILE of the server: {entry}")
