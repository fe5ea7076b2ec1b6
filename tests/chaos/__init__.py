"""Breaking the real stack at random moments, and holding what comes out to an undisturbed run: `make chaos`."""
