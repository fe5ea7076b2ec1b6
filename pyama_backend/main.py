"""The application under its documented name: `uvicorn pyama_backend.main:app`."""

from api.main import app

__all__ = ["app"]
