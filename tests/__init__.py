"""Tests of the project; `oracles` holds the slow and obvious version of each step."""
