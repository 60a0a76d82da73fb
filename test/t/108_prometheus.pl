# Prometheus itself, with the files of monitoring/: it scrapes a server by its
# endpoint and through both exporters, and sees the same; an alert fires when a
# breaker opens because its server fails, and resolves; a game day; a process
# that stands still.  The files are the shipped ones, with seconds for minutes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use GrafanaTest;
use HttpTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrometheusTest;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

plan skip_all => 'no Prometheus, or no exporters, here' unless have_monitoring();
plan skip_all => 'built without libmicrohttpd' unless have_endpoint();

my ($endpoint, $postgres_exporter, $sql_exporter, $at) = map { '127.0.0.1:' . free_port() } 1 .. 4;
my $node = local_node(
	'shop',
	roles => [qw(app)],
	conf => "resilience.http_listen = '$endpoint'\nresilience.max_running = 20\n");
my $mon = monitor($node);
my $host = $node->host;
my $port = $node->port;

# Two servers, of which one is away
$mon->ok('CREATE TABLE t (id int, v int)');
$mon->ok('INSERT INTO t VALUES (1, 1)');
for my $name (qw(billing stock))
{
	add_server($mon, $name, $node, tables => ['t']);
	$mon->ok("GRANT USAGE ON FOREIGN SERVER $name TO app");
	$mon->ok("SELECT resilience.create_breaker('$name', server => '$name', max_failures => 3, reset_timeout => '1 s',"
		  . " max_reset_timeout => '1 s', success_threshold => 1, jitter => 0)");
}
$mon->ok(q{SELECT resilience.create_bulkhead('reports', role_name => 'app', max_running => 5);
	SELECT resilience.create_feature('suggestions', breaker => 'billing');
	SELECT resilience.create_health_check('well', query => 'SELECT 1', critical_threshold => 5, check_interval => '1 s', timeout => '500 ms');
	SELECT resilience.create_experiment('game day', 'foreign_error', probability => 1, server => 'stock', max_injections => 100000);
	SELECT resilience.retry('SELECT 1')});
$mon->ok("$_") for (
	'CREATE ROLE resilience_exporter LOGIN IN ROLE pg_monitor CONNECTION LIMIT 3',
	"ALTER ROLE resilience_exporter SET resilience.priority = 'critical'");

# The tools, with the shipped files
my $folder = PostgreSQL::Test::Utils::tempdir();
sub place
{
	my ($name, $text) = @_;

	append_to_file("$folder/$name", $text);
	return;
}
my $config = monitoring_file('prometheus/prometheus.yml');
my %targets = ('localhost:8009' => $endpoint, 'localhost:9187' => $postgres_exporter, 'localhost:9237' => $sql_exporter);
$config =~ s/'\Q$_\E'/'$targets{$_}'/ or die "no target $_" for keys %targets;
# a scrape may not take longer than the interval
$config =~ s/scrape_interval: 15s/scrape_interval: 1s/ or die 'no interval';
$config =~ s/evaluation_interval: 15s/evaluation_interval: 500ms/ or die 'no interval';
place('prometheus.yml', $config);
place($_, fast_copy(monitoring_file("prometheus/$_"))) for ('alerts.yml', 'recording.yml');
my $sql_config = monitoring_file('sql_exporter/resilience.yml');
$sql_config =~ s/interval: 15s/interval: 500ms/ or die 'no interval';
$sql_config =~ s{host=/run/postgresql}{host=$host&port=$port} or die 'no host';
place('sql_exporter.yml', $sql_config);
start_tool('prometheus-postgres-exporter',
	{ DATA_SOURCE_NAME => "user=resilience_exporter host=$host port=$port dbname=postgres sslmode=disable" },
	'--extend.query-path=' . monitoring_file('postgres_exporter/queries.yml', path => 1),
	"--web.listen-address=$postgres_exporter");
