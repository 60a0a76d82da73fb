# The metrics: what promtool thinks of them, what docs/metrics.md says of them,
# bounded labels, counts that agree with the views, and what they cost.

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
use Time::HiRes qw(time);

my $objects = 128;
my $node = preloaded_node('metrics',
	conf => qq(
resilience.max_features = 400
resilience.max_running = 50
max_connections = 60
), init => [ extra => [ '--encoding=UTF8', '--locale=C' ] ]);
my $mon = monitor($node);

# What the text says: { name => [[labels, value], ...] }, types and helps.
sub parse
{
	my ($text) = @_;
	my (%series, %type, %help);
	my $family = '';

	for my $line (split /\n/, $text)
	{
		if ($line =~ /^# HELP (\S+) (.*)/)
		{
			ok(!exists $help{$1}, "family $1 stands together") if exists $help{$1};
			$help{$1} = $2;
			$family = $1;
		}
		elsif ($line =~ /^# TYPE (\S+) (\S+)/) { $type{$1} = $2 }
		elsif ($line =~ /^(\w+)(?:\{(.*)\})? (\S+)$/)
		{
			my ($name, $labels, $value) = ($1, $2 // '', $3);
			my %labels = $labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;

			push @{ $series{$family} }, { name => $name, labels => \%labels, value => $value };
		}
		else { fail("not a line of the format: $line") }
	}
	return (\%series, \%type, \%help);
}

sub metrics_text { return $mon->value('SELECT resilience.prometheus_metrics()') }

sub value_of
{
	my ($series, $family, %labels) = @_;
	my @found = grep {
		my $s = $_;
		!grep { ($s->{labels}{$_} // '') ne $labels{$_} } keys %labels
	} @{ $series->{$family} || [] };

	return @found == 1 ? $found[0]{value} : undef;
}

my $promtool = have_monitoring('promtool');

sub promtool_accepts
{
	my ($text, $name) = @_;

  SKIP:
	{
		skip 'no promtool here', 1 unless $promtool;
		my ($file, $path) = tempfile(UNLINK => 1);

		binmode $file;
		print $file $text;
		close $file;
		my $out = `promtool check metrics <$path 2>&1`;
		ok($? == 0 && $out eq '', "promtool has nothing to say: $name") or diag $out;
	}
	return;
}

if (!$promtool && !$ENV{RSL_NO_PROMETHEUS})
{
	fail('promtool is not installed: test/setup.sh check');
}

promtool_accepts(metrics_text() . "\n", 'nothing defined');

# objects of every kind, with names that need care
my $odd = q(E'odd "quoted" back\\\\slash\nline äöü');
$mon->ok("SELECT resilience.create_bulkhead($odd, role_name => 'app', max_running => 5)");
$mon->ok("SELECT resilience.create_breaker($odd)");
$mon->ok("SELECT resilience.create_feature($odd)");
$mon->ok("SELECT resilience.create_health_check($odd, query => 'SELECT true', check_interval => '1 s', timeout => '0.5 s')");
$mon->ok("SELECT resilience.create_experiment($odd, 'error')");
$mon->ok("SELECT resilience.create_degradation('light', 'unhealthy', 'low', '{\"work_mem\": \"1MB\"}')");

my ($series, $type, $help) = parse(metrics_text());
promtool_accepts(metrics_text() . "\n", 'odd names');
my ($seen) = grep { ($_->{labels}{breaker} // '') =~ /^odd/ } @{ $series->{resilience_circuit_breaker_state} };
is($seen->{labels}{breaker}, 'odd \"quoted\" back\\\\slash\nline äöü', 'label values are escaped')
  if defined $seen;
ok(defined $seen, 'the odd breaker is there');

# histograms: cumulative, with sum and count
for my $family (grep { $type->{$_} eq 'histogram' } sort keys %$type)
{
	my %of;

	for my $s (@{ $series->{$family} })
	{
		my %labels = %{ $s->{labels} };
		my $le = delete $labels{le};
		my $key = join ',', map { "$_=$labels{$_}" } sort keys %labels;

		if ($s->{name} eq "${family}_bucket")
		{
			ok($s->{value} >= ($of{$key}{last} // 0), "$family $key le=$le is cumulative")
			  unless $s->{value} >= ($of{$key}{last} // 0);
			$of{$key}{last} = $s->{value};
			$of{$key}{inf} = $s->{value} if $le eq '+Inf';
		}
		$of{$key}{count} = $s->{value} if $s->{name} eq "${family}_count";
		$of{$key}{sum} = $s->{value} if $s->{name} eq "${family}_sum";
	}
	ok(scalar(%of), "$family has series");
	is(scalar(grep { !defined $_->{inf} || $_->{inf} != $_->{count} || !defined $_->{sum} } values %of),
		0, "$family: the last bucket is the count, and there is a sum");
}

# transitions and times are kept where they happen
my $caller = connect_to($node);
for my $i (1 .. 20)
{
	$caller->ok("SELECT resilience.breaker_record($odd, false) FROM generate_series(1, 5)");
	$caller->ok("SELECT resilience.reset_breaker($odd)");
}
($series) = parse(metrics_text());
my @transitions = grep { $_->{labels}{breaker} =~ /^odd/ } @{ $series->{resilience_circuit_breaker_transitions_total} };
is((grep { $_->{labels}{to} eq 'open' } @transitions)[0]{value}, 20, 'flapping faster than any scrape is counted');
is((grep { $_->{labels}{to} eq 'closed' } @transitions)[0]{value}, 20, 'and each return');
is(value_of($series, 'resilience_circuit_breaker_state', server => ''), 0, 'though the state shows nothing of it');
my ($recovered) = grep { $_->{name} =~ /_count$/ && $_->{labels}{kind} eq 'circuit_breaker' } @{ $series->{resilience_recovery_seconds} };
is($recovered->{value}, 20, 'each recovery is measured');
my @states = grep { $_->{labels}{breaker} =~ /^odd/ } @{ $series->{resilience_circuit_breaker_state_seconds_total} };
my $total = 0;
$total += $_->{value} for @states;
ok($total > 0, 'time in states runs');

# numbers agree with the views
my $app = connect_to($node, user => 'app');
$app->ok('SELECT 1') for 1 .. 7;
$mon->ok(q(SELECT resilience.retry('SELECT 1')));
($series) = parse(metrics_text());
is(value_of($series, 'resilience_load_admitted_total', priority => 'normal'),
	$mon->value(q(SELECT admitted_total FROM resilience.load_by_priority WHERE priority = 'normal')),
	'admitted, as in load_by_priority');
my ($bulkhead) = grep { $_->{labels}{bulkhead} =~ /^odd/ } @{ $series->{resilience_bulkhead_admitted_total} };
is($bulkhead->{value}, $mon->value(q(SELECT admitted_total FROM resilience.bulkheads)), 'a bulkhead, as in bulkheads');
is(value_of($series, 'resilience_retry_attempts_total', result => 'success_first'),
	$mon->value(q(SELECT attempts_total FROM resilience.retry_stats)), 'retries, as in retry_stats');
is($mon->value(q(SELECT count(*) FROM (SELECT name, labels, count(*) FROM resilience.metrics GROUP BY 1, 2 HAVING count(*) > 1) d)),
	0, 'no series is there twice');
is($mon->value(q(SELECT string_agg(DISTINCT jsonb_typeof(labels), ',') FROM resilience.metrics)), 'object', 'labels are objects');
is($mon->value(q(SELECT count(*) FROM resilience.metrics)),
	scalar(map { @$_ } values %{ (parse(metrics_text()))[0] }), 'the view has the same series as the text');
is($mon->value(q(SELECT labels->>'breaker' = ) . $odd . q( FROM resilience.metrics WHERE name = 'resilience_circuit_breaker_state')),
	't', 'names are whole in the view');

# all that the views have, at one moment; something of each has happened
$mon->ok("SELECT resilience.alter_bulkhead($odd, max_running => 0)");
$app->query('SELECT 1');
$mon->ok("SELECT resilience.alter_bulkhead($odd, max_running => 5)");
$caller->ok("SELECT resilience.breaker_record($odd, true, '10 s'), resilience.breaker_record($odd, false)");
$mon->ok("SELECT resilience.force_breaker($odd, 'open')");
$caller->ok("SELECT resilience.breaker_acquire($odd) FROM generate_series(1, 3)");
$mon->ok("SELECT resilience.set_feature($odd, false)");
$caller->ok("SELECT resilience.feature_enabled($odd) FROM generate_series(1, 4)");
$caller->query(q(SELECT resilience.retry('SELECT 1/0')));
$caller->query(q(SELECT resilience.retry($$DO 'BEGIN RAISE SQLSTATE ''40001''; END'$$, max_retries => 2, base_delay => '1 ms')));
my $compared = $mon->ok(q(
	WITH expected(name, labels, value) AS (
		SELECT 'resilience_bulkhead_' || m.name, jsonb_build_object('bulkhead', b.name) || m.labels, m.value FROM resilience.bulkheads b,
			LATERAL (VALUES ('running', '{}'::jsonb, running::float8), ('waiting', '{}', waiting), ('max_running', '{}', max_running),
			('connections', '{}', connections), ('max_connections', '{}', max_connections), ('admitted_total', '{}', admitted_total),
			('refused_total', '{"reason": "connection"}', refused_connections_total), ('refused_total', '{"reason": "statement"}', refused_statements_total),
			('refused_total', '{"reason": "timed_out"}', timed_out_total), ('refused_total', '{"reason": "preempted"}', preempted_total),
			('wait_seconds_total', '{}', wait_seconds_total)) m(name, labels, value)
		UNION ALL SELECT 'resilience_circuit_breaker_' || m.name, jsonb_build_object('breaker', b.name) || m.labels, m.value FROM resilience.breakers b,
			LATERAL (VALUES ('state', '{}'::jsonb, array_position('{closed,half_open,open}', state)::float8 - 1), ('calls_in_flight', '{}', calls_in_flight),
			('calls_total', '{"result": "success"}', success_total), ('calls_total', '{"result": "failure"}', failure_total),
			('calls_total', '{"result": "ignored"}', ignored_total), ('slow_calls_total', '{}', slow_total),
			('rejected_total', '{}', rejected_total), ('fallbacks_total', '{}', fallback_total), ('opened_total', '{}', open_count)) m(name, labels, value)
		UNION ALL SELECT 'resilience_feature_' || m.name, jsonb_build_object('feature', f.name), m.value FROM resilience.features f,
			LATERAL (VALUES ('state', array_position('{on,degraded,off}', state)::float8 - 1), ('dimmer_ratio', dimmer),
			('evaluations_total', evaluations_total), ('degraded_total', degraded_total), ('fallbacks_total', fallback_total)) m(name, value)
		UNION ALL SELECT 'resilience_health_check_' || m.name, jsonb_build_object('check', h.name), m.value FROM resilience.health_checks h,
			LATERAL (VALUES ('status', array_position('{unknown,healthy,degraded,unhealthy}', status)::float8 - 1)) m(name, value)
		UNION ALL SELECT 'resilience_experiment_' || m.name, jsonb_build_object('experiment', e.name, 'impact', impact), m.value FROM resilience.experiments e,
			LATERAL (VALUES ('state', array_position('{defined,scheduled,running,stopped,finished,aborted}', state)::float8 - 1),
			('injections_total', injections_total)) m(name, value)
		UNION ALL SELECT 'resilience_load_' || m.name, jsonb_build_object('priority', priority) || m.labels, m.value FROM resilience.load_by_priority,
			LATERAL (VALUES ('running', '{}'::jsonb, running::float8), ('waiting', '{}', waiting), ('admitted_total', '{}', admitted_total),
			('shed_total', '{"reason": "refused"}', shed_total), ('shed_total', '{"reason": "timed_out"}', timed_out_total),
			('shed_total', '{"reason": "preempted"}', preempted_total), ('wait_seconds_total', '{}', wait_seconds_total)) m(name, labels, value)
		UNION ALL SELECT 'resilience_retry_attempts_total', jsonb_build_object('sqlstate', coalesce(sqlstate, '00000'), 'result', result), attempts_total FROM resilience.retry_stats
		UNION ALL SELECT 'resilience_retry_calls_total', '{}', sum(calls_total) FROM resilience.retry_stats
		UNION ALL SELECT 'resilience_retries_total', '{}', sum(attempts_total - calls_total) FROM resilience.retry_stats
		UNION ALL SELECT 'resilience_retry_budget_exhausted_total', jsonb_build_object('budget', name), retries_denied_total FROM resilience.retry_budgets
		UNION ALL SELECT 'resilience_connections_refused_total', '{}', refused_connections_total FROM resilience.load_shedder)
	SELECT e.name, e.labels::text, e.value, m.value, m.value IS NOT DISTINCT FROM e.value
		FROM expected e LEFT JOIN resilience.metrics m ON m.name = e.name AND m.labels @> e.labels))->{rows};
is(join("\n", map { join ' ', map { $_ // 'NULL' } @$_ } grep { $_->[4] ne 't' } @$compared), '', 'the metrics are what the views say');
for my $name (qw(resilience_bulkhead_admitted_total resilience_bulkhead_refused_total resilience_circuit_breaker_calls_total resilience_circuit_breaker_slow_calls_total
	resilience_circuit_breaker_rejected_total resilience_circuit_breaker_opened_total resilience_feature_degraded_total resilience_retry_attempts_total
	resilience_retries_total))
{
	ok((grep { $_->[0] eq $name && $_->[3] > 0 } @$compared), "$name: which is more than nothing");
}
$mon->ok("SELECT resilience.force_breaker($odd, 'auto'), resilience.set_feature($odd, true)");

# the documentation: each family with its type and its labels, and no other
($series, $type, $help) = parse(metrics_text());
my %documented;
my $docs = slurp_file("$FindBin::RealBin/../../docs/metrics.md");
while ($docs =~ /^\| `(resilience_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$/mg)
{
	my ($name, $kind, $labels, $text) = ($1, $2, $3, $4);

	$documented{$name} = [ $kind, join(',', sort $labels =~ /`(\w+)`/g), $text ];
}
# not there without the endpoint, or before anything has happened
my %maybe = map { $_ => 1 } grep { /endpoint|load_limit$|check_value|check_age|health_since/ } keys %documented;
for my $family (sort keys %$type)
{
	my %labels;

	$labels{$_} = 1 for grep { $_ ne 'le' } map { keys %{ $_->{labels} } } @{ $series->{$family} };
	is_deeply([ ($documented{$family} || [ '', '' ])->@[ 0, 1 ] ],
		[ $type->{$family}, join(',', sort keys %labels) ], "$family is documented");
}
is(join(' ', grep { !$type->{$_} && !$maybe{$_} } sort keys %documented), '', 'nothing else is');

# bounded: more features than a family has room for
$mon->ok("SELECT resilience.create_feature('many_' || i) FROM generate_series(1, 250) i");
($series, $type) = parse(metrics_text());
my ($worst) = sort { $b <=> $a } map { scalar @{ $series->{$_} } } grep { $type->{$_} ne 'histogram' } keys %$series;
cmp_ok($worst, '<=', 200, 'no family has more than 200 series');
is(value_of($series, 'resilience_feature_state', feature => 'other'), 0, 'the others are one: the worst of them');
$mon->ok("SELECT resilience.set_feature('many_250', false)");
$mon->ok("SELECT resilience.feature_enabled('many_250') FROM generate_series(1, 30)");
$mon->ok("SELECT resilience.feature_enabled('many_249') FROM generate_series(1, 12)");
($series) = parse(metrics_text());
is(value_of($series, 'resilience_feature_state', feature => 'other'), 2, 'which is off now');
is(value_of($series, 'resilience_feature_evaluations_total', feature => 'other'), 42, 'counters are summed up');
is(value_of($series, 'resilience_feature_transitions_total', feature => 'other', to => 'off'), 1, 'for each of the words');
cmp_ok(value_of($series, 'resilience_metrics_series_hidden'), '>', 50, 'how many were folded is told');
my @before = sort map { $_->{labels}{feature} } @{ $series->{resilience_feature_state} };
$mon->ok("SELECT resilience.drop_feature('many_100')");
$mon->ok("SELECT resilience.set_feature('many_3', false)");
($series) = parse(metrics_text());
my %after = map { $_->{labels}{feature} => 1 } @{ $series->{resilience_feature_state} };
is(join(' ', grep { !$after{$_} } @before), 'many_100', 'series stay as long as their objects');
promtool_accepts(metrics_text() . "\n", 'folded');
$mon->ok("SELECT resilience.drop_feature(name) FROM resilience.features WHERE name LIKE 'many%'");

# what it costs: 128 objects of each kind
$mon->ok("SELECT resilience.create_bulkhead('b' || i, application_name => 'nobody' || i, max_running => 1),
	resilience.create_breaker('b' || i), resilience.create_feature('f' || i), resilience.create_experiment('e' || i, 'error'),
	resilience.create_health_check('h' || i, query => 'SELECT true', check_interval => '1 h') FROM generate_series(1, @{[ $objects - 1 ]}) i");
my @times;
for (1 .. 20)
{
	my $start = time;

	metrics_text();
	push @times, time - $start;
}
@times = sort { $a <=> $b } @times;
note sprintf('median %.2f ms, fastest %.2f ms', 1000 * $times[10], 1000 * $times[0]);
cmp_ok($times[0], '<', 0.050, 'a look at 128 objects of each kind is quick');

# who may
my $reader = connect_to($node, user => 'app');
like($reader->query('SELECT * FROM resilience.metrics')->{error}{M} // '', qr/permission denied/, 'not everybody may read them');

done_testing();
