# The way from 1.0 to the next version, tried with one that is made here: what
# is defined and granted stays, and stays in force; an upgraded database has the
# same catalog as a fresh one; an update that fails leaves all as it was.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Basename qw(dirname);
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

# A copy of this PostgreSQL, in which versions can be made.
my $config = $ENV{PG_CONFIG} || 'pg_config';
my %dir = map { chomp(my $d = `$config --$_`); $_ => $d } qw(bindir pkglibdir sharedir libdir);
my $tree = $PostgreSQL::Test::Utils::tmp_check . '/tree';
make_path("$tree$dir{bindir}", "$tree$dir{pkglibdir}", "$tree$dir{sharedir}");
system("cp -a $dir{bindir}/. $tree$dir{bindir}/ && cp -a $dir{pkglibdir}/. $tree$dir{pkglibdir}/ && cp -a $dir{sharedir}/. $tree$dir{sharedir}/") == 0
  or BAIL_OUT('cannot copy PostgreSQL');
my $extension = "$tree$dir{sharedir}/extension";

# what the next version will be like: a column, a view, a function, a grant
my $added = q(
ALTER TABLE resilience.bulkhead_definitions ADD COLUMN remark text;
CREATE FUNCTION resilience.my_priority_now() RETURNS text
AS 'MODULE_PATHNAME', 'my_priority' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION resilience.my_priority_now() IS 'synthetic';
REVOKE ALL ON FUNCTION resilience.my_priority_now() FROM PUBLIC;
CREATE VIEW resilience.remarks AS SELECT name, remark FROM resilience.bulkhead_definitions;
GRANT SELECT ON resilience.remarks TO pg_monitor;
);
my $script = slurp_file("$extension/resilience--1.0.sql");

sub put
{
	my ($name, $text) = @_;

	open my $to, '>', "$extension/$name" or die "$name: $!";
	print $to $text;
	close $to;
	return;
}
put('resilience--1.1.sql', $script . $added);
put('resilience--1.0--1.1.sql', $added);
my $control = slurp_file("$extension/resilience.control");
$control =~ s/^default_version = .*/default_version = '1.1'/m;
put('resilience.control', $control);
# one whose library has not been installed
put('resilience--1.1--1.2.sql', "CREATE TABLE resilience.half_done (i int);\n"
	  . "CREATE FUNCTION resilience.to_come() RETURNS void AS 'MODULE_PATHNAME', 'not_in_this_library' LANGUAGE C;\n");