start_tool('prometheus-sql-exporter', {}, '-config.file', "$folder/sql_exporter.yml", '-web.listen-address', $sql_exporter);
start_prometheus($at, $folder);

my @jobs = ('resilience', 'resilience-postgres-exporter', 'resilience-sql-exporter');
wait_until('Prometheus has the server three times', sub { 3 == query_prometheus($at, 'resilience_info and on (job, instance) up == 1') });
pass('Prometheus has the server three times');

# The same series, labels and names, on each way
sub series_of
{
	my ($job) = @_;

	return join "\n", sort map {
		my %labels = %{ $_->{metric} };
		my $name = delete $labels{__name__};

		delete @labels{qw(job instance)};
		$name . join(',', map { "$_=$labels{$_}" } sort keys %labels);
	} query_prometheus($at, qq({__name__=~"resilience_.+",job="$job"}));
}
my $series = '';
for my $job (@jobs[ 1, 2 ])
{
	my $other = '';

	# an object may be there in one of them a moment before
	wait_until("$job has the same series", sub { ($series = series_of($jobs[0])) eq ($other = series_of($job)) && $series ne '' }, 10)
	  if series_of($job) ne series_of($jobs[0]);
	is(series_of($job), series_of($jobs[0]), "$job has the same series");
}
cmp_ok(scalar(split(/\n/, series_of($jobs[0]))), '>', 100, 'and they are many');
is($mon->value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'resilience_exporter' AND usesysid IN (SELECT oid FROM pg_roles WHERE rolsuper)"),
	0, 'and the exporters are no superusers');

# What the dashboard shows: its own expressions
my $dashboard = JSON::PP->new->utf8->decode(monitoring_file('grafana/resilience.json'));
my ($panel) = grep { $_->{type} eq 'state-timeline' && $_->{targets}[0]{expr} =~ /circuit_breaker_state/ } dashboard_panels($dashboard);
my $state = plain_expr($panel->{targets}[0]{expr}, '5s');

