# An extension that was installed in any earlier version and updated is the one that is installed afresh: the same objects,
# with the same definitions, privileges and comments.
#
# Every version with an install script and a path to the newest one is tried, so a release adds its scripts to sql/ (the
# install script of the first version, and sql/moe_ml--OLD--NEW.sql) and nothing here. That the comparison finds what
# differs is shown on a version that does not exist: "next", reached by good and bad scripts.
use strict;
use warnings;
use Test::More;
use MoeServer;

my $server = MoeServer->new('upgrade');
chomp(my $installed = `find \$(test/server work)/pg -name moe_ml.control`);
my ($folder) = $installed =~ m{(.*)/};
open my $control, '<', 'moe_ml.control' or die 'no control file';
my ($newest) = map { /^default_version = '(.*)'/ ? $1 : () } <$control>;

# All that belongs to the extension, a line each, in words that do not depend on OIDs.
my $catalog = <<'SQL';
SET search_path = pg_catalog;
SELECT format('%s | %s | %s', pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name),
    CASE classid
    WHEN 'pg_proc'::regclass THEN (SELECT concat_ws(' ', pg_get_functiondef(p.oid), p.proowner::regrole,
            (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(proacl) AS a)) FROM pg_proc AS p WHERE p.oid = objid)
    WHEN 'pg_class'::regclass THEN (SELECT concat_ws(' ', relkind, reloptions, relpersistence, relrowsecurity, pg_get_viewdef(nullif(c.oid, 0)),
            (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(relacl) AS a),
            (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation, attstorage, attacl,
                    pg_get_expr(adbin, adrelid), col_description(c.oid, attnum)), ', ' ORDER BY attnum)
               FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
            (SELECT string_agg(conname || ' ' || pg_get_constraintdef(o.oid), ', ' ORDER BY conname) FROM pg_constraint AS o WHERE conrelid = c.oid),
            (SELECT string_agg(pg_get_indexdef(indexrelid), ', ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = c.oid),
            (SELECT string_agg(pg_get_triggerdef(t.oid), ', ' ORDER BY tgname) FROM pg_trigger AS t WHERE tgrelid = c.oid AND NOT tgisinternal))
          FROM pg_class AS c WHERE c.oid = objid)
    WHEN 'pg_event_trigger'::regclass THEN (SELECT concat_ws(' ', evtevent, evtfoid::regproc, evtenabled, evttags) FROM pg_event_trigger AS t WHERE t.oid = objid)
    WHEN 'pg_foreign_data_wrapper'::regclass THEN (SELECT concat_ws(' ', fdwhandler::regproc, fdwvalidator::regproc, fdwoptions, fdwacl) FROM pg_foreign_data_wrapper AS f WHERE f.oid = objid)
    WHEN 'pg_foreign_server'::regclass THEN (SELECT concat_ws(' ', srvfdw, srvoptions, srvacl, srvversion) FROM (SELECT s.oid, fdwname AS srvfdw, srvoptions, srvacl, srvversion
                                               FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS f ON f.oid = srvfdw) AS s WHERE s.oid = objid)
    WHEN 'pg_language'::regclass THEN (SELECT concat_ws(' ', lanplcallfoid::regproc, laninline::regproc, lanvalidator::regproc, lanpltrusted, lanacl) FROM pg_language AS l WHERE l.oid = objid)
    WHEN 'pg_namespace'::regclass THEN (SELECT nspacl::text FROM pg_namespace AS n WHERE n.oid = objid)
    WHEN 'pg_type'::regclass THEN (SELECT concat_ws(' ', typtype, typbasetype::regtype, typacl) FROM pg_type AS t WHERE t.oid = objid)
    ELSE '?' END)
  FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'moe_ml')
UNION ALL
SELECT format('configuration %s %s', relation::regclass, condition) FROM pg_extension, unnest(extconfig, extcondition) AS c (relation, condition) WHERE extname = 'moe_ml'
UNION ALL
SELECT format('extension %s %s %s', extname, extversion, extrelocatable) FROM pg_extension WHERE extname = 'moe_ml'
ORDER BY 1;
SQL

# The catalog of a new database with this version, updated to that one if it is given.
sub installed
{
    my ($version, $to) = @_;
    $server->query('DROP DATABASE IF EXISTS tried');
    $server->query('CREATE DATABASE tried');
    $server->query("SET client_min_messages = warning; CREATE EXTENSION moe_ml VERSION '$version'", '-d', 'tried');
    $server->query("ALTER EXTENSION moe_ml UPDATE TO '$to'", '-d', 'tried') if defined $to;
    return $server->query($catalog, '-d', 'tried');
}

sub write_script
{
    my ($name, $text) = @_;
    open my $file, '>', "$folder/moe_ml--$name.sql" or die "cannot write $name";
    print $file $text;
    close $file;
    return;
}

my $fresh = installed($newest);
my @lines = split /^(?=\w[^\n]* \| )/m, $fresh;
cmp_ok(scalar(@lines), '>', 40, scalar(@lines) . ' objects are compared');
unlike($fresh, qr/\| \?$/m, 'of kinds that are known here');

# Versions that can be installed and lead to the newest
my @older = split /\n/, $server->query("SELECT version FROM pg_available_extension_versions AS v WHERE name = 'moe_ml' AND version <> '$newest' ORDER BY 1");
for my $version (@older)
{
    my $path = $server->query("SELECT path FROM pg_extension_update_paths('moe_ml') WHERE source = '$version' AND target = '$newest'");
    isnt($path, '', "a path leads from $version to $newest");
    is(installed($version, $newest), $fresh, "$version updated ($path) is $newest installed afresh") if $path ne '';
}
note('versions compared with ' . $newest . ': ' . (join(', ', @older) || 'none, it is the only one'));

# The version that does not exist
END { unlink "$folder/moe_ml--next.sql", "$folder/moe_ml--$newest--next.sql" if defined $folder; }
open my $script, '<', "$folder/moe_ml--$newest.sql" or die 'no install script';
my $text = do { local $/; <$script> };
my $function = <<'SQL';
CREATE FUNCTION moe_ml.later(a int DEFAULT 1) RETURNS int LANGUAGE sql RETURN a;
REVOKE ALL ON FUNCTION moe_ml.later FROM public;
COMMENT ON FUNCTION moe_ml.later IS 'later';
ALTER TABLE moe_ml.model ADD COLUMN later text NOT NULL DEFAULT 'x';
CREATE TABLE moe_ml.later_table (a int PRIMARY KEY);
SELECT pg_extension_config_dump('moe_ml.later_table', '');
SQL
write_script('next', $text . $function);
write_script("$newest--next", $function);
my $next = installed('next');
isnt($next, $fresh, 'another version is another catalog');
is(installed($newest, 'next'), $next, 'a good script leads to it');
my %forgotten = (
    comment => qr/^COMMENT.*\n/m,
    privilege => qr/^REVOKE.*\n/m,
    default => qr/ DEFAULT 1/,
    column => qr/^ALTER TABLE.*\n/m,
    constraint => qr/ NOT NULL/,
    key => qr/ PRIMARY KEY/,
    configuration => qr/^SELECT pg_ext.*\n/m);
for my $what (sort keys %forgotten)
{
    (my $bad = $function) =~ s/$forgotten{$what}//;
    isnt($bad, $function, "without a $what");
    write_script("$newest--next", $bad);
    isnt(installed($newest, 'next'), $next, 'it is found out');
}

done_testing();
