"""The sandbox card processor: a process of its own, whose journal is the truth tests compare with.

It imports nothing of the service, as a real processor would not.
"""
