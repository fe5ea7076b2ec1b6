"""The REST API: a stateless facade on the orchestrator's state; knows flows by their deployment's name only."""
