"""Fitting kinetic models to the traces of single cells."""
