"""What `pyama doctor` looks at, by theme: versions, disk and paths, clocks, Prefect with its database and queue."""
