"""Files for finance: lists, the journal, evidence. Each is one snapshot, and says of what.

`export_list.py` says what a list is; `charge_lists.py`, `file_lists.py` and `decision_lists.py` are the lists, and
`lists.py` finds one by its name. `snapshot.py` reads it, `csv_file.py` and `xlsx_file.py` write it. `journal.py` is the
general ledger's own file, `evidence.py` and `pack.py` make the pack of a case, `making.py` and `runs.py` what the page asks for.
"""
