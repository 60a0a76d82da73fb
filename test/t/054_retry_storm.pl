# Statements that come back soon after a refusal are counted, and have a
# budget: beyond it they find no place in the queue.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('storm', roles => ['app'], conf => "compute_query_id = off\n");
my $mon = monitor($node);

sub app { return connect_to($node, user => 'app', @_) }

sub retried
{
	my ($name) = @_;
	return $mon->value(
		defined $name
		? "SELECT retried_total FROM resilience.bulkheads WHERE name = '$name'"
		: q{SELECT retried_total FROM resilience.load_by_priority WHERE priority = 'normal'});
}

sub message { return $_[0]->{error} ? $_[0]->{error}{M} : 'no error' }

# A full queue for one: everybody else is refused
my $holder = app();
my $waiter = app();
my $client = app();
my $bystander = app();

for my $name ('b', undef)
{
	my $label = $name ? 'bulkhead' : 'server';
	my $code = $name ? '53R01' : '53R02';

	if ($name)
	{
		$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 1,
			max_wait => '10 min')});
	}
	else
	{
		$mon->ok(q{SELECT resilience.drop_bulkhead('b'); ALTER ROLE app SET resilience.max_wait = '10min'});
		$_->close for ($holder, $waiter, $client, $bystander);
		($holder, $waiter, $client, $bystander) = map { app() } 1 .. 4;
		set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 1);
	}
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $name, 1);
	$waiter->send('SELECT 0');
	wait_waiting($mon, $name, 1);

	# what is a retry
	error_is($client->query('SELECT 1'), $code, "$label: refused");
	is(retried($name), 0, "$label: a first attempt is no retry");
	error_is($client->query('SELECT 2'), $code, "$label: refused");
	is(retried($name), 0, "$label: another statement is none");
	error_is($client->query('SELECT 2'), $code, "$label: refused");
	is(retried($name), 1, "$label: the same one is");
	error_is($bystander->query('SELECT 2'), $code, "$label: refused");
	is(retried($name), 1, "$label: not in another session");
	$client->query('SELECT 3; SELECT 4');
	$client->query('SELECT 4; SELECT 3');
	is(retried($name), 1, "$label: of several statements in a string the one that was refused counts");
	$client->query('SELECT 4');
	is(retried($name), 2, "$label: wherever it comes from");
	$client->ok(q(SET resilience.deadline = '1ms'));
	my $told = detail_of($client->query('SELECT 5'), 'retry_after_ms');
	$client->ok('RESET resilience.deadline');
	sleep(($told < 1000 ? 1 : $told / 1000) + 0.1);
	$client->query('SELECT 5');
	is(retried($name), 2, "$label: who waits for long enough is none");

	# the budget: at some time it is used up
	my ($retries, $result) = (0);
	do
	{
		$result = $client->query('SELECT 6');
		$retries++;
	} until message($result) =~ /came back too soon/ || $retries > 100000;
	error_is($result, $code, "$label: after $retries attempts without a pause the client came back too soon");
	cmp_ok($retries, '>=', 19, "$label: a few are let");
	cmp_ok(detail_of($result, 'retry_after_ms'), '>=', 1000, "$label: it is told when to come");
	is(detail_of($result, 'started'), 'false', "$label: that nothing was started");
	like($result->{error}{H}, qr/longer after each refusal/, "$label: and what to do");

	# it has no place in the queue, though there is one; others have
	if ($name) { $mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 100)}) }
	else { set_conf($mon, 'resilience.max_waiting' => 100) }
	my $refused = 0;
	for (1 .. 200)
	{
		# ten a second are let into the queue: use those up, without waiting
		$client->ok(q(SET resilience.deadline = '1ms'));
		my $r = $client->query('SELECT 7');
		$client->ok('RESET resilience.deadline');
		next if message($r) !~ /came back too soon/;
		$client->send('SELECT 7');
		if ($client->done(5)) { $result = $client->result; $refused = 1; last }
		$client->cancel;
		$client->result;
	}
	ok($refused, "$label: no place in the queue");
	like(message($result), qr/came back too soon/, "$label: for that reason");
	$bystander->send('SELECT 8');
	wait_waiting($mon, $name, 2);
	pass("$label: others wait in it");

	# and when the pause is kept, it has one
	sleep(detail_of($result, 'retry_after_ms') / 1000 + 0.1);
	$client->send('SELECT 7');
	wait_waiting($mon, $name, 3);
	$holder->cancel;
	$holder->result;
	error_is($_->result, 'no error', "$label: served") for ($waiter, $bystander, $client);
	cmp_ok(retried($name), '>', 20, "$label: retries are counted");
	$mon->ok('SELECT resilience.reset_statistics()');
	is(retried($name), 0, "$label: a total like the others");
}

# With query ids constants do not matter
set_conf($mon, 'resilience.max_waiting' => 0);
$_->close for ($client);
$mon->ok('ALTER ROLE app SET compute_query_id = on');
$client = app();
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$client->query("SELECT $_") for 1 .. 3;
is(retried(undef), 2, 'the same query id is a retry, whatever the constants');
$client->query("SELECT $_") for 1 .. 100;
unlike(message($client->query('SELECT 1')), qr/too soon/, 'without a queue a refusal is what it was');

# The lever
$mon->ok('SELECT resilience.reset_statistics()');
set_conf($mon, 'resilience.minimum_priority' => 'high');
sleep 1.1;
$client->query('SELECT 1') for 1 .. 2;
is(retried(undef), 1, 'what the minimum priority refuses counts, too');
set_conf($mon, 'resilience.minimum_priority' => undef);
$holder->cancel;
$holder->result;

$_->close for ($holder, $waiter, $client, $bystander);
all_zero($mon, 'at the end');
done_testing();
