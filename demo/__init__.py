"""The demonstration: three billing months through every real part, with faults, and their proof.

Read story.py first: it is what happens. proof.py is what must hold afterwards, line by line.
The input is in the CSV files of this folder; README.md explains their columns.
"""