sub shown_state
{
	my ($breaker) = @_;
	my %values = map { ($_->{metric}{instance} => $_->{value}[1]) } grep { $_->{metric}{breaker} eq $breaker } query_prometheus($at, $state);

	return join(' ', map { $values{$_} // 'none' } ($endpoint, $postgres_exporter, $sql_exporter));
}

# Wait until an alert fires by each way, or no more by any; what goes on
# meanwhile
my $traffic = sub { };
sub alert_fires
{
	my ($name, %labels) = @_;

	wait_until("$name fires", sub { $traffic->(); 3 == alerts_of($at, $name, %labels) }, 30);
	my ($alert) = alerts_of($at, $name, %labels, job => 'resilience');
	my $texts = join("\n", values %{ $alert->{annotations} });

	ok($alert, "$name fires");
	unlike($texts, qr/no value|<error|\{\{|%!/, 'its texts are whole');
	return $texts;
}

sub alert_resolves
{
	my ($name, %labels) = @_;

	wait_until("$name resolves", sub { !alerts_of($at, $name, %labels) }, 30);
	return pass("$name resolves");
}

is(shown_state('billing'), '0 0 0', 'the dashboard shows a closed breaker');
is(scalar(alerts_of($at, 'CircuitBreakerOpen')), 0, 'no alert');

# The server goes away, and sessions fail
my $app = connect_to($node, user => 'app');
$mon->ok("ALTER SERVER billing OPTIONS (SET port '1')");
$app->query('SELECT * FROM billing_t') for 1 .. 3;
is($app->query('SELECT * FROM billing_t')->{error}{C}, '08R01', 'the breaker is open');
like(alert_fires('CircuitBreakerOpen', breaker => 'billing', severity => 'critical'), qr/billing.*docs\/monitoring\.md#circuitbreakeropen|docs\/monitoring\.md#circuitbreakeropen.*billing/s,
	'they name the breaker, and the page');
wait_until('the dashboard shows it', sub { shown_state('billing') =~ /^[12] [12] [12]$/ }, 10);
pass('the dashboard shows it');
is(shown_state('stock'), '0 0 0', 'and the other one as closed');
is(scalar(alerts_of($at, 'CircuitBreakerOpen', breaker => 'stock')), 0, 'of which there is no alert');

# Every expression of the dashboard, while something happens
my @empty;
for my $target (dashboard_targets($dashboard))
{
	my @results = eval { query_prometheus($at, plain_expr($target->{expr}, '5s')) };

	fail("$target->{expr}: $@") if $@;
	push @empty, $target->{expr} unless @results;
}
is(join("\n", grep { !/(?:load_shed|bulkhead_refused|retries|retry_attempts|check_failures|check_timeouts)_total/ } @empty),
	'', 'all have something to show, but those of what did not happen');

# and every recording rule of something that happened
my @unrecorded = grep { !query_prometheus($at, $_) && !/recovery|admission_wait|retries|goodput/ }
  map { $_->{name} } rules_of(monitoring_file('prometheus/recording.yml'));
is("@unrecorded", '', 'the recording rules record');

# It comes back
$mon->ok("ALTER SERVER billing OPTIONS (SET port '$port')");
wait_until('the breaker closes', sub { breaker($mon, 'billing', 'state') eq 'closed' }, 20);
alert_resolves('CircuitBreakerOpen');
is(shown_state('billing'), '0 0 0', 'the dashboard shows it closed');

# In the data it went from closed to open, and back
sub history
{
	my ($breaker) = @_;
	my ($result) = query_prometheus($at, qq(resilience_circuit_breaker_state{job="resilience",breaker="$breaker"}[5m]));
	my $values = join('', map { $_->[1] } @{ $result->{values} });

	return $values =~ s/(.)\g1+/$1/gr;
}
like(history('billing'), qr/^0[12]*2[12]*0$/, 'so it is in the data: ' . history('billing'));
is(history('stock'), '0', 'the other one was closed all the time');

# A game day: an experiment, its alert, the breaker that opens, and the lever
set_conf($mon, 'resilience.chaos' => 'on');
is($app->value('SELECT count(*) FROM stock_t'), 1, 'the server works');
$mon->ok("SELECT resilience.start_experiment('game day')");
like(alert_fires('ChaosRunning', experiment => 'game day', severity => 'info'), qr/stop_all_experiments/, 'which say how to stop it');
wait_until('the breaker opens', sub { ($app->query('SELECT * FROM stock_t')->{error}{C} // '') eq '08R01' }, 10);

# probes find the server well, so that it takes people who go on working
$traffic = sub { $app->query('SELECT * FROM stock_t') };
alert_fires('CircuitBreakerOpen', breaker => 'stock');
$mon->ok('ALTER SYSTEM SET resilience.chaos = off');
$mon->ok('SELECT pg_reload_conf()');
alert_resolves('ChaosRunning');
wait_until('the breaker closes', sub { breaker($mon, 'stock', 'state') eq 'closed' }, 20);
$traffic = sub { };
is($app->value('SELECT count(*) FROM stock_t'), 1, 'the server works again');
alert_resolves('CircuitBreakerOpen');
# by its probes it closes in between
like(history('stock'), qr/^0[012]*2[012]*0$/, 'all of it is in the data: ' . history('stock'));

# A process that stands still; the endpoint, another one, says so
my $launcher = $mon->value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'");
freeze($launcher);
alert_fires('ResilienceWorkerStale', worker => 'launcher', severity => 'critical');
thaw($launcher);
alert_resolves('ResilienceWorkerStale');

# A server that is down: there is an alert although no numbers come
alert_resolves('ResilienceMetricsMissing');
$_->close for ($app, $mon);
$node->stop('immediate');
alert_fires('ResilienceMetricsMissing', severity => 'critical');

done_testing();
