-- Trainings in the background. The extension's own code reads and writes the table; it is granted to nobody, and not
-- dumped: a job ends with the server that it runs in.

CREATE SEQUENCE moe_ml.job_number;
COMMENT ON SEQUENCE moe_ml.job_number IS 'numbers of jobs';

CREATE TABLE moe_ml.job
(
    job           bigint PRIMARY KEY,
    owner         oid NOT NULL,
    schema        text NOT NULL,
    model         text NOT NULL,
    statement     text NOT NULL,
    state         text NOT NULL,
    asked         timestamptz NOT NULL,
    started       timestamptz,
    ended         timestamptz,
    pid           integer,
    process_start timestamptz,
    settings      bytea,
    sqlstate      text,
    message       text
);
REVOKE ALL ON moe_ml.job, moe_ml.job_number FROM PUBLIC;
COMMENT ON TABLE moe_ml.job IS 'trainings in the background; see the view moe_ml.jobs';
COMMENT ON COLUMN moe_ml.job.owner IS 'the role that the training runs as';
COMMENT ON COLUMN moe_ml.job.state IS 'queued, running, finished, failed or cancelled, as last written';
COMMENT ON COLUMN moe_ml.job.pid IS 'the process that trains';
COMMENT ON COLUMN moe_ml.job.settings IS 'of the session that asked, until the job begins';

CREATE FUNCTION moe_ml.job_is_lost(job bigint) RETURNS boolean
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'moe_job_is_lost';
COMMENT ON FUNCTION moe_ml.job_is_lost(bigint) IS
    'whether the process of a job ended without a word, as in a crash; false for jobs of others';

CREATE VIEW moe_ml.job_details WITH (security_barrier) AS
    SELECT j.job, l.state, j.schema, j.model, pg_catalog.pg_get_userbyid(j.owner) AS owner, j.statement, j.asked,
           j.started, j.ended,
           CASE WHEN j.ended IS NOT NULL THEN j.ended - j.started
                WHEN l.state = 'running' THEN pg_catalog.clock_timestamp() - j.started END AS elapsed,
           CASE WHEN l.state IN ('queued', 'running') THEN j.pid END AS pid, j.sqlstate,
           CASE WHEN l.state = 'lost' THEN 'its process ended without a word: the server''s log may say why'
                ELSE j.message END AS message
      FROM moe_ml.job j
     CROSS JOIN LATERAL (SELECT CASE WHEN j.state IN ('queued', 'running') AND moe_ml.job_is_lost(j.job) THEN 'lost'
                                     ELSE j.state END AS state) l
     WHERE pg_catalog.pg_has_role(j.owner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
     ORDER BY j.job;
COMMENT ON VIEW moe_ml.job_details IS
    'trainings in the background, in full: of the current user, or all for members of pg_read_all_stats';

CREATE VIEW moe_ml.jobs AS
    SELECT job, state, model, pg_catalog.date_trunc('second', asked) AS asked, pg_catalog.date_trunc('second', elapsed) AS elapsed, message
      FROM moe_ml.job_details
     ORDER BY job;
COMMENT ON VIEW moe_ml.jobs IS 'trainings in the background that the current user may see';
COMMENT ON COLUMN moe_ml.jobs.job IS 'its number, for moe_ml.cancel_job and moe_ml.remove_job';
COMMENT ON COLUMN moe_ml.jobs.state IS
    'queued, running, finished, failed, cancelled, or lost: its process ended without a word, as in a crash';
COMMENT ON COLUMN moe_ml.jobs.elapsed IS 'since it began to train, or until it ended';
COMMENT ON COLUMN moe_ml.jobs.message IS 'why it failed, with the hint; or a notice of its end';
GRANT SELECT ON moe_ml.job_details, moe_ml.jobs TO PUBLIC;

CREATE FUNCTION moe_ml.cancel_job(job bigint) RETURNS boolean
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'moe_job_cancel';
COMMENT ON FUNCTION moe_ml.cancel_job(bigint) IS
    'cancel a training in the background of one''s own; false if it had ended';

CREATE FUNCTION moe_ml.remove_job(job bigint) RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'moe_job_remove';
COMMENT ON FUNCTION moe_ml.remove_job(bigint) IS 'take a job that has ended off the list; its model stays';
