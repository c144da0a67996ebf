# On data that others made: rel-f1's official labels come out of predictive queries; three well-known schemas are read
# as people would draw them, and a model trains on each. Skipped where the data are absent (see bench/README.md).
use strict;
use warnings;
use Test::More;

for my $program ('bench/rel_f1_labels', 'bench/schemas')
{
  SKIP:
    {
        my $output = `$program 2>&1`;
        my $status = $?;
        if ($output =~ /skipped/)
        {
            diag($output);
            skip "$program: no data", 1;
        }
        is($status, 0, $program) or diag($output);
    }
}

done_testing();
