"""Forked processes that run real product code and are ended with -9 (FAULTS, layer 3).

outside.py  what survives a kill: processor with its journal, queue, topic; it lives in the parent
yard.py     one world, and what the processes of the service do in it
forks.py    forking, serving and killing
places.py   every failpoint: how a process comes there, and who carries on after its death
storms.py   kills at random moments, under a mixed load
crashes.py  PostgreSQL itself is ended while workers work
campaign.py the runs and their table; `python -m tests.kills --times 100`
"""
