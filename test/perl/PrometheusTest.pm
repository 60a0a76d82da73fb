# The real tools of monitoring, for the tests: promtool, Prometheus and the two
# exporters, as Debian has them.  What is started is ended with the test.

package PrometheusTest;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;

our @EXPORT = qw(
  have_monitoring monitoring_file promtool rules_of metric_names used_metrics
  start_tool end_tool fetch start_prometheus query_prometheus alerts_of fast_copy
);

my @programs = qw(prometheus promtool prometheus-postgres-exporter prometheus-sql-exporter);
my %tools;

sub find_program
{
	my ($name) = @_;

	for my $folder (split(/:/, $ENV{PATH}), '/usr/bin')
	{
		return "$folder/$name" if -x "$folder/$name";
	}
	return;
}

# Are they there?  All of them, or the tests are skipped.
sub have_monitoring
{
	return !grep { !find_program($_) } @_ ? @_ : @programs;
}

# A file of monitoring/, or its path.
sub monitoring_file
{
	my ($name, %params) = @_;
	my $path = "$FindBin::RealBin/../../monitoring/$name";

	return $params{path} ? $path : slurp_file($path);
}

# Run promtool: success, and all that it said.
sub promtool
{
	my $out = '';
	my $ok = IPC::Run::run([ find_program('promtool'), @_ ], '>&', \$out);

	return ($ok, $out);
}

# The rules of a file as hashes, by the part of YAML that they are written in:
# alert or record, expr, for, labels and annotations as text.
sub rules_of
{
	my ($text) = @_;
	my @rules;

	for my $part (split(/^      - (?=alert:|record:)/m, $text))
	{
		next unless $part =~ /^(alert|record): (\S+)\n/;
		my %rule = (kind => $1, name => $2, text => $part);

		$rule{$1} = $2 while $part =~ /^        (\w+): (?!\|)(\S.*)$/mg;
		while ($part =~ /^( +)(\w+): \|\n((?:\1 +.*\n|\n)+)/mg)
		{
			$rule{$2} = $3;
		}
		$rule{$1} = $2 while $part =~ /^          (\w+): (?!\|)(\S.*)$/mg;
		push @rules, \%rule;
	}
	return @rules;
}

# Names of metrics in an exposition, with the labels they have.
sub metric_names
{
	my ($text) = @_;
	my %names;

	for (split /\n/, $text)
	{
		next unless /^([a-z_]+)(?:\{(.*)\})? \S+$/;
		my ($name, $labels) = ($1, $2 // '');

		$names{$name} //= {};
		$names{$name}{$1} = 1 while $labels =~ /(\w+)="(?:[^"\\]|\\.)*"/g;
	}
	return \%names;
}

# The metrics of ours that an expression uses.
sub used_metrics
{
	my ($expr) = @_;

	$expr =~ s/"(?:[^"\\]|\\.)*"//g;
	my %used = map { $_ => 1 } $expr =~ /(?<![\w:])(resilience_[a-z_]+)(?![\w:])/g;
	return sort keys %used;
}

# Start a program: name, environment, arguments.  It would end by itself, too,
# should nobody be there to end it.
sub start_tool
{
	my ($name, $env, @args) = @_;
	my $log = "$PostgreSQL::Test::Utils::log_path/$name.log";
	my $program = find_program($name);
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open(STDOUT, '>>', $log);
		open(STDERR, '>&', \*STDOUT);
		$ENV{$_} = $env->{$_} for keys %$env;
		exec('timeout', '-k', '5', '200', $program, @args) or POSIX::_exit(127);
	}
	$tools{$pid} = $name;
	return $pid;
}

sub end_tool
{
	my ($pid) = @_;

	return unless delete $tools{$pid};
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

$SIG{TERM} = $SIG{INT} = sub { exit 1 };

END
{
	my $status = $?;
	end_tool($_) for keys %tools;
	$? = $status;
}

# The page at an address, with arguments of a query; undef if there is none.
sub fetch
{
	my ($at, $path, %args) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'curl', '--noproxy', '*', '-s', '-f', '-m', '10', '-G',
			(map { ('--data-urlencode', "$_=$args{$_}") } sort keys %args), "http://$at$path" ],
		'>', \$out, '2>', \$err) or return;
	return $out;
}

# Start Prometheus with a configuration that is in that folder, and wait until
# it answers.
sub start_prometheus
{
	my ($at, $folder) = @_;
	my $pid = start_tool('prometheus', {}, "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/data",
		"--web.listen-address=$at", '--log.level=warn');

	wait_until('Prometheus answers', sub { defined fetch($at, '/-/ready') });
	return $pid;
}

# A query now: the results, each a hash of metric (labels) and value; dies of
# an error.
sub query_prometheus
{
	my ($at, $expr) = @_;
	my $page = fetch($at, '/api/v1/query', query => $expr) // die "no answer to $expr";

	return @{ JSON::PP->new->decode($page)->{data}{result} };
}

# The alerts that fire.
sub alerts_of
{
	my ($at, $name, %labels) = @_;
	my $page = fetch($at, '/api/v1/alerts') // return;

	return grep {
		my $alert = $_;

		$alert->{state} eq 'firing' && $alert->{labels}{alertname} eq $name
		  && !grep { ($alert->{labels}{$_} // '') ne $labels{$_} } keys %labels
	} @{ JSON::PP->new->decode($page)->{data}{alerts} };
}

# The same rules or configuration with minutes for seconds: nobody waits for
# minutes here.
sub fast_copy
{
	my ($text) = @_;

	$text =~ s/^(\s+(?:for|keep_firing_for): \d+)m$/$1s/mg;
	$text =~ s/\[(\d+)m\]/[$1s]/g;
	return $text;
}

1;
