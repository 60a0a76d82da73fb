# Many values in few compartments, all the time: never more of one value at
# once than the limit, and nothing stays behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $compartments = 16;
my $node = preloaded_node('churn', conf => "resilience.max_compartments = $compartments\n");
my $mon = monitor($node);

# An advisory lock tells if another one of the same value is at work.
$mon->ok(q{
CREATE FUNCTION alone(t int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT pg_try_advisory_lock(t) THEN RAISE 'there are two of %', t; END IF;
	PERFORM count(*) FROM pg_class;
	PERFORM pg_advisory_unlock(t);
END $$;
SELECT resilience.create_bulkhead('tenants', role_name => 'app', tag => 'tenant', max_running => 1,
	max_waiting => 100, max_wait => '1 min')});

my $dir = PostgreSQL::Test::Utils::tempdir();
my %scripts = (
	alone => "\\set t random(1, 60)\nSELECT alone(:t) /*tenant='t:t'*/;\n",
	same => "SELECT alone(7) /*tenant='t7'*/;\n",
	several => "\\set t random(1, 60)\nBEGIN;\nSELECT alone(:t) /*tenant='t:t'*/;\nSELECT 1 /*tenant='o:t'*/;\nCOMMIT;\n",
	idle => "\\set t random(1, 60)\nBEGIN;\nSELECT 1 /*tenant='i:t'*/;\n\\sleep 130 ms\nSELECT 1;\nCOMMIT;\n",
	fails => "\\set t random(1, 60)\nSELECT CASE WHEN :t > 0 THEN 1/(:t - :t) END /*tenant='f:t'*/;\n");
for my $name (keys %scripts)
{
	open(my $file, '>', "$dir/$name.sql") or die "$name: $!";
	print $file $scripts{$name};
	close $file;
}

sub pgbench
{
	my ($clients, $seconds, @scripts) = @_;
	my $log = '';

	return {
		log => \$log,
		h => IPC::Run::start(
			[ 'pgbench', '-n', '-c', $clients, '-j', 1, '-T', $seconds, '-h', $node->host, '-p', $node->port,
				'-U', 'app', (map { ('-f', "$dir/$_.sql") } @scripts), 'postgres' ],
			'>', \$log, '2>&1', IPC::Run::timeout(60))
	};
}

my @runs = (pgbench(5, 6, qw(alone same several)), pgbench(3, 6, 'idle'));
my $end = time() + 5;
my ($looks, $most) = (0, 0);
while (time() < $end)
{
	# short-lived sessions and errors: pgbench gives up at the first one
	my $client = connect_to($node, user => 'app');
	$client->query(q{SELECT 1/0 /*tenant='e} . int(rand(60)) . q{'*/});
	$client->send(q{SELECT pg_sleep(10) /*tenant='c} . int(rand(60)) . q{'*/});
	sleep 0.01;
	$looks % 2 ? $client->cancel : $mon->ok("SELECT pg_terminate_backend($client->{pid})");
	$client->result;
	$client->close;
	my $now = $mon->value('SELECT max(running) FROM resilience.compartments WHERE value IS NOT NULL');
	$most = $now if defined $now && $now > $most;
	$looks++;
}
for my $run (@runs)
{
	$run->{h}->finish;
	ok($run->{h}->result(0) == 0, 'pgbench') || diag(${ $run->{log} });
	unlike(${ $run->{log} }, qr/there are two|ERROR/, 'no error, no two of one value at once');
	my ($n) = ${ $run->{log} } =~ /number of transactions actually processed: (\d+)/;
	note("$n transactions");
}
note("$looks looks, at most $most running in one");

all_zero($mon, 'after the storm');
is($mon->value('SELECT no_compartment_total FROM resilience.bulkheads'), 0, 'there was always a compartment');
is($mon->value('SELECT count(DISTINCT value) = count(*) FROM resilience.compartments'), 't', 'none is there twice');

# all compartments can be had: nothing is left pinned, and each takes one
my @clients = map { connect_to($node, user => 'app') } 1 .. $compartments;
$clients[$_]->send("SELECT pg_sleep(1000) /*tenant='end$_'*/") for 0 .. $#clients;
wait_for_value($mon, q{SELECT count(*) FROM resilience.compartments WHERE value LIKE 'end%' AND running = 1},
	$compartments);
pass('all compartments are free to be used');
is($mon->value('SELECT no_compartment_total FROM resilience.bulkheads'), 0, 'and none was missing');
for (@clients) { $_->cancel; $_->result }
all_zero($mon, 'at the end', connections => 0);
$node->stop;
done_testing();
