-- The STATS tables as bench/stats takes them: the past up to :cut (empty: all), columns declared, posts to be scored.
-- Variables: cut; declare (1, or 0: counters of the dump stay inputs, which leak).
SET client_min_messages = warning;
\if :{?cut}
\else
    \set cut ''
\endif

-- The data ends at the cut: what came later is not in the database.
SET session_replication_role = replica; -- no foreign-key triggers: what pointed at later rows is cleared below
DELETE FROM stats.badges WHERE date > nullif(:'cut', '')::timestamp;
DELETE FROM stats.post_links WHERE creation_date > nullif(:'cut', '')::timestamp;
DELETE FROM stats.posts WHERE creation_date > nullif(:'cut', '')::timestamp;
DELETE FROM stats.users WHERE creation_date > nullif(:'cut', '')::timestamp;
DELETE FROM stats.post_links AS l
 WHERE NOT EXISTS (SELECT FROM stats.posts AS p WHERE p.id = l.post_id)
    OR NOT EXISTS (SELECT FROM stats.posts AS p WHERE p.id = l.related_post_id);
DELETE FROM stats.badges AS b WHERE NOT EXISTS (SELECT FROM stats.users AS u WHERE u.id = b.user_id);
UPDATE stats.tags AS t SET excerpt_post_id = NULL
 WHERE NOT EXISTS (SELECT FROM stats.posts AS p WHERE p.id = t.excerpt_post_id);
UPDATE stats.posts AS p SET owner_user_id = NULL
 WHERE NOT EXISTS (SELECT FROM stats.users AS u WHERE u.id = p.owner_user_id);
UPDATE stats.posts AS p SET last_editor_user_id = NULL
 WHERE NOT EXISTS (SELECT FROM stats.users AS u WHERE u.id = p.last_editor_user_id);
SET session_replication_role = DEFAULT;

-- Counters hold what they were when the site was dumped. Most of a post's are nearly what they were a month after it was
-- written. Views go on rising for years, and a badge comes with the 1000th: whose question shows 1100 has just had it,
-- or is about to. Views, the counters of users and tags, and who edited a post last have no moment at which they became
-- known: they are no inputs. (Without the editor a post belongs to one user, so that predictive queries know whose it is.)
ALTER TABLE stats.posts ADD COLUMN known_at timestamp;
UPDATE stats.posts SET known_at = creation_date + INTERVAL '30 days';
SELECT count(moe_ml.declare(t, c, d) IS NULL)
  FROM (VALUES ('stats.posts', 'score', 'known at known_at'),
               ('stats.posts', 'view_count', 'ignore'),
               ('stats.posts', 'answer_count', 'known at known_at'),
               ('stats.posts', 'comment_count', 'known at known_at'),
               ('stats.posts', 'favorite_count', 'known at known_at'),
               ('stats.posts', 'last_editor_user_id', 'ignore'),
               ('stats.users', 'reputation', 'ignore'),
               ('stats.users', 'views', 'ignore'),
               ('stats.users', 'up_votes', 'ignore'),
               ('stats.users', 'down_votes', 'ignore'),
               ('stats.tags', 'count', 'ignore')) AS v (t, c, d)
 WHERE :declare = 1 OR c = 'last_editor_user_id'
\g /dev/null

-- Questions and answers whose score is settled. A block's labels are known before the next one begins.
CREATE VIEW scored_posts AS
    WITH newest AS (SELECT max(creation_date) AS at FROM stats.posts),
    moments AS (SELECT at AS ends, at - INTERVAL '120 days' AS test_from, at - INTERVAL '240 days' AS validation_from FROM newest)
    SELECT p.id, p.creation_date AS written, p.score, p.owner_user_id,
           CASE WHEN p.creation_date >= test_from THEN 'test'
                WHEN p.creation_date >= validation_from THEN 'validation'
                ELSE 'train' END AS split
      FROM stats.posts AS p, moments
     WHERE p.post_type_id IN (1, 2)
       AND p.known_at <= CASE WHEN p.creation_date >= test_from THEN ends
                              WHEN p.creation_date >= validation_from THEN test_from
                              ELSE validation_from END;

-- A prediction that needs no model: the mean score of the owner's posts, as known when a test post is written; of all
-- such posts where the owner has none.
CREATE VIEW owner_means AS
    SELECT r.id, coalesce(avg(p.score), (SELECT avg(score) FROM scored_posts WHERE split = 'validation')) AS mean
      FROM scored_posts AS r
      LEFT JOIN stats.posts AS p ON p.owner_user_id = r.owner_user_id AND p.known_at <= r.written
     WHERE r.split = 'test'
     GROUP BY r.id;
ANALYZE;
