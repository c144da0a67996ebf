# A shop of thirty customers whose models train in a fraction of a second, and what is asked of such models.
package MoeShop;
use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(shop_sql model_sql bits_sql stored_sql broken_sql);

# Customers with a remainder of 0 by 3 stop ordering half-way.
sub shop_sql
{
    return <<'SQL';
CREATE TABLE customers (customer_id int PRIMARY KEY, kind text, since timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp, amount float8);
INSERT INTO customers SELECT i, 'kind ' || i % 3, '2020-01-01' FROM generate_series(1, 30) AS i;
INSERT INTO orders SELECT i, 1 + i % 30, timestamp '2020-01-01' + i * interval '9 hours', i % 7
  FROM generate_series(1, 300) AS i WHERE i % 3 > 0 OR i < 150;
ANALYZE customers, orders;
SQL
}

# "CREATE MODEL m" or the like, with the query and tiny options. %with: query, or options.
sub model_sql
{
    my ($clauses, %with) = @_;
    my $query = delete $with{query} // 'PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers';
    my %options = (epochs => 1, ensembles => 1, channels => 8, seed => 1, %with);
    my $options = join ', ', map { "$_ = $options{$_}" } sort keys %options;
    return "SELECT moe_ml.execute(\$moe\$$clauses $query WITH ($options)\$moe\$) IS NULL";
}

# All rows of a model as one value, exact to the bit: a float8's text is the shortest that reads back as itself.
sub bits_sql
{
    my ($model) = @_;
    return "(SELECT md5(string_agg(p::text, ' ' ORDER BY p::text)) FROM $model AS p)";
}

# All that is stored of models, and their relations, as one value.
sub stored_sql
{
    my @tables = map { "(SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM moe_ml.$_ AS t)" }
        qw(model model_parameter model_epoch model_expert);
    return 'concat_ws(chr(10), ' . join(', ', @tables) . q{,
        (SELECT string_agg(concat_ws(' ', c.oid, c.relnamespace::regnamespace, c.relname, c.relowner::regrole, c.relacl, t.ftoptions,
                    (SELECT string_agg(a.attname || ' ' || a.atttypid::regtype, ', ' ORDER BY attnum) FROM pg_attribute AS a
                      WHERE a.attrelid = c.oid AND a.attnum > 0),
                    (SELECT count(*) FROM pg_depend AS d WHERE d.objid = c.oid)), chr(10) ORDER BY c.oid)
           FROM pg_foreign_table AS t JOIN pg_class AS c ON c.oid = t.ftrelid))};
}

# What is half of a model, a line each; none: every model is whole.
sub broken_sql
{
    return <<'SQL';
WITH relation AS (SELECT ftrelid::regclass, (SELECT option_value::uuid FROM pg_options_to_table(ftoptions) WHERE option_name = 'model') AS id
                    FROM pg_foreign_table)
SELECT 'relation without rows', ftrelid::text FROM relation WHERE id IS NULL OR id NOT IN (SELECT id FROM moe_ml.model)
UNION ALL SELECT 'rows without a relation', id::text FROM moe_ml.model WHERE id NOT IN (SELECT id FROM relation WHERE id IS NOT NULL)
UNION ALL SELECT 'parameters of no model', model::text FROM moe_ml.model_parameter WHERE model NOT IN (SELECT id FROM moe_ml.model)
UNION ALL SELECT 'epochs of no model', model::text FROM moe_ml.model_epoch WHERE model NOT IN (SELECT id FROM moe_ml.model)
UNION ALL SELECT 'experts of no model', model::text FROM moe_ml.model_expert WHERE model NOT IN (SELECT id FROM moe_ml.model)
UNION ALL SELECT 'no history', id::text FROM moe_ml.model WHERE id NOT IN (SELECT model FROM moe_ml.model_epoch)
UNION ALL SELECT 'parts of parameters missing', id::text FROM moe_ml.model
           WHERE (SELECT count(*) IS DISTINCT FROM max(part) + 1 FROM moe_ml.model_parameter WHERE model = id)
SQL
}

1;
