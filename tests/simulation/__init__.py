"""A seeded simulation: the real use cases on a real PostgreSQL, everything around them in memory.

`make simulate SEEDS=1000 SEED_BASE=0` runs schedules, `make simulate SEED=n` one of them again, and
`python -m tests.simulation --faults F5,F12` schedules of these faults alone. What fails is made
shorter, printed with its seed and commit, and added to `regressions.jsonl`, which `make test` runs.

One schedule
------------
`plan.py` draws from the seed who acts and what may fail: nothing (I7), one fault, two, or a swarm with
some rescuers switched off. `schedule.py` then lets one turn run at a time: clients of the real HTTP API
(`clients.py`), two or three workers, two relays a door, the timetable's jobs, people, the processor's
webhooks and statement files (`bank.py`). A turn waits at failpoints, where no transaction is open; the
scheduler alone decides who goes on, who dies there (a BaseException) and who freezes, so the same seed
gives the same trace in any process. In some swarms (`meetings.py`) what people and time do strikes just
the charge that is being attempted, and in some (`doubts.py`) faults strike where an outcome hangs on
them, in healing too. `healing.py` ends the other faults and lets time pass until all is at rest;
`oracle.py` and `rules.py` hold the rows against the processor's own journal, to the cent, and
`proof.py` asks reconciliation, which must name every planted fault and nothing else.

What strikes (FAULTS of `plan.py`), by the numbers of FAULTS
-----------------------------------------------------------
| F1 F2 | a request dies before or after its commit, or its answer is lost; the client asks again |
| F3 | a commit is lost, before or after it took effect, in every kind of turn |
| F4 F5 F15 | a relay dies before its send, after it, after its mark; its standby takes over |
| F6 F7 F10 F11 | a worker dies after the receive, around the call, after the result; in healing too |
| F8 F9 | a request is lost or comes late; an answer is lost, is a 500 |
| F12 F13 | a worker freezes past its message's visibility; the resolver asks meanwhile |
| F14 F16 F17 | Kafka is away; a delivery report never comes; the topic's reader dies |
| F18 F20 | a connection breaks at a statement, PostgreSQL is away, each statement takes 500 ms |
| F21 | the business clock jumps over days and months, in zones with summer time |
| F22 F23 F25 | poison messages; messages and events sent again; letters put back by hand |
| F24 | webhooks out of order, twice, early, forged, signed long ago |
| F27 | rows are rewritten behind the triggers, in the storm and when all is at rest |
| F29 F30 | SQS is away, or loses its answer; the queue loses everything |
| F31 | the processor is away for an hour: it refuses, answers 503, or hangs up |
| F33 | cancel, write-off, new card, requeue and change of plan meet an attempt under way |

Not here, and why: ELSEWHERE of `plan.py` (F19, F26, F28, F32). Kombu's and librdkafka's own part of
F16, F22 and F29, and the names of F18, are shown by real processes (tests/system, `make chaos`).

Where the time goes
-------------------
Three quarters of a second of CPU a schedule on quiet cores, about 150 schedules a minute on two; most
of it in Python: Django's ORM writes hundreds of statements a schedule, at about half a millisecond
each, and the product's own work is nearly all of them. By phase, measured before deaths, meetings and
doubts came: storm 30 %, healing 45 % (most charges are collected there), oracle 15 %, the last
reconciliation 6 %, clean tables 1 %. The threads cost next to nothing. So a campaign runs one process a
core, each on a copy of the database.
"""
