# shellcheck shell=bash disable=SC2034
# What bench/stats and bench/peers/stats_lightgbm share: the three tasks, and the tables they are about. Sourced, in the
# repository's root.

# stats_load SERVER DATA CUT DECLARE: the tables in a running server, as bench/stats.sql makes them.
stats_load() {
    local root=$PWD
    (cd "$2" && "$root/test/server" psql "$1" -q -v ON_ERROR_STOP=1 -f load.sql)
    test/server psql "$1" -qAt -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION moe_ml'
    test/server psql "$1" -qAt -v ON_ERROR_STOP=1 -v cut="$3" -v declare="$4" -f bench/stats.sql
}

# stats_describe TASK SEED_TIMES: sets metric, cluster (of a row of task_rows: what errors go together by), capped (what
# was left out, in words) and statement, in which :options stands for the options of a model named m.
stats_describe() {
    local of_posts='' most=''
    cluster='r.id' capped=''
    if [ "$2" != all ]; then
        most=", seed_times = $2" capped="training seed times: $2"
    fi
    case "$1" in
        badge)
            metric=auroc
            statement="CREATE OR REPLACE MODEL m PREDICT count(badges.*, 0, 90, days) > 0 FOR EACH stats.users WITH (:options$most)" ;;
        posts)
            metric=mae
            statement="CREATE OR REPLACE MODEL m PREDICT count(posts.*, 0, 90, days) FOR EACH stats.users
                WHERE count(posts.*, -INF, 0, days) > 0 WITH (:options$most)" ;;
        score)
            metric=mae capped=''
            cluster='coalesce((SELECT p.owner_user_id FROM stats.posts AS p WHERE p.id = r.id), -r.id)'
            statement="CREATE OR REPLACE MODEL m PREDICT score FOR EACH stats.posts AT written
                WITH (:options, split_column = split, label_window = '30 days')
                AS SELECT id, written, score, split FROM scored_posts" ;;
        *) echo "unknown task $1" >&2; exit 2 ;;
    esac
}

# The labelled rows of model m as a table: id, as_of, label as a number, split.
stats_rows() {
    cat <<'SQL'
DROP TABLE IF EXISTS task_rows;
SELECT format('CREATE TABLE task_rows AS SELECT id, as_of, label::int AS label, split FROM (%s) AS t',
              moe_ml.training_query('m')) AS command \gexec
SQL
}