{
	local $ENV{PATH} = "$tree$dir{bindir}:$ENV{PATH}";
	local $ENV{PG_CONFIG} = $config;
	my $node = PostgreSQL::Test::Cluster->new('upgrade', install_path => dirname("$tree$dir{bindir}"));

	limit_seconds(150);
	$node->init;
	$node->append_conf('postgresql.conf', qq(
shared_preload_libraries = 'resilience'
autovacuum = off
));
	$node->start;
	$node->safe_psql('postgres', q(
CREATE ROLE app LOGIN; CREATE ROLE ops LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE EXTENSION resilience VERSION '1.0';
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE ft (i int) SERVER far;
CREATE TABLE local (i int);
SELECT resilience.create_bulkhead('b', role_name => 'app', max_connections => 1);
SELECT resilience.create_breaker('br', 'far');
SELECT resilience.set_fallback('ft', 'local');
SELECT resilience.create_runaway_rule('r', max_duration => '1 min');
SELECT resilience.create_health_check('h', query => 'SELECT true');
SELECT resilience.create_feature('f', health_check => 'h');
SELECT resilience.create_degradation('d', 'loaded', 'low', '{"work_mem": "1MB"}');
SELECT resilience.create_experiment('e', 'error', relation => 'local');
GRANT USAGE ON SCHEMA resilience TO ops;
GRANT EXECUTE ON FUNCTION resilience.stop_all_experiments() TO ops;
));
	my $definitions = q(SELECT string_agg(line, chr(10) ORDER BY line) FROM (
SELECT 'bulkhead ' || to_jsonb(x)::text FROM (SELECT name, role_name, max_connections FROM resilience.bulkhead_definitions) x
UNION ALL SELECT 'breaker ' || to_jsonb(x)::text FROM resilience.breaker_definitions x
UNION ALL SELECT 'fallback ' || to_jsonb(x)::text FROM resilience.fallback_definitions x
UNION ALL SELECT 'rule ' || to_jsonb(x)::text FROM resilience.runaway_rule_definitions x
UNION ALL SELECT 'check ' || to_jsonb(x)::text FROM resilience.health_check_definitions x
UNION ALL SELECT 'feature ' || to_jsonb(x)::text FROM resilience.feature_definitions x
UNION ALL SELECT 'degradation ' || to_jsonb(x)::text FROM resilience.degradation_definitions x
UNION ALL SELECT 'experiment ' || to_jsonb(x)::text FROM resilience.experiment_definitions x) l(line));
	my $before = $node->safe_psql('postgres', $definitions);
	my @kinds = $before =~ /^(\w+) /mg;
	is(scalar(@kinds), 8, 'there is a definition of every kind');

	my $refused = sub {
		my $held = ResilienceTest::Client->new($node, user => 'app');
		my $error = connect_refused($node, user => 'app');

		$held->close;
		return $error ? $error->{C} : 'let in';
	};
	is($refused->(), '53300', 'the limit is in force');

	$node->safe_psql('postgres', "ALTER EXTENSION resilience UPDATE TO '1.1'");
	is($node->safe_psql('postgres', q(SELECT extversion FROM pg_extension WHERE extname = 'resilience')), '1.1', 'the update');
	is($node->safe_psql('postgres', $definitions), $before, 'definitions are as they were');
	is($refused->(), '53300', 'and in force');
	is($node->safe_psql('postgres', q(SELECT has_function_privilege('ops', 'resilience.stop_all_experiments()', 'EXECUTE'))), 't', 'grants stay');
	is($node->safe_psql('postgres', q(SELECT count(*) FROM resilience.remarks)), 1, 'what is new is there');
	$node->safe_psql('postgres', q(SELECT resilience.alter_bulkhead('b', max_running => 3)));
	$node->safe_psql('postgres', q(SELECT resilience.create_bulkhead('b2', max_running => 3)));
	is($node->safe_psql('postgres', q(SELECT count(*) FROM resilience.bulkheads WHERE running IS NOT NULL)), 2,
		'a table with a column that the library does not know is written and read');

	# fresh against upgraded: all that belongs to the extension
	$node->safe_psql('postgres', 'CREATE DATABASE fresh');
	$node->safe_psql('fresh', q(CREATE EXTENSION resilience VERSION '1.1'));
	my $catalog = q(SELECT string_agg(line, chr(10) ORDER BY line) FROM (
SELECT pg_describe_object(d.classid, d.objid, 0) AS line
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'resilience' AND d.deptype = 'e'
UNION ALL SELECT 'function ' || p.oid::regprocedure || ' ' || pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') || coalesce(obj_description(p.oid, 'pg_proc'), '')
FROM pg_proc p WHERE p.pronamespace = 'resilience'::regnamespace
UNION ALL SELECT 'column ' || a.attrelid::regclass || '.' || a.attname || ' ' || a.attnum || ' ' || format_type(a.atttypid, a.atttypmod) || a.attnotnull::text
  || coalesce(pg_get_expr(ad.adbin, ad.adrelid), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
WHERE c.relnamespace = 'resilience'::regnamespace AND a.attnum > 0
UNION ALL SELECT 'relation ' || c.oid::regclass || c.relkind::text || coalesce(c.relacl::text, '') || coalesce(obj_description(c.oid, 'pg_class'), '')
  || CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) ELSE '' END
FROM pg_class c WHERE c.relnamespace = 'resilience'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) || t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'resilience'::regnamespace AND NOT t.tgisinternal
UNION ALL SELECT 'dumped ' || unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'resilience') l);
	# the owner's name, and what this test has granted, are no difference
	my $upgraded = $node->safe_psql('postgres', $catalog);
	my $fresh = $node->safe_psql('fresh', $catalog);
	s/,?ops=X\/\w+//g for $upgraded, $fresh;
	cmp_ok(length($fresh), '>', 50_000, 'there is a catalog to compare');
	is($upgraded, $fresh, 'an upgraded database is like a fresh one');

	# a dump of the old is restored into the new
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	my $dump = $PostgreSQL::Test::Utils::tmp_check . '/dump.sql';
	command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'and restore');
	is($node->safe_psql('restored', $definitions), $node->safe_psql('postgres', $definitions), 'with all definitions');

	# SQL that the library cannot serve
	my ($rc, $out, $err) = $node->psql('postgres', "ALTER EXTENSION resilience UPDATE TO '1.2'");
	isnt($rc, 0, 'a script that needs another library fails');
	like($err, qr/could not find function "not_in_this_library" in file/, 'and says what is missing');
	is($node->safe_psql('postgres', q(SELECT extversion FROM pg_extension WHERE extname = 'resilience')), '1.1', 'nothing is half done');
	is($node->safe_psql('postgres', q(SELECT to_regclass('resilience.half_done') IS NULL)), 't', 'nothing at all');
	is($refused->(), '53300', 'limits stay in force');

	# after a restart, and a crash in the middle of an update
	$node->stop('immediate');
	$node->start;
	is($refused->(), '53300', 'and after a crash');
	is($node->safe_psql('postgres', $definitions), $node->safe_psql('restored', $definitions), 'with what was defined');
	$node->stop;
}
system("rm -rf $tree");

done_testing();
