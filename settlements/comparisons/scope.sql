-- Compiling a plan takes longer than most passes; the nightly one sorts in memory.
SET LOCAL jit = off;
SET LOCAL work_mem = '64MB';
-- What a pass looks at. Of a creator: what no single charge decides, its periods, terms and settlements;
-- a full pass takes all its charges and attempts by it, an incremental one those that are named here.
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_creator (id uuid PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_charge (id uuid PRIMARY KEY) ON COMMIT DROP;
-- Keys of the topic: creators, and whatever else somebody published under.
CREATE TEMPORARY TABLE IF NOT EXISTS reconcile_topic (key uuid PRIMARY KEY) ON COMMIT DROP;
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
TRUNCATE reconcile_creator, reconcile_charge, reconcile_topic, reconcile_line, reconcile_mark,
         reconcile_owed, reconcile_found;
