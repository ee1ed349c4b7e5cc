"""Files for finance: lists, the journal, evidence. Each is one snapshot, and says of what.

`lists.py` names what may be exported, `export_list.py` says what a list is, `snapshot.py` reads it,
`csv_file.py` and `xlsx_file.py` write it, `journal.py` is the general ledger's own file.
"""
