"""Files for finance: lists, the journal, evidence. Each is one snapshot, and says of what.

`lists.py` says what may be exported, `snapshot.py` reads it, `csv_file.py` and `xlsx_file.py` write it,
`journal.py` is the general ledger's own file.
"""
