"""How fast it is: each kernel against its oracle, the whole pipeline against the floor, the orchestration."""
