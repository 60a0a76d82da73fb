# Labels: at most 200 series in each family, which objects have their own, and
# names in encodings of all kinds.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Temp qw(tempfile);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrometheusTest;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('metrics_labels', conf => qq(
resilience.max_bulkheads = 300
resilience.max_breakers = 300
resilience.max_features = 300
resilience.max_health_checks = 300
resilience.max_experiments = 300
resilience.max_degradations = 32
max_worker_processes = 24
), init => [ extra => [ '--encoding=UTF8', '--locale=C' ] ]);
my $mon = monitor($node);

# which objects have series of their own in a family
sub names_in
{
	my ($family, $label) = @_;

	return $mon->value("SELECT string_agg(DISTINCT labels->>'$label', ' ') FROM resilience.metrics WHERE name = '$family'");
}

sub number
{
	my ($name, $labels) = @_;

	return $mon->value("SELECT value FROM resilience.metrics WHERE name = '$name' AND labels @> '$labels'");
}

# Names that are text in one database only
$mon->ok(q(CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0));
$mon->ok(q(CREATE DATABASE ascii ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0));
my %in = (postgres => $mon, map { ($_ => monitor($node, dbname => $_)) } qw(latin ascii));
for my $database (qw(latin ascii))
{
	$in{$database}->ok('CREATE EXTENSION resilience');
}
$in{latin}->ok(q(SET client_encoding = 'LATIN1'));
$in{latin}->ok("SELECT resilience.create_feature('caf\xe9'), resilience.create_feature('caf\xe8')");
$in{ascii}->ok("SELECT resilience.create_feature('caf\xff')");
$mon->ok("SELECT resilience.create_feature('caf\xc3\xa9'), resilience.create_feature('\xe6\x97\xa5')");
for my $database (qw(postgres latin ascii))
{
	my $c = $in{$database};
	my $text = $c->value('SELECT resilience.prometheus_metrics()');
	my @names = $text =~ /^resilience_feature_state\{database="\w+",feature="([^"]*)"\}/mg;

	is(scalar(@names), 5, "$database: all features");
	ok((grep { $_ eq 'caf\\\\xE9' } @names) && (grep { $_ eq 'caf\\\\xE8' } @names), "$database: what is no text here is told apart")
	  or diag "@names";
	is((grep { $_ eq "caf\xc3\xa9" } @names) ? 'as it is' : 'escaped', $database eq 'postgres' ? 'as it is' : 'escaped',
		"$database: a name in UTF-8");
	is($c->value(q(SELECT count(DISTINCT labels) FROM resilience.metrics WHERE name = 'resilience_feature_state')), 5, "$database: the view, too");
  SKIP:
	{
		skip 'no promtool here', 1 unless have_monitoring('promtool');
		my ($file, $path) = tempfile(UNLINK => 1);

		print $file "$text\n";
		close $file;
		is(`promtool check metrics <$path 2>&1`, '', "$database: promtool has nothing to say");
	}
}
for my $database (qw(latin ascii))
{
	$in{$database}->ok('DROP EXTENSION resilience CASCADE');
}
$mon->ok('SELECT resilience.drop_feature(name) FROM resilience.features');

# More objects of every kind than any family has room for
my $many = 250;
$mon->ok(qq(SELECT resilience.create_bulkhead('o' || i, application_name => 'nobody' || i, max_running => 1),
	resilience.create_breaker('o' || i), resilience.create_feature('o' || i),
	resilience.create_experiment('o' || i, (ARRAY['latency', 'error', 'cancel', 'terminate', 'foreign_error'])[1 + i % 5], delay => CASE i % 5 WHEN 0 THEN interval '1 ms' END),
	resilience.create_health_check('o' || i, kind => (ARRAY['sql', 'connections', 'load', 'disk_free', 'lock_waits', 'xid_age'])[1 + i % 6],
		query => CASE i % 6 WHEN 0 THEN 'SELECT true' END, critical => i % 4 = 0, check_interval => '1 h')
	FROM generate_series(1, $many) i));
$mon->ok(q(SELECT resilience.create_degradation('d' || i, 'unhealthy', 'low', '{"work_mem": "1MB"}') FROM generate_series(1, 32) i));

