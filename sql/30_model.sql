-- Stored models. A model is a foreign table of server moe_ml; what it learned is in these tables under its uuid.
-- They are read and written by the extension's own code after a check of the caller's privileges on the model,
-- granted to nobody, and dumped by pg_dump.

CREATE TABLE moe_ml.model
(
    id                uuid PRIMARY KEY,
    format_version    integer NOT NULL,
    created_at        timestamptz NOT NULL,
    trained_at        timestamptz NOT NULL,
    definition        text NOT NULL,
    search_path       text NOT NULL,
    entity            text NOT NULL,
    training_query    text NOT NULL,
    population        text,
    history_query     text,
    task              text NOT NULL,
    n_classes         integer NOT NULL,
    classes           text[],
    label_type        text NOT NULL,
    label_window      bigint NOT NULL,
    validation_from   timestamp NOT NULL,
    test_from         timestamp NOT NULL,
    is_static         boolean NOT NULL,
    options           jsonb NOT NULL,
    ensembles         integer NOT NULL,
    experts           integer NOT NULL,
    train_rows        bigint NOT NULL,
    validation_rows   bigint NOT NULL,
    test_rows         bigint NOT NULL,
    metric            text NOT NULL,
    validation_metric double precision,
    train_seconds     double precision NOT NULL,
    stages            jsonb NOT NULL,
    peak_memory       bigint NOT NULL,
    parameters        bigint NOT NULL,
    device            text NOT NULL
);

CREATE TABLE moe_ml.model_parameter
(
    model uuid,
    part  integer,
    data  bytea NOT NULL,
    PRIMARY KEY (model, part)
);
ALTER TABLE moe_ml.model_parameter ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE moe_ml.model_epoch
(
    model      uuid,
    ensemble   integer,
    epoch      integer,
    train_loss double precision NOT NULL,
    metric     double precision,
    best       boolean NOT NULL,
    seconds    double precision NOT NULL,
    PRIMARY KEY (model, ensemble, epoch)
);

CREATE TABLE moe_ml.model_expert
(
    model      uuid,
    expert     integer,
    name       text NOT NULL,
    load       double precision NOT NULL,
    metric     double precision,
    parameters bigint NOT NULL,
    seconds    double precision NOT NULL,
    PRIMARY KEY (model, expert)
);

SELECT pg_catalog.pg_extension_config_dump('moe_ml.model', '');
SELECT pg_catalog.pg_extension_config_dump('moe_ml.model_parameter', '');
SELECT pg_catalog.pg_extension_config_dump('moe_ml.model_epoch', '');
SELECT pg_catalog.pg_extension_config_dump('moe_ml.model_expert', '');

REVOKE ALL ON moe_ml.model, moe_ml.model_parameter, moe_ml.model_epoch, moe_ml.model_expert FROM PUBLIC;

COMMENT ON TABLE moe_ml.model IS 'stored models; see the view moe_ml.models';
COMMENT ON COLUMN moe_ml.model.id IS 'the value of the foreign table''s option "model"';
COMMENT ON COLUMN moe_ml.model.definition IS 'the CREATE MODEL statement';
COMMENT ON COLUMN moe_ml.model.search_path IS 'the schemas that the definition''s names were looked up in';
COMMENT ON COLUMN moe_ml.model.training_query IS 'SQL giving the labelled seeds: key, as_of, label, split';
COMMENT ON COLUMN moe_ml.model.population IS 'SQL giving the keys that count as of $1; null: every visible row';
COMMENT ON COLUMN moe_ml.model.history_query IS
    'SQL giving labels of the past: $1 less $2 to $3 windows; null: the training query gives them';
COMMENT ON COLUMN moe_ml.model.label_window IS 'microseconds after as_of until the label is known';
COMMENT ON COLUMN moe_ml.model.validation_from IS 'first validation seed time (UTC); infinity: no validation block';
COMMENT ON COLUMN moe_ml.model.test_from IS 'first test seed time (UTC); infinity: no test block';
COMMENT ON COLUMN moe_ml.model.options IS 'options in effect, defaults included';
COMMENT ON COLUMN moe_ml.model.stages IS 'seconds of each stage of the training';
COMMENT ON COLUMN moe_ml.model.peak_memory IS 'largest memory of the training job, in bytes';
COMMENT ON COLUMN moe_ml.model.parameters IS 'trained numbers of one ensemble member';
COMMENT ON COLUMN moe_ml.model.device IS 'cpu, or the name of the device that trained it';
COMMENT ON TABLE moe_ml.model_parameter IS 'tables'' shapes, column statistics and trained numbers of models, in parts';
COMMENT ON TABLE moe_ml.model_epoch IS 'training history of models; see the view moe_ml.training_history';
COMMENT ON TABLE moe_ml.model_expert IS 'the experts of models; see the view moe_ml.experts';

-- Models that the current user may select from, with the relation that each one is. Not itself a list for people.
CREATE VIEW moe_ml.model_relations WITH (security_barrier) AS
    SELECT c.oid AS relation, n.nspname AS schema, c.relname AS name,
           pg_catalog.pg_get_userbyid(c.relowner) AS owner, m.*
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = c.oid
      JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver AND s.srvname = 'moe_ml'
     CROSS JOIN LATERAL pg_catalog.pg_options_to_table(t.ftoptions) o
      JOIN moe_ml.model m ON o.option_name = 'model' AND m.id::pg_catalog.text = o.option_value
     WHERE pg_catalog.has_table_privilege(c.oid, 'SELECT');
