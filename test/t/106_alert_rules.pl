# The rules of monitoring/prometheus: accepted by promtool without a remark, and
# their unit tests, which must fail without them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use PrometheusTest;
use Test::More;

plan skip_all => 'no promtool here' unless have_monitoring('promtool');

my $tests = "$FindBin::RealBin/../monitoring";
my $alerts = monitoring_file('prometheus/alerts.yml');
my $recording = monitoring_file('prometheus/recording.yml');
my $document = slurp_file("$FindBin::RealBin/../../docs/monitoring.md");

for my $name ('alerts.yml', 'recording.yml')
{
	my ($ok, $out) = promtool('check', 'rules', monitoring_file("prometheus/$name", path => 1));

	ok($ok && $out =~ /SUCCESS: \d+ rules found\s*$/, "$name is accepted") or diag($out);
	($ok, $out) = promtool('test', 'rules', "$tests/$name");
	ok($ok, "the unit tests of $name pass") or diag($out);
}
my ($ok, $out) = promtool('check', 'config', monitoring_file('prometheus/prometheus.yml', path => 1));
ok($ok, 'prometheus.yml is accepted') or diag($out);

# The unit tests with other rules: what promtool complains of
sub complaints
{
	my ($name, $rules) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $test = slurp_file("$tests/$name");

	$test =~ s{\.\./\.\./monitoring/prometheus/}{} or die 'no rule_files';
	append_to_file("$folder/$name", $rules);
	append_to_file("$folder/test.yml", $test);
	$test =~ s{- \Q$name\E$}{- $folder/$name}m;
	return (promtool('test', 'rules', "$folder/test.yml"))[1];
}

my @alerts = rules_of($alerts);
my @records = rules_of($recording);
is(scalar @alerts, scalar(() = $alerts =~ /^ *- alert:/mg), 'all alerts were read');
is(scalar @records, scalar(() = $recording =~ /^ *- record:/mg), 'all recording rules, too');

# Each must be missed when it is not there, or comes at once
my $nothing = "groups:\n  - name: none\n    rules:\n      - record: none\n        expr: vector(1)\n";
my $missed = complaints('alerts.yml', $nothing);
my $too_early = complaints('alerts.yml', $alerts =~ s/^ +for: .*\n//mgr);
my $not_kept = complaints('alerts.yml', $alerts =~ s/^ +keep_firing_for: .*\n//mgr);
my $test = slurp_file("$tests/alerts.yml");
for my $alert (@alerts)
{
	my $name = $alert->{name};
	my $where = $name . ($alert->{severity} ? " ($alert->{severity})" : '');

	like($missed, qr/exp:.*alertname="$name".*severity="$alert->{severity}"/, "$where: the unit tests miss it");
	like($too_early, qr/ALERTS\{alertname=\\"$name\\"/, "$where: and see it come too early") if $alert->{for};

	# What somebody needs who is woken
	like($alert->{severity}, qr/^(critical|warning|info)$/, "$where: severity");
	like($alert->{summary}, qr/\S/, "$where: summary");
	like($alert->{description}, qr/Look: .*(SELECT|SHOW) .*;/, "$where: the description says where to look");
	my ($anchor) = $alert->{runbook_url} =~ /^docs\/monitoring\.md#(.*)$/;
	is($anchor, lc $name, "$where: the link");
	like($document, qr/^#+ $name$/m, "$where: is in the documentation");

	# The labels that its texts name are there when it fires
	my ($example) = $test =~ /(ALERTS\{alertname="$name",alertstate="firing",severity="$alert->{severity}".*)'/;
	for my $label ("$alert->{summary}$alert->{description}" =~ /\$labels\.(\w+)/g)
	{
		next if $label eq 'instance' && $name eq 'ResilienceMetricsMissing';
		like($example, qr/\b$label="/, "$where: has the label $label");
	}
}
like($not_kept, qr/CircuitBreakerOpen/, 'the unit tests see alerts that come and go');

# What is in the summary depends on what is wrong: the same rules at once, and
# without the long texts, which promtool wants to compare, too
my $short = $alerts =~ s/^ +(?:for|keep_firing_for|runbook_url): .*\n//mgr =~ s/^ {10}description: \|\n(?: {12}.*\n)+//mgr;
my @summaries = (
	[ 'resilience_health_check_status{instance="a",check="c",kind="sql",database="d",critical="false"}', 3,
		'HealthCheckFailing', 'warning', 'Health check c on a is unhealthy' ],
	[ 'resilience_health_check_status{instance="a",check="c",kind="sql",database="d",critical="true"}', 0,
		'HealthCheckFailing', 'warning', 'Health check c on a is unknown' ],
	[ 'resilience_feature_state{instance="a",feature="f",database="d"}', 1,
		'DegradedTooLong', 'warning', 'Feature f on a has been degraded for half an hour' ],
	[ 'resilience_health_status{instance="a"}', 2,
		'DegradedTooLong', 'warning', 'a has been degraded for half an hour' ],
	[ 'up{instance="a",job="resilience"}', 0,
		'ResilienceMetricsMissing', 'critical', 'No metrics of resilience from a' ],
	[ 'up{instance="a",job="other"}', 0,
		'ResilienceMetricsMissing', 'critical', 'No metrics of resilience from any server' ]);
my $cases = '';
for my $case (@summaries)
{
	my ($series, $value, $name, $severity, $summary) = @$case;
	my ($labels) = $series =~ /\{(.*)\}/;
	my $expected = $summary =~ /any server/ ? '' : join('', map { "            $_\n" } map { s/=/: /r } split(/,/, $labels));

	$cases .= "  - interval: 30s\n    input_series:\n      - series: '$series'\n        values: '${value}x9'\n"
	  . "    alert_rule_test:\n      - eval_time: 1m\n        alertname: $name\n        exp_alerts:\n        - exp_labels:\n"
	  . "            severity: $severity\n$expected          exp_annotations:\n            summary: $summary\n";
}
my $folder = PostgreSQL::Test::Utils::tempdir();
append_to_file("$folder/short.yml", $short);
append_to_file("$folder/summaries.yml", "rule_files:\n  - short.yml\nevaluation_interval: 30s\ntests:\n$cases");
($ok, $out) = promtool('test', 'rules', "$folder/summaries.yml");
ok($ok, 'the summaries say what is wrong') or diag($out);

my $unrecorded = complaints('recording.yml', $nothing);
for my $record (@records)
{
	like($unrecorded, qr/\Q$record->{name}\E/, "$record->{name}: the unit tests miss it");
	like($record->{name}, qr/^[a-z_]+:resilience_[a-z_]+:[a-z0-9_]+$/, 'its name');
}

# Those that were promised
is(join(' ', sort { $a cmp $b } keys %{ { map { $_->{name} => 1 } @alerts } }),
	'BulkheadSaturated ChaosRunning CircuitBreakerFlapping CircuitBreakerOpen DegradedTooLong HealthCheckFailing HighRetryRate'
	  . ' LoadSheddingActive ResilienceMetricsMissing ResilienceWorkerStale RetryBudgetExhausted',
	'the alerts');

done_testing();
