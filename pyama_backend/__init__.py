"""The documented names of the REST API: `python -m pyama_backend` and `uvicorn pyama_backend.main:app`."""
