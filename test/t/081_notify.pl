# Events as notifications: each database's listeners hear of its own objects
# and of the server, at most once a second for each object, with counts.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('notify', init => [ allows_streaming => 1 ], roles => [qw(app)]);
my $mon = monitor($node);

$mon->ok('CREATE DATABASE "other db"');
$mon->ok('CREATE DATABASE empty');
my $mon2 = monitor($node, dbname => 'other db');
$mon2->ok('CREATE EXTENSION resilience');

# monitors have their own mode off, so their calls count for nothing
my ($caller, $caller2) = map { connect_to($node, dbname => $_) } 'postgres', 'other db';

my ($here, $there, $nowhere) = map { my $l = monitor($node, dbname => $_); $l->ok('LISTEN resilience'); $l } 'postgres', 'other db', 'empty';

# All that a listener has heard so far.
sub heard
{
	my ($listener) = @_;

	$listener->ok('SELECT 1');
	for my $n (@{ $listener->{notifications} || [] })
	{
		next if $n->{event};
		$n->{event} = decode_json($n->{payload});
		$n->{at} = time();
		is($n->{channel}, 'resilience', 'the channel') if $n->{channel} ne 'resilience';
		ok(length($n->{payload}) < 8000, 'its size') if length($n->{payload}) >= 8000;
	}
	return map { $_->{event} } @{ $listener->{notifications} || [] };
}

sub heard_of
{
	my ($listener, $object, $to) = @_;

	return grep { $_->{object} eq $object && (!defined $to || $_->{to} eq $to) } heard($listener);
}

sub wait_heard
{
	my ($listener, $object, $to) = @_;

	return wait_until("a notification of $object $to", sub { (heard_of($listener, $object, $to))[-1] }, 30);
}