is($mon->value(q(SELECT string_agg(name || ' ' || n, ', ') FROM (SELECT name, count(*) AS n FROM resilience.metrics GROUP BY 1) c WHERE n > 200)),
	undef, 'no family has more than 200 series');
is($mon->value(q(SELECT count(*) FROM (SELECT 1 FROM resilience.metrics GROUP BY name, labels HAVING count(*) > 1) d)), 0, 'none is there twice');
is($mon->value(q(SELECT string_agg(DISTINCT labels->>'kind' || '/' || (labels->>'critical'), ' ') FROM resilience.metrics
	WHERE name = 'resilience_health_check_status' AND labels->>'check' = 'other')), 'other/other', 'how the others are is other, too');
is($mon->value(q(SELECT count(*) FROM resilience.metrics WHERE name = 'resilience_degradation_events_total' AND labels->>'kind' = 'degradation')), 64,
	'degradations have their own');
is($mon->value(q(SELECT string_agg(DISTINCT labels->>'kind', ' ') FROM resilience.metrics WHERE name = 'resilience_degradation_events_total'
	AND labels->>'name' = 'other')), 'feature', 'beside features');

# an object has all series of a family, or none
is($mon->value(q(SELECT string_agg(DISTINCT name || ' ' || n, ', ') FROM (
	SELECT name, labels->>'breaker' AS breaker, count(*) AS n FROM resilience.metrics
	WHERE name LIKE 'resilience_circuit_breaker_%' AND labels->>'breaker' <> 'other' GROUP BY 1, 2) c
	WHERE n <> CASE WHEN name ~ '(calls_total|state_seconds_total|transitions_total)$' AND name !~ 'slow' THEN 3 ELSE 1 END)), undef, 'no object is torn apart');

# totals are those of all
$mon->ok("SELECT resilience.feature_enabled('o' || i) FROM generate_series(1, $many) i");
is($mon->value(q(SELECT sum(value) FROM resilience.metrics WHERE name = 'resilience_feature_evaluations_total')), $many, 'the sum is that of all objects');
connect_to($node)->ok(qq(SELECT resilience.breaker_record('o' || i, true) FROM generate_series(1, $many) i));
is($mon->value(q(SELECT sum(value) FROM resilience.metrics WHERE name = 'resilience_circuit_breaker_calls_total')), $many, 'with words, too');
is(number('resilience_circuit_breaker_state', '{"breaker": "other"}'), 0, 'all others are closed');
$mon->ok("SELECT resilience.force_breaker('o$many', 'open')");
is(number('resilience_circuit_breaker_state', '{"breaker": "other"}'), 2, 'the worst of the others is told');
is($mon->value(q(SELECT count(*) FROM resilience.metrics WHERE name = 'resilience_bulkhead_max_running' AND labels->>'bulkhead' = 'other')), 0,
	'limits are not added');
cmp_ok(number('resilience_metrics_series_hidden', '{}'), '>', 250, 'what was folded is counted');

# Series stay: whatever else comes and goes, nothing pushes an object out
my @families = ([ 'resilience_feature_state', 'feature' ], [ 'resilience_feature_transitions_total', 'feature' ],
	[ 'resilience_degradation_events_total', 'name' ], [ 'resilience_health_check_status', 'check' ]);
my %had = map { ($_->[0] => names_in(@$_)) } @families;
$mon->ok(q(SELECT resilience.drop_feature('o1'), resilience.drop_health_check('o2'), resilience.drop_degradation('d5')));
for my $family (@families)
{
	my %gone = map { $_ => 1 } qw(o1 o2 d5);
	my ($before, $now) = map { join ' ', grep { !$gone{$_} } split / /, $_ } $had{ $family->[0] }, names_in(@$family);

	is($now, $before, "$family->[0]: one object less, the others stay, and none comes");
}
$mon->ok(q(SELECT resilience.create_feature('a new one')));
is($mon->value(q(SELECT count(*) FROM resilience.metrics WHERE name = 'resilience_feature_transitions_total' AND labels->>'feature' = 'a new one')), 3,
	'a new one takes a place that is free');
is($mon->value(q(SELECT count(*) FROM resilience.metrics WHERE name = 'resilience_feature_transitions_total' AND labels->>'feature' = 'o2')), 3,
	'and pushes nobody out');

done_testing();
