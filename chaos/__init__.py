"""Chaos: the real processes under load and faults, and the verdict over what they left (`make chaos`)."""
