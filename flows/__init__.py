"""What Prefect runs; uses `tasks`, knows nothing of the floors above."""
