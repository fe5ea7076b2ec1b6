"""Finishing the OpenAPI description: no errors that never happen, and how a key is sent."""

from typing import Any

from api.security import KEY_HEADER

_NEVER_ANSWERED = "422"  # the framework's own; wrong parameters are 400 here
_JSON = "application/json"
_ITS_SCHEMAS = ("HTTPValidationError", "ValidationError")


def polish(schema: dict[str, Any]) -> dict[str, Any]:
    """Correct the framework's description of the routes in place, and give it back."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop(_NEVER_ANSWERED, None)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    _told_as_json(response)
    components = schema.setdefault("components", {})
    for name in _ITS_SCHEMAS:
        components.get("schemas", {}).pop(name, None)
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "Where PYAMA_API_KEYS is set"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "The same key"},
    }
    schema["security"] = [{}, {"key": []}, {"bearer": []}]
    return schema


def _told_as_json(response: dict[str, Any]) -> None:
    """Describe an error as JSON, also where the route answers with something else: the framework has it as that."""
    content = response.get("content", {})
    for kind in [kind for kind in content if kind != _JSON]:
        content.setdefault(_JSON, {}).update(content.pop(kind))
