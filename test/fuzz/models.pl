# SQL of the tables and models whose bytes test/fuzz begins with (run with -Itest/lib).
use strict;
use warnings;
use MoeShop;

my $tiny = 'PREDICT tiny.y FOR EACH tiny';
my %models = (
    tabular => { query => $tiny, experts => "'tabular'" },
    trees => { query => $tiny, experts => "'trees'" },
    arm => { query => $tiny, experts => "'arm'" },
    retrieval => { query => $tiny, experts => "'retrieval'" },
    classes => { query => 'PREDICT customers.kind FOR EACH customers', experts => "'linear'" },
    history => { experts => "'history, linear, glance'" },
    # So many validation rows that stale ones have a calibration.
    graph => { query => 'PREDICT count(orders.*, 0, 2, days) = 0 FOR EACH customers', experts => "'linear, graph'", channels => 4, hops => 1,
        validation_from => "'2020-03-10'", test_from => "'2020-04-15'" });

print 'SET moe_ml.notices = off; CREATE EXTENSION moe_ml;', shop_sql(), <<'SQL';
CREATE TABLE tiny (id int PRIMARY KEY, x float8, y float8);
INSERT INTO tiny SELECT i, i % 7, CASE WHEN i % 5 > 0 THEN i % 7 + i % 3 END FROM generate_series(1, 200) AS i;
UPDATE customers SET kind = NULL WHERE customer_id > 27;
SQL
print model_sql("CREATE MODEL $_", %{ $models{$_} }), ";\n" for sort keys %models;
