"""The routes, one resource to a module; each has its `router`."""