# Of the own database's objects
$mon->ok(q{SELECT resilience.create_breaker('mine', max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h')});
my $event = wait_heard($here, 'mine', 'created');
is($event->{kind}, 'breaker', 'its kind');
is($event->{from}, undef, 'there was no state before');
is($event->{pid}, $mon->{pid}, 'by whom');
is($event->{count}, 1, 'one event');
like($event->{at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[-+]\d\d:\d\d$/, 'when');
is($event->{detail}{mode}, 'enforce', 'its detail');

$mon2->ok(qq{SELECT resilience.create_breaker('their "br\\eaker"', max_failures => 1, reset_timeout => '1 h', max_reset_timeout => '1 h')});
wait_heard($there, 'their "br\\eaker"', 'created');
pass('any name');
sleep 1.1;
$caller2->ok(qq{SELECT resilience.breaker_record('their "br\\eaker"', false)});
$event = wait_heard($there, 'their "br\\eaker"', 'open');
is($event->{from}, 'closed', 'from');
is($event->{detail}{reason}, 'consecutive failures', 'the cause');
is($event->{detail}{consecutive_failures}, 1, 'numbers are numbers');
like($event->{detail}{retry_after_ms}, qr/^\d+$/, 'as they are in the view');
my $seen = $mon2->value("SELECT to_jsonb(e) FROM resilience.events e WHERE id = $event->{id}");
$seen = decode_json($seen);
is_deeply($event->{detail}, $seen->{detail}, 'the detail is that of the view');
is($event->{at}, $seen->{at}, 'and so is the time');
is($seen->{database_name}, 'other db', 'the view has the database');
is(scalar(heard_of($here, 'their "br\\eaker"')), 0, 'not in another database');
is(scalar(heard_of($there, 'mine')), 0, 'nor the other way round');

# Of the server as a whole, everywhere
set_conf($mon, 'resilience.minimum_priority' => 'high');
for ([ $here, 'one database' ], [ $there, 'the other' ])
{
	my ($listener, $label) = @$_;
	$event = wait_heard($listener, 'resilience.minimum_priority', 'high');
	is_deeply([ @$event{qw(kind from count)} ], [ 'server', 'low', 1 ], "a lever, in $label");
}
set_conf($mon, 'resilience.minimum_priority' => undef);
wait_heard($here, 'resilience.minimum_priority', 'low');

# An object that flaps: one a second, and nothing is lost
sleep 1.5;
heard($here);
my $before = $mon->value('SELECT max(id) FROM resilience.events');
my $start = time();
my $flaps = 0;
while (time() - $start < 5)
{
	$caller->ok(q{SELECT resilience.breaker_record('mine', false), resilience.breaker_record('mine', false)});
	$mon->ok(q{SELECT resilience.reset_breaker('mine')});
	$flaps++;
	heard($here) if $flaps % 10 == 0;
	sleep 0.01;
}
my $seconds = time() - $start;
wait_until('all are told', sub {
	my $sum = 0;
	$sum += $_->{count} for grep { $_->{id} > $before } heard_of($here, 'mine');
	return $sum == 2 * $flaps;
}, 20);
my @told = grep { $_->{id} > $before } heard_of($here, 'mine');
note("$flaps flaps in $seconds s: " . scalar(@told) . ' notifications, ' . join(' ', map { $_->{count} } @told));
cmp_ok($flaps, '>', 50, 'it flaps');
cmp_ok(scalar(@told), '>=', 4, 'they are told while it goes on');
cmp_ok(scalar(@told), '<=', $seconds + 2, 'at most one a second');
cmp_ok($told[-1]{count}, '>', 1, 'with counts');
is($told[-1]{to}, 'closed', 'the last one has the last state');
is($mon->value(qq(SELECT max(id) FROM resilience.events WHERE kind = 'breaker' AND object = 'mine')), $told[-1]{id}, 'and the last id');
my @ids = map { $_->{id} } @told;
is("@ids", join(' ', sort { $a <=> $b } @ids), 'in order');
is(scalar(heard($nowhere)), 0, 'a database without the extension hears nothing');

# A first event after some rest does not wait for the second to be over
sleep 1.5;
$start = time();
$mon->ok(q{SELECT resilience.force_breaker('mine', 'open')});
wait_heard($here, 'mine', 'open');
note(sprintf('told after %.3f s', time() - $start));

# What happened while there was no extension is not told
my $created = $mon->value('SELECT max(id) FROM resilience.events');
my $mon3 = monitor($node, dbname => 'empty');
$mon3->ok('CREATE EXTENSION resilience');
$mon3->ok(q{SELECT resilience.create_bulkhead('new')});
wait_heard($nowhere, 'new', 'created');
is(scalar(grep { $_->{id} <= $created } heard($nowhere)), 0, 'a new database hears of what happens from then on');
$mon3->ok('DROP EXTENSION resilience');
$_->close for ($mon3, $nowhere);

# The launcher goes and comes back; a worker that is ended tells nothing twice
$mon->ok(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('resilience launcher', 'resilience worker')});
wait_heard($here, 'launcher', 'running');
my %times;
$times{ $_->{id} }++ for heard($here);
is(join(' ', grep { $times{$_} > 1 } sort keys %times), '', 'nobody is told twice');

# Nobody is told on a standby; it tells when it is promoted
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $smon = monitor($standby);
set_conf_on_standby('high');
wait_for_value($smon, q{SELECT count(*) FROM resilience.events WHERE object = 'resilience.minimum_priority'}, 1);
set_conf_on_standby('low');
wait_for_value($smon, q{SELECT count(*) FROM resilience.events WHERE object = 'resilience.minimum_priority'}, 2);
pass('a standby has its own events');
sleep 1.5;
is($smon->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker'}), 0, 'and nobody who tells them');
$standby->promote;
wait_for_value($smon, 'SELECT pg_is_in_recovery()', 'f');
my $slistener = monitor($standby);
$slistener->ok('LISTEN resilience');
wait_for_value($smon, q{SELECT from_state FROM resilience.events WHERE object = 'server' AND to_state = 'primary'}, 'standby');
pass('promotion is an event');
$smon->ok(q{SELECT resilience.create_bulkhead('after')});
wait_heard($slistener, 'after', 'created');
is(scalar(heard_of($slistener, 'resilience.minimum_priority')), 0, 'what happened on the standby is not told any more');

unlike(slurp_file($_->logfile), qr/(?:PANIC|TRAP|terminated by signal|too many notifications)/, 'nothing crashed') for ($node, $standby);
$_->close for ($mon, $mon2, $caller, $caller2, $here, $there, $smon, $slistener);
$standby->stop;
$node->stop;
done_testing();

sub set_conf_on_standby
{
	my ($priority) = @_;

	$standby->append_conf('postgresql.conf', "resilience.minimum_priority = $priority\n");
	$standby->reload;
	return;
}
