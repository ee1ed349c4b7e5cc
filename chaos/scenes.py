"""The scenarios in the order in which they are played: each breaks one thing under load and heals it.

The seam (see stage.py for the types):

- The runner opens the stack, an account with an API key, plans and routing rules, and then calls
  `load.open_load(stage, rate=requests a second, seed=seed)`, `start()`, the scenarios, `stop(seconds=…)`,
  waits until nothing is under way, and calls `verdict.judge(stage=stage, load=load, played=[Played, …])`,
  whose `text()` it prints and whose `holds` decides the exit code.
- The load registers its own creators by POST and starts their checkouts; the mix of tokens holds enough
  of what the scenarios need: tok_timeout_after_charge, tok_500_after_charge, tok_lost (the resolver must
  have work), tok_decline_soft (messages that are left), tok_pending, besides tok_approve.
- `Outcome.rewritten` names the charges which F27 edited behind the triggers and put right again by hand:
  a discrepancy about them was the aim.
- The verdict prints seconds without writes (by scenario and the most), kills by failpoint (those of
  `Outcome.kills`), failover seconds (`Outcome.facts["failover seconds"]`), finally failed requests,
  acknowledged writes lost, I1 to I6 with the number looked at.
"""
