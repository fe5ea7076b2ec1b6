"""What happens to one field of view, and the other units of work; knows nothing of the floors above."""
