# The dashboard: what Grafana's model of dashboards asks for, expressions that
# Prometheus understands, and metrics that a live server has, which the rules
# need, too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use GrafanaTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrometheusTest;
use ResilienceTest;
use Test::More;

plan skip_all => 'no promtool here' unless have_monitoring('promtool');

# A server that has something of each kind, all of one name: what the texts call
# NAME can be run as it stands
my $node = preloaded_node('watched', conf => "resilience.max_running = 8\nresilience.http_listen = '127.0.0.1:"
	  . PostgreSQL::Test::Cluster::get_free_port() . "'\n");
my $mon = monitor($node);
$mon->ok(q{SELECT resilience.create_bulkhead('NAME', role_name => 'app', max_running => 2);
	SELECT resilience.create_breaker('NAME');
	SELECT resilience.create_feature('NAME', breaker => 'NAME');
	SELECT resilience.create_health_check('NAME', query => 'SELECT 1', critical_threshold => 5, check_interval => '1 s', timeout => '500 ms');
	SELECT resilience.create_experiment('NAME', 'latency', delay => '1 ms', role_name => 'app');
	SELECT resilience.retry('SELECT 1')});
$mon->ok(q{SELECT resilience.force_breaker('NAME', 'open'); SELECT resilience.force_breaker('NAME', 'auto')});
wait_for_value($mon, q{SELECT resilience.prometheus_metrics() ~ 'resilience_health_check_value'}, 't');
wait_for_value($mon, q{SELECT resilience.prometheus_metrics() ~ 'resilience_degradation_events_total'}, 't');
my $metrics = metric_names($mon->value('SELECT resilience.prometheus_metrics()'));
cmp_ok(scalar keys %$metrics, '>', 50, 'the server has metrics');

my $text = monitoring_file('grafana/resilience.json');
my $dashboard = JSON::PP->new->utf8->decode($text);
is(join("\n", dashboard_problems($text, metrics => $metrics)), '', 'nothing is wrong with the dashboard');

# It has what was promised
my @rows = map { $_->{title} } grep { $_->{type} eq 'row' } dashboard_panels($dashboard);
is(join(', ', @rows),
	'Is it well?, Load, by priority, Bulkheads, Circuit breakers, Retries, Features and degradations, Health checks, Chaos, The extension itself',
	'rows');
is(join(', ', map { $_->{name} } @{ $dashboard->{templating}{list} }), 'datasource, job, instance, database', 'variables');
is(scalar(grep { $_->{expr} && $_->{expr} =~ /^resilience_experiment_state.* == 2$/ } @{ $dashboard->{annotations}{list} }),
	1, 'experiments are annotations');

# Which of the server's metrics does nobody look at?
my %used = map { $_ => 1 } map { used_metrics($_->{expr}) } dashboard_targets($dashboard);
note('not on the dashboard: ' . join(' ', grep { !$used{$_} } sort keys %$metrics));

# The rules
for my $rule (rules_of(monitoring_file('prometheus/alerts.yml')), rules_of(monitoring_file('prometheus/recording.yml')))
{
	is(join(' ', grep { !$metrics->{$_} } used_metrics($rule->{expr})), '', "$rule->{name}: its metrics are there");
}

# The exporters' one query has all labels that there are
my %labels = map { %$_ } values %$metrics;
for my $file ('postgres_exporter/queries.yml', 'sql_exporter/resilience.yml')
{
	my $config = monitoring_file($file);

	is(join(' ', grep { $config !~ /labels->>'$_'/ } sort keys %labels), '', "$file: all labels");
}

# What the alerts and their documentation tell to look at can be run
my @statements = map { $_->{kind} eq 'alert' ? $_->{description} =~ /\b((?:SELECT|SHOW) [^;]*);/g : () }
  rules_of(monitoring_file('prometheus/alerts.yml'));
my $document = slurp_file("$FindBin::RealBin/../../docs/monitoring.md");
push @statements, map { split /;\n/ } $document =~ /^ *```sql\n(.*?)^ *```/msg;
push @statements, grep { !/\n/ } $document =~ /`((?:SELECT|SHOW) [^`]*)`/g;
cmp_ok(scalar @statements, '>', 30, 'statements');
for my $statement (grep { /\S/ && !/\.\.\.|\$labels|backend_pid/ } @statements)
{
	$statement =~ s/\bPID\b/0/g;
	$statement =~ s/\(NAME\b/('NAME'/g;
	my $result = $mon->query($statement);

	ok(!$result->{error}, $statement =~ s/\s+/ /gr) or diag($result->{error}{M});
}

# What checks must find what is wrong
sub finds
{
	my ($what, $pattern, $break) = @_;
	my $broken = JSON::PP->new->utf8->decode($text);

	$break->($broken);
	my @problems = dashboard_problems(JSON::PP->new->utf8->canonical->encode($broken), metrics => $metrics);
	return like(join("\n", @problems), $pattern, "it finds $what");
}
finds('a panel upon another', qr/^panel 3: overlaps panel 2$/m, sub { $_[0]{panels}[2]{gridPos}{x} = 1 });
finds('a panel that is too far right', qr/outside of the 24 columns/, sub { $_[0]{panels}[2]{gridPos}{x} = 22 });
finds('an id that is there twice', qr/the id is there twice/, sub { $_[0]{panels}[2]{id} = 2 });
finds('an old schema', qr/schemaVersion/, sub { $_[0]{schemaVersion} = 16 });
finds('a string for a number', qr/gridPos\.w is no number/, sub { $_[0]{panels}[2]{gridPos}{w} = '4' });
finds('another data source', qr/another data source/, sub { $_[0]{panels}[1]{targets}[0]{datasource}{uid} = 'P1809F7CD0C75ACF3' });
finds('a variable that is not defined', qr/variable cluster is not defined/, sub { $_[0]{panels}[1]{targets}[0]{expr} =~ s/\$job/\$cluster/ });
finds('a variable that is missing', qr/variable database is not defined/, sub { pop @{ $_[0]{templating}{list} } });
finds('what is no PromQL', qr/parse error/, sub { $_[0]{panels}[1]{targets}[0]{expr} .= ' by (' });
finds('a metric that is not there', qr/metric resilience_no_such_total is not there/, sub { $_[0]{panels}[1]{targets}[0]{expr} = 'resilience_no_such_total' });
finds('a label that is not there', qr/label nothing of a legend/, sub { $_[0]{panels}[1]{targets}[0]{legendFormat} = '{{nothing}}' });
finds('an unknown type of panel', qr/type is not one of/, sub { $_[0]{panels}[1]{type} = 'graph' });
finds('an option that is missing', qr/options\.reduceOptions is no object/, sub { delete $_[0]{panels}[1]{options}{reduceOptions} });
finds('an unknown field', qr/field allValues is unknown/, sub { $_[0]{allValues} = 1 });
finds('thresholds in disorder', qr/thresholds are not in order/, sub { push @{ $_[0]{panels}[2]{fieldConfig}{defaults}{thresholds}{steps} }, { color => 'red', value => 0 } });
finds('no JSON', qr/field panels|panels is no array/, sub { $_[0]{panels} = 1 });

$node->stop;
done_testing();
