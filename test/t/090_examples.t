# Every SQL example of README.md and docs/ runs, in order, on a small version of the demonstration's shop.
use strict;
use warnings;
use Test::More;
use MoeServer;

my $server = MoeServer->new('examples', shared_preload_libraries => 'moe_ml');

for my $page ('README.md', sort glob('docs/*.md'))
{
    open my $file, '<', $page or die "$page: $!";
    my $text = do { local $/; <$file> };
    my @blocks = $text =~ /^```sql\n(.*?)^```/gms;
    next unless @blocks;
    (my $database = lc $page) =~ s/\W+/_/g;
    $server->query("CREATE DATABASE $database");
    system('test/server', 'psql', 'examples', '-q', '-d', $database, '-v', 'customers=250', '-f', 'docs/demo/shop.sql') == 0
        or die 'the shop did not load';
    my $sql = "CREATE EXTENSION IF NOT EXISTS moe_ml;\nSET search_path = shop, public;\nSET client_min_messages = warning;\n"
        . join("\n", @blocks);
    my ($status, undef, $err) = $server->psql($sql, '-d', $database);
    is($status, 0, "$page: " . scalar(@blocks) . ' examples run') or diag($err);
}

done_testing();
