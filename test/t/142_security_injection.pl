# Names, tags and roles with anything in them: nothing breaks out of the log's
# lines, JSON, Prometheus' format, HTML or the pairs of a DETAIL.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../perl";
use HttpTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $have_http = have_endpoint();
my $at = '127.0.0.1:' . free_port();
my $node = preloaded_node('injection', roles => [qw(app)], init => [ extra => [ '--encoding=UTF8', '--locale=C' ] ],
	conf => $have_http ? "resilience.http_listen = '$at'\n" : '');
my $mon = monitor($node);
my $admin = connect_to($node);    # as mode = off lets calls through
my $listener = monitor($node);
$listener->ok('LISTEN resilience');

# what each reader of names may be led astray by
my @names = (
	'quote " quote', q{it's}, 'x" forged="1', '%s%n%1$s', "line\nFATAL:  forged", "\e[31mred\e[0m", "tab\there\r",
	'<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '\\', '\\"} 1' . "\n" . 'up{x="', '$$; DROP TABLE t; --',
	q{'); DROP SCHEMA resilience CASCADE; --}, '{"a": 1}', '&amp;', "\x7f");
my $tagged = join '|', map { quotemeta } '<script', '<img';

sub literal
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

for my $n (0 .. $#names)
{
	my $name = literal($names[$n]);

	$mon->ok("SELECT resilience.create_bulkhead($name, role_name => 'app', application_name => 'n$n', max_running => 0)");
	$mon->ok("SELECT resilience.create_breaker($name)");
	$mon->ok("SELECT resilience.create_feature($name, enabled => false)");
	$mon->ok("SELECT resilience.create_health_check($name, 'connections', check_interval => '1 h', timeout => '1 s')");
	$mon->ok("SELECT resilience.create_runaway_rule($name, application_name => 'nobody', max_duration => '1 h')");
	$mon->ok("SELECT resilience.force_breaker($name, 'open')");
	$mon->ok("SELECT resilience.set_feature($name, false, $name)");
	$mon->ok("SELECT resilience.alter_bulkhead($name, max_running => 0, max_waiting => 1)");

	my $app = connect_to($node, user => 'app', application_name => "n$n");
	$mon->ok("SELECT resilience.alter_bulkhead($name, max_waiting => 0)");
	my $error = $app->query('SELECT 1')->{error};
	is($error->{C}, '53R01', "a bulkhead of the name no. $n refuses");
	is($error->{M}, qq(bulkhead "$names[$n]" is full), 'and says its name');
	is($admin->query("SELECT resilience.call_with_breaker($name, 'SELECT 1')")->{error}{M}, qq(circuit breaker "$names[$n]" is open),
		'as a breaker does');
	is($mon->query("SELECT * FROM resilience.run_feature($name, 'SELECT 1') AS (a int)")->{error}{M}, qq(feature "$names[$n]" is off),
		'and a feature');
	$app->close;
}
for my $view (qw(bulkheads breakers features health_checks runaway_rules))
{
	is_deeply([ sort map { $_->[0] } @{ $mon->query("SELECT name FROM resilience.$view")->{rows} } ], [ sort @names ],
		"$view has the names as they are");
}
is($mon->value('SELECT count(*) FROM resilience.bulkheads'), scalar @names, 'nothing was dropped');

# --- JSON: events, notifications

my %seen;
for my $row (@{ $mon->query('SELECT object, detail FROM resilience.events')->{rows} })
{
	my $detail = decode_json($row->[1] // '{}');

	$seen{ $row->[0] }++;
	fail("a pair was forged by the name $row->[0]") if exists $detail->{forged};
}
is(scalar(grep { $seen{$_} } @names), scalar @names, 'the events of all objects have details that are JSON');
my %told;
wait_until('listeners were told of all', sub {
	$listener->ok('SELECT 1');
	for my $n (@{ $listener->{notifications} || [] })
	{
		my $event = eval { decode_json($n->{payload}) };

		fail("a payload that is no JSON: $n->{payload}") unless $event;
		fail('a pair was forged in a payload') if $event && exists $event->{detail}{forged};
		$told{ $event->{object} // '' } = 1 if $event;
	}
	return !grep { !$told{$_} } @names;
});
pass('payloads are JSON, with the names as they are');

# --- a role whose name would end a text

$mon->ok(q{CREATE ROLE "x"" forged=""1" LOGIN SUPERUSER});
my $odd = connect_to($node, user => 'x" forged="1');
$odd->ok(q{SELECT resilience.create_bulkhead('by odd', application_name => 'nobody')});
$odd->ok(q{SELECT resilience.create_feature('by odd')});
$odd->ok(q{SELECT resilience.set_feature('by odd', false)});
$odd->ok(q{SELECT resilience.create_experiment('by odd', 'latency', delay => '1 ms', role_name => 'app')});
is($mon->value(q{SELECT count(*) FROM resilience.events WHERE object = 'by odd' AND detail ? 'forged'}), 0, 'forges no pair of an event');
is($mon->value(q{SELECT string_agg(DISTINCT detail->>'role', ',') FROM resilience.events WHERE object = 'by odd' AND detail ? 'role'}),
	q{x' forged='1}, 'but is named in it');

# --- tags are of anybody

$mon->ok(q{SELECT resilience.create_bulkhead('tags', tag => 'k', role_name => 'app', max_running => 0)});
my $app = connect_to($node, user => 'app');
my $error = $app->query(q{SELECT 1 /*k='a%0aFATAL:%20forged%1b%5b31m%22%20limit=%22%00%ff'*/})->{error};
is($error->{C}, '53R01', 'a tag');
unlike($error->{D}, qr/[\x00-\x1f\x7f]/, 'has no control characters in a DETAIL');
like($error->{D}, qr/compartment="a\\x0aFATAL: forged\\x1b\[31m/, 'but what stands for them');
unlike($mon->value('SELECT string_agg(value, \'\') FROM resilience.compartments'), qr/[\x00-\x1f\x7f]/, 'nor in the view');

# --- metrics

my $metrics = $mon->value('SELECT resilience.prometheus_metrics()');
my @bad = grep { !/^(?:# (?:HELP|TYPE) \S+ .*|[a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? \S+|)$/ } split /\n/, $metrics;
is_deeply(\@bad, [], 'every line of the metrics is one of the format');
unlike($metrics, qr/^up\{/m, 'no name makes a sample');
ok(!(grep { !defined eval { decode_json($_->[0]); 1 } } @{ $mon->query('SELECT labels::text FROM resilience.metrics')->{rows} }), 'labels are JSON');

# --- the endpoint

SKIP:
{
	skip 'built without libmicrohttpd', 1 unless $have_http;
	wait_until('it is there', sub { get($at, '/live')->{status} == 200 });
	my $health = json_of(get($at, '/health'));
	is(scalar(grep { my $c = $_; grep { $c->{name} eq $_ } @names } grep { $_->{kind} eq 'breaker' } @{ $health->{components} }),
		scalar @names, 'JSON has all the names');
	for my $page ('/', '/status')
	{
		my $html = get($at, $page)->{body};

		$html =~ s{<script.*?</script>}{}s if $page eq '/';    # its own one
		unlike($html, qr/$tagged/, "$page makes no element of a name");
		like($html, qr/&lt;script&gt;alert/, 'but shows it');
		unlike($html, qr/[\x00-\x08\x0b-\x1f\x7f]/, 'without control characters');
	}
	like(get($at, '/')->{headers}{'content-security-policy'}, qr/default-src 'none'/, 'and no script of anybody would run');
}

# --- the log

my $log = slurp_file($node->logfile);
unlike($log, qr/^FATAL:  forged/m, 'no name begins a line of the log');
unlike($log, qr/\(null\)|%1\$s is|\x00/, 'nor is it a format');

for my $name (map { literal($_) } @names)
{
	$mon->ok("SELECT resilience.drop_feature($name), resilience.drop_breaker($name), resilience.drop_health_check($name)");
	$mon->ok("SELECT resilience.drop_bulkhead($name), resilience.drop_runaway_rule($name)");
}
$node->stop;
done_testing();