COMMENT ON VIEW moe_ml.model_relations IS
    'stored models that the current user may select from, in full: definition, options, times, memory';

CREATE VIEW moe_ml.models AS
    SELECT schema, name,
           CASE WHEN pg_catalog.starts_with(entity, pg_catalog.quote_ident(schema) || '.')
                THEN pg_catalog.substr(entity, pg_catalog.length(pg_catalog.quote_ident(schema)) + 2)
                ELSE entity END AS entity,
           task, train_rows AS rows,
           pg_catalog.round(validation_metric::pg_catalog.numeric, 4) AS validation,
           trained_at::pg_catalog.date AS trained
      FROM moe_ml.model_relations
     ORDER BY schema, name;
COMMENT ON VIEW moe_ml.models IS 'models that the current user may select from';
COMMENT ON COLUMN moe_ml.models.entity IS
    'the table whose rows get predictions, with its schema where that is not the model''s';
COMMENT ON COLUMN moe_ml.models.task IS 'binary, regression or multiclass';
COMMENT ON COLUMN moe_ml.models.rows IS 'labelled rows that were trained on';
COMMENT ON COLUMN moe_ml.models.validation IS
    'on the validation rows: auroc (binary), mae (regression), accuracy (multiclass); null: there were none';

CREATE VIEW moe_ml.training_history AS
    SELECT r.schema, r.name, e.ensemble, e.epoch,
           pg_catalog.round(e.train_loss::pg_catalog.numeric, 5) AS train_loss,
           pg_catalog.round(e.metric::pg_catalog.numeric, 5) AS validation, e.best,
           pg_catalog.round(e.seconds::pg_catalog.numeric, 3) AS seconds
      FROM moe_ml.model_relations r
      JOIN moe_ml.model_epoch e ON e.model = r.id
     ORDER BY r.schema, r.name, e.ensemble, e.epoch;
COMMENT ON VIEW moe_ml.training_history IS 'loss and validation metric of each epoch of models'' last training';
COMMENT ON COLUMN moe_ml.training_history.best IS 'the best epoch, whose parameters the model has';

CREATE VIEW moe_ml.experts AS
    SELECT r.schema, r.name AS model, e.name AS expert, pg_catalog.round(e.load::pg_catalog.numeric, 4) AS load,
           pg_catalog.round(e.metric::pg_catalog.numeric, 4) AS alone, e.parameters,
           pg_catalog.round(e.seconds::pg_catalog.numeric, 2) AS seconds
      FROM moe_ml.model_relations r
      JOIN moe_ml.model_expert e ON e.model = r.id
     ORDER BY r.schema, r.name, e.expert;
COMMENT ON VIEW moe_ml.experts IS 'the experts of models and the share of the work that each does';
COMMENT ON COLUMN moe_ml.experts.load IS 'mean gate over the validation rows; a model''s loads add up to 1';
COMMENT ON COLUMN moe_ml.experts.alone IS 'the validation metric of the expert alone';
COMMENT ON COLUMN moe_ml.experts.parameters IS 'trained numbers';
COMMENT ON COLUMN moe_ml.experts.seconds IS 'seconds it was trained for';

CREATE FUNCTION moe_ml.experts(model text)
    RETURNS TABLE (expert text, load numeric, alone numeric, parameters bigint, seconds numeric)
    LANGUAGE SQL STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT e.expert, e.load, e.alone, e.parameters, e.seconds
      FROM moe_ml.experts e
      JOIN moe_ml.model_relations r ON r.schema = e.schema AND r.name = e.model
     WHERE r.relation = $1::pg_catalog.regclass
     ORDER BY e.load DESC, e.expert;
END;
COMMENT ON FUNCTION moe_ml.experts(text) IS 'the experts of a model, those that do most first';

GRANT SELECT ON moe_ml.model_relations, moe_ml.models, moe_ml.training_history, moe_ml.experts TO PUBLIC;

CREATE FUNCTION moe_ml.training_query(model text) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'moe_ml_training_query';
COMMENT ON FUNCTION moe_ml.training_query(text) IS
    'the SQL that gives a model''s labels: key, as_of, label, split';

-- However a model's foreign table is dropped (DROP SCHEMA, DROP OWNED, ...), what it stored goes too.
CREATE FUNCTION moe_ml.forget_dropped_models() RETURNS event_trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'moe_ml_forget_dropped_models';
COMMENT ON FUNCTION moe_ml.forget_dropped_models() IS 'deletes what dropped models stored';
REVOKE ALL ON FUNCTION moe_ml.forget_dropped_models() FROM PUBLIC;
CREATE EVENT TRIGGER moe_ml_forget_dropped_models ON sql_drop EXECUTE FUNCTION moe_ml.forget_dropped_models();
ALTER EVENT TRIGGER moe_ml_forget_dropped_models ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER moe_ml_forget_dropped_models IS 'deletes what dropped models of moe_ml stored';
