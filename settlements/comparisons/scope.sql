-- Compiling a plan takes longer than most passes; the nightly one sorts in memory.
SET LOCAL jit = off;
SET LOCAL work_mem = '64MB';
-- What a pass looks at. Everything below reads these temporary tables, full and incremental alike.
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_creator (id uuid PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_line (key uuid PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_mark (
  first_id bigint, last_id bigint, kind text, subject uuid, detail jsonb) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_owed (
  subscription_id uuid, creator_id uuid, terms_id bigint, period_start date, period_end date,
  amount numeric, begins_at timestamptz,
  PRIMARY KEY (subscription_id, period_start)) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_found (
  fingerprint text PRIMARY KEY, kind text, code text, key uuid, charge_id uuid, creator_id uuid,
  lane text, expected numeric, actual numeric, explanation text,
  detail jsonb NOT NULL DEFAULT '{}') ON COMMIT DROP;
TRUNCATE reconcile_creator, reconcile_line, reconcile_mark, reconcile_owed, reconcile_found;
