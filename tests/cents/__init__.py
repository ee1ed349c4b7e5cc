"""Cents planted at random wherever money stands; each must be named, to the cent, and nothing else."""
