# Waiters whose client has gone leave the queue, and do not run when they have
# got a slot.  Nobody sets client_connection_check_interval here.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('gone', roles => ['app'], conf => q(
log_line_prefix = '%m [%p] %e '
));
my $mon = monitor($node);

$mon->ok(q{CREATE TABLE t (id int);
	GRANT ALL ON t TO app;
	SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 10, max_wait => '10 min');
	ALTER ROLE app SET resilience.max_wait = '10min'});

sub app { return connect_to($node, user => 'app', @_) }

sub gone_total
{
	my ($name) = @_;
	return $mon->value(
		defined $name
		? "SELECT client_gone_total FROM resilience.bulkheads WHERE name = '$name'"
		: q{SELECT sum(client_gone_total) FROM resilience.load_by_priority});
}

my $holder = app();
my $patient = app();
my $waiter;

sub hold
{
	my ($name) = @_;
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $name, 1);
	return;
}

sub let_go
{
	$holder->cancel;
	error_is($holder->result, '57014', 'the holder ends');
	return;
}

for my $name ('b', undef)
{
	my $label = $name ? 'bulkhead' : 'server';

	# Within the queue
	my $start = time();
	hold($name);
	$patient->send('INSERT INTO t VALUES (1) RETURNING id');
	wait_waiting($mon, $name, 1);
	$waiter = app();
	$waiter->send('INSERT INTO t VALUES (2)');
	wait_waiting($mon, $name, 2);
	my $offset = -s $node->logfile;
	$waiter->vanish;
	wait_waiting($mon, $name, 1);
	pass("$label: who is not waited for does not wait");
	is(gone_total($name), 1, "$label: it is counted");
	wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $waiter->{pid}", 0);
	like(slurp_file($node->logfile, $offset),
		qr/\[$waiter->{pid}\] 08006 FATAL:  connection to client lost/, "$label: as PostgreSQL says it");

	# One that comes later, so that the first check is not its last
	$waiter = app();
	$waiter->send('INSERT INTO t VALUES (3)');
	wait_waiting($mon, $name, 2);
	sleep 0.6;
	$waiter->vanish;
	wait_waiting($mon, $name, 1);
	is(gone_total($name), 2, "$label: so is one that goes later");
	cmp_ok(time() - $start, '>', 0.6, "$label: the patient one has been looked at");
	ok(!$patient->done, "$label: and waits on");
	let_go();
	error_is($patient->result, 'no error', "$label: it is served");
	is($mon->value('SELECT string_agg(id::text, \' \') FROM t'), 1, "$label: nothing else has run");

	# A slot comes before the first look: the statement does not run.  Whether
	# it was noticed then or at the look cannot be told apart; that it ran, can.
	for my $round (1 .. 5)
	{
		hold($name);
		$waiter = app();
		$waiter->send('INSERT INTO t VALUES (4)');
		wait_waiting($mon, $name, 1);
		sleep 0.02;
		$waiter->vanish;
		let_go();
		wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $waiter->{pid}", 0);
		error_is($patient->query('SELECT 1'), 'no error', "$label: the slot was passed on");
	}
	is($mon->value('SELECT count(*) FROM t'), 1, "$label: nothing runs for a client that has gone");
	is(gone_total($name), 7, "$label: all are counted");
	$mon->ok('TRUNCATE t');
	all_zero($mon, "after the $label", connections => $name ? 2 : 0);

	if ($name)
	{
		# what it holds elsewhere goes back as well
		$mon->ok(q{SELECT resilience.create_bulkhead('a', role_name => 'app', application_name => 'two',
			max_running => 1, max_waiting => 10, max_wait => '10 min')});
		# made anew, it comes after the other one
		$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
		$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 10, max_wait => '10 min')});
		hold('b');
		$waiter = app(application_name => 'two');
		$waiter->send('SELECT 1');
		wait_waiting($mon, 'b', 1);
		$waiter->vanish;
		wait_waiting($mon, 'b', 0);
		$waiter = app(application_name => 'two');
		$waiter->send('SELECT 1');
		wait_waiting($mon, 'b', 1);
		is($mon->value(q{SELECT waiting FROM resilience.bulkheads WHERE name = 'a'}), 0, 'the narrow slot is free');
		let_go();
		error_is($waiter->result, 'no error', 'and both are in the end');
		$waiter->close;
		is(gone_total('b'), 1, 'counted where it waited');
		$mon->ok(q{SELECT resilience.reset_statistics()});
		is(gone_total('b'), 0, 'a total like the others');
		$mon->ok(q{SELECT resilience.drop_bulkhead('a'); SELECT resilience.drop_bulkhead('b')});
		set_conf($mon, 'resilience.max_running' => 1);
	}
}
is($mon->value(q{SELECT client_gone_total FROM resilience.load_by_priority WHERE priority = 'normal'}), 7,
	'the server counts by priority');

$_->close for ($holder, $patient);
all_zero($mon, 'at the end');
done_testing();
