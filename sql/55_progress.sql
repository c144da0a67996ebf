-- Trainings under way.

CREATE FUNCTION moe_ml.training_progress(
        OUT pid integer, OUT datid oid, OUT usesysid oid, OUT model text, OUT phase text, OUT expert text,
        OUT member integer, OUT members integer, OUT epoch integer, OUT epochs integer,
        OUT batches_done bigint, OUT batches_total bigint, OUT loss float8, OUT metric float8,
        OUT started timestamptz, OUT elapsed interval, OUT remaining interval)
    RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'moe_training_progress';
COMMENT ON FUNCTION moe_ml.training_progress() IS 'what the view moe_ml.training_progress shows, with OIDs';

CREATE VIEW moe_ml.training_progress AS
    SELECT p.pid, d.datname AS database, r.rolname AS user_name, p.model, p.phase, p.expert, p.member, p.members,
           p.epoch, p.epochs, p.batches_done, p.batches_total, p.loss, p.metric, p.started, p.elapsed, p.remaining
      FROM moe_ml.training_progress() p
      LEFT JOIN pg_catalog.pg_database d ON d.oid = p.datid
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = p.usesysid;
COMMENT ON VIEW moe_ml.training_progress IS 'trainings under way in the whole server, one row each';
COMMENT ON COLUMN moe_ml.training_progress.pid IS 'of the session, for pg_cancel_backend';
COMMENT ON COLUMN moe_ml.training_progress.model IS
    'its name; from here on null for those with no right to the statistics of its user';
COMMENT ON COLUMN moe_ml.training_progress.phase IS
    'preparing, reading tables, reading labels, building graph, computing inputs, training experts, training router or storing';
COMMENT ON COLUMN moe_ml.training_progress.expert IS 'the expert that learns';
COMMENT ON COLUMN moe_ml.training_progress.member IS 'of the graph expert''s ensemble';
COMMENT ON COLUMN moe_ml.training_progress.batches_done IS 'of the epoch';
COMMENT ON COLUMN moe_ml.training_progress.loss IS 'of the last epoch that ended';
COMMENT ON COLUMN moe_ml.training_progress.metric IS 'of the last epoch that ended, on the validation rows';
COMMENT ON COLUMN moe_ml.training_progress.remaining IS
    'of the graph expert''s training, if no member stops early; what comes after is not counted';
GRANT SELECT ON moe_ml.training_progress TO PUBLIC;
